//! What an agent carries from one decision to the next. All of it is about time: what was seen since when.
//!
//! Nothing here is needed for what was acknowledged: an agent that forgets everything ([`Memory::fresh`]) is safe, and slower.

use super::{Rules, Settings, Way};
use crate::observation::{Observation, Postgres, Reading, Serving, Store};
use crate::state::ClusterState;
use crate::term::{Moment, NodeName, Term};
use crate::timers::Timers;
use std::collections::BTreeMap;

/// What an agent remembers between decisions. Lost when the agent restarts, which [`Memory::fresh`] accounts for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Memory {
    /// The last reading that the store gave.
    pub last: Option<Reading>,
    /// This node promises nobody before then.
    pub refuses_until: Moment,
    /// Until when this node's primary may run, as last granted.
    pub authority: Option<Moment>,
    /// The open election (by number) and when this node first saw it.
    pub election_seen: Option<(u64, Moment)>,
    /// When the open election first had enough promises.
    pub decidable_since: Option<Moment>,
    /// When the leader's agent was last heard, or this node began to watch it.
    pub leader_heard: Moment,
    /// When each voter last streamed from this node, or it began to watch it.
    pub streamed: BTreeMap<NodeName, Moment>,
    /// Since when this node's PostgreSQL is up, or is starting.
    pub up_since: Option<Moment>,
    /// When this node's PostgreSQL crashed lately, oldest first.
    pub crashes: Vec<Moment>,
    /// When terms began that this node saw begin without a switchover, oldest first.
    pub terms: Vec<Moment>,
    /// How the next [`crate::Action::Rejoin`] goes about it.
    pub rejoin: Way,
}

impl Memory {
    /// The memory of an agent that starts now: it may have refused something before, and it has just begun to watch its leader.
    pub fn fresh(now: Moment, timers: &Timers) -> Self {
        Self {
            last: None,
            refuses_until: now.plus(timers.refusal),
            authority: None,
            election_seen: None,
            decidable_since: None,
            leader_heard: now,
            streamed: BTreeMap::new(),
            up_since: None,
            crashes: Vec::new(),
            terms: Vec::new(),
            rejoin: Way::Rewind,
        }
    }

    /// [`crate::Action::Rejoin`] failed in this way: the next one tries the next.
    pub fn rejoin_failed(&mut self, way: Way) {
        self.rejoin = match way {
            Way::Rewind => Way::Restore,
            Way::Restore | Way::Clone => Way::Clone,
        };
    }

    /// The state as last read.
    pub fn state(&self) -> Option<&ClusterState> {
        self.last.as_ref()?.state.as_deref()
    }

    /// Takes in what is seen now.
    pub(super) fn note(&mut self, rules: &impl Rules, settings: &Settings, seen: &Observation, now: Moment) {
        if let Store::Known(reading) = &seen.store {
            self.note_reading(settings, reading, now);
        }
        let Some(state) = self.last.as_ref().and_then(|reading| reading.state.clone()) else { return };
        self.note_election(rules, &state, now);
        self.note_leader(settings, &state, seen, now);
        self.note_postgres(settings, &state, seen, now);
    }

    fn note_reading(&mut self, settings: &Settings, reading: &Reading, now: Moment) {
        let term = |reading: &Reading| reading.state.as_ref().map(|state| state.term);
        let before: Option<Term> = self.last.as_ref().and_then(term);
        if before != term(reading) {
            self.leader_heard = now;
            self.streamed.clear();
            self.rejoin = Way::Rewind;
            if before.is_some() {
                push_within(&mut self.terms, now, &settings.timers);
            }
        }
        self.last = Some(reading.clone());
    }

    fn note_election(&mut self, rules: &impl Rules, state: &ClusterState, now: Moment) {
        let Some(election) = &state.election else {
            (self.election_seen, self.decidable_since) = (None, None);
            return;
        };
        if self.election_seen.is_none_or(|(number, _)| number != election.number) {
            (self.election_seen, self.decidable_since) = (Some((election.number, now)), None);
        }
        let enough = rules.counted(state, election).len() >= rules.promises_needed(&state.quorum);
        self.decidable_since = self.decidable_since.or(Some(now)).filter(|_| enough);
    }

    fn note_leader(&mut self, settings: &Settings, state: &ClusterState, seen: &Observation, now: Moment) {
        let Some(peer) = seen.peers.get(&state.leader) else { return };
        // An agent that has its lease decides for itself what becomes of its PostgreSQL. One without has to serve to count.
        let holds_lease = self.last.as_ref().is_some_and(|r| r.lease.as_ref() == Some(&state.leader));
        let decides = holds_lease && now.since(peer.heard) < settings.timers.suspect_after;
        if decides || peer.report.serving == Serving::Primary {
            self.leader_heard = self.leader_heard.max(peer.heard);
        }
    }

    fn note_postgres(&mut self, settings: &Settings, state: &ClusterState, seen: &Observation, now: Moment) {
        if let Postgres::Primary(primary) = &seen.postgres {
            for voter in &state.quorum.voters {
                let streams = primary
                    .standbys
                    .get(voter)
                    .is_some_and(|s| s.term == state.term && s.streaming_since.is_some());
                let last = self.streamed.entry(voter.clone()).or_insert(now);
                if streams {
                    *last = now;
                }
            }
            self.streamed.retain(|voter, _| state.quorum.voters.contains(voter));
        }
        let down = matches!(seen.postgres, Postgres::Absent | Postgres::Stopped(_));
        if down && self.up_since.take().is_some() && state.leader == settings.me && state.switchover.is_none()
        {
            push_within(&mut self.crashes, now, &settings.timers);
        } else if !down {
            self.up_since = self.up_since.or(Some(now));
        }
    }
}

/// Adds an event and forgets those out of the window, and more than the rules ever ask for.
fn push_within(events: &mut Vec<Moment>, now: Moment, timers: &Timers) {
    events.retain(|&event| now.since(event) < timers.crash_window);
    if events.len() >= timers.crashes_max * 2 {
        events.remove(0);
    }
    events.push(now);
}

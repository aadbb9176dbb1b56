//! The agent of the model: shows a node to `decide` and does what it says, one step at a time.

use crate::world::{EARLY, LATE, NODES, Record, SYSTEM, Server, World, index, mode, name, timers};
use pgproof_ha::decide::{Rules, decide_by};
use pgproof_ha::{
    Action, Ancestry, Decision, Founding, LeaderContact, Memory, Moment, Observation, OnDisk, Peer, Postgres,
    Prepared, Primary, Promoting, Receiver, Report, Role, Serving, Settings, Standby, Standing, Store, Term,
    Upstream, WalSender,
};
use pgproof_pg::{Lsn, TimelineId};

/// What the node believes of time and of the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Clock {
    /// No timer has run out.
    Early,
    /// All have; nothing was heard of the leader.
    Missing,
    /// All have; the leader is heard.
    Hearing,
}

/// What becomes of a write to the store. A lost reply needs no case: nobody learns what its write did but by reading again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    Prompt,
    Delays,
}

pub(crate) fn settings(node: usize) -> Settings {
    Settings {
        me: name(node),
        mode: mode(),
        standing: Standing::Candidate,
        timers: timers(),
        replay_bytes_s: 1 << 20,
        founding: Founding::Forbidden,
    }
}

impl World {
    /// The decision of `node` now.
    pub(crate) fn decide(
        &self,
        rules: &impl Rules,
        settings: &Settings,
        node: usize,
        clock: Clock,
    ) -> Decision {
        let now = if clock == Clock::Early { EARLY } else { LATE };
        decide_by(rules, settings, &self.nodes[node].memory, &self.observe(node, clock, now), now)
    }

    /// Takes the decision's step. Whether it changed anything shows in the world.
    pub(crate) fn perform(&mut self, node: usize, decision: Decision, network: Network) {
        self.nodes[node].memory = timeless(decision.memory);
        if self.is_primary(node) {
            self.admit(node, decision.admission);
        }
        match decision.action {
            Action::Wait => {}
            Action::Write { expected, state, .. } => match network {
                Network::Prompt => self.apply(expected, state),
                Network::Delays => self.delayed = Some((expected, state)),
            },
            Action::StopReceiving => self.reconfigure(node, None),
            Action::Follow(upstream) => self.reconfigure(node, Some(upstream)),
            Action::FindPosition => self.with_server(node, |server| server.replayed = true),
            Action::SetNames(names) => self.nodes[node].names = names,
            Action::PreparePromotion { names, timeline } => {
                self.nodes[node].names = names.clone();
                self.with_server(node, |server| server.prepared = Some(Prepared { names, timeline }));
            }
            Action::Promote => self.with_server(node, |server| server.promoting = true),
            Action::StartPrimary { names } => {
                self.nodes[node].names = names;
                let end_of_recovery = self.nodes[node].log.len();
                self.nodes[node].server =
                    Some(Server { end_of_recovery, replayed: true, ..Server::standby(None) });
            }
            Action::StartStandby { upstream } => self.start_standby(node, upstream),
            Action::Kill { .. } => self.crash(node),
            Action::Rejoin { upstream, .. } => self.rejoin(node, upstream),
            Action::StopForSwitchover | Action::Found | Action::FetchWal { .. } => {
                unreachable!("not asked for in this world")
            }
        }
    }

    fn with_server(&mut self, node: usize, change: impl FnOnce(&mut Server)) {
        if let Some(server) = &mut self.nodes[node].server {
            change(server);
        }
    }

    fn reconfigure(&mut self, node: usize, upstream: Option<Upstream>) {
        self.nodes[node].upstream = upstream;
        self.with_server(node, |server| server.ending = server.receiver.is_some());
    }

    fn start_standby(&mut self, node: usize, upstream: Option<Upstream>) {
        self.nodes[node].role = Role::Standby;
        self.nodes[node].upstream = upstream.clone();
        self.nodes[node].server = Some(Server::standby(upstream));
    }

    /// `pg_rewind`: back to what both have in common.
    fn rejoin(&mut self, node: usize, upstream: Upstream) {
        let leader = index(&upstream.leader);
        if !self.is_primary(leader) {
            return;
        }
        self.crash(node);
        let common =
            self.nodes[node].log.iter().zip(&self.nodes[leader].log).take_while(|(a, b)| a == b).count();
        self.nodes[node].log.truncate(common);
        self.start_standby(node, Some(upstream));
    }

    /// `pg_promote` ends recovery on the timeline that was prepared; without preparation, on the next number.
    pub(crate) fn finish_promotion(&mut self, node: usize) {
        let next = self.nodes[node].timeline() + 1;
        let end = self.nodes[node].log.len();
        let server = self.nodes[node].server.as_mut().unwrap();
        let timeline = server.prepared.as_ref().map_or(next, |prepared| prepared.timeline.0);
        *server = Server { end_of_recovery: end, replayed: true, ..Server::standby(None) };
        self.nodes[node].role = Role::Primary;
        self.nodes[node].log.push(Record { timeline, commit: 0 });
    }

    fn observe(&self, node: usize, clock: Clock, now: Moment) -> Observation {
        let store = self.nodes[node].view.clone().map_or(Store::Unknown, |mut reading| {
            if clock == Clock::Missing {
                reading.lease = None;
            }
            reading.asked = now;
            Store::Known(reading)
        });
        let term = self.nodes[node].view.as_ref().and_then(|r| r.state.as_ref()).map_or(Term(0), |s| s.term);
        let leader = if clock == Clock::Missing { LeaderContact::Missed } else { LeaderContact::Heard };
        let report = |other| Report {
            term,
            serving: if self.is_primary(other) { Serving::Primary } else { Serving::Standby },
            leader,
            position: None,
        };
        let peers = (0..NODES).filter(|other| *other != node).filter(|other| {
            let leads = self.nodes[node]
                .view
                .as_ref()
                .and_then(|r| r.state.as_ref())
                .is_some_and(|s| s.leader == name(*other));
            clock != Clock::Missing || !leads
        });
        Observation {
            me: name(node),
            store,
            postgres: self.postgres(node, clock, now),
            peers: peers.map(|other| (name(other), Peer { heard: now, report: report(other) })).collect(),
            refusals: Default::default(),
            asked_to_refuse: None,
            wall_s: 0,
        }
    }

    fn postgres(&self, node: usize, clock: Clock, now: Moment) -> Postgres {
        let this = &self.nodes[node];
        let Some(server) = &this.server else { return Postgres::Stopped(self.on_disk(node)) };
        let timeline = TimelineId(this.timeline());
        if this.role == Role::Standby {
            let stopped = server.receiver.is_none() && server.loaded.is_none() && this.upstream.is_none();
            let heard =
                server.receiver.is_some().then_some(if clock == Clock::Missing { EARLY } else { now });
            return Postgres::Standby(Standby {
                system: SYSTEM,
                timeline,
                position: server.replayed.then(|| self.end(node)),
                upstream: this.upstream.clone(),
                receiver: if stopped { Receiver::Stopped } else { Receiver::Possible { heard } },
                ancestry: self.ancestry(node),
                prepared: server.prepared.clone(),
                promoting: if server.promoting { Promoting::Yes } else { Promoting::No },
            });
        }
        let loaded = server.senders.iter().flatten().all(|sender| sender.names == this.names);
        let sender = |(other, sender): (usize, &Option<_>)| {
            let sender: &crate::world::Sender = sender.as_ref()?;
            let connected = self.receiver(other).is_some_and(|upstream| index(&upstream.leader) == node);
            let streaming_since = connected.then_some(EARLY);
            Some((
                name(other),
                WalSender { term: sender.term, flush: Lsn(sender.flush as u64), streaming_since },
            ))
        };
        Postgres::Primary(Primary {
            system: SYSTEM,
            timeline,
            end_of_recovery: Lsn(server.end_of_recovery as u64),
            position: self.end(node),
            names: this.names.clone(),
            names_in_effect: loaded.then(|| this.names.clone()),
            standbys: server.senders.iter().enumerate().filter_map(sender).collect(),
            admission: server.admission,
        })
    }

    fn on_disk(&self, node: usize) -> OnDisk {
        let this = &self.nodes[node];
        OnDisk {
            system: SYSTEM,
            role: this.role,
            timeline: TimelineId(this.timeline()),
            position: None,
            names: this.names.clone(),
            upstream: this.upstream.clone(),
            ancestry: self.ancestry(node),
            redo_bytes: 0,
        }
    }

    /// As the present leader's server tells it, if it can be asked.
    fn ancestry(&self, node: usize) -> Ancestry {
        let Some(state) = self.nodes[node].view.as_ref().and_then(|r| r.state.as_ref()) else {
            return Ancestry::Unknown;
        };
        let leader = index(&state.leader);
        match self.is_primary(leader) {
            true if self.is_prefix(node, leader) => Ancestry::Shared,
            true => Ancestry::Diverged,
            false => Ancestry::Unknown,
        }
    }
}

/// Memory without the times in it: any of them may be long ago or just now at the next decision.
fn timeless(mut memory: Memory) -> Memory {
    memory.refuses_until = EARLY;
    memory.authority = None;
    memory.leader_heard = EARLY;
    memory.election_seen = memory.election_seen.map(|(number, _)| (number, EARLY));
    memory.decidable_since = memory.decidable_since.map(|_| EARLY);
    memory.streamed.values_mut().for_each(|last| *last = EARLY);
    memory.up_since = memory.up_since.map(|_| EARLY);
    memory.crashes.clear();
    memory.terms.clear();
    // The view is kept beside; `decide` only sees readings.
    if let Some(last) = &mut memory.last {
        last.asked = EARLY;
        last.lease = None;
    }
    memory
}

//! An election: stop receiving, promise, and win if nobody better can.

use super::action::Step;
use super::{Action, Blocked, Change, Rules, Situation};
use crate::observation::Standby;
use crate::position::{Position, TimelineOfTerm};
use crate::quorum::Quorum;
use crate::state::{ClusterState, Election, ElectionReason, Mode, Promise, Reign, Standing, Strictness};
use crate::term::{Moment, NodeName};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

impl<R: Rules> Situation<'_, R> {
    /// Opens an election. Opening proves nothing and harms nobody: what counts are the promises.
    pub(super) fn open(&self, state: &ClusterState, reason: ElectionReason) -> Step {
        let number = state.elections + 1;
        let switchover = match reason {
            ElectionReason::Switchover { .. } => None,
            _ => state.switchover.clone(),
        };
        let opened_by = self.settings.me.clone();
        let election = Election { number, opened_by, reason, promises: BTreeMap::new(), accepted_loss: None };
        let opened =
            ClusterState { election: Some(election), elections: number, switchover, ..state.clone() };
        self.write(Change::OpenElection, opened)
    }

    /// The next step of a standby in an election.
    pub(super) fn take_part(&self, state: &ClusterState, election: &Election, standby: &Standby) -> Step {
        if state.paused.is_some() {
            return Step::blocked(Blocked::Paused);
        }
        let promised = election.promises.get(&self.settings.me);
        if promised.is_none() && !self.agrees(election) {
            return Step::blocked(Blocked::LeaderHeard { leader: state.leader.clone() });
        }
        let released = election.reason.is_of_the_leader();
        if promised.is_none() && !released && !self.rules.refusal_over(self.memory.refuses_until, self.now) {
            return Step::blocked(Blocked::Refused { until: self.memory.refuses_until });
        }
        if !self.rules.stopped_receiving(standby) {
            return Step::act(Action::StopReceiving);
        }
        let Some(lsn) = standby.position else {
            return Step { action: Action::FindPosition, blocked: Some(Blocked::PositionUnknown) };
        };
        // WAL of a timeline that the store never allotted cannot be compared, so nothing is promised about it.
        let end = state.term_of(standby.timeline).map(|term| Position::new(term, lsn));
        let Some((end, position)) = end.and_then(|end| Some((end, self.rules.position(state, end)?))) else {
            return Step::blocked(Blocked::StrayTimeline { timeline: standby.timeline });
        };
        match promised {
            Some(promise) if promise.end == end => self.contend(state, election, promise),
            _ => self.promise(state, election, end, position),
        }
    }

    fn promise(&self, state: &ClusterState, election: &Election, end: Position, position: Position) -> Step {
        let mut election = election.clone();
        let standing = state.standing(&self.settings.me).unwrap_or(self.settings.standing);
        election.promises.insert(self.settings.me.clone(), Promise { end, position, standing });
        self.write(Change::Promise, ClusterState { election: Some(election), ..state.clone() })
    }

    /// Having promised: win, or say why not.
    fn contend(&self, state: &ClusterState, election: &Election, mine: &Promise) -> Step {
        if mine.standing == Standing::Witness {
            return Step::blocked(Blocked::NoCandidate);
        }
        let obstacle = match &election.accepted_loss {
            Some(accepted) if accepted.winner != self.settings.me || mine.position < accepted.position => {
                Some(Step::blocked(Blocked::Outranked {
                    by: accepted.winner.clone(),
                    position: accepted.position,
                }))
            }
            Some(_) => self.fence_to_wait_for(state, election).map(Step::blocked),
            None => self.obstacle(state, election, mine),
        };
        obstacle.unwrap_or_else(|| self.write(Change::Win, self.new_term(state, election, mine.end)))
    }

    /// What keeps this node from winning now.
    fn obstacle(&self, state: &ClusterState, election: &Election, mine: &Promise) -> Option<Step> {
        let needed = self.rules.promises_needed(&state.quorum);
        if !state.quorum.can_elect() {
            let (voters, k) = (state.quorum.voters.len(), state.quorum.k);
            return Some(Step::blocked(Blocked::NotProtectedYet { voters, k }));
        }
        let counted = self.rules.counted(state, election);
        if counted.len() < needed {
            let missing = state.quorum.voters.iter().filter(|v| !election.promises.contains_key(*v)).cloned();
            let missing = missing.collect();
            return Some(Step::blocked(Blocked::PromisesMissing {
                have: counted.len(),
                need: needed,
                missing,
            }));
        }
        let floor = floor_of(state, election);
        if !self.rules.at_or_above_floor(mine.position, floor) {
            let best = election.promises.values().map(|promise| promise.position).max();
            return Some(Step::blocked(Blocked::BelowFloor { best, floor }));
        }
        let covered = counted.iter().filter(|p| self.rules.covers(mine.position, p.position)).count();
        if covered < needed {
            return self.outranked(election, mine);
        }
        if self.now < self.turn(election) {
            return Some(Step::wait());
        }
        let fence = self.fence_to_wait_for(state, election);
        fence.or_else(|| self.too_much_lost(state, election, mine.end)).map(Step::blocked)
    }

    /// Somebody has more of what may have been acknowledged: that one wins, or gives its WAL.
    fn outranked(&self, election: &Election, mine: &Promise) -> Option<Step> {
        let (by, best) = election.promises.iter().max_by_key(|(_, promise)| promise.position)?;
        let (by, position) = (by.clone(), best.position);
        if best.standing == Standing::Candidate {
            return Some(Step::blocked(Blocked::Outranked { by, position }));
        }
        let better = |p: &&Promise| p.standing == Standing::Candidate && p.position > mine.position;
        if election.promises.values().any(|p| better(&p)) {
            return Some(Step::blocked(Blocked::Outranked { by, position }));
        }
        let blocked = Some(Blocked::OnlyWitness { node: by.clone(), position });
        Some(Step { action: Action::FetchWal { from: by, up_to: position }, blocked })
    }

    /// When it is this node's turn: better candidates go first, each given `patience`.
    fn turn(&self, election: &Election) -> Moment {
        let preferred = match &election.reason {
            ElectionReason::Switchover { to, .. } => to.as_ref(),
            _ => None,
        };
        let key = |(node, promise): (&NodeName, &Promise)| {
            (Some(node) != preferred, Reverse(promise.position), node.clone())
        };
        let candidates = election.promises.iter().filter(|(_, p)| p.standing == Standing::Candidate);
        let mine = election.promises.get_key_value(&self.settings.me).map(key);
        let better = candidates.map(key).filter(|other| Some(other) < mine.as_ref()).count();
        let rank = u32::try_from(better).unwrap_or(u32::MAX);
        let since = self.memory.decidable_since.unwrap_or(self.now);
        // In a switchover the preferred one is given its turn even before it has promised.
        let absent = preferred.is_some_and(|to| !election.promises.contains_key(to));
        since.plus(self.settings.timers.patience.saturating_mul(rank + u32::from(absent)))
    }

    /// Asynchronous and strict promotions wait for the old primary's deadline, unless it said itself that it is down.
    fn fence_to_wait_for(&self, state: &ClusterState, election: &Election) -> Option<Blocked> {
        let prompt = matches!(state.mode, Mode::Quorum { strictness: Strictness::Prompt, .. });
        if (prompt && election.accepted_loss.is_none()) || election.reason.is_of_the_leader() {
            return None;
        }
        let seen = self.memory.election_seen.map_or(self.now, |(_, seen)| seen);
        let until = self.rules.fenced_at(seen, &self.settings.timers);
        (self.now < until).then_some(Blocked::AwaitingFence { until })
    }

    /// Asynchronous: whether winning at `mine` would lose more than was declared, or nobody can tell.
    fn too_much_lost(&self, state: &ClusterState, election: &Election, mine: Position) -> Option<Blocked> {
        let Mode::Asynchronous { loss } = state.mode else { return None };
        if matches!(election.reason, ElectionReason::Switchover { .. }) {
            return None;
        }
        let published = self.memory.last.as_ref()?.published.as_ref().filter(|p| p.term == state.term);
        let Some((published, last)) = published.and_then(|p| Some((p, p.trail.last()?))) else {
            return Some(Blocked::LossUnknown);
        };
        let mine = if mine.term == state.term { mine.lsn.0 } else { mine.lsn.0.min(state.floor.lsn.0) };
        let bytes = self.rules.bytes_lost(mine, last.lsn.0);
        if let Some(bound) = loss.bytes.filter(|&bound| bytes > bound) {
            return Some(Blocked::LossTooGreat { bytes, bound });
        }
        let reached = published.trail.iter().rev().find(|p| p.lsn.0 <= mine);
        let lost_ms = |at_ms: u64| last.at_ms.saturating_sub(at_ms).saturating_add(published.valid_ms);
        let bound = loss.time_ms?;
        let lost = reached.map(|p| Duration::from_millis(lost_ms(p.at_ms)));
        match lost {
            Some(lost) if lost <= Duration::from_millis(bound) => None,
            _ => Some(Blocked::LossTooOld { lost, bound: Duration::from_millis(bound) }),
        }
    }

    /// The state in which this node is leader of the next term.
    fn new_term(&self, state: &ClusterState, election: &Election, mine: Position) -> ClusterState {
        let (me, term, timeline) = (&self.settings.me, state.term.next(), state.next_timeline());
        let mut timelines = state.timelines.clone();
        timelines.push(TimelineOfTerm { timeline, term, begins: Some(mine) });
        ClusterState {
            term,
            leader: me.clone(),
            reign: Reign::Elected,
            timeline,
            timelines,
            quorum: self.first_quorum(state, election),
            narrowing: None,
            floor: self.rules.floor_of_term(state.floor, mine),
            election: None,
            switchover: None,
            ..state.clone()
        }
    }

    /// The voters of a new term: who promised, because they are there; and as many others as k needs.
    ///
    /// They have acknowledged nothing of the new term, so any set is safe; who is absent is replaced step by step.
    fn first_quorum(&self, state: &ClusterState, election: &Election) -> Quorum {
        let others = || state.members.keys().filter(|node| **node != self.settings.me);
        let promised = |node: &&NodeName| election.promises.contains_key(*node);
        let k = match state.mode {
            Mode::Quorum { k, .. } => k,
            Mode::Asynchronous { .. } => others().filter(promised).count().max(1),
        };
        let mut voters: Vec<NodeName> = others().filter(promised).cloned().collect();
        let short = k.saturating_sub(voters.len());
        voters.extend(others().filter(|node| !promised(node)).take(short).cloned());
        Quorum::new(voters, k)
    }
}

/// Below this nobody wins this election.
fn floor_of(state: &ClusterState, election: &Election) -> Position {
    match &election.reason {
        ElectionReason::Switchover { stopped_at, .. } => state.floor.max(*stopped_at),
        _ => state.floor,
    }
}

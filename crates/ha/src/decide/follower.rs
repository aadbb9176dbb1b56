//! What every other node does: follow the leader, miss it, come back to it.

use super::action::Step;
use super::{Action, Blocked, KillReason, Rules, Situation, Way};
use crate::observation::{Ancestry, LeaderContact, OnDisk, Postgres, Role, Standby, Upstream};
use crate::state::{ClusterState, Election, ElectionReason, Mode, Reign};
use crate::term::NodeName;

impl<R: Rules> Situation<'_, R> {
    /// The next step of a node that is not leader.
    pub(super) fn follower(&self, state: &ClusterState) -> Step {
        match &self.seen.postgres {
            Postgres::Primary(_) | Postgres::Hung { role: Role::Primary, .. } => {
                Step::kill(KillReason::Superseded)
            }
            Postgres::Hung { role: Role::Standby, .. } if state.paused.is_none() => {
                Step::kill(KillReason::Hung)
            }
            Postgres::Hung { .. } => Step::blocked(Blocked::Paused),
            Postgres::Starting(disk) => match disk.role {
                Role::Primary => Step::kill(KillReason::Superseded),
                Role::Standby => Step::wait(),
            },
            Postgres::Absent => self.come_from_nothing(state),
            Postgres::Stopped(disk) => self.come_back(state, disk),
            Postgres::Standby(standby) => match &state.election {
                Some(election) => self.take_part(state, election, standby),
                None => self.follow(state, standby),
            },
        }
    }

    fn come_from_nothing(&self, state: &ClusterState) -> Step {
        if state.paused.is_some() {
            return Step::blocked(Blocked::Paused);
        }
        match self.upstream(state) {
            Some(upstream) => Step::act(Action::Rejoin { upstream, way: Way::Clone }),
            None => self.miss(state).unwrap_or(Step::blocked(Blocked::NothingToClone)),
        }
    }

    /// Starts what is stopped. While an election is open, without a leader: its WAL may be what the others need.
    fn come_back(&self, state: &ClusterState, disk: &OnDisk) -> Step {
        if state.paused.is_some() {
            return Step::blocked(Blocked::Paused);
        }
        let alone = || Step::act(Action::StartStandby { upstream: None });
        if state.election.is_some() {
            return alone();
        }
        let awaiting = Blocked::AwaitingLeader { leader: state.leader.clone() };
        let Some(upstream) = self.upstream(state) else {
            return self.miss(state).unwrap_or(Step::blocked(awaiting));
        };
        match (disk.ancestry, disk.role) {
            (Ancestry::Shared, _) => Step::act(Action::StartStandby { upstream: Some(upstream) }),
            (Ancestry::Diverged | Ancestry::TooOld, _) => self.rejoin(disk.ancestry, upstream),
            // It was standby before and can only be behind: it serves reads until the leader can be asked.
            (Ancestry::Unknown, Role::Standby) => alone(),
            (Ancestry::Unknown, Role::Primary) => self.miss(state).unwrap_or(Step::blocked(awaiting)),
        }
    }

    fn rejoin(&self, ancestry: Ancestry, upstream: Upstream) -> Step {
        let way = match ancestry {
            Ancestry::TooOld => self.memory.rejoin.max(Way::Restore),
            _ => self.memory.rejoin,
        };
        Step::act(Action::Rejoin { upstream, way })
    }

    /// Whom to receive from, once it can be followed.
    fn upstream(&self, state: &ClusterState) -> Option<Upstream> {
        let term = self.rules.following_term(state);
        let open = state.reign == Reign::Leading && self.rules.may_follow(state);
        open.then(|| Upstream { leader: state.leader.clone(), term })
    }

    fn follow(&self, state: &ClusterState, standby: &Standby) -> Step {
        let awaiting = Blocked::AwaitingLeader { leader: state.leader.clone() };
        let Some(upstream) = self.upstream(state) else {
            return self.miss(state).unwrap_or(Step::blocked(awaiting));
        };
        if standby.upstream.as_ref() == Some(&upstream) && standby.ancestry != Ancestry::TooOld {
            return self.miss(state).unwrap_or(Step::wait());
        }
        match standby.ancestry {
            Ancestry::Shared => Step::act(Action::Follow(upstream)),
            Ancestry::Unknown => self.miss(state).unwrap_or(Step::blocked(awaiting)),
            _ if state.paused.is_some() => Step::blocked(Blocked::Paused),
            ancestry => self.rejoin(ancestry, upstream),
        }
    }

    /// Opens an election when there is reason to; `None` while the leader is heard.
    fn miss(&self, state: &ClusterState) -> Option<Step> {
        if self.leader_contact() == LeaderContact::Heard {
            return None;
        }
        if state.paused.is_some() {
            return Some(Step::blocked(Blocked::Paused));
        }
        if !self.rules.refusal_over(self.memory.refuses_until, self.now) {
            return Some(Step::blocked(Blocked::Refused { until: self.memory.refuses_until }));
        }
        let terms = self.memory.terms.len();
        if terms >= self.settings.timers.crashes_max * 2 {
            return Some(Step::blocked(Blocked::CrashLoop { crashes: terms }));
        }
        let lease_gone = self.memory.last.as_ref().is_some_and(|r| r.lease.as_ref() != Some(&state.leader));
        if lease_gone || self.missed_by_enough(state) {
            return Some(self.open(state, ElectionReason::LeaderSilent));
        }
        Some(Step::blocked(Blocked::MissedAlone { leader: state.leader.clone() }))
    }

    /// Whether so many voters miss the leader that they could elect: then its lease need not be waited for. Not in asynchronous mode,
    /// where a primary that nobody but its clients can reach still serves them.
    fn missed_by_enough(&self, state: &ClusterState) -> bool {
        let missed = |node: &&NodeName| {
            **node == self.settings.me
                || self.seen.peers.get(*node).is_some_and(|peer| {
                    let lately = self.now.since(peer.heard) < self.settings.timers.suspect_after;
                    lately && peer.report.term == state.term && peer.report.leader == LeaderContact::Missed
                })
        };
        let missing = state.quorum.voters.iter().filter(missed).count();
        matches!(state.mode, Mode::Quorum { .. }) && missing >= state.quorum.promises_needed()
    }

    /// Whether this node has reason to promise in `election`.
    pub(super) fn agrees(&self, election: &Election) -> bool {
        election.reason.is_of_the_leader()
            || election.reason == ElectionReason::Operator
            || self.leader_contact() == LeaderContact::Missed
    }
}

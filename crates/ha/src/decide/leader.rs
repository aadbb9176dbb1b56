//! What the node does that the store names leader: come up, stay up, protect commits, and give up in time.

use super::action::Step;
use super::{Action, Blocked, Change, KillReason, Rules, Situation};
use crate::observation::{Admission, OnDisk, Postgres, Primary, Promoting, Receiver, Role, Standby};
use crate::position::Position;
use crate::state::{ClusterState, ElectionReason, Mode, Reign, Standing, SwitchoverRequest};
use crate::term::NodeName;
use std::time::Duration;

/// What PostgreSQL needs to start apart from replay: shared memory, the check of the data directory's files, the first connection.
const START_MS: u64 = 300;

/// A switchover begins when the standby is at most this far behind: what a 10 Gbit/s link carries in a tenth of a second.
const SWITCHOVER_LAG_BYTES_MAX: u64 = 64 << 20;

impl<R: Rules> Situation<'_, R> {
    /// The next step of the leader.
    pub(super) fn leader(&self, state: &ClusterState) -> Step {
        match &self.seen.postgres {
            Postgres::Absent => self.give_up(state, ElectionReason::Resigned),
            Postgres::Stopped(disk) => self.leader_stopped(state, disk),
            Postgres::Starting(disk) => self.leader_starting(state, disk),
            Postgres::Hung { .. } if state.paused.is_some() => Step::blocked(Blocked::Paused),
            Postgres::Hung { .. } => Step::kill(KillReason::Hung),
            Postgres::Standby(standby) => self.elected(state, standby),
            Postgres::Primary(primary) => self.leading(state, primary),
        }
    }

    /// Restart in place or failover: whichever is over sooner; never the former for ever.
    fn leader_stopped(&self, state: &ClusterState, disk: &OnDisk) -> Step {
        if state.election.is_some() {
            return self.take_back(state, Blocked::AwaitingLeader { leader: state.leader.clone() });
        }
        if state.paused.is_some() {
            return Step::blocked(Blocked::Paused);
        }
        if let (Some(request), Some(lsn), Reign::Leading) = (&state.switchover, disk.position, state.reign) {
            let stopped_at = Position::new(state.term, lsn);
            return self.give_up(state, ElectionReason::Switchover { to: request.to.clone(), stopped_at });
        }
        let limits = &self.settings.timers;
        let crashes = self.memory.crashes.len();
        let replaceable = self.replaceable(state);
        if replaceable && (crashes >= limits.crashes_max || self.restart(disk) > limits.failover) {
            return self.give_up(state, ElectionReason::Resigned);
        }
        if crashes >= limits.crashes_max * 2 {
            return Step::blocked(Blocked::CrashLoop { crashes });
        }
        match (disk.role, state.reign) {
            (Role::Standby, Reign::Elected) => Step::act(Action::StartStandby { upstream: None }),
            (Role::Primary, _) if state.term_of(disk.timeline) == Some(state.term) => {
                self.restart_in_place(state)
            }
            _ => self.give_up(state, ElectionReason::Resigned),
        }
    }

    fn restart_in_place(&self, state: &ClusterState) -> Step {
        if !self.authorised() {
            return Step::blocked(Blocked::StoreUnknown);
        }
        Step::act(Action::StartPrimary { names: state.names() })
    }

    /// How long crash recovery takes here.
    fn restart(&self, disk: &OnDisk) -> Duration {
        let replay_ms = disk.redo_bytes.saturating_mul(1000) / self.settings.replay_bytes_s.max(1);
        Duration::from_millis(START_MS + replay_ms)
    }

    /// Whether an election called now can be expected to be won: enough voters answer, one of whom can win.
    fn replaceable(&self, state: &ClusterState) -> bool {
        let heard = |node: &&NodeName| {
            self.seen
                .peers
                .get(*node)
                .is_some_and(|p| self.now.since(p.heard) < self.settings.timers.suspect_after)
        };
        let voters: Vec<&NodeName> = state.quorum.voters.iter().filter(heard).collect();
        let candidate = |node: &&NodeName| state.standing(node) == Some(Standing::Candidate);
        state.quorum.can_elect()
            && voters.len() >= state.quorum.promises_needed()
            && voters.iter().any(candidate)
    }

    fn leader_starting(&self, state: &ClusterState, disk: &OnDisk) -> Step {
        let limit = self.restart(disk) * 2 + self.settings.timers.blocked_after;
        let since = self.memory.up_since.unwrap_or(self.now);
        if self.now.since(since) > limit && self.replaceable(state) && state.paused.is_none() {
            return Step::kill(KillReason::Hung);
        }
        Step::blocked(Blocked::RecoveryNotConfirmed { term: state.term })
    }

    /// Opens the election oneself, with PostgreSQL surely down.
    fn give_up(&self, state: &ClusterState, reason: ElectionReason) -> Step {
        if state.election.is_some() {
            return self.take_back(state, Blocked::AwaitingLeader { leader: state.leader.clone() });
        }
        self.open(state, reason)
    }

    /// An election that nobody won in time ends, so that the leader can serve again.
    fn take_back(&self, state: &ClusterState, meanwhile: Blocked) -> Step {
        let seen = self.memory.election_seen.map_or(self.now, |(_, seen)| seen);
        if self.now.since(seen) >= self.settings.timers.election && state.paused.is_none() {
            return self.write(Change::CancelElection, ClusterState { election: None, ..state.clone() });
        }
        Step::blocked(meanwhile)
    }

    /// Elected, and still a standby: promote, in the one safe order.
    fn elected(&self, state: &ClusterState, standby: &Standby) -> Step {
        if standby.promoting == Promoting::Yes {
            return Step::wait();
        }
        let term = state.term_of(standby.timeline);
        let position = term.zip(standby.position).map(|(term, lsn)| Position::new(term, lsn));
        if state.reign == Reign::Leading {
            return self.give_up(state, ElectionReason::Resigned);
        }
        if state.election.is_some() && !self.authorised_after_election(state) {
            return self.take_back(state, Blocked::AwaitingLeader { leader: state.leader.clone() });
        }
        if standby.receiver != Receiver::Stopped {
            return Step::act(Action::StopReceiving);
        }
        if standby.position.is_none() {
            return Step { action: Action::FindPosition, blocked: Some(Blocked::PositionUnknown) };
        }
        if !self.rules.kept_its_wal(position, state.floor) {
            let lost = Blocked::WalLost { promised: state.floor, position };
            return Step { blocked: Some(lost), ..self.give_up(state, ElectionReason::Resigned) };
        }
        if !self.rules.prepared(standby, state) {
            return Step::act(Action::PreparePromotion { names: state.names(), timeline: state.timeline });
        }
        if self.authorised() { Step::act(Action::Promote) } else { Step::blocked(Blocked::StoreUnknown) }
    }

    /// Whether the elected leader may be promoted though the next election is open already. In quorum mode it can do no harm.
    fn authorised_after_election(&self, state: &ClusterState) -> bool {
        matches!(state.mode, Mode::Quorum { .. }) && self.authorised()
    }

    /// Primary of its term.
    fn leading(&self, state: &ClusterState, primary: &Primary) -> Step {
        if state.term_of(primary.timeline) != Some(state.term) {
            return Step::kill(KillReason::Stray);
        }
        if self.expired() {
            return Step::kill(KillReason::Expired);
        }
        if state.reign == Reign::Elected {
            return self.write(Change::Lead, ClusterState { reign: Reign::Leading, ..state.clone() });
        }
        if let Some(election) = &state.election {
            return self.challenged(state, primary, &election.reason);
        }
        let request = state.switchover.as_ref().filter(|_| state.paused.is_none());
        if let Some(step) = request.and_then(|request| self.switchover(state, primary, request)) {
            return step;
        }
        let confirmed = self.admission() == Admission::Clients;
        self.voters(state, primary).unwrap_or_else(|| match confirmed {
            true => Step::wait(),
            false => Step::blocked(Blocked::RecoveryNotConfirmed { term: state.term }),
        })
    }

    /// Others opened an election against a primary that runs.
    fn challenged(&self, state: &ClusterState, primary: &Primary, reason: &ElectionReason) -> Step {
        match reason {
            // Whoever resigned must not run.
            ElectionReason::Resigned | ElectionReason::Switchover { .. } => {
                Step::kill(KillReason::Superseded)
            }
            ElectionReason::Operator => Step::kill(KillReason::Superseded),
            ElectionReason::LeaderSilent | ElectionReason::LeaderFailed
                if self.acknowledges(state, primary) =>
            {
                self.write(Change::CancelElection, ClusterState { election: None, ..state.clone() })
            }
            _ => self.take_back(state, Blocked::LeaderHeard { leader: state.leader.clone() }),
        }
    }

    /// Whether commits are being acknowledged: then the challengers are mistaken.
    fn acknowledges(&self, state: &ClusterState, primary: &Primary) -> bool {
        let streams = |node: &&NodeName| {
            primary.standbys.get(*node).is_some_and(|s| s.term == state.term && s.streaming_since.is_some())
        };
        match state.mode {
            Mode::Quorum { .. } => state.quorum.voters.iter().filter(streams).count() >= state.quorum.k,
            Mode::Asynchronous { .. } => true,
        }
    }

    /// The next step of a switchover that is due; `None` while it is not.
    fn switchover(
        &self,
        state: &ClusterState,
        primary: &Primary,
        request: &SwitchoverRequest,
    ) -> Option<Step> {
        if request.at_unix_s.is_some_and(|at| at > self.seen.wall_s) {
            return None;
        }
        let can_win =
            |node: &NodeName| *node != state.leader && state.standing(node) == Some(Standing::Candidate);
        let possible = request.to.as_ref().is_none_or(can_win) && state.quorum.can_elect();
        if !possible {
            return Some(
                self.write(Change::DropSwitchover, ClusterState { switchover: None, ..state.clone() }),
            );
        }
        let streaming = |node: &&NodeName| {
            primary.standbys.get(*node).filter(|s| s.term == state.term && s.streaming_since.is_some())
        };
        let of_interest =
            |node: &&NodeName| can_win(node) && request.to.as_ref().is_none_or(|to| to == *node);
        let flush =
            state.members.keys().filter(of_interest).filter_map(|node| Some(streaming(&node)?.flush)).max();
        let bytes = flush.map_or(u64::MAX, |flush| primary.position.bytes_since(flush));
        if bytes > SWITCHOVER_LAG_BYTES_MAX || !self.replaceable(state) {
            return Some(Step::blocked(Blocked::CatchingUp { bytes }));
        }
        Some(Step::act(Action::StopForSwitchover))
    }
}

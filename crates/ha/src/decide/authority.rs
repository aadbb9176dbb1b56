//! Until when a primary may run: what the store grants, or what voters grant it while the store is away.
//!
//! Authority is not the lease. It is a linearizable reading that names this node leader, valid for `fence` from when the reading was
//! asked for. Whoever opens an election does so by a write, so every later reading shows it, and `fence` after that write no
//! reading from before it counts any more: true whatever etcd does to its leases.

use super::{Rules, Situation};
use crate::observation::{LeaderContact, Postgres, Receiver};
use crate::quorum::Quorum;
use crate::state::{ClusterState, Mode, Strictness};
use crate::term::Moment;

impl<R: Rules> Situation<'_, R> {
    /// Until when this node's primary may run, from all that is known now.
    pub(super) fn authority(&self) -> Option<Moment> {
        let reading = self.memory.last.as_ref()?;
        let state = reading.state.as_deref().filter(|state| state.leader == self.settings.me)?;
        let by_store = self.granted(state).then(|| reading.asked.plus(self.settings.timers.fence));
        by_store.max(self.refused_until(state)).max(self.memory.authority)
    }

    /// Whether authority was granted and is over. Unknown is not over: the fencing process has its deadline.
    pub(super) fn expired(&self) -> bool {
        self.authority().is_some_and(|until| until <= self.now)
    }

    /// Whether this node may run a primary now.
    pub(super) fn authorised(&self) -> bool {
        self.authority().is_some_and(|until| until > self.now)
    }

    /// Whether a reading of this state lets the leader go on.
    fn granted(&self, state: &ClusterState) -> bool {
        match state.mode {
            // Commits are held back by the voters who promised; cutting off readers early would only lengthen an outage.
            Mode::Quorum { strictness: Strictness::Prompt, .. } => true,
            _ => self.rules.goes_on_during(state.election.as_ref()),
        }
    }

    /// Until when so many voters refuse that no election can be won, by the present rule and by the one it is changing to.
    fn refused_until(&self, state: &ClusterState) -> Option<Moment> {
        let now = self.refused_under(&state.quorum)?;
        match &state.narrowing {
            None => Some(now),
            Some(next) => Some(now.min(self.refused_under(next)?)),
        }
    }

    fn refused_under(&self, quorum: &Quorum) -> Option<Moment> {
        let voters = quorum.voters.iter().filter_map(|voter| self.seen.refusals.get(voter));
        let mut until: Vec<Moment> = voters.copied().collect();
        until.sort_by(|a, b| b.cmp(a));
        let needed = self.rules.refusals_needed(quorum);
        needed.checked_sub(1).and_then(|index| until.get(index).copied())
    }

    /// The answer to a leader that cannot reach the store: only by who receives from it now, and so has not promised.
    pub(super) fn refusal(&self) -> Option<Moment> {
        let asked = self.seen.asked_to_refuse?;
        let state = self.memory.state()?;
        let Postgres::Standby(standby) = &self.seen.postgres else { return None };
        let upstream = standby.upstream.as_ref()?;
        let receives = matches!(standby.receiver, Receiver::Possible { heard: Some(_) });
        let of_the_leader = state.term == asked && upstream.term == asked && upstream.leader == state.leader;
        (receives && of_the_leader).then(|| self.now.plus(self.settings.timers.refusal))
    }

    /// Whether this node hears its leader: its agent, or WAL from its PostgreSQL.
    pub(super) fn leader_contact(&self) -> LeaderContact {
        let recent = |heard: Moment| self.now.since(heard) < self.settings.timers.suspect_after;
        let streams = match &self.seen.postgres {
            Postgres::Standby(standby) => {
                let of_the_leader =
                    |state: &ClusterState| standby.upstream.as_ref().is_some_and(|u| u.term == state.term);
                let current = self.memory.state().is_some_and(of_the_leader);
                current
                    && matches!(standby.receiver, Receiver::Possible { heard: Some(heard) } if recent(heard))
            }
            _ => false,
        };
        if streams || recent(self.memory.leader_heard) { LeaderContact::Heard } else { LeaderContact::Missed }
    }
}

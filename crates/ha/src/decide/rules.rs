//! What safety rests on: one method a rule, each with the note of DESIGN.md section 11 that it comes from.
//!
//! They are methods of a trait so that the model can take one away at a time and show that it notices; `decide` is compiled for
//! [`TrueRules`], whose methods are the provided ones. No weaker rule exists outside the tests.

use crate::observation::{Primary, Receiver, Standby};
use crate::position::Position;
use crate::quorum::{Quorum, SyncNames};
use crate::state::{ClusterState, Election, Promise};
use crate::term::{Moment, Term};
use crate::timers::Timers;

/// The rules. The provided methods are the true ones.
pub trait Rules {
    /// 1: how many voters must promise before one is elected.
    fn promises_needed(&self, quorum: &Quorum) -> usize {
        quorum.promises_needed()
    }

    /// 1: only voters' promises count towards a quorum, though others can win.
    fn counted<'a>(&self, state: &'a ClusterState, election: &'a Election) -> Vec<&'a Promise> {
        let of_a_voter = |node| state.quorum.voters.contains(node);
        election.promises.iter().filter(|(node, _)| of_a_voter(node)).map(|(_, promise)| promise).collect()
    }

    /// 1: PostgreSQL's names on the way to `_wanted`: what the store has, and the narrower ones while elections are being made easier.
    fn names(&self, state: &ClusterState, _wanted: &Quorum) -> SyncNames {
        state.names()
    }

    /// 1: whether elections may be made easier: the narrower names must be in effect in every walsender, not only written.
    fn narrowed(&self, primary: &Primary, names: &SyncNames) -> bool {
        primary.names == *names && primary.names_in_effect.as_ref() == Some(names)
    }

    /// 2: the floor after elections were made easier.
    fn raised_floor(&self, floor: Position, flushed: Position) -> Position {
        floor.max(flushed)
    }

    /// 2: whether somebody this far may be promoted.
    fn at_or_above_floor(&self, position: Position, floor: Position) -> bool {
        position >= floor
    }

    /// 2: the floor of a new term: what its leader had when it was elected.
    fn floor_of_term(&self, _before: Position, winner: Position) -> Position {
        winner
    }

    /// 3: whether a standby has provably stopped receiving.
    fn stopped_receiving(&self, standby: &Standby) -> bool {
        standby.receiver == Receiver::Stopped && standby.upstream.is_none()
    }

    /// 3: whether a standby may begin to receive again: not while an election is open, in which it may have promised.
    fn may_follow(&self, state: &ClusterState) -> bool {
        state.election.is_none()
    }

    /// 4: what promises are compared by: how much of the present history a node holds.
    fn position(&self, state: &ClusterState, end: Position) -> Option<Position> {
        state.shared(end)
    }

    /// 4: whether `mine` is as advanced as one of the quorum.
    fn covers(&self, mine: Position, other: Position) -> bool {
        mine >= other
    }

    /// 5: whether a server that was elected may be promoted: prepared with the term's names and timeline.
    fn prepared(&self, standby: &Standby, state: &ClusterState) -> bool {
        let prepared = standby.prepared.as_ref();
        prepared.is_some_and(|p| p.names == state.names() && p.timeline == state.timeline)
    }

    /// 5: whether the elected server still has the WAL that it was elected for.
    fn kept_its_wal(&self, position: Option<Position>, floor: Position) -> bool {
        position.is_some_and(|position| position >= floor)
    }

    /// 6: the term under which a standby follows and is named.
    fn following_term(&self, state: &ClusterState) -> Term {
        state.term
    }

    /// 10: whether clients may see what crash recovery brought back.
    fn recovery_confirmed(&self, primary: &Primary, state: &ClusterState) -> bool {
        let holds = |node: &_| {
            primary
                .standbys
                .get(node)
                .is_some_and(|s| s.term == state.term && s.flush >= primary.end_of_recovery)
        };
        let holders = state.acknowledging().voters.iter().filter(|node| holds(node)).count();
        primary.end_of_recovery <= state.floor.lsn || holders >= state.acknowledging().k.max(state.quorum.k)
    }

    /// 11: whether a promise is possible while this node refuses.
    fn refusal_over(&self, refuses_until: Moment, now: Moment) -> bool {
        now >= refuses_until
    }

    /// 11: how many voters must refuse for the primary to go on without the store.
    fn refusals_needed(&self, quorum: &Quorum) -> usize {
        quorum.k
    }

    /// 12: when the old primary is surely fenced, for a node that saw the election at `seen`.
    fn fenced_at(&self, seen: Moment, timers: &Timers) -> Moment {
        seen.plus(timers.fence + timers.fence_margin)
    }

    /// 12: whether a reading of the store that shows `election` lets an asynchronous primary go on.
    fn goes_on_during(&self, election: Option<&Election>) -> bool {
        election.is_none()
    }

    /// 12: bytes that a promotion at `mine` would lose, against the last position published.
    fn bytes_lost(&self, mine: u64, published: u64) -> u64 {
        published.saturating_sub(mine)
    }
}

/// The rules as shipped.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrueRules;

impl Rules for TrueRules {}

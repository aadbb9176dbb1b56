//! Who votes: how the leader changes the quorum, one step at a time, with the stricter side first.
//!
//! Widening (a voter more, k less): store, then names. Narrowing (a voter less, k more): intent in the store, names in effect, then
//! store, with the floor raised. The intent is there so that a narrowing write that is still on its way can never land after the names
//! were widened again: that needs another write first, which changes the revision.

use super::action::Step;
use super::{Action, Blocked, Change, Rules, Situation};
use crate::observation::Primary;
use crate::position::Position;
use crate::quorum::{Quorum, Step as QuorumStep};
use crate::state::{ClusterState, Mode};
use crate::term::NodeName;
use std::collections::BTreeSet;

impl<R: Rules> Situation<'_, R> {
    /// The next step of a primary that has nothing more urgent to do; `None` when all is as wanted.
    pub(super) fn voters(&self, state: &ClusterState, primary: &Primary) -> Option<Step> {
        let wanted = self.wanted(state, primary);
        let names = self.rules.names(state, &wanted);
        if primary.names != names {
            return Some(Step::act(Action::SetNames(names)));
        }
        if let Some(next) = &state.narrowing {
            if !self.rules.narrowed(primary, &names) {
                return Some(Step::blocked(Blocked::NamesNotInEffect));
            }
            let flushed = Position::new(state.term, primary.position);
            let floor = match state.mode {
                Mode::Quorum { .. } => self.rules.raised_floor(state.floor, flushed),
                // What may be lost is bounded by what was published, not by who votes.
                Mode::Asynchronous { .. } => state.floor,
            };
            let narrowed = ClusterState { quorum: next.clone(), narrowing: None, floor, ..state.clone() };
            return Some(self.write(Change::Narrow, narrowed));
        }
        Some(match state.quorum.step_towards(&wanted)? {
            QuorumStep::HarderElections(quorum) => {
                self.write(Change::Widen, ClusterState { quorum, ..state.clone() })
            }
            QuorumStep::EasierElections(next) => {
                self.write(Change::Intend, ClusterState { narrowing: Some(next), ..state.clone() })
            }
        })
    }

    /// The voters there should be: whoever streams steadily, and whoever did until lately.
    fn wanted(&self, state: &ClusterState, primary: &Primary) -> Quorum {
        let timers = &self.settings.timers;
        let since = |node: &NodeName| {
            primary.standbys.get(node).filter(|s| s.term == state.term).and_then(|s| s.streaming_since)
        };
        let steady = |node: &&NodeName| {
            since(node).is_some_and(|since| self.now.since(since) >= timers.add_voter_after)
        };
        let lately = |node: &&NodeName| {
            since(node).is_some()
                || self
                    .memory
                    .streamed
                    .get(*node)
                    .is_some_and(|&last| self.now.since(last) < timers.remove_voter_after)
        };
        let others = || state.members.keys().filter(|node| **node != state.leader);
        let voter = |node: &NodeName| state.quorum.voters.contains(node);
        let mut voters: BTreeSet<NodeName> =
            others().filter(|node| if voter(node) { lately(node) } else { steady(node) }).cloned().collect();
        let Mode::Quorum { k, .. } = state.mode else {
            let k = voters.len().max(1);
            return Quorum { voters, k };
        };
        // With fewer than k that stream nothing can be acknowledged anyway, and whoever is missed may hold what was.
        let present = state.quorum.voters.iter().filter(|node| since(node).is_some()).count();
        if present < k.min(state.quorum.k) {
            voters.extend(state.quorum.voters.iter().cloned());
        }
        Quorum { voters, k }
    }
}

//! How far a node is: how much of the leader's history it holds.
//!
//! LSNs of two timelines cannot be compared: the longer one may be the one nobody acknowledged. Nor can (term of the timeline, LSN),
//! though that is nearly right: a term whose leader nobody followed leaves a timeline with a high term that no later leader
//! descends from, and its owner would seem more advanced than those who hold what was acknowledged before it (the model found that
//! in three elections in a row). So WAL is measured along one history, that of the present term's timeline ([`Lineage`]):
//! what lies off it counts as far as the place where it left. The store allots timelines and remembers where each began.

use crate::term::Term;
use pgproof_pg::{Lsn, TimelineId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The end of valid WAL. Ordered by term of the timeline, then LSN, which means something along one [`Lineage`] only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The term that the timeline was allotted for; see [`TimelineOfTerm`].
    pub term: Term,
    /// The end of WAL that is flushed.
    pub lsn: Lsn,
}

impl Position {
    /// A position on the timeline of `term`.
    pub fn new(term: Term, lsn: Lsn) -> Self {
        Self { term, lsn }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of term {}", self.lsn, self.term)
    }
}

/// A timeline that the store allotted, what for, and where it leaves its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimelineOfTerm {
    /// The timeline.
    pub timeline: TimelineId,
    /// The term it belongs to.
    pub term: Term,
    /// Where it begins: the end of its leader's WAL when it was elected, on that timeline's term. `None`: the cluster was founded on it.
    pub begins: Option<Position>,
}

/// The history of a cluster: all timelines ever allotted, with the present term's path through them.
#[derive(Debug, Clone, Copy)]
pub struct Lineage<'a> {
    timelines: &'a [TimelineOfTerm],
}

impl<'a> Lineage<'a> {
    /// The history in which the last of `timelines` is the present one.
    pub fn new(timelines: &'a [TimelineOfTerm]) -> Self {
        Self { timelines }
    }

    fn of_term(&self, term: Term) -> Option<&'a TimelineOfTerm> {
        self.timelines.iter().find(|t| t.term == term)
    }

    /// Where the present history leaves the timeline of `term`: `Some(None)` if it is the present one, `None` if it is not on the path.
    fn leaves(&self, term: Term) -> Option<Option<Lsn>> {
        let mut at = self.timelines.last()?;
        let mut left = None;
        // Each step goes to an earlier term, so there are no more of them than timelines.
        for _ in self.timelines {
            if at.term == term {
                return Some(left);
            }
            let begins = at.begins?;
            left = Some(begins.lsn);
            at = self.of_term(begins.term)?;
        }
        None
    }

    /// How much of the present history a node holds whose WAL ends at `end`: comparable with every other such position.
    pub fn shared(&self, end: Position) -> Option<Position> {
        let mut end = end;
        for _ in self.timelines {
            if let Some(left) = self.leaves(end.term) {
                return Some(Position { lsn: left.map_or(end.lsn, |left| left.min(end.lsn)), ..end });
            }
            let begins = self.of_term(end.term)?.begins?;
            // With less WAL than its timeline's beginning it has not even left.
            end = Position { term: begins.term, lsn: begins.lsn.min(end.lsn) };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Timelines 1 to 4 of terms 1 to 4; 2 and 3 both begin in 1, and 4 begins in 2.
    fn timelines() -> Vec<TimelineOfTerm> {
        let begun = [None, Some((1, 10)), Some((1, 12)), Some((2, 20))];
        let timeline = |(term, begins): (u64, Option<(u64, u64)>)| TimelineOfTerm {
            timeline: TimelineId(term as u32),
            term: Term(term),
            begins: begins.map(|(term, lsn)| Position::new(Term(term), Lsn(lsn))),
        };
        (1..).zip(begun).map(timeline).collect()
    }

    #[test]
    fn what_lies_off_the_history_counts_as_far_as_where_it_left() {
        let timelines = timelines();
        let shared = |term, lsn| {
            Lineage::new(&timelines).shared(Position::new(Term(term), Lsn(lsn))).unwrap().to_string()
        };
        assert_eq!(shared(4, 25), "0/19 of term 4");
        assert_eq!(shared(2, 25), "0/14 of term 2");
        assert_eq!(shared(1, 8), "0/8 of term 1");
        // A later term than 2, and yet less: its leader had only what lies before 10 of the present history.
        assert_eq!(shared(3, 99), "0/A of term 1");
    }

    #[test]
    fn a_timeline_that_was_never_allotted_cannot_be_compared() {
        assert_eq!(Lineage::new(&timelines()).shared(Position::new(Term(9), Lsn(1))), None);
    }
}

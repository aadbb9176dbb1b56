//! How far a node is: the end of its valid WAL, comparable across timelines.
//!
//! LSNs of two timelines cannot be compared: the longer one may be the one nobody acknowledged. Every timeline belongs to a term,
//! because the store allots timeline numbers, so a [`Position`] is (term of the timeline, LSN) and compares in that order: whatever
//! was acknowledged in an earlier term is on the timeline of every later one.

use crate::term::Term;
use pgproof_pg::{Lsn, TimelineId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The end of valid WAL of a node. Ordered by term of the timeline, then LSN.
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

/// A timeline that the store allotted, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimelineOfTerm {
    /// The timeline.
    pub timeline: TimelineId,
    /// The term it belongs to.
    pub term: Term,
}

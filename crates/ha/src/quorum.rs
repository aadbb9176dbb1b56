//! Who acknowledges and who elects: n voters, k of which must flush a commit, n - k + 1 of which must promise.
//!
//! The one invariant (DESIGN.md 11.1): any k voters that can release a commit share a node with any set that can elect. It has to
//! hold at every instant, while PostgreSQL's names and the store's rule change one after the other; [`Quorum::step_towards`] gives the
//! single steps, [`Step`] says which side goes first, [`overlap`] is the invariant itself, used by the model as an independent check.

use crate::term::{NodeName, StandbyName, Term};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// The voters of a term and how many of them a commit needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Quorum {
    /// The standbys named in `ANY k (...)`. Never the primary, never cascading standbys, never `*`.
    pub voters: BTreeSet<NodeName>,
    /// How many of them must have flushed a commit before it is acknowledged. In asynchronous mode no commit waits, and this is how
    /// many of them must refuse to promise before a primary without the store may go on. 0: nothing protects commits yet, and
    /// nobody can be elected.
    pub k: usize,
}

impl Quorum {
    /// A quorum of these voters.
    pub fn new(voters: impl IntoIterator<Item = NodeName>, k: usize) -> Self {
        Self { voters: voters.into_iter().collect(), k }
    }

    /// How many voters must promise before one can be elected: n - k + 1. More than there are voters while fewer than k exist or k
    /// is 0: then a commit may be where no voter is, and nobody is elected.
    pub fn promises_needed(&self) -> usize {
        if self.can_elect() { self.voters.len() - self.k + 1 } else { self.voters.len() + 1 }
    }

    /// Whether enough voters exist that an election can ever be won.
    pub fn can_elect(&self) -> bool {
        self.k > 0 && self.k <= self.voters.len()
    }

    /// The names as PostgreSQL of `term` must have them.
    pub fn names(&self, term: Term) -> SyncNames {
        let names = self.voters.iter().map(|node| node.in_term(term)).collect();
        if self.k == 0 { SyncNames::None } else { SyncNames::Any { k: self.k, names } }
    }

    /// The next single step from here to `wanted`; `None` when there.
    ///
    /// What makes elections harder comes first: it needs no wait. A voter is not removed while that would leave fewer than k.
    pub fn step_towards(&self, wanted: &Self) -> Option<Step> {
        if let Some(node) = wanted.voters.difference(&self.voters).next() {
            let mut voters = self.voters.clone();
            voters.insert(node.clone());
            return Some(Step::HarderElections(Self { voters, k: self.k }));
        }
        if self.k > wanted.k {
            return Some(Step::HarderElections(Self { voters: self.voters.clone(), k: self.k - 1 }));
        }
        if self.k < wanted.k && self.k < self.voters.len() {
            return Some(Step::EasierElections(Self { voters: self.voters.clone(), k: self.k + 1 }));
        }
        let node = self.voters.difference(&wanted.voters).next().filter(|_| self.voters.len() > self.k)?;
        let mut voters = self.voters.clone();
        voters.remove(node);
        Some(Step::EasierElections(Self { voters, k: self.k }))
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of ({})", self.k, join(self.voters.iter()))
    }
}

fn join(words: impl Iterator<Item: ToString>) -> String {
    words.map(|word| word.to_string()).collect::<Vec<_>>().join(", ")
}

/// One step of a change of voters or k, by the side that must come first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A voter more, or k less: the store is written first, then PostgreSQL's names are widened.
    HarderElections(Quorum),
    /// A voter less, or k more: intent is written, PostgreSQL's names are narrowed and in effect, the floor raised; only then the rule.
    EasierElections(Quorum),
}

/// The value of `synchronous_standby_names`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncNames {
    /// Empty: commits wait for nobody. Asynchronous mode, and a cluster whose first standby has not come yet.
    #[default]
    None,
    /// `ANY k (n2.t8, n3.t8)`.
    Any {
        /// How many must flush.
        k: usize,
        /// Of whom.
        names: BTreeSet<StandbyName>,
    },
    /// Something that pgproof does not write: `*`, `FIRST`, names without a term.
    Foreign(String),
}

impl fmt::Display for SyncNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            // Quoted: a name with a dot or a dash is no plain word to PostgreSQL's parser (`syncrep_scanner.l`).
            Self::Any { k, names } => {
                write!(f, "ANY {k} ({})", join(names.iter().map(|name| format!("\"{name}\""))))
            }
            Self::Foreign(text) => f.write_str(text),
        }
    }
}

impl SyncNames {
    /// Reads the setting's value; everything unexpected is [`SyncNames::Foreign`].
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if text.is_empty() {
            return Self::None;
        }
        Self::parse_any(text).unwrap_or_else(|| Self::Foreign(text.to_owned()))
    }

    fn parse_any(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("ANY ")?;
        let (k, names) = rest.split_once('(')?;
        let names = names.strip_suffix(')')?.split(',');
        let name = |name: &str| name.trim().trim_matches('"').parse().ok();
        Some(Self::Any { k: k.trim().parse().ok()?, names: names.map(name).collect::<Option<_>>()? })
    }
}

/// Whether every `k` of `acknowledge` share a node with every `promises` of `elect`.
pub fn overlap(
    acknowledge: &BTreeSet<NodeName>,
    k: usize,
    elect: &BTreeSet<NodeName>,
    promises: usize,
) -> bool {
    if k > acknowledge.len() || promises > elect.len() {
        return true;
    }
    let shared = acknowledge.intersection(elect).count();
    let from_shared = k.saturating_sub(acknowledge.len() - shared);
    let from_shared_too = promises.saturating_sub(elect.len() - shared);
    from_shared + from_shared_too > shared
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quorum(names: &str, k: usize) -> Quorum {
        Quorum::new(names.split_whitespace().map(|name| NodeName::new(name).unwrap()), k)
    }

    fn path(from: &str, k: usize, to: &str, to_k: usize) -> String {
        let (mut at, wanted) = (quorum(from, k), quorum(to, to_k));
        let mut said = at.to_string();
        while let Some(step) = at.step_towards(&wanted) {
            let (first, next) = match step {
                Step::HarderElections(next) => ("store", next),
                Step::EasierElections(next) => ("names", next),
            };
            // Both sides of the step hold at once while it is made.
            let (acknowledges, elects) = if first == "store" { (&at, &next) } else { (&next, &at) };
            assert!(overlap(&acknowledges.voters, acknowledges.k, &elects.voters, elects.promises_needed()));
            said += &format!(" -> {first} first {next}");
            at = next;
        }
        said
    }

    #[test]
    fn changes_come_in_single_steps_and_the_stricter_side_first() {
        assert_eq!(
            path("", 0, "b c", 1),
            "0 of () -> store first 0 of (b) -> store first 0 of (b, c) -> names first 1 of (b, c)"
        );
        assert_eq!(
            path("b c", 1, "c d", 1),
            "1 of (b, c) -> store first 1 of (b, c, d) -> names first 1 of (c, d)"
        );
        assert_eq!(path("b c", 2, "b c", 1), "2 of (b, c) -> store first 1 of (b, c)");
    }

    #[test]
    fn a_voter_is_not_removed_when_fewer_than_k_would_be_left() {
        assert_eq!(path("b", 1, "", 1), "1 of (b)");
    }

    #[test]
    fn promises_and_acknowledgements_always_meet() {
        for n in 0..6 {
            for k in 0..=n + 1 {
                let q = Quorum::new((0..n).map(|i| NodeName::new(&format!("n{i}")).unwrap()), k);
                if k > 0 {
                    assert!(overlap(&q.voters, q.k, &q.voters, q.promises_needed()), "{q}");
                }
                assert_eq!(q.can_elect(), k > 0 && q.promises_needed() <= n, "{q}");
            }
        }
    }

    #[test]
    fn names_read_back_and_a_star_is_foreign() {
        let names = quorum("n2 n3", 1).names(Term(8));
        assert_eq!(names.to_string(), r#"ANY 1 ("n2.t8", "n3.t8")"#);
        assert_eq!(SyncNames::parse(&names.to_string()), names);
        assert!(matches!(SyncNames::parse("*"), SyncNames::Foreign(_)));
        assert!(matches!(SyncNames::parse("ANY 1 (n2, n3)"), SyncNames::Foreign(_)));
    }
}

//! Who and when: nodes, terms, and the name under which a standby acknowledges.
//!
//! Promises that an acknowledgement of one term can never be taken for one of another: a [`StandbyName`] carries its term
//! (`n2.t8`), both as `application_name` of the standby and in `synchronous_standby_names` of the primary, so that a host which
//! reboots with old files acknowledges under a name that nobody counts any more.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// PostgreSQL cuts `application_name` at 63 bytes (`NAMEDATALEN` - 1); `.t` and the digits of a term need up to 22 of them.
const NODE_NAME_BYTES_MAX: usize = 40;

/// The epoch of one primary's authority. Rises by one with each election that is won; 1 is the founding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

impl Term {
    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Why a word cannot name a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` cannot name a node: {why}")]
pub struct NodeNameError {
    /// The word.
    pub name: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// The name of a node in its cluster. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// Checks a name: 1 to 40 lower-case letters, digits, `-` and `_`, beginning with a letter.
    ///
    /// No dots, because a dot begins the term in a [`StandbyName`]; no capitals, because PostgreSQL compares standby names without
    /// regard to case (`pg_strcasecmp` in `SyncRepGetStandbyPriority`).
    ///
    /// # Errors
    /// [`NodeNameError`], which says what is wrong.
    pub fn new(name: &str) -> Result<Self, NodeNameError> {
        let wrong = |why| Err(NodeNameError { name: name.to_owned(), why });
        if name.is_empty() || name.len() > NODE_NAME_BYTES_MAX {
            return wrong("it must have 1 to 40 letters");
        }
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            return wrong("it must begin with a lower-case letter");
        }
        if !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_') {
            return wrong("it may hold only lower-case letters, digits, `-` and `_`");
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name under which this node acknowledges in `term`.
    pub fn in_term(&self, term: Term) -> StandbyName {
        StandbyName { node: self.clone(), term }
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for NodeName {
    type Error = NodeNameError;
    fn try_from(name: String) -> Result<Self, NodeNameError> {
        Self::new(&name)
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;
    fn from_str(name: &str) -> Result<Self, NodeNameError> {
        Self::new(name)
    }
}

/// The `application_name` of a standby in one term: `n2.t8`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StandbyName {
    /// The standby.
    pub node: NodeName,
    /// The term it follows.
    pub term: Term,
}

impl fmt::Display for StandbyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.t{}", self.node, self.term)
    }
}

impl FromStr for StandbyName {
    type Err = NodeNameError;
    fn from_str(text: &str) -> Result<Self, NodeNameError> {
        let wrong = || NodeNameError { name: text.to_owned(), why: "a standby is named like `n2.t8`" };
        let (node, term) = text.split_once(".t").ok_or_else(wrong)?;
        let term = term.parse().map_err(|_| wrong())?;
        Ok(Self { node: NodeName::new(node)?, term: Term(term) })
    }
}

impl TryFrom<String> for StandbyName {
    type Error = NodeNameError;
    fn try_from(text: String) -> Result<Self, NodeNameError> {
        text.parse()
    }
}

impl From<StandbyName> for String {
    fn from(name: StandbyName) -> Self {
        name.to_string()
    }
}

/// An instant on this host's clock that counts suspend (`CLOCK_BOOTTIME`), in milliseconds. Never compared across hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// This instant and `span` later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it is still to come.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_name_carries_its_term_and_reads_back() {
        let name = NodeName::new("n2").unwrap().in_term(Term(8));
        assert_eq!(name.to_string(), "n2.t8");
        assert_eq!("n2.t8".parse(), Ok(name));
        assert!("n2".parse::<StandbyName>().is_err());
    }

    #[test]
    fn names_that_postgresql_would_confuse_are_refused() {
        for name in ["", "N2", "n2.t8", "2n", "a b", "*", &"n".repeat(41)] {
            assert!(NodeName::new(name).is_err(), "{name}");
        }
    }
}

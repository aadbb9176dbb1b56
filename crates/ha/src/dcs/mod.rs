//! The store of the cluster's state: a few keys, read as of one moment, written by compare-and-set.
//!
//! A store promises three things ([`Dcs`]): a read shows everything that was acknowledged before it began; a write happens as a whole, and
//! only if what it was decided upon still holds; what belongs to a session vanishes when its owner has not been heard of for its time.
//! Locks of the store are not used: etcd's are unsafe by its own report, a compare-and-set with a term is not. What the keys mean is not
//! known here. A request that was not answered is *unknown*, neither done nor lost: [`DcsError::Unanswered`], and the caller reads again.

mod etcd;
mod memory;

pub use etcd::{EtcdDcs, EtcdOptions};
pub use memory::{MemoryDcs, MemoryStore};

use std::collections::BTreeMap;

/// A point in the store's history. Every write has one of its own, greater than all before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

/// One key's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What was written.
    pub value: Vec<u8>,
    /// When it was written.
    pub revision: Revision,
}

/// Everything that the store holds of this cluster, as of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The moment.
    pub revision: Revision,
    /// By key.
    pub entries: BTreeMap<String, Entry>,
}

impl Snapshot {
    /// The revision to expect when this key is written next.
    #[must_use]
    pub fn before(&self, key: &str) -> Before {
        self.entries.get(key).map_or(Before::Absent, |entry| Before::Revision(entry.revision))
    }
}

/// What a key must be for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It is not there.
    Absent,
    /// It was last written then.
    Revision(Revision),
    /// Whatever it is. For what only one node ever writes.
    Any,
}

/// How long a value stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Until it is written again.
    Always,
    /// As long as the writer's session.
    Session,
}

/// One write of a compare-and-set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: String,
    /// What it must be.
    pub before: Before,
    /// What it becomes; nothing leaves it as it is, and the write only checks.
    pub value: Option<Vec<u8>>,
    /// For how long.
    pub keep: Keep,
}

/// How a compare-and-set ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swapped {
    /// All keys are what was wanted.
    Done,
    /// A key was not what was expected, and nothing was written.
    Changed,
}

/// Whether what was written with [`Keep::Session`] is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// It goes on.
    Kept,
    /// It is a new one: what belonged to the last one is gone or soon will be, and is to be written again.
    New,
}

/// Why the store's answer is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DcsError {
    /// No endpoint answered in time. A write may have happened or may still happen.
    #[error("no endpoint of the store answered: {why}")]
    Unanswered {
        /// What each said.
        why: String,
    },
    /// The store refused, which it will do again: credentials, a name that is no URL.
    #[error("the store refused: {why}")]
    Refused {
        /// What it said.
        why: String,
    },
}

/// The store, as one node sees it.
pub trait Dcs: Send + Sync {
    /// Reads everything, linearizably: what was acknowledged to anybody before is seen.
    ///
    /// # Errors
    /// [`DcsError`].
    fn read(&self) -> Result<Snapshot, DcsError>;

    /// Writes all or nothing.
    ///
    /// # Errors
    /// [`DcsError::Unanswered`] when it is not known whether it was done.
    fn swap(&self, writes: &[Write]) -> Result<Swapped, DcsError>;

    /// Keeps the session alive, or opens one.
    ///
    /// # Errors
    /// [`DcsError`].
    fn keep_session(&self) -> Result<Session, DcsError>;

    /// Ends the session at once: what belongs to it vanishes.
    ///
    /// # Errors
    /// [`DcsError`].
    fn end_session(&self) -> Result<(), DcsError>;

    /// Calls `notify` whenever something changed, for as long as the store is in use. It may be called without a change, and changes may
    /// be missed while the store does not answer: it is a hint to read, not a source of truth.
    fn watch(&self, notify: Box<dyn Fn() + Send + Sync>);
}

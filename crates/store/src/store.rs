//! The contract between pgproof and any place that can hold objects. Every backend passes the suite in `contract`.

use crate::{Counters, ObjectPath, StoreError, probe};
use jiff::Timestamp;
use std::{fmt, time::Duration};

/// What a store's operations return.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The object whose presence says "a repository lives here". Whoever creates a repository puts it last; a directory without it
/// is an unmounted disk or an unfinished repository, so its silence about other objects proves nothing.
pub const MARKER: &str = "repository";

/// An opaque name of one state of one object. S3 gives equal content the same version, so what is compared and replaced (a lease, a
/// head) should hold something unique to each write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(String);

impl Version {
    /// Takes the store's own token.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The store's own token.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a store knows of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its name.
    pub path: ObjectPath,
    /// Its length in bytes.
    pub size: u64,
    /// When it was stored, by the store's clock, not this host's. S3 gives whole seconds.
    pub modified: Timestamp,
    /// Its present version, for [`PutMode::IfMatch`].
    pub version: Version,
}

/// When a write may take effect. Each mode is atomic: readers see the old object, the new one, or (if absent) none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutMode {
    /// Always; the last writer wins.
    Overwrite,
    /// Only if the object does not exist, else [`StoreError::AlreadyExists`].
    IfAbsent,
    /// Only if the object still has this version, else [`StoreError::VersionMismatch`].
    IfMatch(Version),
}

/// Objects in a place. Names are either objects or directories of objects, not both.
pub trait Store: Send + Sync + fmt::Debug {
    /// The place as a person writes it: `directory /backup`, `s3://bucket/prefix`.
    fn describe(&self) -> String;

    /// Stores an object made of these parts, durably when it returns `Ok`.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] and [`StoreError::VersionMismatch`] as the mode says; after these two the object was not
    /// changed by this call. After [`StoreError::Unreachable`], [`StoreError::Timeout`] and [`StoreError::Other`] it may or may
    /// not have been: put it again with [`PutMode::IfAbsent`], or read it.
    fn put(&self, path: &ObjectPath, body: &[&[u8]], mode: PutMode) -> Result<ObjectMeta>;

    /// Begins an object that is written in pieces, in bounded memory, and appears only when it is finished.
    fn writer(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>>;

    /// Reads a whole object together with the metadata of the very version that was read.
    fn get_with_meta(&self, path: &ObjectPath) -> Result<(Vec<u8>, ObjectMeta)>;

    /// Reads a whole object.
    fn get(&self, path: &ObjectPath) -> Result<Vec<u8>> {
        self.get_with_meta(path).map(|(body, _)| body)
    }

    /// Fills `buf` from `offset` (bytes) with exactly one ranged request; none when `buf` is empty.
    ///
    /// # Errors
    /// [`StoreError::Truncated`] when the object ends before `buf` is full; `buf` then holds nothing of use.
    fn get_range(&self, path: &ObjectPath, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// Reads the last `len_max` bytes, or the whole object if it is shorter, and its size in bytes, with one request (two on
    /// Azure, which cannot count from the end).
    fn get_tail(&self, path: &ObjectPath, len_max: u64) -> Result<(Vec<u8>, u64)>;

    /// Looks an object up; `None` is proof that it does not exist.
    fn head(&self, path: &ObjectPath) -> Result<Option<ObjectMeta>>;

    /// Every object below `dir` (`None`: the root), at any depth, in byte order of their paths; with `start_after` only those
    /// whose path sorts after it. What was stored before the call began is in the list.
    fn list(&self, dir: Option<&ObjectPath>, start_after: Option<&str>) -> Result<Vec<ObjectMeta>>;

    /// The names, sorted, of the directories directly below `dir` that hold at least one object at any depth.
    fn list_dirs(&self, dir: Option<&ObjectPath>) -> Result<Vec<String>>;

    /// Removes an object, durably when it returns `Ok`; an absent object is `Ok`.
    fn delete(&self, path: &ObjectPath) -> Result<()>;

    /// Removes many objects, as [`Store::delete`] does, with fewer requests or syncs where the store can. Stops at the first error.
    fn delete_all(&self, paths: &[ObjectPath]) -> Result<()> {
        paths.iter().try_for_each(|path| self.delete(path))
    }

    /// The store's clock, the one that [`ObjectMeta::modified`] is read from. S3 gives whole seconds.
    fn now(&self) -> Result<Timestamp>;

    /// Tries out, on an object of its own, what the store really does. Takes a few requests and leaves nothing.
    ///
    /// # Errors
    /// When the store cannot be reached at all. What it lacks or refuses is said in [`Capabilities`].
    fn probe(&self) -> Result<Capabilities> {
        probe::run(self)
    }

    /// Removes what writers that were killed more than `age` ago (by the store's clock) left behind, and says how many. None of it
    /// is ever visible as an object.
    fn clean(&self, age: Duration) -> Result<u64>;

    /// What was asked of the store since it was opened.
    fn counters(&self) -> Counters;
}

/// An object in the making. Dropping it instead of finishing it leaves nothing visible.
pub trait ObjectWriter: Send + fmt::Debug {
    /// Appends bytes. After an error the writer can only be dropped.
    fn write_all(&mut self, bytes: &[u8]) -> Result<()>;

    /// Bytes appended so far.
    fn size(&self) -> u64;

    /// Makes the object visible, durably when it returns `Ok`; errors are those of [`Store::put`].
    fn finish(self: Box<Self>, mode: PutMode) -> Result<ObjectMeta>;
}

/// What [`Store::probe`] saw the store do.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Capabilities {
    /// Objects can be stored and removed; when not, nothing below was tried.
    pub writable: bool,
    /// Why it is not writable, as the store said it.
    pub refusal: Option<String>,
    /// A second write with [`PutMode::IfAbsent`] was refused.
    pub if_absent: bool,
    /// A write with [`PutMode::IfMatch`] of an old version was refused, and one of the present version taken.
    pub if_match: bool,
    /// An object was read back as it was just written, a range and the tail of it too.
    pub read_after_write: bool,
    /// A listing showed an object just stored, and not one just removed.
    pub list_after_write: bool,
}

impl Capabilities {
    /// Whether the store does everything pgproof asks for.
    pub fn is_complete(&self) -> bool {
        self.lacking().is_empty()
    }

    /// What the store lacks, in words, with what follows from it.
    pub fn lacking(&self) -> Vec<&'static str> {
        if !self.writable {
            return vec!["it cannot be written: restore works, backup and archiving do not"];
        }
        let lacks = [
            (self.if_absent, "no conditional creation: two servers archiving into one place go unnoticed"),
            (
                self.if_match,
                "no conditional replacement: leases cannot be revoked, a minimum age rules expiry",
            ),
            (
                self.read_after_write,
                "what was just written is not read back: the repository is not safe here",
            ),
            (self.list_after_write, "listings lag behind: expiry and verification can miss objects"),
        ];
        lacks.into_iter().filter(|(present, _)| !present).map(|(_, text)| text).collect()
    }
}

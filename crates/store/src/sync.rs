//! Every place where the directory store waits for the disk, by name.
//!
//! They are gathered here so that a test can turn any single one off (feature `fault-injection`) and see that a power cut then
//! loses something that was reported durable. A sync point that no test misses is either useless or untested.

use rustix::fs;
use std::{fs::File, io, path::Path};

/// One reason to wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "fault-injection"), allow(unreachable_pub))]
pub enum SyncPoint {
    /// The content of an object put in one piece, before it gets its name.
    PutData,
    /// The content of an object written in pieces, before it gets its name.
    WriterData,
    /// The name of a new or replaced object, in its directory.
    ObjectName,
    /// The names of the directories above it, which this process has not seen synced yet.
    ParentNames,
    /// The name of an object that an earlier writer made, before it is reported to exist.
    ExistingName,
    /// The disappearance of a name.
    RemovedName,
    /// The name of the store's root in the directory above it.
    RootName,
}

impl SyncPoint {
    /// All of them, for tests that turn each off in turn.
    #[cfg(feature = "fault-injection")]
    pub const ALL: [Self; 7] = [
        Self::PutData,
        Self::WriterData,
        Self::ObjectName,
        Self::ParentNames,
        Self::ExistingName,
        Self::RemovedName,
        Self::RootName,
    ];
}

/// Waits for the disk, unless a test has turned the point off.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    #[cfg(feature = "fault-injection")]
    skipped: Vec<SyncPoint>,
}

impl Syncs {
    /// All sync points but these.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn without(skipped: &[SyncPoint]) -> Self {
        Self { skipped: skipped.to_vec() }
    }

    #[cfg(feature = "fault-injection")]
    fn skips(&self, point: SyncPoint) -> bool {
        self.skipped.contains(&point)
    }

    #[cfg(not(feature = "fault-injection"))]
    #[expect(clippy::unused_self, reason = "its twin needs it")]
    fn skips(&self, _point: SyncPoint) -> bool {
        false
    }

    /// Waits until the content of a file is on the disk. `fdatasync` also writes the metadata needed to read it back.
    pub(crate) fn file(&self, point: SyncPoint, file: &File) -> io::Result<()> {
        if self.skips(point) {
            return Ok(());
        }
        fs::fdatasync(file).map_err(io::Error::from)
    }

    /// Waits until the names in a directory are on the disk.
    pub(crate) fn directory(&self, point: SyncPoint, path: &Path) -> io::Result<()> {
        if self.skips(point) {
            return Ok(());
        }
        File::open(path)?.sync_all()
    }
}

//! Every reason for which the place of received WAL waits for its disk, by name.
//!
//! They are gathered here, as those of the directory store are in `pgproof-store`, so that a test can turn any single one off and see that
//! a power cut then loses something that was acknowledged, or keeps the next receiver from going on.

use std::fs::File;
use std::io;
use std::path::Path;

/// One reason to wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SyncPoint {
    /// The name of the cluster's directory in the spool.
    PlaceName,
    /// Names that an earlier receiver gave and may have been killed before it synced.
    HeldNames,
    /// The content of a timeline history file.
    HistoryData,
    /// Its name. The segment that follows may have its name already ([`Self::InheritedData`]), so nothing else would save this one.
    HistoryName,
    /// The zeroes of a segment that is about to be received.
    SpareData,
    /// What a new timeline's first segment takes over from the old one.
    InheritedData,
    /// The name under which a segment is received.
    SegmentName,
    /// What was received of it.
    ReceivedData,
    /// The name of a segment that is complete.
    CompleteName,
    /// That a file which the repositories hold is gone.
    RemovedName,
}

impl SyncPoint {
    /// All of them, for the test that turns each off in turn.
    #[cfg(test)]
    pub(super) const ALL: [Self; 10] = [
        Self::PlaceName,
        Self::HeldNames,
        Self::HistoryData,
        Self::HistoryName,
        Self::SpareData,
        Self::InheritedData,
        Self::SegmentName,
        Self::ReceivedData,
        Self::CompleteName,
        Self::RemovedName,
    ];
}

/// Waits for the disk, unless a test has turned a point off.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Syncs {
    #[cfg(test)]
    pub(super) without: Option<SyncPoint>,
}

impl Syncs {
    #[cfg(test)]
    fn skips(self, point: SyncPoint) -> bool {
        self.without == Some(point)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "its twin needs it")]
    fn skips(self, _point: SyncPoint) -> bool {
        false
    }

    /// Waits until the content of a file is on the disk. `fdatasync` also writes the metadata needed to read it back.
    pub(super) fn file(self, point: SyncPoint, file: &File) -> io::Result<()> {
        if self.skips(point) { Ok(()) } else { file.sync_data() }
    }

    /// Waits until the names in a directory are on the disk.
    pub(super) fn directory(self, point: SyncPoint, path: &Path) -> io::Result<()> {
        if self.skips(point) { Ok(()) } else { File::open(path)?.sync_all() }
    }
}

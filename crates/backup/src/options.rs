//! What the operator asks of one backup, and the limits that bound it.

use pgproof_repo::Codec;
use serde::Serialize;
use std::num::NonZeroU64;
use std::time::Duration;

/// Whether an earlier backup may be built upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Incremental where a good base exists, else full.
    Auto,
    /// As `Auto`, but every page is read and compared with the earlier backup, to see whether WAL named every change.
    ReadAll,
    /// Every page is read and stored, nothing is reused.
    Full,
}

/// Options of one backup.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// See [`Kind`].
    pub kind: Kind,
    /// After so many backups in a row that trusted WAL to name what changed, one reads everything; `None` for never.
    pub read_all_after: Option<u32>,
    /// Label given to the server; it appears in `backup_label`.
    pub label: String,
    /// Ask for an immediate checkpoint instead of a spread one.
    pub fast_checkpoint: bool,
    /// Threads that read, check, compress and store.
    pub workers: usize,
    /// How extents are compressed.
    pub codec: Codec,
    /// How long to wait for the archive to hold the backup's last WAL.
    pub archive_timeout: Duration,
    /// A pack is closed when it has grown to this many bytes.
    pub pack_bytes: u64,
    /// Bytes of data files that all workers together read in a second at most.
    pub max_rate: Option<NonZeroU64>,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            kind: Kind::Auto,
            read_all_after: Some(30),
            label: "pgproof".to_owned(),
            fast_checkpoint: true,
            workers: std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS),
            codec: Codec::default(),
            archive_timeout: Duration::from_secs(60),
            pack_bytes: 32 << 20,
            max_rate: None,
        }
    }
}

/// More threads than this gain nothing on one disk and cost memory each.
pub(crate) const MAX_WORKERS: usize = 16;

/// Pages in an extent: 128 KiB compresses as well as whole files at zstd 3 and faster, and a random read decodes it in under
/// 0.1 ms (docs/decisions/2026-11-22-extents-of-16-pages.md).
pub const EXTENT_PAGES: usize = 16;

/// A region of [`EXTENT_PAGES`] blocks whose pages would come from more extents than this is stored whole again, so that a
/// restore after many small incrementals reads a bounded number of extents.
pub(crate) const FRAGMENTS_MAX: usize = 8;

//! PostgreSQL's words: positions, files, pages, WAL records, control file.
//!
//! Promises to read what PostgreSQL 14 to 18 write, byte for byte, and to survive anything else: bytes from outside become a typed
//! error ([`PgError`]) or, in WAL, a gap. Deliberately does no I/O and reads no clock; callers bring bytes. Blocks are 8192 bytes,
//! everything else is refused. Start reading at [`lsn`] for positions, [`relfile`] for files, [`wal`] for what changed.

mod bytes;
pub mod control;
pub mod copy;
pub mod error;
pub mod label;
pub mod lsn;
pub mod mask;
pub mod page;
pub mod relfile;
pub mod version;
pub mod wal;

pub use control::{ClusterState, ControlFile, WalLevel};
pub use error::PgError;
pub use lsn::{
    Ancestor, ArchiveName, Lsn, SegmentName, SegmentNumber, SystemIdentifier, TimelineHistory, TimelineId,
    WalSegmentSize,
};
pub use relfile::{DatabaseDir, Fork, RelFork, RelPath, Relation};
pub use version::MajorVersion;

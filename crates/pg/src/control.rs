//! `global/pg_control`: what a cluster says of itself.
//!
//! Promises that a [`ControlFile`] was read from bytes whose CRC-32C holds and whose sizes we support, so nobody checks again.
//! Layouts come from PostgreSQL's `src/include/catalog/pg_control.h`: versions 14 to 16 share 1300; 1700 puts a `wal_level` into what
//! was padding of the checkpoint; 1800 adds `default_char_signedness` before the nonce. All on 64-bit machines, little-endian.

use crate::{
    bytes::{i64_at, u32_at, u64_at},
    error::PgError,
    lsn::{Lsn, SystemIdentifier, TimelineId, WAL_PAGE_SIZE, WalSegmentSize},
    relfile::{BLOCK_SIZE, BLOCKS_PER_SEGMENT},
    version::MajorVersion,
};
use serde::{Deserialize, Serialize};

/// Bytes of the file (`PG_CONTROL_FILE_SIZE`); what follows the structure is zero.
pub const CONTROL_FILE_SIZE: usize = 8192;

const WHAT: &str = "pg_control";
/// What compiled-in `FLOATFORMAT_VALUE` looks like on a machine with IEEE doubles.
const FLOAT_FORMAT: f64 = 1_234_567.0;
const CHECKPOINT_AT: usize = 32;
const REDO_AT: usize = 40;

/// What [`impossible`] puts in place of the checkpoint. A record can never start at the first byte of a page, and PostgreSQL
/// checks that (`XRecOffIsValid` in `StartupXLOG`) before it looks for a `backup_label`; an absent but well-formed position
/// would not stop a start that takes its checkpoint from the label.
pub const IMPOSSIBLE_CHECKPOINT: Lsn = Lsn(0xDEAD_0000_DEAD_0000);

/// `DBState`: what the cluster was doing when the file was last written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterState {
    /// Starting.
    Startup,
    /// Shut down cleanly.
    ShutDown,
    /// Shut down cleanly as a standby.
    ShutDownInRecovery,
    /// Shutting down.
    ShuttingDown,
    /// Replaying WAL after a crash.
    InCrashRecovery,
    /// Replaying WAL from an archive or a primary.
    InArchiveRecovery,
    /// Running as a primary, or crashed as one.
    InProduction,
}

/// How much a server logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WalLevel {
    /// Enough for crash recovery only: WAL of this level proves nothing about relations created or truncated meanwhile.
    Minimal,
    /// Enough for archiving and standbys.
    Replica,
    /// Enough for logical decoding.
    Logical,
}

impl WalLevel {
    /// Takes PostgreSQL's number (`src/include/access/xlog.h`), 0 to 2.
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Minimal, Self::Replica, Self::Logical].get(number as usize).copied()
    }
}

/// The control file of a supported version, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlFile {
    /// The cluster's identity.
    pub system_identifier: SystemIdentifier,
    /// Format of this file: 1300, 1700 or 1800.
    pub control_version: u32,
    /// Format of the system catalogs; part of tablespace directory names.
    pub catalog_version: u32,
    /// What the cluster was doing.
    pub state: ClusterState,
    /// When the file was last written, in seconds since 1970.
    pub time: i64,
    /// Start of the last checkpoint record (or restartpoint's).
    pub checkpoint: Lsn,
    /// Where redo starts from that checkpoint.
    pub redo: Lsn,
    /// Timeline of that checkpoint.
    pub timeline: TimelineId,
    /// The timeline before it; the same unless the record begins a new one.
    pub previous_timeline: TimelineId,
    /// Whether full pages are written after that checkpoint.
    pub full_page_writes: bool,
    /// Next transaction, with its epoch in the upper half.
    pub next_xid: u64,
    /// When that checkpoint was made, in seconds since 1970.
    pub checkpoint_time: i64,
    /// Oldest transaction not yet frozen.
    pub oldest_xid: u32,
    /// Where recovery must come at least before the cluster is consistent; 0 when not in archive recovery.
    pub min_recovery_point: Lsn,
    /// Timeline of [`Self::min_recovery_point`]; 0 when there is none.
    pub min_recovery_timeline: TimelineId,
    /// Redo position of the backup being recovered, 0 when there is none.
    pub backup_start: Lsn,
    /// End of a backup from a standby being recovered, 0 when there is none.
    pub backup_end: Lsn,
    /// Whether recovery must still see the record that ends the backup.
    pub backup_end_required: bool,
    /// Level at which WAL is written.
    pub wal_level: WalLevel,
    /// Whether hint bits are logged.
    pub wal_log_hints: bool,
    /// Setting that recovery requires at least as large.
    pub max_connections: u32,
    /// Setting that recovery requires at least as large.
    pub max_worker_processes: u32,
    /// Setting that recovery requires at least as large.
    pub max_wal_senders: u32,
    /// Setting that recovery requires at least as large.
    pub max_prepared_transactions: u32,
    /// Setting that recovery requires at least as large.
    pub max_locks_per_transaction: u32,
    /// Whether commit timestamps are kept.
    pub track_commit_timestamp: bool,
    /// Bytes of a WAL segment.
    pub wal_segment_size: WalSegmentSize,
    /// Version of page checksums, 0 when pages have none.
    pub data_checksum_version: u32,
}

impl ControlFile {
    /// Reads and checks the file's bytes.
    ///
    /// # Errors
    /// [`PgError::UnsupportedVersion`] for another format, [`PgError::Checksum`] when it was read while being written (read it
    /// again), [`PgError::UnsupportedBlockSize`] and [`PgError::Malformed`] for sizes or values we or PostgreSQL do not have.
    pub fn parse(bytes: &[u8]) -> Result<Self, PgError> {
        let version = u32_at(bytes, 8).ok_or_else(|| too_short(bytes, 12))?;
        let layout = Layout::of(version)?;
        if bytes.len() < layout.crc_at + 4 {
            return Err(too_short(bytes, layout.crc_at + 4));
        }
        let (stored, computed) =
            (u32_at(bytes, layout.crc_at).unwrap_or(0), crc32c::crc32c(&bytes[..layout.crc_at]));
        if stored != computed {
            return Err(PgError::Checksum { what: WHAT, stored, computed });
        }
        check_architecture(bytes)?;
        // The length was checked: reads below cannot fail, and a zero would be refused where it matters.
        let word = |at| u32_at(bytes, at).unwrap_or(0);
        let wide = |at| u64_at(bytes, at).unwrap_or(0);
        let time = |at| i64_at(bytes, at).unwrap_or(0);
        let flag = |at: usize| bytes[at] != 0;
        Ok(Self {
            system_identifier: SystemIdentifier(wide(0)),
            control_version: version,
            catalog_version: word(12),
            state: state(word(16))?,
            time: time(24),
            checkpoint: Lsn(wide(CHECKPOINT_AT)),
            redo: Lsn(wide(REDO_AT)),
            timeline: TimelineId(word(48)),
            previous_timeline: TimelineId(word(52)),
            full_page_writes: flag(56),
            next_xid: wide(64),
            oldest_xid: word(84),
            checkpoint_time: time(104),
            min_recovery_point: Lsn(wide(136)),
            min_recovery_timeline: TimelineId(word(144)),
            backup_start: Lsn(wide(152)),
            backup_end: Lsn(wide(160)),
            backup_end_required: flag(168),
            wal_level: WalLevel::from_number(word(172))
                .ok_or_else(|| PgError::malformed(WHAT, format!("wal_level {}", word(172))))?,
            wal_log_hints: flag(176),
            max_connections: word(180),
            max_worker_processes: word(184),
            max_wal_senders: word(188),
            max_prepared_transactions: word(192),
            max_locks_per_transaction: word(196),
            track_commit_timestamp: flag(200),
            wal_segment_size: WalSegmentSize::new(word(228).into())?,
            data_checksum_version: word(252),
        })
    }

    /// Whether pages carry checksums.
    pub fn has_checksums(&self) -> bool {
        self.data_checksum_version > 0
    }

    /// The versions that write this format; catalog version and `PG_VERSION` tell them apart.
    pub fn possible_versions(&self) -> &'static [MajorVersion] {
        MajorVersion::from_control_version(self.control_version)
    }

    /// Whether the checkpoint is the one [`impossible`] writes: a restore into this directory did not finish.
    pub fn is_impossible(&self) -> bool {
        self.checkpoint == IMPOSSIBLE_CHECKPOINT
    }
}

/// The same control file with a checkpoint no server starts from, and a CRC that holds. A restore writes it first and the real one
/// last, so that a directory restored by half says so ("control file contains invalid checkpoint location").
///
/// # Errors
/// As [`ControlFile::parse`]: only a sound file is worth disguising.
pub fn impossible(bytes: &[u8]) -> Result<Vec<u8>, PgError> {
    let control = ControlFile::parse(bytes)?;
    let crc_at = Layout::of(control.control_version)?.crc_at;
    let mut changed = bytes.to_vec();
    for at in [CHECKPOINT_AT, REDO_AT] {
        changed[at..at + 8].copy_from_slice(&IMPOSSIBLE_CHECKPOINT.0.to_le_bytes());
    }
    let crc = crc32c::crc32c(&changed[..crc_at]);
    changed[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
    Ok(changed)
}

/// What differs between the formats and matters to us: where the CRC lies.
struct Layout {
    crc_at: usize,
}

impl Layout {
    fn of(control_version: u32) -> Result<Self, PgError> {
        match control_version {
            1300 | 1700 => Ok(Self { crc_at: 288 }),
            1800 => Ok(Self { crc_at: 292 }),
            // Since 7.4 the number is the first major version with the format, times 100 (before: 9.6 is 960, 12 is 1201).
            _ => Err(PgError::UnsupportedVersion { major: control_version / 100 }),
        }
    }
}

fn too_short(bytes: &[u8], needed: usize) -> PgError {
    PgError::TooShort { what: WHAT, needed, found: bytes.len() }
}

fn state(number: u32) -> Result<ClusterState, PgError> {
    Ok(match number {
        0 => ClusterState::Startup,
        1 => ClusterState::ShutDown,
        2 => ClusterState::ShutDownInRecovery,
        3 => ClusterState::ShuttingDown,
        4 => ClusterState::InCrashRecovery,
        5 => ClusterState::InArchiveRecovery,
        6 => ClusterState::InProduction,
        _ => return Err(PgError::malformed(WHAT, format!("cluster state {number}"))),
    })
}

/// Sizes compiled into the server. They decide the layout of every file, so only the defaults are read.
fn check_architecture(bytes: &[u8]) -> Result<(), PgError> {
    let word = |at| u32_at(bytes, at).unwrap_or(0);
    let float = u64_at(bytes, 208).map(f64::from_bits);
    if word(204) != 8 || float != Some(FLOAT_FORMAT) {
        return Err(PgError::malformed(WHAT, "it was written on a machine of another architecture"));
    }
    for (what, at, wanted) in
        [("block size", 216, BLOCK_SIZE as u32), ("WAL block size", 224, WAL_PAGE_SIZE as u32)]
    {
        if word(at) != wanted {
            return Err(PgError::UnsupportedBlockSize { what, bytes: word(at) });
        }
    }
    if word(220) != BLOCKS_PER_SEGMENT {
        return Err(PgError::malformed(WHAT, format!("relation segments of {} blocks", word(220))));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

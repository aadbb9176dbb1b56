//! Which state files of prepared transactions a restore leaves to WAL.
//!
//! A checkpoint during the copy writes a file in `pg_twophase` for every transaction that is prepared by then, also for those that began after
//! the checkpoint at which recovery of the backup starts. WAL prepares these again, and they must not be there before: recovery of 17 and 18
//! finds such a file to be of the future (`ProcessTwoPhaseBuffer` in `src/backend/access/transam/twophase.c`), means to remove it, looks for it
//! under the epoch before its own (`AdjustToFullTransactionId`) and leaves it; then the record in WAL seems to be a second one ("could not
//! recover two-phase state file") and is dropped, and the transaction with it. 14 to 16 name the files without an epoch and do remove them.
//! The decision record is `docs/decisions/2026-11-23-wal-prepares-what-began-after-the-start.md`.

use crate::dispositions::CONTROL_FILE;
use crate::engine::content;
use crate::error::Result;
use pgproof_pg::label::BackupLabel;
use pgproof_pg::wal::{Checkpoint, SegmentSummary, crossing_marks};
use pgproof_pg::{ControlFile, Lsn, SegmentName};
use pgproof_repo::manifest::BackupSummary;
use pgproof_repo::walset::WalSet;
use pgproof_repo::{Manifest, Repository};
use serde::{Deserialize, Serialize};

/// The directory of state files.
const DIRECTORY: &str = "pg_twophase/";

/// Length of a name that holds epoch and transaction, as 17 and later write it.
const FULL_NAME: usize = 16;

/// `server_version_num` of the first version with such names.
const FULL_NAMES: u32 = 170_000;

/// What is known of the transactions that recovery starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartingXid {
    /// State files of this version do no harm.
    NotNeeded,
    /// The first transaction, with its epoch, that began after the starting checkpoint.
    Known(u64),
    /// Neither the backup nor the WAL tells.
    Unknown,
}

impl StartingXid {
    /// What becomes of the file that a manifest calls `path`.
    pub fn judge(self, path: &str) -> StateFile {
        let Some(xid) = transaction_of(path) else { return StateFile::None };
        match self {
            Self::NotNeeded => StateFile::Placed,
            Self::Known(next) if xid >= next => StateFile::LeftToWal,
            Self::Known(_) => StateFile::Placed,
            Self::Unknown => StateFile::Doubtful,
        }
    }
}

/// What becomes of a state file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFile {
    /// It is none.
    None,
    /// Recovery needs it: the record in WAL lies before its start.
    Placed,
    /// Recovery would stumble over it, and finds the transaction in WAL.
    LeftToWal,
    /// One of the two; it is placed, and that is told.
    Doubtful,
}

impl StateFile {
    /// Whether a restore writes it, where it is one.
    pub fn is_placed(self) -> bool {
        self != Self::LeftToWal
    }
}

/// The transaction, with its epoch, whose state file this is.
fn transaction_of(path: &str) -> Option<u64> {
    let name = path.strip_prefix(DIRECTORY).filter(|name| name.len() == FULL_NAME)?;
    let is_written_so = |digit: u8| digit.is_ascii_digit() || (b'A'..=b'F').contains(&digit);
    name.bytes().all(is_written_so).then(|| u64::from_str_radix(name, 16).ok()).flatten()
}

/// Finds the next transaction of the checkpoint that the label of the backup names: in the copied control file, unless a later checkpoint
/// came before it was copied, else in the WAL, of which `summary` gives what one segment told.
///
/// # Errors
/// [`crate::RestoreError::Repository`] when the backup cannot be read, and those of `summary`.
pub(crate) fn observe(
    repository: &Repository,
    manifest: &Manifest,
    wal: &WalSet,
    summary: &mut dyn FnMut(SegmentName) -> Result<Option<SegmentSummary>>,
) -> Result<StartingXid> {
    let backup = manifest.summary();
    if backup.server_version < FULL_NAMES {
        return Ok(StartingXid::NotNeeded);
    }
    let Ok(label) = BackupLabel::parse(&backup.backup_label) else { return Ok(StartingXid::Unknown) };
    let control = content(repository, manifest, CONTROL_FILE)?;
    let control = control.as_deref().and_then(|bytes| ControlFile::parse(bytes).ok());
    let next = match control.filter(|control| control.checkpoint == label.checkpoint) {
        Some(control) => Some(control.next_xid),
        None => in_wal(backup, label.checkpoint, wal, summary)?,
    };
    Ok(next.map_or(StartingXid::Unknown, StartingXid::Known))
}

fn in_wal(
    backup: &BackupSummary,
    checkpoint: Lsn,
    wal: &WalSet,
    summary: &mut dyn FnMut(SegmentName) -> Result<Option<SegmentSummary>>,
) -> Result<Option<u64>> {
    let history = wal.history(backup.timeline);
    let number = checkpoint.segment(wal.segment_size());
    let mut read = |number| wal.find(&history, number).map_or(Ok(None), &mut *summary);
    let Some(first) = read(number)? else { return Ok(None) };
    let is_it = |found: &&Checkpoint| found.lsn == checkpoint;
    if let Some(found) = first.marks.checkpoints.iter().find(is_it) {
        return Ok(Some(found.next_xid));
    }
    // The record lies in two segments.
    let second = read(number.next())?;
    let crossing = second.and_then(|second| crossing_marks(&first, &second)).unwrap_or_default();
    Ok(crossing.checkpoints.iter().find(is_it).map(|found| found.next_xid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_transactions_that_began_after_the_start_are_left_to_wal() {
        let start = StartingXid::Known(0x1_0000_02F0);
        for (path, expected) in [
            ("pg_twophase/00000001000002EF", StateFile::Placed),
            ("pg_twophase/00000001000002F0", StateFile::LeftToWal),
            ("pg_twophase/0000000200000003", StateFile::LeftToWal),
            ("pg_twophase/00000000FFFFFFF0", StateFile::Placed),
            ("pg_twophase/000002F5", StateFile::None),
            ("pg_twophase/00000001000002fa", StateFile::None),
            ("pg_twophase", StateFile::None),
            ("base/5/00000001000002F5", StateFile::None),
        ] {
            assert_eq!(start.judge(path), expected, "{path}");
        }
        let file = "pg_twophase/00000001000002F5";
        assert_eq!(StartingXid::NotNeeded.judge(file), StateFile::Placed);
        assert_eq!(StartingXid::Unknown.judge(file), StateFile::Doubtful);
    }
}

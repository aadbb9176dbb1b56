//! What a copy did, and what it left and why.

use crate::layout::{BackupId, Content};
use pgproof_base::Bytes;
use pgproof_pg::SystemIdentifier;
use serde::Serialize;

/// What became of one backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyState {
    /// The target has it now.
    Copied,
    /// The target had it.
    Present,
    /// The target does not have it.
    Left,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopiedBackup {
    /// The backup.
    pub backup: BackupId,
    /// What became of it.
    pub state: CopyState,
    /// Packs copied.
    pub packs: u64,
    /// Bytes of them.
    pub bytes: Bytes,
    /// Why it was left, where it was.
    pub why: Option<String>,
}

/// An object that could not be copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Which.
    pub object: String,
    /// What is wrong.
    pub what: String,
}

/// What was done to one lineage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LineageCopy {
    /// The lineage.
    pub system: SystemIdentifier,
    /// Whether it holds backups of the cluster or dumps.
    pub content: Content,
    /// The chosen backups, oldest first.
    pub backups: Vec<CopiedBackup>,
    /// Segments copied.
    pub segments: u64,
    /// Bytes of them.
    pub segment_bytes: Bytes,
    /// Segments that were there with the same content.
    pub segments_present: u64,
    /// History files copied.
    pub histories: u64,
    /// Objects of the ledger copied.
    pub ledger_objects: u64,
    /// The writer epoch that the target took over from the source, where it did.
    pub epoch: Option<u64>,
    /// WAL that could not be copied.
    pub problems: Vec<Problem>,
}

/// What a copy did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// By lineage.
    pub lineages: Vec<LineageCopy>,
}

impl CopyReport {
    /// Whether everything that was chosen is in the target.
    pub fn is_complete(&self) -> bool {
        self.lineages.iter().all(|lineage| {
            lineage.problems.is_empty()
                && lineage.backups.iter().all(|backup| backup.state != CopyState::Left)
        })
    }
}

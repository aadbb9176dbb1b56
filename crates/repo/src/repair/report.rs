//! What was healed, and what stays damaged.

use super::plan::{Heal, Hopeless};
use crate::layout::BackupId;
use crate::verify::VerifyFinding;
use jiff::Timestamp;
use pgproof_pg::SystemIdentifier;
use serde::Serialize;

/// A backup that can be restored as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restorable {
    /// The backup.
    pub backup: BackupId,
    /// When it was finished.
    pub stopped: Timestamp,
}

/// What was done to one lineage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LineageRepair {
    /// The lineage.
    pub system: SystemIdentifier,
    /// What was healed.
    pub healed: Vec<Heal>,
    /// What could not be.
    pub failed: Vec<Hopeless>,
    /// Damaged packs that were removed, since nothing refers to them any more.
    pub removed: Vec<String>,
    /// What verification still finds wrong.
    pub remaining: Vec<VerifyFinding>,
    /// Backups that can be restored as they are, oldest first.
    pub restorable: Vec<Restorable>,
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// By lineage.
    pub lineages: Vec<LineageRepair>,
}

impl RepairReport {
    /// Whether nothing is damaged any more.
    pub fn is_whole(&self) -> bool {
        self.lineages.iter().all(|lineage| lineage.remaining.is_empty())
    }
}

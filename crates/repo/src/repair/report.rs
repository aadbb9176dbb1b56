//! What was healed, and what stays damaged.

use super::plan::{Heal, Hopeless};
use crate::layout::{BackupId, Content, Lineage};
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

/// A lineage of which the other repository has backups, and the one that was to be healed has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Absent {
    /// The lineage.
    pub system: SystemIdentifier,
    /// Whether it holds backups of the cluster or dumps.
    pub content: Content,
}

/// What was done to one lineage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LineageRepair {
    /// The lineage.
    pub system: SystemIdentifier,
    /// Whether it holds backups of the cluster or dumps.
    pub content: Content,
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
    /// What was not there to be healed.
    pub absent: Vec<Absent>,
}

impl LineageRepair {
    /// The lineage that was healed.
    pub fn lineage(&self) -> Lineage {
        Lineage::of(self.system, self.content)
    }
}

impl RepairReport {
    /// Whether nothing is damaged or missing any more.
    pub fn is_whole(&self) -> bool {
        self.absent.is_empty() && self.lineages.iter().all(|lineage| lineage.remaining.is_empty())
    }
}

//! What a verification found.

use crate::layout::{BackupId, Content, Lineage};
use jiff::Timestamp;
use pgproof_base::{Bytes, Finding, Severity};
use pgproof_pg::{Lsn, SystemIdentifier, TimelineId};
use serde::Serialize;

/// Files named in one finding; more are only counted.
pub(super) const FILES_MAX: usize = 1000;

/// A file of a backup that cannot be restored as it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HurtFile {
    /// The backup.
    pub backup: BackupId,
    /// The file, relative to the data directory.
    pub path: String,
}

/// A recovery window that is cut or has a hole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HurtWindow {
    /// Its timeline.
    pub timeline: TimelineId,
    /// Its first position.
    pub from: Lsn,
    /// The position after its last one.
    pub to: Lsn,
}

/// What some damage makes impossible.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Hurts {
    /// Backups that are not whole.
    pub backups: Vec<BackupId>,
    /// Their files, the first thousand.
    pub files: Vec<HurtFile>,
    /// How many files there are.
    pub files_total: u64,
    /// Recovery windows of which a part is lost.
    pub windows: Vec<HurtWindow>,
}

impl Hurts {
    /// Whether nothing is lost.
    pub fn is_nothing(&self) -> bool {
        self.backups.is_empty() && self.files_total == 0 && self.windows.is_empty()
    }
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyFinding {
    /// What, why it matters, what to do.
    #[serde(flatten)]
    pub finding: Finding,
    /// The object it is about.
    pub object: String,
    /// What it makes impossible.
    pub hurts: Hurts,
}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct VerifyCounts {
    /// Objects read in full.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: Bytes,
    /// Objects that were not, because they were read recently.
    pub skipped: u64,
    /// Bytes of those.
    pub skipped_bytes: Bytes,
}

/// What was found in one lineage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LineageReport {
    /// The lineage.
    pub system: SystemIdentifier,
    /// Whether it holds backups of the cluster or dumps.
    pub content: Content,
    /// What was found, worst first.
    pub findings: Vec<VerifyFinding>,
    /// What was read.
    pub counts: VerifyCounts,
}

impl LineageReport {
    /// The lineage that was verified.
    pub fn lineage(&self) -> Lineage {
        Lineage::of(self.system, self.content)
    }
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// When it began, by the store's clock.
    pub began: Timestamp,
    /// When it ended, by the store's clock.
    pub ended: Timestamp,
    /// By lineage.
    pub lineages: Vec<LineageReport>,
}

impl VerifyReport {
    /// Whether nothing is damaged or missing. What is merely worth knowing does not count.
    pub fn is_clean(&self) -> bool {
        self.findings().all(|found| found.finding.severity == Severity::Info)
    }

    /// All findings.
    pub fn findings(&self) -> impl Iterator<Item = &VerifyFinding> {
        self.lineages.iter().flat_map(|lineage| &lineage.findings)
    }
}

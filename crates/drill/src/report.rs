//! What a drill found: verdicts with their evidence and elapsed time, and the numbers measured.

use jiff::Timestamp;
use pgproof_base::{Finding, Severity};
use pgproof_pg::{Lsn, SystemIdentifier, TimelineId};
use pgproof_repo::BackupId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The checks, in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckName {
    /// The repository opens with the key at hand.
    Repository,
    /// WAL leads from a backup to the instant without a gap.
    Wal,
    /// Every file of the backup comes back as it was stored.
    Files,
    /// The server replays and reaches the instant.
    Consistency,
    /// Every database accepts connections.
    Databases,
    /// Libraries of extensions load.
    Extensions,
    /// Tables that had rows have rows.
    Rows,
    /// Sequences are ahead of their columns.
    Sequences,
    /// Indexes and heaps hold together.
    Amcheck,
    /// The operator's SQL.
    Assertions,
    /// The operator's program.
    Command,
    /// Page checksums.
    Checksums,
    /// The recovery was as fast as the RTO wants it.
    RecoveryTime,
    /// No more was lost than the RPO allows.
    DataLoss,
}

impl CheckName {
    /// All of them, in order.
    pub const ALL: [Self; 14] = [
        Self::Repository,
        Self::Wal,
        Self::Files,
        Self::Consistency,
        Self::Databases,
        Self::Extensions,
        Self::Rows,
        Self::Sequences,
        Self::Amcheck,
        Self::Assertions,
        Self::Command,
        Self::Checksums,
        Self::RecoveryTime,
        Self::DataLoss,
    ];

    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Repository => "repository",
            Self::Wal => "wal",
            Self::Files => "files",
            Self::Consistency => "consistency",
            Self::Databases => "databases",
            Self::Extensions => "extensions",
            Self::Rows => "rows",
            Self::Sequences => "sequences",
            Self::Amcheck => "amcheck",
            Self::Assertions => "assertions",
            Self::Command => "command",
            Self::Checksums => "checksums",
            Self::RecoveryTime => "recovery-time",
            Self::DataLoss => "data-loss",
        }
    }

    /// Whether another backup may pass where this one fails.
    #[must_use]
    pub fn depends_on_backup(self) -> bool {
        matches!(
            self,
            Self::Wal | Self::Files | Self::Consistency | Self::Databases | Self::Amcheck | Self::Checksums
        )
    }
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// What was looked at is as it should be.
    Passed,
    /// It is not.
    Failed,
    /// It was not looked at; the report says why.
    NotDone,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// Which.
    pub check: CheckName,
    /// How it ended.
    pub verdict: Verdict,
    /// Seconds that it took.
    pub elapsed_s: f64,
    /// What was looked at, and what was not.
    pub covered: String,
    /// What is wrong, and with severity `info` what is worth knowing.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// A check whose findings decide.
    pub(crate) fn judged(
        check: CheckName,
        elapsed_s: f64,
        covered: impl Into<String>,
        findings: Vec<Finding>,
    ) -> Self {
        let bad = findings.iter().any(|finding| finding.severity > Severity::Info);
        let verdict = if bad { Verdict::Failed } else { Verdict::Passed };
        Self { check, verdict, elapsed_s, covered: covered.into(), findings }
    }

    /// A check that was not made.
    pub(crate) fn not_done(check: CheckName, why: impl Into<String>) -> Self {
        let covered = why.into();
        Self { check, verdict: Verdict::NotDone, elapsed_s: 0.0, covered, findings: Vec::new() }
    }
}

/// From where, and to which instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The cluster.
    pub system: SystemIdentifier,
    /// The backup.
    pub backup: BackupId,
    /// When it was finished.
    pub backup_stopped: Timestamp,
    /// `server_version_num` of the backup.
    pub server_version: u32,
    /// The instant asked for, in words.
    pub target: String,
    /// The timeline recovered along.
    pub timeline: TimelineId,
}

/// WAL that was replayed, as the server's own log tells it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WalReplayed {
    /// Where redo began.
    pub from: Lsn,
    /// The last record replayed.
    pub to: Lsn,
    /// Bytes between the two.
    pub bytes: u64,
    /// Seconds that the server says it took, waiting for the archive included.
    pub elapsed_s: f64,
    /// Bytes a second; none where the time was too short to be measured.
    pub bytes_s: Option<f64>,
}

/// What would have been lost, had the primary been lost when the drill began.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DataLoss {
    /// The newest heartbeat that came back.
    pub recovered_beat: Timestamp,
    /// The last heartbeat that the primary knew, where it could be asked.
    pub last_beat: Option<Timestamp>,
    /// Seconds between the two: commits of so long are known to be lost.
    pub lost_s: Option<f64>,
    /// Seconds between the heartbeat that came back and the begin of the drill: no more can be lost.
    pub at_most_s: f64,
}

/// What was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Measured {
    /// Bytes of files written.
    pub bytes_restored: Option<u64>,
    /// Seconds until all files were written and durable.
    pub restore_s: Option<f64>,
    /// Seconds from the server's start until it was open for writing at the instant.
    pub recovery_s: Option<f64>,
    /// Seconds from the very begin until the first query was answered: what an RTO is about.
    pub first_query_s: Option<f64>,
    /// WAL replayed.
    pub wal: Option<WalReplayed>,
    /// Where the recovered server stands.
    pub reached: Option<Lsn>,
    /// The last commit that was replayed.
    pub last_commit: Option<Timestamp>,
    /// Data loss; only where the latest instant was asked for and there is a heartbeat.
    pub data_loss: Option<DataLoss>,
}

/// The first thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Culprit {
    /// The check that failed.
    pub check: CheckName,
    /// What it saw.
    pub seen: String,
}

/// Another recovery, tried because the first one failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// From this backup, to its own end.
    pub backup: BackupId,
    /// When it was finished.
    pub stopped: Timestamp,
    /// What it failed by; none when it passed.
    pub culprit: Option<Culprit>,
}

/// A drill that was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DrillReport {
    /// Whether everything that was checked is as it should be.
    pub verdict: Verdict,
    /// When it began, by this host's clock.
    pub began: Timestamp,
    /// Seconds altogether.
    pub total_s: f64,
    /// What was recovered; none when it did not come so far.
    pub source: Option<Source>,
    /// All checks, in order.
    pub checks: Vec<CheckReport>,
    /// What was measured.
    pub measured: Measured,
    /// The first check that failed.
    pub culprit: Option<Culprit>,
    /// Other recoveries tried, newest backup first.
    pub tried: Vec<Tried>,
    /// The newest backup that still passes, to its own end; only where one failed and another was found.
    pub newest_passing: Option<BackupId>,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl DrillReport {
    /// Whether nothing failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.verdict == Verdict::Passed
    }
}

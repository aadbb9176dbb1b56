//! What one record of evidence says.
//!
//! The types are versioned by what they tolerate: kinds and units that this program does not know are kept as text, and fields that it
//! does not know are passed over. A change that older programs would misread raises [`VERSION`].

use crate::layout::BackupId;
use crate::lease::host_name;
use jiff::{SignedDuration, Timestamp};
use pgproof_pg::{Lsn, TimelineId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Version of the content of entries.
pub const VERSION: u32 = 1;

/// Names of measurements that others rely upon. Seconds and bytes are of the operation that the record is about.
pub mod name {
    /// Bytes that a restore wrote.
    pub const RESTORE_BYTES: &str = "restore-bytes";
    /// Seconds until a full restore was durable, before the server was started.
    pub const RESTORE_SECONDS: &str = "restore-seconds";
    /// Bytes of WAL that recovery replayed.
    pub const REPLAY_BYTES: &str = "replay-bytes";
    /// Seconds that the replay took.
    pub const REPLAY_SECONDS: &str = "replay-seconds";
    /// Seconds from the first call to the first answer of a query.
    pub const FIRST_QUERY: &str = "first-query-seconds";
    /// Seconds from the first call until the server had reached the target, restored in full.
    pub const RECOVERY_SECONDS: &str = "recovery-seconds";
    /// Seconds of commits that a recovery to the end of the archive did not bring back.
    pub const DATA_LOSS: &str = "data-loss-seconds";
    /// Bytes of the cluster.
    pub const LOGICAL_BYTES: &str = "logical-bytes";
    /// Bytes that were read.
    pub const READ_BYTES: &str = "read-bytes";
    /// Bytes that were stored.
    pub const STORED_BYTES: &str = "stored-bytes";
    /// Objects that were read again.
    pub const OBJECTS: &str = "objects";
    /// Findings other than remarks.
    pub const FINDINGS: &str = "findings";
    /// Backups that were copied or removed.
    pub const BACKUPS: &str = "backups";
    /// WAL segments that were copied or removed.
    pub const SEGMENTS: &str = "segments";
    /// Seconds without a primary.
    pub const OUTAGE: &str = "outage-seconds";
    /// Commits that were acknowledged and are lost.
    pub const LOST_COMMITS: &str = "lost-commits";
}

/// A set of words that may grow: what is not known is kept as it is written.
macro_rules! open_words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
            /// One of a newer program.
            Other(String),
        }

        impl $name {
            /// As it is written.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(text) => text,
                }
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                match text.as_str() {
                    $($text => Self::$variant,)+
                    _ => Self::Other(text),
                }
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

open_words! {
    /// What was done.
    RecordKind {
        /// A backup was published.
        Backup = "backup",
        /// A dump was published.
        Dump = "dump",
        /// The repository was read again.
        Verify = "verify",
        /// A data directory was restored.
        Restore = "restore",
        /// A recovery was rehearsed, measured and checked.
        Drill = "drill",
        /// The newest backup was rolled forward through the archive.
        Advance = "advance",
        /// What no rule keeps was removed.
        Expire = "expire",
        /// Backups and WAL came here from another repository.
        Copy = "copy",
        /// Damage was replaced from another repository.
        Repair = "repair",
        /// A primary was lost and another one promoted.
        Failover = "failover",
        /// The primary was changed on purpose.
        Switchover = "switchover",
        /// A schema was changed.
        Migration = "migration",
    }
}

open_words! {
    /// Unit of a measurement.
    Unit {
        /// Seconds.
        Seconds = "s",
        /// Bytes.
        Bytes = "bytes",
        /// Things.
        Count = "count",
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// What it looks for is as it must be.
    Passed,
    /// It was not made, as its detail says.
    Skipped,
    /// What it looks for is not as it must be.
    Failed,
}

/// How the operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done, and the answer is good.
    Good,
    /// It was done, and the answer is bad.
    Bad,
    /// It could not be done.
    Failed,
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// The host's name.
    pub host: String,
    /// The version of pgproof.
    pub pgproof: String,
    /// The version of the PostgreSQL that it was done with, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<String>,
}

/// What it was done to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The backup that was made, restored or recovered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupId>,
    /// Its timeline, or the one that was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<TimelineId>,
    /// The position that was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsn: Option<Lsn>,
    /// The instant that was reached: nothing that was committed up to it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instant: Option<Timestamp>,
    /// Anything else that has a name: a node, a migration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A number that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What of: one of [`name`], or another one in kebab-case.
    pub name: String,
    /// How much; always finite.
    pub value: f64,
    /// In what.
    pub unit: Unit,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Stable, kebab-case.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took.
    pub elapsed_ms: u64,
    /// What was seen, or why it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// One record of evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What was done.
    pub kind: RecordKind,
    /// When it began, by the author's clock.
    pub started: Timestamp,
    /// When it had ended, by the author's clock.
    pub ended: Timestamp,
    /// By whom.
    pub by: Author,
    /// To what.
    #[serde(default)]
    pub subject: Subject,
    /// What was measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measurements: Vec<Measurement>,
    /// What was checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// How it ended.
    pub outcome: Outcome,
    /// The same in a sentence, for people.
    #[serde(default)]
    pub summary: String,
}

impl Check {
    /// A check without a detail yet; see [`Check::saying`].
    pub fn new(name: impl Into<String>, verdict: Verdict, elapsed_ms: u64) -> Self {
        Self { name: name.into(), verdict, elapsed_ms, detail: None }
    }

    /// Adds what was seen.
    #[must_use]
    pub fn saying(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }
}

impl Record {
    /// A good record by this process of this host.
    pub fn new(kind: RecordKind, started: Timestamp, ended: Timestamp) -> Self {
        let by = Author { host: host_name(), pgproof: env!("CARGO_PKG_VERSION").to_owned(), postgres: None };
        Self {
            kind,
            started,
            ended,
            by,
            subject: Subject::default(),
            measurements: Vec::new(),
            checks: Vec::new(),
            outcome: Outcome::Good,
            summary: String::new(),
        }
    }

    /// Names the version of PostgreSQL.
    #[must_use]
    pub fn with_postgres(mut self, version: impl fmt::Display) -> Self {
        self.by.postgres = Some(version.to_string());
        self
    }

    /// Says what it was done to.
    #[must_use]
    pub fn about(self, subject: Subject) -> Self {
        Self { subject, ..self }
    }

    /// Adds a measurement. What is not a finite number was not measured.
    #[must_use]
    pub fn measured(mut self, name: &str, value: f64, unit: Unit) -> Self {
        if value.is_finite() {
            self.measurements.push(Measurement { name: name.to_owned(), value, unit });
        }
        self
    }

    /// Adds a check.
    #[must_use]
    pub fn checked(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// Says how it ended.
    #[must_use]
    pub fn ending(self, outcome: Outcome, summary: impl Into<String>) -> Self {
        Self { outcome, summary: summary.into(), ..self }
    }

    /// The value of the measurement of this name.
    pub fn measurement(&self, name: &str) -> Option<f64> {
        self.measurements.iter().find(|measured| measured.name == name).map(|measured| measured.value)
    }

    /// How long it took, by the author's clock.
    pub fn elapsed(&self) -> SignedDuration {
        self.ended.duration_since(self.started)
    }
}

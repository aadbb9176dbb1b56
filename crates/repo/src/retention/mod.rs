//! What to keep and what to let go of, and why. Pure: a policy, facts and the present time give a [`RetentionPlan`].
//!
//! Promises that a plan never lets go of the newest good backup of a lineage, of a pinned one, of the base of a running one, of one
//! that is being read, or of WAL that any of these needs. Each lineage is judged by itself, so that backups taken after
//! `pg_upgrade` do not crowd out those from before it. Backups are ordered by timeline and LSN, and by time; names mean nothing. Where the
//! two orders disagree (a server promoted for a test archived into the same place) what either of them keeps is kept.
//!
//! Every backup appears in the plan with its reasons, kept or not. Carrying it out is [`crate::expire`]'s business; which segments of
//! WAL go is decided in [`wal`](self::wal_plan).

mod judge;
mod wal;

pub use judge::plan_lineage;
pub use wal::{WalKeep, WalKept, WalNeed, WalPlan, wal_needs, wal_plan};

use crate::BackupId;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use pgproof_pg::{Lsn, SystemIdentifier, TimelineId};
use serde::Serialize;

/// What the operator wants kept. A backup is kept when any rule keeps it; without any rule all are.
#[derive(Debug, Clone, PartialEq)]
pub struct RetentionPolicy {
    /// The newest so many good backups.
    pub keep_last: Option<u32>,
    /// All backups finished within this time before now.
    pub keep_within: Option<SignedDuration>,
    /// The last backup of each of the newest so many days that have one.
    pub daily: u32,
    /// The same of weeks, which begin on Monday.
    pub weekly: u32,
    /// The same of months.
    pub monthly: u32,
    /// The same of years.
    pub yearly: u32,
    /// Where days begin.
    pub zone: TimeZone,
    /// How long every instant stays reachable. Older backups keep only the WAL that makes them consistent. `None`: all WAL from
    /// the oldest kept backup on.
    pub wal_within: Option<SignedDuration>,
    /// Lineages to be let go of entirely, whatever the other rules say. Pins and leases still hold.
    pub drop_lineages: Vec<SystemIdentifier>,
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        Self {
            keep_last: None,
            keep_within: None,
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
            zone: TimeZone::UTC,
            wal_within: None,
            drop_lineages: Vec::new(),
        }
    }
}

impl RetentionPolicy {
    /// Whether no rule says which backups to keep, so that all are kept.
    pub fn keeps_everything(&self) -> bool {
        self.keep_last.is_none()
            && self.keep_within.is_none()
            && [self.daily, self.weekly, self.monthly, self.yearly] == [0; 4]
    }
}

/// What retention needs to know of a published backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFacts {
    /// The backup.
    pub backup: BackupId,
    /// The timeline that it was taken on.
    pub timeline: TimelineId,
    /// Where replay of it starts.
    pub start: Lsn,
    /// Where it becomes consistent.
    pub stop: Lsn,
    /// When it was finished.
    pub stopped: Timestamp,
    /// Whether its checks found nothing wrong.
    pub good: bool,
    /// Why it is pinned, where it is.
    pub pinned: Option<String>,
    /// Whether an earlier run marked it for removal.
    pub marked: bool,
    /// Whether a running backup builds on it.
    pub base_of_running: bool,
    /// Whether a live reader holds it.
    pub being_read: bool,
}

/// What retention needs to know of one lineage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineageFacts {
    /// The lineage.
    pub system: SystemIdentifier,
    /// Its published backups, in any order.
    pub backups: Vec<BackupFacts>,
    /// Whether another lineage has a newer backup.
    pub superseded: bool,
}

/// Why a backup stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "rule")]
pub enum KeepReason {
    /// No rule asks for any removal.
    NoRule,
    /// It is the newest good backup of its lineage.
    NewestGood,
    /// Somebody pinned it.
    Pinned {
        /// Why, in their words.
        why: String,
    },
    /// `keep_last`.
    Last {
        /// Its rank, the newest is 1.
        rank: u32,
    },
    /// `keep_within`.
    Within,
    /// The last of a day.
    Daily {
        /// `2026-11-22`.
        day: String,
    },
    /// The last of a week.
    Weekly {
        /// `2026-W47`.
        week: String,
    },
    /// The last of a month.
    Monthly {
        /// `2026-11`.
        month: String,
    },
    /// The last of a year.
    Yearly {
        /// `2026`.
        year: String,
    },
    /// It failed its checks, but no good backup is newer.
    NewerThanGood,
    /// A running backup builds on it.
    BaseOfRunning,
    /// A restore or verification reads it.
    BeingRead,
}

/// Why a backup goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemoveReason {
    /// No rule keeps it.
    NoRuleKeeps,
    /// It failed its checks and a newer good backup exists.
    FailedChecks,
    /// An earlier run marked it, and marks are final: readers have let go of it.
    MarkedBefore,
    /// Its lineage is to be dropped.
    LineageDropped,
}

/// A backup that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The backup.
    pub backup: BackupId,
    /// Every rule that keeps it.
    pub reasons: Vec<KeepReason>,
}

/// A backup that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// The backup.
    pub backup: BackupId,
    /// Why.
    pub reason: RemoveReason,
}

/// What stays and what goes of one lineage. Both lists together are all of its published backups, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LineagePlan {
    /// The lineage.
    pub system: SystemIdentifier,
    /// What stays.
    pub keep: Vec<Kept>,
    /// What goes.
    pub remove: Vec<Removed>,
    /// What a person should know about the decision, as sentences.
    pub notes: Vec<String>,
}

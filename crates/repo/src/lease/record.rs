//! What the small records of a backup say.

use super::Holder;
use crate::{BackupId, ContentId};
use jiff::Timestamp;
use pgproof_pg::{Lsn, TimelineId};
use serde::{Deserialize, Serialize};

/// WAL that must stay: everything from here on, along every timeline that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalNeeded {
    /// The timeline.
    pub timeline: TimelineId,
    /// The first position needed.
    pub from: Lsn,
}

/// The record `lease` of a running backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterRecord {
    /// Who runs it.
    pub holder: Holder,
    /// Random; tells apart two leases of one process.
    pub token: ContentId,
    /// `full` or `incremental`, for people.
    pub kind: String,
    /// When the backup began, by the host's clock, for people.
    pub began: Timestamp,
    /// Published backups that this one builds on: their packs stay.
    pub bases: Vec<BackupId>,
    /// WAL that must stay.
    pub wal: Option<WalNeeded>,
    /// The repository that the backup is copied from, and its manifest there; nobody but a copy from just there goes on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_from: Option<String>,
    /// Version of the revocation that publishing will replace: a copy that was revoked can be made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
}

/// The record `outcome`: what a backup came to. Whoever writes it first decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It exists.
    Published {
        /// Size of its manifest in bytes.
        manifest_bytes: u64,
        /// Identity of the manifest's bytes as they lie in the store.
        manifest_identity: ContentId,
        /// When, by the writer's clock.
        at: Timestamp,
    },
    /// It never will.
    Revoked {
        /// When, by the clock of whoever did.
        at: Timestamp,
        /// Who did.
        by: Holder,
        /// Why, as a sentence without its full stop.
        why: String,
    },
}

/// The record `expired`: the backup is to be removed. Its age, by the store's clock, says when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiredMark {
    /// Who marked it.
    pub by: Holder,
    /// Why it goes.
    pub why: String,
}

/// The record `pin`: the backup stays whatever the retention says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinRecord {
    /// Who pinned it.
    pub by: Holder,
    /// Why, in their words.
    pub why: String,
    /// When, by their clock.
    pub at: Timestamp,
}

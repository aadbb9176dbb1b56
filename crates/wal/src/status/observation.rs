//! What `archive status` sees: plain data, complete enough to judge without another look.

use pgproof_pg::{Lsn, SegmentName, SystemIdentifier, TimelineId, WalSegmentSize};
use pgproof_repo::walset::{BackupSpan, WalSet};
use pgproof_server::{ArchiverFacts, ReceiverFacts};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Something that was looked at, or why it could not be.
#[derive(Debug, Clone)]
pub enum Seen<T> {
    /// What was seen.
    Yes(T),
    /// The error with its causes.
    No(String),
}

/// Everything that is judged about one repository.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The data directory.
    pub pgdata: PathBuf,
    /// Whose cluster it is, by its control file.
    pub system: SystemIdentifier,
    /// Bytes of a segment.
    pub segment_size: WalSegmentSize,
    /// Timeline of the last checkpoint, by the control file.
    pub checkpoint_timeline: TimelineId,
    /// Position of the last checkpoint, by the control file.
    pub checkpoint: Lsn,
    /// Whether the control file says that the cluster replays WAL.
    pub replays: bool,
    /// The running server.
    pub server: Seen<ServerView>,
    /// `pg_wal` and the archiver's queue in it.
    pub local: LocalWal,
    /// What the repository holds of this cluster.
    pub archive: Seen<ArchiveView>,
    /// Whether WAL counts as archived only when this repository holds it.
    pub required: bool,
    /// What the other repositories hold of it, by name; those that could not be looked at are not among them.
    pub elsewhere: Vec<(String, WalSet)>,
    /// How pgproof is called in a command line.
    pub command: CommandLine,
    /// The repository's name.
    pub name: String,
}

/// How pgproof is called in a command line, each word quoted for the shell: `pgproof --config FILE archive push PATH --repository PLACE`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Program and configuration, before the verb.
    pub head: String,
    /// Flags behind everything else; empty, or begins with a space.
    pub flags: String,
}

impl CommandLine {
    pub(super) fn call(&self, verb: &str) -> String {
        format!("{} {verb}{}", self.head, self.flags)
    }

    /// The same for one of several configured repositories.
    pub(super) fn call_for(&self, verb: &str, repository: &str) -> String {
        format!("{} {verb} --repository {repository}", self.head)
    }
}

/// The running server.
#[derive(Debug, Clone)]
pub struct ServerView {
    /// Whether it replays WAL.
    pub in_recovery: bool,
    /// Its timeline.
    pub timeline: TimelineId,
    /// What it has flushed, or replayed on a standby.
    pub lsn: Lsn,
    /// `archive_mode`.
    pub mode: String,
    /// `archive_command`.
    pub command: String,
    /// `archive_library`, empty before version 15.
    pub library: String,
    /// `archive_timeout`, as the server shows it.
    pub timeout: String,
    /// `pg_stat_archiver`.
    pub archiver: ArchiverFacts,
    /// Who receives WAL through the slot that was asked for.
    pub receiver: Option<ReceiverView>,
}

/// A receiver of WAL (`archive receive`).
#[derive(Debug, Clone)]
pub struct ReceiverView {
    /// Its slot.
    pub slot: String,
    /// What the server says of it.
    pub facts: ReceiverFacts,
}

/// `pg_wal`, seen as files.
#[derive(Debug, Clone, Default)]
pub struct LocalWal {
    /// Segments that lie there.
    pub segments: BTreeSet<SegmentName>,
    /// Segments that wait for the archiver.
    pub ready: BTreeSet<SegmentName>,
    /// All files that wait for it, history files too.
    pub waiting: u64,
    /// The one that has waited longest.
    pub oldest: Option<Waiting>,
    /// Space of its file system.
    pub room: Option<Room>,
}

/// A file that waits for the archiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The file.
    pub name: String,
    /// Seconds since it was complete.
    pub age_s: u64,
}

/// Space of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Room {
    /// What is left for the server's user.
    pub available: u64,
    /// All of it.
    pub total: u64,
}

/// The repository's part.
#[derive(Debug, Clone)]
pub struct ArchiveView {
    /// Where it is, for people.
    pub place: String,
    /// The WAL in it.
    pub wal: WalSet,
    /// Seconds since a segment was stored last, by the store's clock.
    pub last_stored_age_s: Option<u64>,
    /// Good backups.
    pub backups: Vec<BackupSpan>,
}

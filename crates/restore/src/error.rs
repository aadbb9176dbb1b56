//! What can stop a restore, and what the operator can do about it.
//!
//! A [`Refusal`] comes before anything was changed. Any other [`RestoreError`] during the work leaves a directory that
//! PostgreSQL refuses to start and that `pgproof restore --delta` continues.

use crate::time::show_time;
use jiff::Timestamp;
use pgproof_base::Bytes;
use pgproof_pg::{Lsn, SystemIdentifier, TimelineId};
use pgproof_repo::BackupId;
use pgproof_repo::walset::{NearestInstant, Unreachable};
use pgproof_server::ServerError;
use serde::Serialize;
use std::path::PathBuf;

/// What operations of this crate return.
pub type Result<T, E = RestoreError> = std::result::Result<T, E>;

/// Why nothing was restored. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Refusal {
    /// The directory holds something, and no delta was asked for.
    #[error("{} is not empty", directory.display())]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
    },
    /// The target is something else than a directory.
    #[error("{} is not a directory", directory.display())]
    NotADirectory {
        /// The path.
        directory: PathBuf,
    },
    /// A server runs on the directory.
    #[error("a server is running on {} (pid {pid})", directory.display())]
    Running {
        /// The directory.
        directory: PathBuf,
        /// The postmaster's process id.
        pid: i32,
    },
    /// A delta restore onto a directory that is no data directory.
    #[error("{} is not a data directory", directory.display())]
    NotADataDirectory {
        /// The directory.
        directory: PathBuf,
    },
    /// A delta restore onto the data directory of another cluster.
    #[error("{} belongs to system {found}, and the backup to system {expected}", directory.display())]
    OtherSystem {
        /// The directory.
        directory: PathBuf,
        /// Its system identifier.
        found: SystemIdentifier,
        /// The backup's.
        expected: SystemIdentifier,
    },
    /// The repository holds no usable backup of the cluster.
    #[error("the repository holds no backup of system {system}")]
    NoBackup {
        /// The cluster.
        system: SystemIdentifier,
    },
    /// The repository holds nothing at all.
    #[error("the repository holds no backup")]
    NoLineage,
    /// The repository holds several clusters, and none was named.
    #[error("the repository holds backups of {} systems: {}", systems.len(), list(systems))]
    SeveralSystems {
        /// The clusters.
        systems: Vec<SystemIdentifier>,
    },
    /// The backup asked for does not exist.
    #[error("there is no backup {backup}")]
    UnknownBackup {
        /// The backup.
        backup: BackupId,
    },
    /// The backup asked for exists, but not as one that can be restored.
    #[error("backup {backup} cannot be restored: {why}")]
    NotUsable {
        /// The backup.
        backup: BackupId,
        /// Why not.
        why: String,
    },
    /// The backup is marked for removal.
    #[error("backup {backup} is expired and about to be removed")]
    Expired {
        /// The backup.
        backup: BackupId,
    },
    /// No timeline of this number is known.
    #[error("timeline {timeline} is not in the repository")]
    UnknownTimeline {
        /// The timeline asked for.
        timeline: TimelineId,
        /// Those that are.
        known: Vec<TimelineId>,
    },
    /// The target time has not come yet.
    #[error("the target time {} is in the future; now it is {}", show_time(*time), show_time(*now))]
    InTheFuture {
        /// The time asked for.
        time: Timestamp,
        /// The time of this host.
        now: Timestamp,
    },
    /// The target lies outside what can be recovered.
    #[error("{target} cannot be reached on timeline {timeline}: {}", found.why)]
    Unreachable {
        /// The target, in words.
        target: String,
        /// The timeline that was searched.
        timeline: TimelineId,
        /// Why, and what can be reached instead.
        found: Unreachable,
        /// Other timelines on which the target can be reached.
        elsewhere: Vec<TimelineId>,
    },
    /// WAL goes on behind a hole: recovering to the end of what is reachable would lose what lies behind, unseen.
    #[error("the archive has a gap: segment {segment} is missing, and WAL goes on after it")]
    Gap {
        /// The missing segment.
        segment: String,
        /// How far recovery gets.
        reachable: Lsn,
    },
    /// The restored files do not fit.
    #[error("{} needs {} and has {} left", directory.display(), Bytes(*needed), Bytes(*available))]
    NoSpace {
        /// A directory of the file system.
        directory: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes available to this user.
        available: u64,
    },
    /// A tablespace's place is in use.
    #[error("{} of tablespace {oid} is not empty", directory.display())]
    TablespaceNotEmpty {
        /// The tablespace.
        oid: u32,
        /// Where it is to go.
        directory: PathBuf,
    },
    /// A tablespace that the backup does not have was remapped.
    #[error("the backup has no tablespace `{tablespace}`")]
    UnknownTablespace {
        /// As it was given.
        tablespace: String,
        /// Those it has: `16384 (fast)`.
        known: Vec<String>,
    },
    /// A database that the backup does not have was asked for.
    #[error("the backup has no database `{database}`")]
    UnknownDatabase {
        /// As it was given.
        database: String,
        /// Those it has: `shop (16384)`.
        known: Vec<String>,
        /// Whether the backup lists names.
        names_known: bool,
    },
    /// A delta that would empty the databases that were not named.
    #[error("a delta with --database would empty {} other databases in {}", others, directory.display())]
    WouldEmpty {
        /// The data directory.
        directory: PathBuf,
        /// How many.
        others: usize,
    },
    /// Two things would be restored into one place.
    #[error("{} would hold both {first} and {second}", directory.display())]
    Overlap {
        /// The directory.
        directory: PathBuf,
        /// What goes there.
        first: String,
        /// What also goes there.
        second: String,
    },
    /// PostgreSQL takes absolute paths only.
    #[error("`{}` is not an absolute path", path.display())]
    NotAbsolute {
        /// The path.
        path: PathBuf,
    },
    /// The manifest names something that no PostgreSQL data directory holds.
    #[error("the manifest of backup {backup} names `{}`: {why}", path.escape_debug())]
    HostilePath {
        /// The backup.
        backup: BackupId,
        /// The path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn instant(nearest: &NearestInstant) -> String {
    match nearest.time {
        Some(time) => format!("{} ({})", show_time(time), nearest.lsn),
        None => nearest.lsn.to_string(),
    }
}

impl Refusal {
    /// What an operator can do, as a command or a question.
    pub fn hint(&self) -> String {
        match self {
            Self::NotEmpty { .. } => {
                "choose an empty directory, or use --delta to write only what differs from the backup".into()
            }
            Self::NotADirectory { .. } => "choose a directory that is empty or does not exist".into(),
            Self::Running { directory, .. } => {
                format!("stop it first: pg_ctl stop -D {}", directory.display())
            }
            Self::NotADataDirectory { .. } => {
                "a delta restore removes every file that the backup does not have; use --force if that is meant".into()
            }
            Self::OtherSystem { .. } => "is this the right directory? --force overwrites it".into(),
            Self::NoBackup { .. } | Self::NoLineage => "run `pgproof backup`, or is this the right repository?".into(),
            Self::SeveralSystems { .. } => "name one with --system; `pgproof list` shows them".into(),
            Self::NotUsable { .. } => "`pgproof list` shows the state of each backup, `pgproof verify` what is damaged".into(),
            Self::UnknownBackup { .. } => "`pgproof list` shows the backups".into(),
            Self::Expired { .. } => "`pgproof list` shows the backups that are kept".into(),
            Self::UnknownTimeline { known, .. } => format!("known timelines: {}", list(known)),
            Self::InTheFuture { .. } => "is the zone right? Leave the target out for the latest instant".into(),
            Self::Unreachable { found, elsewhere, .. } => unreachable_hint(found, elsewhere),
            Self::Gap { .. } => {
                "run `pgproof archive status` to see how to fill it, or use --accept-gap to stop before it".into()
            }
            Self::NoSpace { .. } => "free space, or restore to a larger file system".into(),
            Self::TablespaceNotEmpty { oid, .. } => {
                format!("give it another place: --tablespace {oid}=DIRECTORY, or --tablespace-root DIRECTORY for all")
            }
            Self::UnknownTablespace { known, .. } if known.is_empty() => "the backup has no tablespaces".into(),
            Self::UnknownTablespace { known, .. } => format!("it has {}", list(known)),
            Self::UnknownDatabase { known, names_known: true, .. } => format!("it has {}", list(known)),
            Self::UnknownDatabase { known, .. } => {
                format!("it does not tell names: give the database by its number, one of {}", list(known))
            }
            Self::WouldEmpty { .. } => {
                "restore into an empty directory instead; --force if emptying them is meant".into()
            }
            Self::Overlap { .. } => "give each its own directory".into(),
            Self::NotAbsolute { .. } => "write the path from the root".into(),
            Self::HostilePath { .. } => {
                "do not trust this repository before you know who changed it; `pgproof verify` tells what else is wrong"
                    .into()
            }
        }
    }
}

fn unreachable_hint(found: &Unreachable, elsewhere: &[TimelineId]) -> String {
    let mut parts = Vec::new();
    if let Some(before) = &found.before {
        parts.push(format!("the last reachable instant before it is {}", instant(before)));
    }
    if let Some(after) = &found.after {
        parts.push(format!("the first reachable instant after it is {}", instant(after)));
    }
    if let Some(timeline) = elsewhere.first() {
        parts.push(format!("it can be reached with --timeline {timeline}"));
    }
    if found.why.contains("missing") || parts.is_empty() {
        parts.push("run `pgproof archive status` to see gaps in the archive".to_owned());
    }
    parts.join("; ")
}

/// Why a restore failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// It was refused beforehand.
    #[error("could not restore: {0}")]
    Refused(Box<Refusal>),
    /// The time asked for cannot be read.
    #[error("`{text}` is not a time that can be restored to: {why}")]
    TargetTime {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The repository could not be read or written.
    #[error("could not {operation}")]
    Repository {
        /// What was being done: `read the catalog`.
        operation: &'static str,
        /// What the repository said.
        source: pgproof_repo::Error,
    },
    /// A stored extent is not what was written.
    #[error("backup {backup} is damaged: {what} cannot be restored")]
    Damage {
        /// The backup.
        backup: BackupId,
        /// File, relation and block.
        what: String,
        /// A backup that may be restored instead.
        other: Option<BackupId>,
        /// What the repository said of the extent.
        source: pgproof_repo::Error,
    },
    /// The disk ran full while writing.
    #[error("no space left on the file system of {}", path.display())]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file operation failed.
    #[error("could not {operation} {}", path.display())]
    File {
        /// What was tried: `write`.
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Bytes of the backup or of the directory are not PostgreSQL's.
    #[error("could not read {what}")]
    NotPostgres {
        /// What was read.
        what: String,
        /// What is wrong with it.
        source: pgproof_pg::PgError,
    },
    /// The backup lacks something without which no server can start.
    #[error("backup {backup} holds no {what}")]
    Incomplete {
        /// The backup.
        backup: BackupId,
        /// What it lacks.
        what: &'static str,
    },
    /// A worker thread ended unexpectedly: a defect.
    #[error("a worker of the restore ended unexpectedly")]
    Worker,
    /// Starting or watching the restored server failed.
    #[error("the files are restored, but the server in {} could not {operation}", directory.display())]
    Server {
        /// Its data directory.
        directory: PathBuf,
        /// What it could not do: `be started`.
        operation: &'static str,
        /// What was seen, with the end of its log.
        source: Box<ServerError>,
    },
    /// The server ended recovery before the target.
    #[error("recovery ended at {reached} before it reached {target}")]
    StoppedEarly {
        /// The target, in words.
        target: String,
        /// How far it came, in words.
        reached: String,
        /// What was seen, with the end of the server's log.
        source: Option<Box<ServerError>>,
    },
    /// The server did not reach its target in time; it goes on.
    #[error("after {waited} the server in {} has not reached {target}; it is still replaying", directory.display())]
    NotReachedYet {
        /// Its data directory.
        directory: PathBuf,
        /// The target, in words.
        target: String,
        /// How long was waited, in words.
        waited: String,
    },
}

impl RestoreError {
    /// The stable code of this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "restore-refused",
            Self::TargetTime { .. } => "restore-target-time",
            Self::Repository { source, .. } => source.code(),
            Self::Damage { .. } => "restore-damaged-backup",
            Self::DiskFull { .. } => "restore-disk-full",
            Self::File { .. } => "restore-file",
            Self::NotPostgres { .. } => "restore-not-postgres",
            Self::Incomplete { .. } => "restore-incomplete-backup",
            Self::Worker => "restore-worker",
            Self::Server { .. } => "restore-server",
            Self::StoppedEarly { .. } => "restore-stopped-early",
            Self::NotReachedYet { .. } => "restore-not-reached-yet",
        }
    }

    /// What an operator can do, as a command or a question.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Refused(refusal) => refusal.hint(),
            Self::TargetTime { .. } => {
                "write it as 2026-11-22T14:05:00+01:00, or as `2026-11-22 14:05:00+01`".to_owned()
            }
            Self::Repository { source, .. } => return source.hint(),
            Self::Damage { other: Some(other), .. } => {
                format!("restore with --backup {other} instead; `pgproof verify` shows what else is hurt")
            }
            Self::Damage { other: None, .. } => {
                "`pgproof verify` shows what is hurt; no other backup leads to this target".to_owned()
            }
            Self::DiskFull { .. } => {
                "free space and run the same restore with --delta: it continues".to_owned()
            }
            Self::File { .. } => {
                "after mending it, run the same restore with --delta: it continues".to_owned()
            }
            Self::Incomplete { .. } => {
                "run `pgproof verify`, and restore another backup with --backup".to_owned()
            }
            Self::Server { .. } => {
                "does its log say why? The files are complete: it can be started again".to_owned()
            }
            Self::StoppedEarly { .. } => {
                "run `pgproof archive status` to see gaps; restore again with --delta to another target"
                    .to_owned()
            }
            Self::NotReachedYet { directory, .. } => {
                format!("watch its log; stop it with pg_ctl stop -D {}", directory.display())
            }
            Self::NotPostgres { source, .. } => source.hint(),
            Self::Worker => return None,
        };
        Some(hint)
    }

    /// Wraps a repository's error with what was being done.
    pub(crate) fn repository(operation: &'static str) -> impl FnOnce(pgproof_repo::Error) -> Self {
        move |source| Self::Repository { operation, source }
    }

    /// Wraps a file error; a full disk is told apart because it can be mended and continued.
    pub(crate) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path, source }
            }
            _ => Self::File { operation, path, source },
        }
    }
}

impl From<Refusal> for RestoreError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

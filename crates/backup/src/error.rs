//! What can stop a backup, and what the operator can do about it.

use crate::standby::WalSwitch;
use pgproof_pg::{Lsn, SystemIdentifier, TimelineId};
use std::ffi::OsString;
use std::path::PathBuf;

/// Why a backup was not taken. The repository is as it was, but for packs that the next backup uses again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// A file or directory of the cluster could not be read.
    #[error("could not read {}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// PostgreSQL writes no such names; a person did.
    #[error("a name in {} is not valid UTF-8: {name:?}", directory.display())]
    NameNotText {
        /// The directory that holds it.
        directory: PathBuf,
        /// The name.
        name: OsString,
    },
    /// `allow_in_place_tablespaces` is for PostgreSQL's own tests.
    #[error("{} is an in-place tablespace, which cannot be restored to a place of its own", path.display())]
    InPlaceTablespace {
        /// The directory in `pg_tblspc`.
        path: PathBuf,
    },
    /// The server is a standby.
    #[error("the server at {server} is in recovery, and a backup of the primary was asked for")]
    InRecovery {
        /// How it was reached.
        server: String,
    },
    /// The server is no standby.
    #[error("the server at {server} is not in recovery, and a backup of a standby was asked for")]
    NotInRecovery {
        /// How it was reached.
        server: String,
    },
    /// What is configured as the standby's primary is something else.
    #[error("the server at {server} is not the primary of this standby: {why}")]
    NotThePrimary {
        /// How it was reached.
        server: String,
        /// What it is.
        why: String,
    },
    /// The standby became a primary while its files were copied.
    #[error("the standby at {server} was promoted during the backup")]
    Promoted {
        /// How it was reached.
        server: String,
    },
    /// The standby follows another timeline than at the start of the backup.
    #[error("the standby went from timeline {began} to {ended} during the backup")]
    TimelineChanged {
        /// That of the start.
        began: TimelineId,
        /// That of the end.
        ended: TimelineId,
    },
    /// A version that pgproof does not know.
    #[error("this server cannot be backed up")]
    Unsupported {
        /// Which it is, and which are known.
        source: pgproof_pg::PgError,
    },
    /// A history file of the cluster is not one.
    #[error("could not understand {}", path.display())]
    History {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pgproof_pg::PgError,
    },
    /// Another backup holds the cluster-wide lock.
    #[error("another backup of this cluster is running")]
    AlreadyRunning,
    /// The data directory belongs to another cluster than the server that answered.
    #[error("{} belongs to system {found}, but the server that answered is system {expected}", pgdata.display())]
    OtherDataDirectory {
        /// The data directory that was read.
        pgdata: PathBuf,
        /// Its system identifier.
        found: SystemIdentifier,
        /// The server's.
        expected: SystemIdentifier,
    },
    /// The archive did not receive the WAL that the backup needs.
    #[error(
        "the archive lacks WAL segment {segment}, which this backup needs, {waited} after its end at {stop}"
    )]
    WalNotArchived {
        /// The first missing segment.
        segment: String,
        /// The backup's stop LSN.
        stop: Lsn,
        /// How long was waited, in words.
        waited: String,
        /// The archiver's last failure, from `pg_stat_archiver`.
        archiver: String,
    },
    /// The primary did not archive the WAL that a backup of its standby needs.
    #[error(
        "the archive lacks WAL segment {segment}, which this backup of a standby needs, {waited} after its end at {stop}"
    )]
    StandbyWalNotArchived {
        /// The first missing segment.
        segment: String,
        /// The backup's stop LSN.
        stop: Lsn,
        /// How long was waited, in words.
        waited: String,
        /// What became of the attempt to end the segment on the primary.
        switch: WalSwitch,
    },
    /// `pg_control` could not be read whole.
    #[error("{} has no valid checksum after {attempts} reads", path.display())]
    ControlFile {
        /// The file.
        path: PathBuf,
        /// How often it was read.
        attempts: u32,
        /// What was wrong with it.
        source: pgproof_pg::PgError,
    },
    /// What the server sent is no archive.
    #[error("could not understand an archive that the server sent")]
    Archive {
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// The server did not send all that belongs to a backup.
    #[error("the server at {server} did not send {what}")]
    Incomplete {
        /// What is missing.
        what: &'static str,
        /// How it was reached.
        server: String,
    },
    /// What the server sent could not be put down until it is stored.
    #[error("could not write a temporary file in {}", directory.display())]
    Spool {
        /// The directory of temporary files.
        directory: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The server refused or went away.
    #[error("could not {operation}")]
    Server {
        /// What was being done.
        operation: &'static str,
        /// Why not.
        #[source]
        source: pgproof_server::ServerError,
    },
    /// The repository refused or went away.
    #[error("could not {operation}")]
    Repo {
        /// What was being done.
        operation: &'static str,
        /// Why not.
        #[source]
        source: pgproof_repo::Error,
    },
    /// A thread of the backup ended by a defect of pgproof.
    #[error("a worker thread of the backup failed unexpectedly")]
    WorkerPanicked,
}

impl BackupError {
    /// What the operator can do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Unreadable { path, .. } => {
                format!("does the user that runs pgproof own the data directory? try `ls -l {}`", path.display())
            }
            Self::NameNotText { .. } => "remove or rename the file: it does not belong to PostgreSQL".to_owned(),
            Self::InPlaceTablespace { .. } => {
                "move its tables to another tablespace and drop it (allow_in_place_tablespaces is for tests only)".to_owned()
            }
            Self::InRecovery { .. } => {
                "run the backup on the primary, or say --from-standby to take it from this server".to_owned()
            }
            Self::NotInRecovery { .. } => {
                "was it promoted? leave out --from-standby (`from = \"standby\"` in pgproof.toml) to back up a primary".to_owned()
            }
            Self::NotThePrimary { .. } => "set `primary_conninfo` under [backup] to the primary, or remove it".to_owned(),
            Self::Promoted { .. } => {
                "back it up as the primary that it is now; what was stored will not be stored again".to_owned()
            }
            Self::TimelineChanged { .. } => "run the backup again".to_owned(),
            Self::StandbyWalNotArchived { switch, .. } => switch.hint().to_owned(),
            Self::Unsupported { source } | Self::History { source, .. } => source.hint(),
            Self::AlreadyRunning => {
                "wait for it; `pgproof list` shows it, `SELECT * FROM pg_locks WHERE locktype = 'advisory'` who holds the lock"
                    .to_owned()
            }
            Self::OtherDataDirectory { .. } => {
                "do `pgdata` and `port` in pgproof.toml name the same server? run `pgproof check`".to_owned()
            }
            Self::WalNotArchived { archiver, .. } => {
                format!("run `pgproof archive status`; the server's archiver says: {archiver}")
            }
            Self::ControlFile { .. } => "run `pg_controldata` on the data directory".to_owned(),
            Self::Archive { .. } | Self::Incomplete { .. } => {
                "is there a proxy between pgproof and the server? Run the backup again".to_owned()
            }
            Self::Spool { .. } => {
                "a remote backup needs 2 GB there; the variable TMPDIR names another directory".to_owned()
            }
            Self::Server { source, .. } => source.hint(),
            Self::Repo { source, .. } => source.hint().unwrap_or_else(|| "run `pgproof check`".to_owned()),
            Self::WorkerPanicked => "this is a defect of pgproof: report it with the lines printed above".to_owned(),
        }
    }
}

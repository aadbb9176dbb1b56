//! What is kept of a sandbox, in one file each: who it is, how it is reached, what was measured.
//!
//! The keeper writes it while it lives, and whoever made or ends the sandbox before and after that. The file is replaced, never changed
//! in place, so that readers see one state or the next.

use jiff::Timestamp;
use pgproof_pg::{Lsn, SystemIdentifier, TimelineId};
use pgproof_repo::BackupId;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How its data directory came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Pages come from the repository when they are read.
    Lazy,
    /// Everything was restored.
    Full,
}

/// What a sandbox is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is being made.
    Creating,
    /// Its server takes connections.
    Running,
    /// It was stopped in good order and can be started.
    Stopped,
    /// It failed or was killed: it can be dropped.
    Failed,
}

/// How it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Directory of its socket.
    pub socket_directory: PathBuf,
    /// Port, which names the socket.
    pub port: u16,
    /// A superuser.
    pub user: String,
    /// A database that it has.
    pub database: String,
    /// Port on localhost, where it was asked for.
    pub tcp: Option<u16>,
}

/// What making it took, from the moment it was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Seconds until the data directory was there: mounted, or restored.
    pub files_s: f64,
    /// Seconds until its data was consistent.
    pub consistent_s: Option<f64>,
    /// Seconds until recovery had reached the target.
    pub recovered_s: f64,
    /// Seconds until the first query was answered.
    pub first_query_s: f64,
    /// Bytes of WAL that were replayed at most.
    pub replay_bytes: u64,
    /// How far it was recovered.
    pub reached: Option<Lsn>,
    /// The last commit that was replayed.
    pub last_commit: Option<Timestamp>,
    /// Bytes read from the repository until the first query was answered, by whoever made it and by the file system. WAL is not counted.
    pub bytes_read: u64,
    /// Requests to the repository.
    pub requests: u64,
}

/// What the file system of a lazy sandbox has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Bytes that the file system read from the store: manifest, extents.
    pub bytes_read: u64,
    /// Its requests to the store.
    pub requests: u64,
    /// Bytes of WAL segments handed to replay.
    pub wal_bytes: u64,
    /// Extents read and decoded.
    pub extents_read: u64,
    /// Pages of the backup that were read at least once.
    pub pages_read: u64,
    /// Pages of the backup.
    pub pages_total: u64,
    /// Pages that the clone wrote.
    pub pages_written: u64,
    /// Reads that failed; the server saw EIO.
    pub read_failures: u64,
    /// The last of them.
    pub last_failure: Option<String>,
}

/// What is known of a sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// How its data directory came to be.
    pub kind: Kind,
    /// Why it was restored though it was not asked for.
    pub why_full: Option<String>,
    /// What it is doing.
    pub status: Status,
    /// Why it failed.
    pub failure: Option<String>,
    /// The cluster.
    pub system: SystemIdentifier,
    /// The backup.
    pub backup: BackupId,
    /// The timeline it was recovered along.
    pub timeline: TimelineId,
    /// The instant, in words.
    pub target: String,
    /// `server_version_num` of the backup.
    pub server_version: u32,
    /// Bytes of the cluster's files.
    pub cluster_bytes: u64,
    /// Its data directory, as its own processes see it.
    pub data_directory: PathBuf,
    /// How it is reached.
    pub connection: Connection,
    /// When it was made.
    pub created: Timestamp,
    /// When it may be removed.
    pub expires: Option<Timestamp>,
    /// The keeper's process.
    pub keeper: Option<u32>,
    /// What keeps it from the rest of the host, and what could not.
    pub isolation: Vec<String>,
    /// What making it took.
    pub measured: Option<Measured>,
    /// What a person should know.
    pub notes: Vec<String>,
}

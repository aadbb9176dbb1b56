//! What a dump did.

use pgproof_repo::BackupId;
use pgproof_repo::manifest::summary::DumpedGlobals;
use serde::Serialize;
use std::time::Duration;

/// What a dump did.
#[derive(Debug, Clone, Serialize)]
pub struct DumpReport {
    /// Its name.
    pub id: BackupId,
    /// The dump whose content was used again where nothing had changed.
    pub base: Option<BackupId>,
    /// Whether an interrupted dump was gone on with.
    pub resumed: bool,
    /// The databases in it.
    pub databases: Vec<DatabaseReport>,
    /// What it holds of roles and other globals.
    pub globals: DumpedGlobals,
    /// Major version of the `pg_dump` that wrote it.
    pub program_version: u32,
    /// Bytes that `pg_dump` wrote.
    pub bytes: u64,
    /// Bytes of them that the repository held already.
    pub bytes_reused: u64,
    /// Bytes that were added to the repository, the manifest included.
    pub bytes_stored: u64,
    /// Databases that were left out because they accept no connections.
    pub left_out: Vec<String>,
    /// What a person should know, as sentences.
    pub notes: Vec<String>,
    /// From begin to end, in seconds.
    #[serde(rename = "elapsed_s", serialize_with = "seconds")]
    pub elapsed: Duration,
}

/// One database of it.
#[derive(Debug, Clone, Serialize)]
pub struct DatabaseReport {
    /// Its name.
    pub name: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes of them that were stored anew, before compression.
    pub bytes_new: u64,
    /// How many files.
    pub files: u64,
}

pub(crate) fn seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(elapsed.as_secs_f64())
}

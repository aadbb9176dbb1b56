//! What an extraction will do, and what it did.

use super::table::{QualifiedName, TableName};
use super::transfer::Format;
use crate::plan::Plan;
use pgproof_pg::Lsn;
use pgproof_repo::BackupId;
use serde::Serialize;
use std::path::PathBuf;

/// Where the table goes, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Destination {
    /// A dump.
    File {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: Format,
    },
    /// A new table in a live server.
    Server {
        /// Where it is, without any password.
        server: String,
        /// Its database.
        database: String,
        /// Name of the new table; the schema is that of the original where none was given.
        table: TableName,
    },
}

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtractPlan {
    /// The table asked for.
    pub table: TableName,
    /// Its database.
    pub database: String,
    /// Where it goes.
    pub destination: Destination,
    /// How the database comes back, into a private directory.
    pub restore: Plan,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExtractReport {
    /// The table, as it was at the instant.
    pub table: QualifiedName,
    /// Its database.
    pub database: String,
    /// The instant, in words.
    pub target: String,
    /// How far WAL was replayed.
    pub reached: Option<Lsn>,
    /// The backup it came from.
    pub backup: BackupId,
    /// Its partitions.
    pub partitions: u64,
    /// Rows, counted at the instant; in a live server counted again there.
    pub rows: i64,
    /// Where it went.
    pub destination: Destination,
    /// The table's new name in a live server.
    pub created: Option<QualifiedName>,
    /// Bytes of the dump, or that went to the live server.
    pub bytes: u64,
    /// What the copy does without: `foreign key orders_customer_fkey`.
    pub left_behind: Vec<String>,
    /// Bytes of the backup that were restored for it.
    pub bytes_restored: u64,
    /// Bytes of other databases that were not.
    pub bytes_left_out: u64,
    /// Seconds to bring the database back.
    pub restore_s: f64,
    /// Seconds to replay WAL.
    pub replay_s: f64,
    /// Seconds to copy the table.
    pub copy_s: f64,
    /// Seconds altogether.
    pub total_s: f64,
    /// What a person should know.
    pub notes: Vec<String>,
}

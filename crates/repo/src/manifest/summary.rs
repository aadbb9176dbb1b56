//! The summary of a backup: all that `list`, `show` and the begin of a restore need, in one piece of JSON.
//!
//! Field names are a promise, also to readers of `pgproof show --json`. New fields are optional; none is ever given another
//! meaning.

use crate::layout::BackupId;
use jiff::Timestamp;
use pgproof_pg::{Lsn, SystemIdentifier, TimelineId, WalLevel};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Whether a backup read everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackupKind {
    /// It built on no other.
    Full,
    /// It read what changed since another, whose packs it refers to. It restores alone all the same.
    Incremental,
    /// It is what `pg_dump` wrote. No data directory can be restored from it.
    Dump,
}

/// What a backup is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSummary {
    /// Its name.
    pub id: BackupId,
    /// The cluster.
    pub system: SystemIdentifier,
    /// Whether it read everything.
    pub kind: BackupKind,
    /// What it built on. Informative: nothing of that backup is needed but packs, which the manifest names.
    pub base: Option<BackupId>,

    /// `server_version_num` of the server: 150004.
    pub server_version: u32,
    /// `pg_control_version` of the cluster.
    pub control_version: u32,
    /// Catalog version of the cluster.
    pub catalog_version: u32,
    /// Bytes of a block. Always 8192 so far.
    pub block_size: u32,
    /// Bytes of a WAL segment.
    pub wal_segment_size: u32,
    /// Whether data checksums are on.
    pub checksums: bool,

    /// Timeline of start and stop.
    pub timeline: TimelineId,
    /// Redo position of the starting checkpoint: recovery begins here.
    pub start_lsn: Lsn,
    /// The copy is consistent from here on.
    pub stop_lsn: Lsn,
    /// When it started, by the server's clock.
    pub started: Timestamp,
    /// When it stopped, by the server's clock.
    pub stopped: Timestamp,
    /// Whether it was taken from a standby.
    pub from_standby: bool,
    /// Which server's files were read, and how.
    #[serde(default)]
    pub origin: Origin,

    /// Content of `backup_label`, as `pg_backup_stop` gave it.
    pub backup_label: String,
    /// Content of `tablespace_map`, where there are tablespaces.
    pub tablespace_map: Option<String>,
    /// Tablespaces outside of the data directory.
    pub tablespaces: Vec<Tablespace>,
    /// The data directory.
    pub data_directory: DataDirectory,
    /// Settings that a server in recovery must at least have.
    pub settings: ServerSettings,
    /// Configuration files outside of the data directory, and where the backup holds them.
    #[serde(default)]
    pub external_files: Vec<ExternalFile>,
    /// Databases, with estimates of what is in them.
    #[serde(default)]
    pub databases: Vec<Database>,

    /// What was read, checked and stored.
    pub totals: Totals,
    /// Pages that failed their checksum. A backup that has any is no base, and no good backup.
    #[serde(default)]
    pub checksum_failures: Vec<PagePlace>,
    /// Pages that were not as in the backup before though no WAL named them: that backup, and others since the last that read
    /// everything, may hold older images of them. This one has read them.
    #[serde(default)]
    pub unnamed_changes: Vec<PagePlace>,
    /// Backups in a row, this one included, that trusted WAL to name what changed. 0: it has read everything.
    #[serde(default)]
    pub trusting: u32,

    /// Version of pgproof that took it.
    pub tool_version: String,
    /// Host on which it was taken.
    pub host: String,
    /// What people noted. Means nothing to pgproof.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What was dumped: present in a dump, and only there. LSNs and timeline are then the server's position when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dump: Option<Box<DumpSummary>>,
}

/// Which part of a cluster a dump holds. Empty lists select everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DumpSelection {
    /// Databases, by name.
    pub databases: Vec<String>,
    /// Schemas, as patterns of `pg_dump`.
    pub schemas: Vec<String>,
    /// Tables, as patterns of `pg_dump`.
    pub tables: Vec<String>,
}

impl DumpSelection {
    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.databases.is_empty() && self.schemas.is_empty() && self.tables.is_empty()
    }
}

/// What a dump holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpSummary {
    /// What was asked for.
    pub selection: DumpSelection,
    /// Major version of the `pg_dump` that wrote it: only a `pg_restore` at least as new reads it.
    pub program_version: u32,
    /// The databases in it.
    pub databases: Vec<DumpedDatabase>,
    /// Whether roles and other globals are in it, and their passwords.
    pub globals: DumpedGlobals,
}

/// How much of the globals a dump holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DumpedGlobals {
    /// Roles with their password hashes, and tablespaces.
    WithPasswords,
    /// The same without password hashes, which the dumping role may not read.
    WithoutPasswords,
    /// A selection leaves them out.
    None,
}

/// A database in a dump. Its files lie below `databases/<oid>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpedDatabase {
    /// Its number in the dumped cluster.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Bytes of the files that `pg_dump` wrote.
    pub bytes: u64,
    /// How many files.
    pub files: u64,
    /// Roles that something in it belongs to or is granted to.
    #[serde(default)]
    pub roles: Vec<String>,
    /// How it was made, for making it anew under another name.
    pub properties: DatabaseProperties,
}

/// The options of a database: its columns of `pg_database`, and its rows of `pg_db_role_setting` for all roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseProperties {
    /// Its owner.
    pub owner: String,
    /// Name of its encoding.
    pub encoding: String,
    /// `datcollate`.
    pub collate: String,
    /// `datctype`.
    pub ctype: String,
    /// `datlocprovider`: `c` libc, `i` ICU, `b` builtin.
    pub locale_provider: char,
    /// The locale of ICU or of the builtin provider.
    pub locale: Option<String>,
    /// `daticurules`.
    pub icu_rules: Option<String>,
    /// Its tablespace.
    pub tablespace: String,
    /// `datconnlimit`.
    pub connection_limit: i32,
    /// `datallowconn`.
    pub allows_connections: bool,
    /// `datistemplate`.
    pub is_template: bool,
    /// Settings for everybody in it, as `name=value`.
    pub settings: Vec<String>,
}

/// Which server's files a backup was read from. Another backup of the same origin may trust WAL to name what changed since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Origin {
    /// Taken by a version that did not note it.
    #[default]
    Unknown,
    /// A data directory of the host that pgproof ran on.
    Directory {
        /// The host.
        host: String,
        /// The directory's inode.
        inode: u64,
        /// When the directory was made, in nanoseconds since 1970, where its file system tells.
        born: Option<u64>,
    },
    /// A server that sent its files over the replication protocol.
    Replication {
        /// How it was reached.
        server: String,
    },
}

/// A tablespace with a place of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    /// Its number, which names the link in `pg_tblspc`.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Where it was, as an absolute path.
    pub location: String,
}

/// What the data directory itself was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDirectory {
    /// Its absolute path.
    pub path: String,
    /// Its permission bits: 0700, or 0750 with group access.
    pub mode: u32,
}

/// Settings that hot standby and replay compare with those of the primary (`CheckRequiredParameterValues` in
/// `src/backend/access/transam/xlogrecovery.c`): a server with less pauses or refuses to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSettings {
    /// `max_connections`.
    pub max_connections: u32,
    /// `max_worker_processes`.
    pub max_worker_processes: u32,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_transaction: u32,
    /// `wal_level`.
    pub wal_level: WalLevel,
    /// Other settings worth knowing, by name.
    #[serde(default)]
    pub other: BTreeMap<String, String>,
}

/// A configuration file outside of the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalFile {
    /// Its absolute path on the server.
    pub path: String,
    /// Path of its entry in the manifest, below `pgproof_external/`.
    pub entry: String,
}

/// A database, and about how much is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Its number.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Estimates for its largest tables; bounded by whoever takes the backup.
    #[serde(default)]
    pub tables: Vec<TableEstimate>,
    /// Whether `tables` leaves some out.
    #[serde(default)]
    pub truncated: bool,
}

/// About how many rows a table had: `pg_class.reltuples` when the backup began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEstimate {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `reltuples`, rounded; `None` where it was never analysed.
    pub rows: Option<u64>,
    /// `relpages`.
    pub pages: u64,
    /// Live rows as the statistics count them (`n_live_tup`), where these have seen anything of the table since they were reset. They
    /// know tables that were never analysed, and ones that were emptied since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_rows: Option<u64>,
}

/// What was read, checked and stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Files in the backup.
    pub files: u64,
    /// Their bytes.
    pub bytes_logical: u64,
    /// Bytes read from them.
    pub bytes_read: u64,
    /// Bytes of packs and manifest that this backup added to the repository.
    pub bytes_stored: u64,
    /// Pages stored anew.
    pub pages_changed: u64,
    /// Pages whose checksum was verified.
    pub pages_verified: u64,
    /// Why files were read, or not.
    #[serde(default)]
    pub reasons: BTreeMap<ReadReason, ReasonTotal>,
}

/// Why a file was read, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadReason {
    /// The backup builds on none.
    Full,
    /// The earlier backup does not have it.
    New,
    /// WAL does not tell of changes to such a file.
    Always,
    /// WAL names changes in it.
    Wal,
    /// WAL of the time between is not known, so contents were compared.
    Gap,
    /// Contents were compared to see whether WAL had named every change.
    Check,
    /// WAL shows that it did not change: not read.
    Reused,
}

/// How much was read for one reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonTotal {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of them that were to be read.
    pub bytes_read: u64,
}

/// A page, by its file and, where the server could be asked, by its relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PagePlace {
    /// The file, relative to the data directory.
    pub path: String,
    /// Database, where it could be asked.
    pub database: Option<String>,
    /// Schema and name of the relation, where they could be asked.
    pub relation: Option<String>,
    /// Fork: main, fsm, vm, init.
    pub fork: String,
    /// Block number in the fork.
    pub block: u32,
}

impl fmt::Display for PagePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.database, &self.relation) {
            (Some(database), Some(relation)) => write!(f, "{relation} in database {database}")?,
            _ => f.write_str(&self.path)?,
        }
        write!(f, ", fork {}, block {}", self.fork, self.block)
    }
}

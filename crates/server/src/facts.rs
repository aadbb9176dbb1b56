//! What a server says of itself, as plain data: one look, by catalog and settings views only.

use crate::error::ServerError;
use crate::session::Session;
use pgproof_pg::{Lsn, MajorVersion, SystemIdentifier, TimelineId, WalSegmentSize};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A tablespace outside the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    /// Its OID: the name of the link in `pg_tblspc`.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub location: PathBuf,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Its OID.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Whether it accepts connections.
    pub allows_connections: bool,
}

/// What the archiver of the server says (`pg_stat_archiver`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ArchiverFacts {
    /// Files archived since the statistics were reset.
    pub archived: i64,
    /// The last file archived.
    pub last_archived: Option<String>,
    /// Seconds since then.
    pub last_archived_age_s: Option<f64>,
    /// Failures since the statistics were reset.
    pub failed: i64,
    /// The last file that failed.
    pub last_failed: Option<String>,
    /// Seconds since then.
    pub last_failed_age_s: Option<f64>,
}

/// One look at a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// `server_version_num`.
    pub version_num: u32,
    /// The cluster's identifier.
    pub system_identifier: SystemIdentifier,
    /// `catalog_version_no` of the control file.
    pub catalog_version: u32,
    /// Whether it replays WAL.
    pub in_recovery: bool,
    /// The timeline of the last checkpoint on a standby, of the insert position on a primary.
    pub timeline: TimelineId,
    /// Flush position of a primary, replay position of a standby.
    pub lsn: Lsn,
    /// `data_directory`.
    pub data_directory: PathBuf,
    /// Whether data pages carry checksums.
    pub checksums: bool,
    /// Size of a WAL segment.
    pub wal_segment_size: WalSegmentSize,
    /// `block_size` in bytes.
    pub block_size: u32,
    /// Settings of interest, those that the role may see.
    pub settings: BTreeMap<String, String>,
    /// Settings that wait for a restart.
    pub pending_restart: Vec<String>,
    /// Tablespaces other than `pg_default` and `pg_global`.
    pub tablespaces: Vec<Tablespace>,
    /// Databases.
    pub databases: Vec<Database>,
    /// The archiver.
    pub archiver: ArchiverFacts,
    /// Whether the role is a superuser.
    pub superuser: bool,
    /// Whether the role may start and stop a backup.
    pub may_back_up: bool,
}

/// Settings that decide whether backup, archive and restore work, or that a restored server needs at least as high.
pub const SETTINGS: [&str; 24] = [
    "archive_command",
    "archive_library",
    "archive_mode",
    "archive_timeout",
    "config_file",
    "data_directory",
    "fsync",
    "full_page_writes",
    "hba_file",
    "ident_file",
    "listen_addresses",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
    "port",
    "restore_command",
    "shared_preload_libraries",
    "unix_socket_directories",
    "wal_compression",
    "wal_keep_size",
    "wal_level",
    "wal_log_hints",
];

impl Facts {
    /// Looks at the server.
    ///
    /// # Errors
    /// [`ServerError::Statement`] where the role may not look, [`ServerError::Answer`].
    pub fn observe(session: &mut Session) -> Result<Self, ServerError> {
        let settings = settings(session)?;
        let row = session.query_one("ask for the state of the server", STATE, &[])?;
        let system: i64 = row.get("system_identifier");
        let lsn: String = row.get("lsn");
        let number = |name: &'static str| -> Result<u64, ServerError> {
            let text: String = row.get(name);
            text.parse().map_err(|_| session.odd(name, text.clone()))
        };
        let segment = number("wal_segment_size")?;
        let version_num = number("version_num")? as u32;
        let timeline: i32 = row.get("timeline");
        let catalog: i32 = row.get("catalog_version");
        let data_directory = settings.get("data_directory").cloned().unwrap_or_default();
        let partial = Self {
            version_num,
            system_identifier: SystemIdentifier(system.cast_unsigned()),
            catalog_version: catalog.cast_unsigned(),
            in_recovery: row.get("in_recovery"),
            timeline: TimelineId(timeline.cast_unsigned()),
            lsn: lsn.parse().map_err(|_| session.odd("its WAL position", lsn.clone()))?,
            data_directory: data_directory.into(),
            checksums: row.get("checksums"),
            wal_segment_size: WalSegmentSize::new(segment)
                .map_err(|_| session.odd("wal_segment_size", segment.to_string()))?,
            block_size: number("block_size")? as u32,
            superuser: row.get("superuser"),
            settings,
            pending_restart: Vec::new(),
            tablespaces: Vec::new(),
            databases: Vec::new(),
            archiver: ArchiverFacts::default(),
            may_back_up: false,
        };
        partial.with_catalogs(session)
    }

    fn with_catalogs(mut self, session: &mut Session) -> Result<Self, ServerError> {
        self.pending_restart = session
            .query(
                "ask which settings wait for a restart",
                "SELECT name FROM pg_settings WHERE pending_restart",
                &[],
            )?
            .iter()
            .map(|row| row.get(0))
            .collect();
        self.tablespaces = session
            .query("list tablespaces", TABLESPACES, &[])?
            .iter()
            .map(|row| Tablespace {
                oid: row.get(0),
                name: row.get(1),
                location: PathBuf::from(row.get::<_, String>(2)),
            })
            .collect();
        self.databases = session
            .query(
                "list databases",
                "SELECT oid, datname::text, datallowconn FROM pg_database ORDER BY oid",
                &[],
            )?
            .iter()
            .map(|row| Database { oid: row.get(0), name: row.get(1), allows_connections: row.get(2) })
            .collect();
        self.archiver = archiver(session)?;
        let function = if self.version_num >= 150_000 {
            "pg_backup_start(text, boolean)"
        } else {
            "pg_start_backup(text, boolean, boolean)"
        };
        let row = session.query_one(
            "ask for privileges",
            "SELECT has_function_privilege($1::text, 'EXECUTE')",
            &[&function],
        )?;
        self.may_back_up = row.get(0);
        Ok(self)
    }

    /// The major version.
    ///
    /// # Errors
    /// [`pgproof_pg::PgError::UnsupportedVersion`].
    pub fn major(&self) -> Result<MajorVersion, pgproof_pg::PgError> {
        MajorVersion::from_server_version_num(self.version_num)
    }

    /// A setting, empty where it is not known.
    pub fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }
}

/// `pg_walfile_name` is not allowed in recovery, and the timeline of the control file is enough there; on a primary it lags behind a
/// promotion until the end-of-recovery checkpoint, so the name of the current segment is asked.
const STATE: &str = "SELECT s.system_identifier, s.catalog_version_no AS catalog_version, r.in_recovery, \
    CASE WHEN r.in_recovery THEN c.timeline_id \
         ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END AS timeline, \
    CASE WHEN r.in_recovery THEN pg_last_wal_replay_lsn()::text ELSE pg_current_wal_flush_lsn()::text END AS lsn, \
    current_setting('data_checksums') = 'on' AS checksums, \
    (SELECT CASE unit WHEN 'B' THEN setting::bigint WHEN '8kB' THEN setting::bigint * 8192 \
        WHEN 'MB' THEN setting::bigint * 1048576 ELSE setting::bigint END::text \
        FROM pg_settings WHERE name = 'wal_segment_size') AS wal_segment_size, \
    current_setting('block_size') AS block_size, \
    current_setting('server_version_num') AS version_num, \
    current_setting('is_superuser') = 'on' AS superuser \
    FROM pg_control_system() s, pg_control_checkpoint() c, (SELECT pg_is_in_recovery() AS in_recovery) r";

const TABLESPACES: &str = "SELECT oid, spcname::text, pg_tablespace_location(oid) FROM pg_tablespace \
    WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY oid";

fn settings(session: &mut Session) -> Result<BTreeMap<String, String>, ServerError> {
    let names: Vec<&str> = SETTINGS.to_vec();
    let rows = session.query(
        "ask for settings",
        "SELECT name, current_setting(name, true) FROM pg_settings WHERE name = ANY($1)",
        &[&names],
    )?;
    Ok(rows.iter().filter_map(|row| Some((row.get(0), row.get::<_, Option<String>>(1)?))).collect())
}

fn archiver(session: &mut Session) -> Result<ArchiverFacts, ServerError> {
    let row = session.query_one(
        "ask for the archiver's statistics",
        "SELECT archived_count, last_archived_wal, extract(epoch FROM now() - last_archived_time)::float8, \
            failed_count, last_failed_wal, extract(epoch FROM now() - last_failed_time)::float8 FROM pg_stat_archiver",
        &[],
    )?;
    Ok(ArchiverFacts {
        archived: row.get(0),
        last_archived: row.get(1),
        last_archived_age_s: row.get(2),
        failed: row.get(3),
        last_failed: row.get(4),
        last_failed_age_s: row.get(5),
    })
}

//! The private server of an extraction: nobody reaches it but this account through a socket in the private directory, and it reaches
//! nobody: no archiving, no subscriptions, no libraries that start workers of their own, no event triggers, no autovacuum.
//!
//! It runs on configuration made for it. Of the origin's only `postgresql.auto.conf` is read, because the recovery stands there; what
//! could matter in it is overruled on the command line. Durability is off: what is lost with it is restored again.

use super::error::ExtractError;
use super::scratch::Scratch;
use crate::configuration::minimal_configuration;
use crate::plan::Plan;
use crate::report::RecoveryReport;
use crate::start::{StartOptions, start};
use pgproof_base::Progress;
use pgproof_pg::MajorVersion;
use pgproof_repo::BackupSummary;
use pgproof_server::{ConnectOptions, Session, TlsOptions, find};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long recovery may not come forward.
const STALL_LIMIT: Duration = Duration::from_secs(600);

/// A private server that has recovered.
#[derive(Debug)]
pub(crate) struct Private {
    /// How to reach its database.
    pub(crate) connect: ConnectOptions,
    /// Directory of `pg_dump` and `pg_restore`.
    pub(crate) programs: PathBuf,
    /// How it came to its target.
    pub(crate) recovery: RecoveryReport,
}

/// The database wanted, and who may open it.
#[derive(Debug)]
pub(crate) struct Who<'a> {
    /// Its number; it may have another name by now.
    pub(crate) database: u32,
    /// Tried in turn.
    pub(crate) roles: &'a [String],
}

/// Starts the server on the restored directory and waits for the target.
pub(crate) fn run(
    plan: &Plan,
    summary: &BackupSummary,
    scratch: &Scratch,
    who: &Who<'_>,
    programs: PathBuf,
    progress: &dyn Progress,
) -> Result<Private, ExtractError> {
    let sockets = scratch.directory("s")?;
    for (name, content) in [
        ("postgresql.conf", minimal_configuration(summary)),
        ("pg_hba.conf", "local all all trust\n".to_owned()),
        ("pg_ident.conf", String::new()),
    ] {
        let path = scratch.join(name);
        fs::write(&path, content).map_err(ExtractError::file("write", &path))?;
    }
    let connect = ConnectOptions {
        host: Some(sockets.display().to_string()),
        port: Some(PORT),
        user: who.roles.first().cloned(),
        // In every cluster.
        database: Some("template1".to_owned()),
        connection_string: None,
        tls: TlsOptions::default(),
    };
    let options = StartOptions {
        connect: Some(connect.clone()),
        stall_limit: STALL_LIMIT,
        settings: settings(summary, scratch, &sockets),
    };
    let recovery = start(plan, &options, progress)
        .map_err(|source| ExtractError::Restore { source: Box::new(source) })?;
    let connect = as_superuser(connect, who)?;
    Ok(Private { connect, programs, recovery })
}

/// Names the socket only.
const PORT: u16 = 5432;

/// On the command line, above every file.
fn settings(summary: &BackupSummary, scratch: &Scratch, sockets: &Path) -> Vec<(String, String)> {
    let path = |name: &str| scratch.join(name).display().to_string();
    let mut settings = vec![
        ("config_file", path("postgresql.conf")),
        ("hba_file", path("pg_hba.conf")),
        ("ident_file", path("pg_ident.conf")),
        ("unix_socket_directories", sockets.display().to_string()),
        ("port", PORT.to_string()),
        // Recovery compares connections and the like with the origin's only where it serves queries (`EnableHotStandby` in
        // `CheckRequiredParameterValues`), so that a small server recovers what a large one wrote.
        ("hot_standby", "off".to_owned()),
    ];
    settings.extend(ALONE.iter().map(|(name, value)| (*name, (*value).to_owned())));
    if summary.server_version >= 170_000 {
        // Login triggers are new there, and run as whoever connects.
        settings.push(("event_triggers", "off".to_owned()));
    }
    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

const ALONE: [(&str, &str); 27] = [
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    ("external_pid_file", ""),
    ("archive_mode", "off"),
    ("max_logical_replication_workers", "0"),
    ("max_wal_senders", "0"),
    ("synchronous_standby_names", ""),
    ("shared_preload_libraries", ""),
    ("session_preload_libraries", ""),
    ("local_preload_libraries", ""),
    ("autovacuum", "off"),
    ("ssl", "off"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_min_messages", "warning"),
    ("lc_messages", "C"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    ("shared_buffers", "128MB"),
    ("huge_pages", "off"),
    ("max_connections", "20"),
    ("superuser_reserved_connections", "3"),
    ("jit", "off"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("default_transaction_read_only", "off"),
];

/// Finds out which role may do everything: the origin's configuration knows one, and nobody else here does.
fn as_superuser(connect: ConnectOptions, who: &Who<'_>) -> Result<ConnectOptions, ExtractError> {
    let mut last = None;
    for role in who.roles {
        let connect = ConnectOptions { user: Some(role.clone()), ..connect.clone() };
        let asked = Session::open(&connect).and_then(|mut session| {
            let sql = "SELECT current_setting('is_superuser'), datname::text FROM pg_database WHERE oid = $1";
            let row = session.query_one("ask for the database", sql, &[&who.database])?;
            Ok((row.get::<_, String>(0) == "on").then(|| row.get::<_, String>(1)))
        });
        match asked {
            Ok(Some(database)) => return Ok(connect.with_database(&database)),
            Ok(None) => {}
            Err(error) => last = Some(Box::new(error)),
        }
    }
    Err(ExtractError::NoSuperuser { roles: who.roles.to_vec(), source: last })
}

/// The directory of a `pg_dump` and a `pg_restore` that know the version: the server's own, else the oldest later ones, whose output older
/// servers are likeliest to take.
pub(crate) fn find_programs(version: MajorVersion, beside: Option<&Path>) -> Result<PathBuf, ExtractError> {
    let found = find::clients(version, beside).map(|clients| clients.directory);
    found.map_err(|_| ExtractError::NoPrograms { version: version.to_string() })
}

//! A private server on a restored directory, for extractions and drills: nobody reaches it but this account through a socket in the private directory, and it reaches
//! nobody: no archiving, no subscriptions, no libraries that start workers of their own, no event triggers, no autovacuum.
//!
//! It runs on configuration made for it. Of the origin's only `postgresql.auto.conf` is read, because the recovery stands there; what
//! could matter in it is overruled on the command line. Durability is off unless asked for: what is lost with it is restored again.

mod error;
mod scratch;

pub use error::PrivateError;
pub use scratch::{Purpose, Scratch, discard, of_this_process, sweep};

use crate::configuration::minimal_configuration;
use crate::plan::Plan;
use crate::report::RecoveryReport;
use crate::start::{StartOptions, start};
use pgproof_base::Progress;
use pgproof_repo::BackupSummary;
use pgproof_server::{ConnectOptions, Session, TlsOptions};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How long recovery may not come forward.
const STALL_LIMIT: Duration = Duration::from_secs(600);

/// A private server that has recovered.
#[derive(Debug)]
pub struct Private {
    /// How to reach it, as a superuser; its database is `template1`.
    pub connect: ConnectOptions,
    /// How it came to its target.
    pub recovery: RecoveryReport,
}

/// How the server is to run.
#[derive(Debug)]
pub struct PrivateOptions<'a> {
    /// Roles that may be superuser of the restored server, tried in turn.
    pub roles: &'a [String],
    /// Settings above those that keep it private.
    pub settings: &'a [(&'a str, &'a str)],
}

/// Starts the server on the restored directory and waits for the target.
///
/// # Errors
/// [`PrivateError`]; the server may run then, until the directory is discarded.
pub fn run(
    plan: &Plan,
    summary: &BackupSummary,
    scratch: &Scratch,
    options: &PrivateOptions<'_>,
    progress: &dyn Progress,
) -> Result<Private, PrivateError> {
    let sockets = scratch.directory("s")?;
    for (name, content) in [
        ("postgresql.conf", minimal_configuration(summary)),
        ("pg_hba.conf", "local all all trust\n".to_owned()),
        ("pg_ident.conf", String::new()),
    ] {
        let path = scratch.join(name);
        fs::write(&path, content).map_err(PrivateError::file("write", &path))?;
    }
    let connect = ConnectOptions {
        host: Some(sockets.display().to_string()),
        port: Some(PORT),
        user: options.roles.first().cloned(),
        // In every cluster.
        database: Some("template1".to_owned()),
        connection_string: None,
        tls: TlsOptions::default(),
    };
    let mut settings = settings(summary, scratch, &sockets);
    settings.extend(options.settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let start_options = StartOptions { connect: Some(connect.clone()), stall_limit: STALL_LIMIT, settings };
    let recovery = start(plan, &start_options, progress)
        .map_err(|source| PrivateError::Recovery { source: Box::new(source) })?;
    let connect = as_superuser(connect, options.roles)?;
    Ok(Private { connect, recovery })
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
fn as_superuser(connect: ConnectOptions, roles: &[String]) -> Result<ConnectOptions, PrivateError> {
    let mut last = None;
    for role in roles {
        let connect = ConnectOptions { user: Some(role.clone()), ..connect.clone() };
        let asked = Session::open(&connect).and_then(|mut session| {
            let row = session.query_one("ask for the role", "SELECT current_setting('is_superuser')", &[])?;
            Ok(row.get::<_, String>(0) == "on")
        });
        match asked {
            Ok(true) => return Ok(connect),
            Ok(false) => {}
            Err(error) => last = Some(Box::new(error)),
        }
    }
    Err(PrivateError::NoSuperuser { roles: roles.to_vec(), source: last })
}

//! Writes down what a backup is: the summary in its manifest. Pure.

use crate::cluster::{Cluster, EXTERNAL};
use crate::report::BackupReport;
use jiff::Timestamp;
use pgproof_pg::WalLevel;
use pgproof_repo::manifest::summary::{
    BackupKind, BackupSummary, DataDirectory, Database, ExternalFile, ServerSettings, Tablespace, Totals,
};
use pgproof_server::StoppedBackup;

/// Settings worth knowing at a restore beside those that recovery compares.
const OTHER_SETTINGS: [&str; 4] =
    ["shared_preload_libraries", "full_page_writes", "wal_log_hints", "config_file"];

/// What is known only at the end.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    /// What the server said when it stopped the backup.
    pub(crate) stopped: &'a StoppedBackup,
    /// When it started and stopped.
    pub(crate) times: (Timestamp, Timestamp),
    /// Databases with estimates.
    pub(crate) databases: Vec<Database>,
    /// Paths of configuration files outside the data directory.
    pub(crate) external: Vec<String>,
    /// Permission bits of the data directory.
    pub(crate) mode: u32,
    /// Pages stored anew.
    pub(crate) pages_changed: u64,
}

/// The summary of a backup.
pub(crate) fn summary(cluster: &Cluster, report: &BackupReport, ending: Ending<'_>) -> BackupSummary {
    let facts = &cluster.facts;
    let control = &cluster.control;
    let map = &ending.stopped.tablespace_map;
    BackupSummary {
        id: report.id,
        system: facts.system_identifier,
        kind: if report.base.is_some() { BackupKind::Incremental } else { BackupKind::Full },
        base: report.base,
        server_version: facts.version_num,
        control_version: control.control_version,
        catalog_version: facts.catalog_version,
        block_size: facts.block_size,
        wal_segment_size: facts.wal_segment_size.bytes(),
        checksums: facts.checksums,
        timeline: report.timeline,
        start_lsn: report.start_lsn,
        stop_lsn: report.stop_lsn,
        started: ending.times.0,
        stopped: ending.times.1,
        from_standby: report.from_standby,
        origin: cluster.origin.clone(),
        backup_label: ending.stopped.backup_label.clone(),
        tablespace_map: (!map.is_empty()).then(|| map.clone()),
        tablespaces: facts
            .tablespaces
            .iter()
            .map(|tablespace| Tablespace {
                oid: tablespace.oid,
                name: tablespace.name.clone(),
                location: tablespace.location.display().to_string(),
            })
            .collect(),
        data_directory: DataDirectory { path: cluster.pgdata.display().to_string(), mode: ending.mode },
        settings: settings(cluster),
        external_files: ending
            .external
            .into_iter()
            .map(|entry| ExternalFile { path: entry[EXTERNAL.len()..].to_owned(), entry })
            .collect(),
        databases: ending.databases,
        totals: Totals {
            files: report.files,
            bytes_logical: report.bytes_logical,
            bytes_read: report.bytes_read,
            bytes_stored: report.bytes_stored,
            pages_changed: ending.pages_changed,
            pages_verified: report.pages_verified,
            reasons: report.reasons.clone(),
        },
        checksum_failures: report.bad_pages.clone(),
        unnamed_changes: report.unnamed_changes.clone(),
        trusting: report.trusting,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        host: crate::cluster::host(),
        labels: Default::default(),
        dump: None,
    }
}

fn settings(cluster: &Cluster) -> ServerSettings {
    let number = |name: &str, control: u32| cluster.facts.setting(name).parse().unwrap_or(control);
    let control = &cluster.control;
    ServerSettings {
        max_connections: number("max_connections", control.max_connections),
        max_worker_processes: number("max_worker_processes", control.max_worker_processes),
        max_wal_senders: number("max_wal_senders", control.max_wal_senders),
        max_prepared_transactions: number("max_prepared_transactions", control.max_prepared_transactions),
        max_locks_per_transaction: number("max_locks_per_transaction", control.max_locks_per_transaction),
        wal_level: match cluster.facts.setting("wal_level") {
            "minimal" => WalLevel::Minimal,
            "logical" => WalLevel::Logical,
            _ => WalLevel::Replica,
        },
        other: OTHER_SETTINGS
            .iter()
            .filter_map(|&name| Some((name.to_owned(), cluster.facts.settings.get(name)?.clone())))
            .collect(),
    }
}

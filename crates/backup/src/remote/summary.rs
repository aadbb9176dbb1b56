//! Writes down what a remote backup is. Pure.
//!
//! Everything about the server comes from its control file and from what a replication connection may ask; the rest stays empty.

use super::{Copied, Remote, Span};
use crate::report::BackupReport;
use pgproof_pg::relfile::BLOCK_SIZE;
use pgproof_repo::manifest::summary::{
    BackupKind, BackupSummary, DataDirectory, Origin, ServerSettings, Tablespace, Totals,
};
use pgproof_server::replication::SentTablespace;

/// What `initdb` gives a data directory, where no directory of it told.
const MODE: u32 = 0o700;

pub(super) fn summary(
    remote: &Remote,
    report: &BackupReport,
    span: Span,
    copied: &Copied,
    tablespaces: &[SentTablespace],
    pages_changed: u64,
) -> BackupSummary {
    let (control, unpacked) = (&copied.control, &copied.unpacked);
    let map = &unpacked.tablespace_map;
    BackupSummary {
        dump: None,
        id: report.id,
        system: remote.system,
        kind: if report.base.is_some() { BackupKind::Incremental } else { BackupKind::Full },
        base: report.base,
        server_version: remote.version_num,
        control_version: control.control_version,
        catalog_version: control.catalog_version,
        block_size: BLOCK_SIZE as u32,
        wal_segment_size: remote.segment_size.bytes(),
        checksums: remote.checksums,
        timeline: span.timeline,
        start_lsn: span.start,
        stop_lsn: span.stop,
        started: span.started,
        stopped: span.stopped,
        from_standby: report.from_standby,
        origin: Origin::Replication { server: remote.server.clone() },
        backup_label: unpacked.label.clone(),
        tablespace_map: (!map.is_empty()).then(|| map.clone()),
        tablespaces: tablespaces.iter().map(tablespace).collect(),
        data_directory: DataDirectory {
            path: remote.data_directory.clone(),
            mode: unpacked.mode.unwrap_or(MODE),
        },
        settings: ServerSettings {
            max_connections: control.max_connections,
            max_worker_processes: control.max_worker_processes,
            max_wal_senders: control.max_wal_senders,
            max_prepared_transactions: control.max_prepared_transactions,
            max_locks_per_transaction: control.max_locks_per_transaction,
            wal_level: control.wal_level,
            other: Default::default(),
        },
        external_files: Vec::new(),
        databases: Vec::new(),
        totals: Totals {
            files: report.files,
            bytes_logical: report.bytes_logical,
            bytes_read: report.bytes_read,
            bytes_stored: report.bytes_stored,
            pages_changed,
            pages_verified: report.pages_verified,
            reasons: report.reasons.clone(),
        },
        checksum_failures: report.bad_pages.clone(),
        unnamed_changes: Vec::new(),
        trusting: 0,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        host: crate::cluster::host(),
        labels: Default::default(),
    }
}

/// Its name is in a catalog, which a replication connection cannot read; its number names it as well.
fn tablespace(sent: &SentTablespace) -> Tablespace {
    Tablespace { oid: sent.oid, name: sent.oid.to_string(), location: sent.location.display().to_string() }
}

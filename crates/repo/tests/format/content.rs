//! What the repositories under `testdata/` hold, made from nothing: shared by the program that wrote them and the test that reads
//! them. Never changed once released; a new format version gets a file of its own.

#![allow(clippy::unwrap_used, reason = "all of it is tests, helpers included")]

use pgproof_pg::{ArchiveName, Lsn, SystemIdentifier, TimelineId, WalLevel, WalSegmentSize};
use pgproof_repo::manifest::summary::{
    BackupKind, BackupSummary, DataDirectory, Database, ReadReason, ReasonTotal, ServerSettings,
    TableEstimate, Tablespace, Totals,
};
use pgproof_repo::{BackupId, FileKind, Lineage, PAGE_BYTES};
use std::collections::BTreeMap;

pub(crate) const SYSTEM: SystemIdentifier = SystemIdentifier(7_412_345_678_901_234_567);

pub(crate) fn lineage() -> Lineage {
    Lineage::new(SYSTEM)
}

pub(crate) fn backup() -> BackupId {
    "20261122T203500Z-0a1b2c".parse().unwrap()
}

/// An entry of the backup, with its content.
pub(crate) struct Content {
    pub(crate) path: String,
    pub(crate) kind: FileKind,
    pub(crate) mode: u32,
    pub(crate) bytes: Vec<u8>,
}

/// Rows that compress, and in each some bytes that do not.
fn rows(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut bytes = Vec::with_capacity(length + 64);
    while bytes.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend_from_slice(&state.to_le_bytes());
        bytes.extend_from_slice(b"a row of a table, with some filler");
    }
    bytes.truncate(length);
    bytes
}

/// Entries in order of path: files in one extent and in many, small ones that share an extent, a length that is no multiple of a
/// page, an empty one, one with a hole, a directory, a tablespace.
pub(crate) fn files() -> Vec<Content> {
    let file = |path: &str, bytes: Vec<u8>| Content {
        path: path.to_owned(),
        kind: FileKind::File,
        mode: 0o600,
        bytes,
    };
    let other = |path: &str, kind| Content { path: path.to_owned(), kind, mode: 0o700, bytes: Vec::new() };
    let mut holed = vec![0; 40 * PAGE_BYTES];
    holed[20 * PAGE_BYTES..24 * PAGE_BYTES].copy_from_slice(&rows(4 * PAGE_BYTES, 9));
    vec![
        file("PG_VERSION", b"15\n".to_vec()),
        other("base", FileKind::Directory),
        file("base/5/1259", rows(3 * PAGE_BYTES, 1)),
        file("base/5/16384", rows(70 * PAGE_BYTES, 2)),
        file("base/5/16384_fsm", rows(3 * PAGE_BYTES, 3)),
        file("base/5/16385", Vec::new()),
        file("base/5/16386", holed),
        file("global/pg_control", rows(8192, 4)),
        file("pg_logical/replorigin_checkpoint", rows(12_345, 5)),
        other("pg_tblspc/16999", FileKind::Link { target: "/srv/fast".to_owned() }),
        file("pg_tblspc/16999/PG_15_202209061/5/17000", rows(16 * PAGE_BYTES, 6)),
        file("postgresql.conf", "# größer\nport = 5432\n".as_bytes().to_vec()),
    ]
}

pub(crate) fn segment() -> (ArchiveName, WalSegmentSize) {
    (ArchiveName::Segment("000000010000000000000002".to_owned()), WalSegmentSize::new(1 << 20).unwrap())
}

pub(crate) fn wal() -> Vec<u8> {
    rows(1 << 20, 7)
}

pub(crate) fn summary() -> BackupSummary {
    BackupSummary {
        id: backup(),
        system: SYSTEM,
        kind: BackupKind::Full,
        base: None,
        server_version: 150_014,
        control_version: 1300,
        catalog_version: 202_209_061,
        block_size: 8192,
        wal_segment_size: 1 << 20,
        checksums: true,
        timeline: TimelineId(1),
        start_lsn: Lsn(0x20_0028),
        stop_lsn: Lsn(0x20_0100),
        started: "2026-11-22T20:35:00Z".parse().unwrap(),
        stopped: "2026-11-22T20:35:09.5Z".parse().unwrap(),
        from_standby: false,
        origin: Default::default(),
        backup_label: "START WAL LOCATION: 0/200028 (file 000000010000000000000002)\n".to_owned(),
        tablespace_map: Some("16999 /srv/fast\n".to_owned()),
        tablespaces: vec![Tablespace {
            oid: 16999,
            name: "fast".to_owned(),
            location: "/srv/fast".to_owned(),
        }],
        data_directory: DataDirectory { path: "/var/lib/postgresql/15/main".to_owned(), mode: 0o700 },
        settings: ServerSettings {
            max_connections: 100,
            max_worker_processes: 8,
            max_wal_senders: 10,
            max_prepared_transactions: 0,
            max_locks_per_transaction: 64,
            wal_level: WalLevel::Replica,
            other: BTreeMap::from([("lc_messages".to_owned(), "C".to_owned())]),
        },
        external_files: Vec::new(),
        databases: vec![Database {
            oid: 5,
            name: "postgres".to_owned(),
            tables: vec![TableEstimate {
                schema: "public".to_owned(),
                name: "accounts".to_owned(),
                rows: Some(1000),
                pages: 70,
                live_rows: None,
            }],
            truncated: false,
        }],
        totals: Totals {
            files: 10,
            reasons: BTreeMap::from([(
                ReadReason::Full,
                ReasonTotal { files: 10, bytes: 1_000_000, bytes_read: 1_000_000 },
            )]),
            ..Totals::default()
        },
        checksum_failures: Vec::new(),
        unnamed_changes: Vec::new(),
        trusting: 0,
        tool_version: "0.1.0".to_owned(),
        host: "db1".to_owned(),
        labels: BTreeMap::from([("ticket".to_owned(), "42".to_owned())]),
        dump: None,
    }
}

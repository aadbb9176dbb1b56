use super::*;
use crate::layout::{BackupId, PackNumber};
use crate::map::{ExtentPlace, ExtentRef, FileMap, PackIndex};
use crate::pack::PackInfo;
use crate::seal::Suite;
use crate::testing::{lineage, on};
use crate::{Error, Lineage};
use pgproof_pg::{Lsn, TimelineId, WalLevel};
use pgproof_store::{Directory, Memory, PutMode, Store};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use summary::{BackupKind, DataDirectory, ServerSettings, Totals};

const SUITES: [Suite; 2] = [Suite::Aes256Gcm, Suite::None];

pub(crate) fn backup() -> BackupId {
    "20261122T203500Z-0a1b2c".parse().unwrap()
}

/// A summary of some backup of the test lineage.
pub(crate) fn summary() -> BackupSummary {
    let at = "2026-11-22T20:35:00Z".parse().unwrap();
    BackupSummary {
        id: backup(),
        system: lineage().system(),
        kind: BackupKind::Full,
        base: None,
        server_version: 150_004,
        control_version: 1300,
        catalog_version: 202_209_061,
        block_size: 8192,
        wal_segment_size: 16 << 20,
        checksums: true,
        timeline: TimelineId(1),
        start_lsn: Lsn(0x200_0028),
        stop_lsn: Lsn(0x300_0000),
        started: at,
        stopped: at,
        from_standby: false,
        origin: Default::default(),
        backup_label: "START WAL LOCATION: 0/2000028\n".to_owned(),
        tablespace_map: None,
        tablespaces: Vec::new(),
        data_directory: DataDirectory { path: "/pgdata".to_owned(), mode: 0o700 },
        settings: ServerSettings {
            max_connections: 100,
            max_worker_processes: 8,
            max_wal_senders: 10,
            max_prepared_transactions: 0,
            max_locks_per_transaction: 64,
            wal_level: WalLevel::Replica,
            other: BTreeMap::new(),
        },
        external_files: Vec::new(),
        databases: Vec::new(),
        totals: Totals::default(),
        checksum_failures: Vec::new(),
        unnamed_changes: Vec::new(),
        trusting: 0,
        tool_version: "0.1.0".to_owned(),
        host: "db1".to_owned(),
        labels: BTreeMap::new(),
        dump: None,
    }
}

fn pack(number: u32) -> PackInfo {
    PackInfo {
        backup: backup(),
        number: PackNumber(number),
        salt: Salt([number as u8; 16]),
        size: 1 << 40,
        extents: 1 << 20,
    }
}

fn packs(count: u32) -> PackTable {
    let mut table = PackTable::new();
    (0..count).for_each(|number| table.insert(PackIndex(number), pack(number)));
    table
}

/// A file of so many whole extents of 16 pages, `first` and following of pack `pack`.
fn file(path: &str, pack: u32, first: u32, extents: u32) -> FileEntry {
    let pieces: Vec<(ExtentRef, Vec<Range<u32>>)> = (0..extents)
        .map(|at| {
            let frame = first + at;
            let place =
                ExtentPlace { frame, offset: 64 + u64::from(frame) * 30_000, stored: 30_000, pages: 16 };
            (ExtentRef::whole(PackIndex(pack), place), vec![at * 16..at * 16 + 16])
        })
        .collect();
    let pieces = pieces.iter().map(|(extent, ranges)| (*extent, ranges.as_slice()));
    FileEntry {
        path: path.to_owned(),
        kind: FileKind::File,
        mode: 0o600,
        modified: 1_790_000_000,
        length: u64::from(extents) * 16 * 8192,
        map: FileMap::from_pieces(pieces, extents * 16).unwrap(),
    }
}

fn other(path: &str, kind: FileKind) -> FileEntry {
    FileEntry { kind, mode: 0o700, ..file(path, 0, 0, 0) }
}

fn link(path: &str, target: &str) -> FileEntry {
    other(path, FileKind::Link { target: target.to_owned() })
}

fn write(repository: &Repository, entries: &[FileEntry], packs: &PackTable) -> Result<ManifestInfo> {
    let mut writer = ManifestWriter::create(repository, lineage(), &backup())?;
    entries.iter().try_for_each(|entry| writer.add(entry))?;
    writer.finish(packs, &summary())
}

fn open(repository: &Repository) -> Result<Manifest> {
    Manifest::open(repository, lineage(), &backup())
}

fn memory(suite: Suite) -> Repository {
    on(Arc::new(Memory::new()), suite)
}

#[test]
fn manifests_read_back_whole_and_file_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn Store>; 2] =
        [Arc::new(Memory::new()), Arc::new(Directory::create(dir.path()).unwrap())];
    for (store, suite) in stores.into_iter().zip(SUITES) {
        let repository = on(store, suite);
        let mut entries = vec![
            file("PG_VERSION", 0, 0, 1),
            other("base", FileKind::Directory),
            link("pg_tblspc/16384", "/srv/fast"),
            file("pg_tblspc/16384/PG_15_202209061/5/1", 1, 0, 3),
        ];
        entries.extend((0..2000).map(|n| file(&format!("base/5/{n:07}"), 2, n * 10, n % 10)));
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        let info = write(&repository, &entries, &packs(5)).unwrap();
        assert_eq!(info.packs.len(), 3);

        let manifest = open(&repository).unwrap();
        manifest.check_header().unwrap();
        assert_eq!(manifest.summary(), &summary());
        assert_eq!(manifest.packs(), &info.packs);
        assert_eq!((manifest.size(), manifest.entries()), (info.size, entries.len() as u64));
        let bytes = repository.store().get(manifest.path()).unwrap();
        assert_eq!((bytes.len() as u64, repository.identity(&bytes)), (info.size, info.identity));
        assert_eq!(manifest.files().collect::<Result<Vec<_>>>().unwrap(), entries);
        for entry in entries.iter().step_by(97) {
            assert_eq!(manifest.file(&entry.path).unwrap().as_ref(), Some(entry));
        }
        for absent in ["", "A", "base/5/0000000x", "zzz"] {
            assert_eq!(manifest.file(absent).unwrap(), None);
        }
        assert!(write(&repository, &entries, &packs(5)).unwrap_err().is_conflict());
    }
}

#[test]
fn opening_takes_one_request_and_a_file_one_more() {
    let repository = memory(Suite::Aes256Gcm);
    // Frames of uneven length, so that the manifest is longer than what is read at once.
    let entries: Vec<FileEntry> = (0..90_000_u32)
        .map(|n| {
            let mut entry = file(&format!("base/{n:08x}"), n.wrapping_mul(2_654_435_761) >> 20, n, 1);
            entry.modified = i64::from(n.wrapping_mul(0x9e37_79b9));
            entry
        })
        .collect();
    let mut table = packs(4096);
    table.insert(PackIndex(9999), pack(9999));
    let info = write(&repository, &entries, &table).unwrap();
    assert!(info.size > 700_000, "{}", info.size);
    assert!(info.packs.get(PackIndex(9999)).is_err());
    let gets = || repository.store().counters().gets;
    let before = gets();
    let manifest = open(&repository).unwrap();
    assert!(gets() <= before + 2);
    let opened = gets();
    manifest.file("base/00000003").unwrap().unwrap();
    for number in [0_usize, 3, 31, 32, 33, 100] {
        assert_eq!(manifest.file(&entries[number].path).unwrap().as_ref(), Some(&entries[number]));
    }
    assert_eq!(manifest.file("base/00000003x").unwrap(), None);
    assert_eq!(gets(), opened + 1, "a chunk that was read is remembered");
    assert_eq!(manifest.files().count(), entries.len());
}

#[test]
fn packs_keep_their_numbers_and_count_what_is_live() {
    let repository = memory(Suite::None);
    let info = write(&repository, &[file("a", 4, 0, 2), file("b", 2, 0, 1)], &packs(6)).unwrap();
    let live: Vec<_> = info.packs.iter().map(|(index, used)| (index.0, used.bytes_live)).collect();
    assert_eq!(live, [(2, 30_000), (4, 60_000)]);
    let table = open(&repository).unwrap().packs().clone();
    assert_eq!(table.next_index().unwrap(), PackIndex(5));
    assert_eq!(table.get(PackIndex(4)).unwrap(), &pack(4));
}

#[test]
fn every_flipped_byte_and_every_truncation_of_a_manifest_is_found() {
    for suite in SUITES {
        let repository = memory(suite);
        let entries = [file("a", 0, 0, 2), other("b", FileKind::Directory), file("c", 1, 0, 1)];
        write(&repository, &entries, &packs(2)).unwrap();
        let path = lineage().backup(backup()).manifest();
        let original = repository.store().get(&path).unwrap();
        let is_sound = |bytes: &[u8]| {
            repository.store().put(&path, &[bytes], PutMode::Overwrite).unwrap();
            let Ok(manifest) = open(&repository) else { return false };
            manifest.check_header().is_ok() && manifest.files().all(|entry| entry.is_ok())
        };
        assert!(is_sound(&original));
        for at in 0..original.len() {
            let mut flipped = original.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(!is_sound(&flipped), "byte {at}");
        }
        for length in 0..original.len() {
            assert!(!is_sound(&original[..length]), "{length} bytes");
        }
    }
}

#[test]
fn a_manifest_belongs_to_its_backup_and_lineage() {
    let repository = memory(Suite::None);
    write(&repository, &[], &packs(0)).unwrap();
    assert_eq!(open(&repository).unwrap().files().count(), 0);
    let bytes = repository.store().get(&lineage().backup(backup()).manifest()).unwrap();
    let other: BackupId = "20261122T203500Z-ffffff".parse().unwrap();
    repository.store().put(&lineage().backup(other).manifest(), &[&bytes], PutMode::IfAbsent).unwrap();
    let error = Manifest::open(&repository, lineage(), &other).unwrap_err();
    assert!(error.is_damage());
    let elsewhere = Lineage::new(pgproof_pg::SystemIdentifier(5));
    assert!(Manifest::open(&repository, elsewhere.system(), &other).unwrap_err().is_not_found());
}

#[test]
fn a_manifest_of_the_future_is_named_as_such() {
    let repository = memory(Suite::None);
    write(&repository, &[], &packs(0)).unwrap();
    let manifest = open(&repository).unwrap();
    let mut bytes = repository.store().get(manifest.path()).unwrap();
    bytes[8] = 2;
    repository.store().put(manifest.path(), &[&bytes], PutMode::Overwrite).unwrap();
    let error = manifest.check_header().unwrap_err();
    assert!(matches!(error, Error::UnknownFormat { found: 2, .. }));
}

#[test]
fn what_a_reader_would_refuse_is_not_written() {
    let refuse = |entries: &[FileEntry]| {
        let error = write(&memory(Suite::None), entries, &packs(1)).unwrap_err();
        assert_eq!(error.code(), "repository-refused");
        error.to_string()
    };
    for hostile in ["", "/etc/passwd", "..", "base/../../etc", "base//5", "base/", "./base", "a\0b"] {
        refuse(&[file(hostile, 0, 0, 1)]);
    }
    refuse(&[file("b", 0, 0, 1), file("a", 0, 0, 1)]);
    refuse(&[file("a", 0, 0, 1), file("a", 0, 0, 1)]);
    refuse(&[link("base", "/etc"), file("base-x", 0, 0, 1), file("base/passwd", 0, 0, 1)]);
    refuse(&[link("pg_tblspc/1x", "/etc"), file("pg_tblspc/1x/passwd", 0, 0, 1)]);
    refuse(&[link("a", "")]);
    refuse(&[FileEntry { kind: FileKind::Directory, ..file("a", 0, 0, 1) }]);
    refuse(&[FileEntry { length: 8192, ..file("a", 0, 0, 1) }]);
    let error = refuse(&[file("a", 0, 1 << 20, 1)]);
    assert!(error.contains("more of pack"), "{error}");
    let error = refuse(&[file("a", 1, 0, 1)]);
    assert!(error.contains("number 1"), "{error}");
}

/// A chunk as a writer without scruples makes it.
fn raw_chunk(entries: &[FileEntry]) -> Vec<u8> {
    let mut coder = entry::EntryCoder::default();
    let mut raw = Vec::new();
    entries.iter().for_each(|entry| coder.encode(entry, &mut raw));
    raw
}

#[test]
fn hostile_entries_are_refused() {
    let table = packs(1);
    let decode = |entries: &[FileEntry]| decode_chunk(&raw_chunk(entries), &table);
    assert!(decode(&[file("a", 0, 0, 2), file("b", 0, 2, 1)]).is_ok());
    for hostile in ["/etc/passwd", "base/../../x", "..", "a//b", "a\0"] {
        assert!(decode(&[file(hostile, 0, 0, 1)]).is_err(), "{hostile}");
    }
    assert!(decode(&[file("b", 0, 0, 1), file("a", 0, 0, 1)]).is_err());
    assert!(decode(&[link("base", "/etc"), file("base/passwd", 0, 0, 1)]).is_err());
    assert!(decode(&[file("a", 1, 0, 1)]).is_err(), "a pack that is not in the table");
    assert!(decode(&[file("a", 0, 1 << 20, 1)]).is_err(), "an extent outside of its pack");
    assert!(decode(&[FileEntry { length: 8192, ..file("a", 0, 0, 1) }]).is_err());
    assert!(decode(&[FileEntry { length: u64::MAX, ..file("a", 0, 0, 0) }]).is_err());
}

proptest! {
    #[test]
    fn chunks_of_any_bytes_are_refused_or_safe(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(entries) = decode_chunk(&bytes, &packs(3)) {
            prop_assert!(entries.iter().all(|entry| !entry.path.starts_with('/')));
        }
        let _ = decode_index(&bytes, 0, 64);
    }

    #[test]
    fn changed_bytes_of_a_chunk_never_panic(at in 0..400_usize, byte: u8) {
        let mut raw = raw_chunk(&[file("base/5/1", 0, 0, 20), link("pg_tblspc/1", "/x"), file("x", 2, 5, 3)]);
        let at = at % raw.len();
        raw[at] = byte;
        let _ = decode_chunk(&raw, &packs(3));
    }

    #[test]
    fn entries_read_back(
        paths in prop::collection::btree_set("[a-zé]{1,3}(/[a-z0-9é]{1,4}){0,3}", 1..30),
        seconds: i64,
        mode in 0..0o10000_u32,
        extents in 0..5_u32,
    ) {
        let entries: Vec<FileEntry> = paths
            .iter()
            .map(|path| FileEntry { modified: seconds, mode, ..file(path, 1, 7, extents) })
            .collect();
        prop_assert_eq!(decode_chunk(&raw_chunk(&entries), &packs(3)).unwrap(), entries);
    }
}

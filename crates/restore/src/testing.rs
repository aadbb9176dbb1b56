//! Synthetic backups for this crate's tests: files of known content, written as a backup would write them.

use crate::options::Commands;
use jiff::Timestamp;
use pgproof_pg::{Lsn, SegmentName, SegmentNumber, SystemIdentifier, TimelineId, WalLevel, WalSegmentSize};
use pgproof_repo::lease::Outcome;
use pgproof_repo::manifest::summary::{BackupKind, BackupSummary, DataDirectory, ServerSettings, Totals};
use pgproof_repo::{
    BackupId, Codec, CreateOptions, Encoder, ExtentRef, FileEntry, FileKind, FileMap, Lineage, Manifest,
    ManifestWriter, PAGE_BYTES, PackIndex, PackNumber, PackPiece, PackTable, PackWriter, Repository, Suite,
    blocks_of, record,
};
use pgproof_store::{Memory, PutMode, Store};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Pages that go into one extent here.
const EXTENT_PAGES: usize = 4;

/// The cluster of all synthetic backups.
pub(crate) const SYSTEM: SystemIdentifier = SystemIdentifier(7_400_000_000_000_000_001);

pub(crate) fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub(crate) fn id(number: u8) -> BackupId {
    BackupId::new(time(0), [0, 0, number])
}

/// What a restored server would run.
pub(crate) fn commands() -> Commands {
    let call = |verb: &str| format!(r#""/usr/bin/pgproof" --config "/etc/pgproof.toml" archive {verb}"#);
    Commands { restore: call(r#"get "%f" "%p""#), archive: call(r#"push "%p""#) }
}

pub(crate) fn memory() -> (Repository, Arc<Memory>) {
    let store = Arc::new(Memory::new());
    let options = CreateOptions { suite: Suite::None, recipients: Vec::new() };
    (Repository::create(store.clone() as Arc<dyn Store>, &options).unwrap(), store)
}

pub(crate) fn summary() -> BackupSummary {
    BackupSummary {
        id: id(1),
        system: SYSTEM,
        kind: BackupKind::Full,
        base: None,
        server_version: 150_004,
        control_version: 1300,
        catalog_version: 202_209_061,
        block_size: 8192,
        wal_segment_size: 16 << 20,
        checksums: true,
        timeline: TimelineId(1),
        start_lsn: Lsn(0x300_0028),
        stop_lsn: Lsn(0x300_2000),
        started: time(300),
        stopped: time(320),
        from_standby: false,
        origin: Default::default(),
        backup_label: "START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\n".to_owned(),
        tablespace_map: None,
        tablespaces: Vec::new(),
        data_directory: DataDirectory { path: "/var/lib/postgresql/15/main".to_owned(), mode: 0o700 },
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
        tool_version: "0".to_owned(),
        host: "here".to_owned(),
        labels: BTreeMap::new(),
        dump: None,
    }
}

/// What a synthetic backup holds at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Directory,
    Link(&'static str),
    File(Vec<u8>),
}

pub(crate) type Tree = BTreeMap<String, Content>;

/// A tree from files; the directories above them are added.
pub(crate) fn tree(files: &[(&str, Vec<u8>)]) -> Tree {
    let mut tree = Tree::new();
    for (path, bytes) in files {
        for (at, _) in path.match_indices('/') {
            let above = &path[..at];
            let is_root = above.starts_with("pg_tblspc/") && above.matches('/').count() == 1;
            if !is_root {
                tree.insert(above.to_owned(), Content::Directory);
            }
        }
        tree.insert((*path).to_owned(), Content::File(bytes.clone()));
    }
    tree
}

/// Bytes that do not compress and differ by seed and page.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Takes synthetic backups, each on top of the one before.
pub(crate) struct Taker {
    repository: Repository,
    packs: PackTable,
    files: BTreeMap<String, (Vec<u8>, FileMap)>,
}

impl Taker {
    pub(crate) fn new(repository: &Repository) -> Self {
        Self { repository: repository.clone(), packs: PackTable::new(), files: BTreeMap::new() }
    }

    /// Stores a backup of this tree: pages that differ from the backup before go into extents that files share; zero pages are holes.
    pub(crate) fn take(&mut self, summary: &BackupSummary, tree: &Tree) -> Manifest {
        let index = self.packs.next_index().unwrap();
        let mut pack = PackWriter::create(&self.repository, SYSTEM, &summary.id, PackNumber(0)).unwrap();
        let mut pieces: BTreeMap<&str, Vec<(ExtentRef, Vec<Range<u32>>)>> = BTreeMap::new();
        let changed: Vec<(&str, u32, Vec<u8>)> = self.changed(tree);
        for group in changed.chunks(EXTENT_PAGES) {
            store_extent(&self.repository, &mut pack, index, group, &mut pieces);
        }
        let info = pack.finish().unwrap();
        if info.extents > 0 {
            self.packs.insert(index, info);
        }
        let mut writer = ManifestWriter::create(&self.repository, SYSTEM, &summary.id).unwrap();
        let mut files = BTreeMap::new();
        for (path, content) in tree {
            let entry = self.entry(path, content, &pieces);
            writer.add(&entry).unwrap();
            if let Content::File(bytes) = content {
                files.insert(path.clone(), (bytes.clone(), entry.map));
            }
        }
        writer.finish(&self.packs, summary).unwrap();
        self.files = files;
        Manifest::open(&self.repository, SYSTEM, &summary.id).unwrap()
    }

    fn changed<'t>(&self, tree: &'t Tree) -> Vec<(&'t str, u32, Vec<u8>)> {
        let mut changed = Vec::new();
        for (path, content) in tree {
            let Content::File(bytes) = content else { continue };
            let before = self.files.get(path).map(|(bytes, _)| bytes.as_slice()).unwrap_or_default();
            for block in 0..blocks_of(bytes.len() as u64).unwrap() {
                let now = page(bytes, block);
                // Holes are made once; a page that becomes zero later is stored as zeroes.
                let hole = before.is_empty() && now.iter().all(|&byte| byte == 0);
                if !hole && (page(before, block) != now || before.is_empty()) {
                    changed.push((path.as_str(), block, now));
                }
            }
        }
        changed
    }

    fn entry(
        &self,
        path: &str,
        content: &Content,
        pieces: &BTreeMap<&str, Vec<(ExtentRef, Vec<Range<u32>>)>>,
    ) -> FileEntry {
        let (kind, length, mode) = match content {
            Content::Directory => (FileKind::Directory, 0, 0o700),
            Content::Link(target) => (FileKind::Link { target: (*target).to_owned() }, 0, 0o777),
            Content::File(bytes) => (FileKind::File, bytes.len() as u64, 0o600),
        };
        let mut map = FileMap::new();
        if kind == FileKind::File {
            let before = self.files.get(path).map(|(_, map)| map.clone()).unwrap_or_default();
            let new = pieces.get(path).into_iter().flatten();
            let new = new.map(|(extent, blocks)| (*extent, blocks.as_slice()));
            map = before.overlay(new, blocks_of(length).unwrap()).unwrap();
        }
        FileEntry { path: path.to_owned(), kind, mode, modified: 0, length, map }
    }
}

fn page(bytes: &[u8], block: u32) -> Vec<u8> {
    let from = (block as usize * PAGE_BYTES).min(bytes.len());
    let to = (from + PAGE_BYTES).min(bytes.len());
    let mut page = bytes[from..to].to_vec();
    page.resize(PAGE_BYTES, 0);
    page
}

/// Stores pages of several files as one extent.
fn store_extent<'t>(
    repository: &Repository,
    pack: &mut PackWriter,
    index: PackIndex,
    group: &[(&'t str, u32, Vec<u8>)],
    pieces: &mut BTreeMap<&'t str, Vec<(ExtentRef, Vec<Range<u32>>)>>,
) {
    let pages: Vec<u8> = group.iter().flat_map(|(_, _, page)| page.clone()).collect();
    let mut of_files: Vec<(&'t str, Vec<Range<u32>>)> = Vec::new();
    for (path, block, _) in group {
        match of_files.last_mut() {
            Some((last, blocks)) if last == path => blocks.push(*block..*block + 1),
            _ => of_files.push((path, std::iter::once(*block..*block + 1).collect())),
        }
    }
    let parts: Vec<PackPiece<'_>> = of_files
        .iter()
        .map(|(file, blocks)| PackPiece { file, pages: blocks.len() as u16, blocks })
        .collect();
    let mut encoder = Encoder::new(Codec::default()).unwrap();
    let place = pack.append(&mut encoder, &pages, repository.identity(&pages), &parts).unwrap();
    let mut first = 0;
    for (path, blocks) in of_files {
        let pages = blocks.len() as u16;
        let extent = ExtentRef { piece_first: first, piece_pages: pages, ..ExtentRef::whole(index, place) };
        pieces.entry(path).or_default().push((extent, blocks));
        first += pages;
    }
}

/// A control file of version 14 to 16 with just what reading it checks.
pub(crate) fn control_file() -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &SYSTEM.0.to_le_bytes());
    put(8, &1300_u32.to_le_bytes());
    put(12, &202_209_061_u32.to_le_bytes());
    put(16, &6_u32.to_le_bytes());
    put(32, &0x300_0060_u64.to_le_bytes());
    put(40, &0x300_0028_u64.to_le_bytes());
    put(48, &1_u32.to_le_bytes());
    put(172, &1_u32.to_le_bytes());
    put(204, &8_u32.to_le_bytes());
    put(208, &1_234_567.0_f64.to_le_bytes());
    put(216, &8192_u32.to_le_bytes());
    put(220, &131_072_u32.to_le_bytes());
    put(224, &8192_u32.to_le_bytes());
    put(228, &(16_u32 << 20).to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..288]);
    bytes[288..292].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Makes a stored backup one that exists, and archives the WAL that it needs (as names: nobody replays it here).
pub(crate) fn publish(repository: &Repository, manifest: &Manifest) {
    let lineage = Lineage::new(SYSTEM);
    let outcome = Outcome::Published {
        manifest_bytes: manifest.size(),
        manifest_identity: repository.identity(b"not looked at"),
        at: time(330),
    };
    let path = lineage.backup(manifest.summary().id).outcome();
    record::write(repository, &path, &outcome, PutMode::IfAbsent).unwrap();
    let segment = SegmentName::new(TimelineId(1), SegmentNumber(3));
    let path = lineage.segment(segment, WalSegmentSize::DEFAULT);
    repository.store().put(&path, &[b"WAL"], PutMode::Overwrite).unwrap();
}

//! Repositories for this crate's tests: in memory or in a directory, sealed or not.

mod cut;
mod powercut;

pub(crate) use cut::Cut;

use crate::codec::{Codec, Encoder};
use crate::layout::{BackupId, Lineage, PackNumber};
use crate::lease::{LeaseTimes, WalNeeded, WriterClaim, WriterLease};
use crate::manifest::summary::{BackupKind, BackupSummary, DataDirectory, PagePlace, ServerSettings, Totals};
use crate::manifest::{FileEntry, FileKind, Manifest, ManifestInfo, ManifestWriter, PackTable};
use crate::map::{ExtentRef, FileMap};
use crate::pack::{PackPiece, PackWriter};
use crate::repository::{CreateOptions, Repository};
use crate::seal::{Suite, random_bytes};
use crate::walobject::{PushSource, PushedBy, StoreOptions, store_segment};
use crate::{Result, key};
use jiff::Timestamp;
use pgproof_pg::{
    ArchiveName, Lsn, SegmentName, SegmentNumber, SystemIdentifier, TimelineId, WalLevel, WalSegmentSize,
};
use pgproof_store::{Memory, Store};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The lineage that tests write to.
pub(crate) fn lineage() -> Lineage {
    Lineage::new(SystemIdentifier(7_400_000_000_000_000_001))
}

/// A repository in memory that keeps no secret.
pub(crate) fn memory() -> Repository {
    on(Arc::new(Memory::new()), Suite::None)
}

/// An empty repository in this store.
pub(crate) fn on(store: Arc<dyn Store>, suite: Suite) -> Repository {
    let recipients = match suite {
        Suite::Aes256Gcm => vec![key::generate().recipient],
        Suite::None => Vec::new(),
    };
    Repository::create(store, &CreateOptions { suite, recipients }).unwrap()
}

/// The bytes of segment `number` on timeline 1 of [`lineage`]'s cluster: page headers that PostgreSQL 15 would accept, and content that
/// depends on `seed`. It holds no whole record, as little WAL of a bulk load does.
pub(crate) fn wal_bytes(size: WalSegmentSize, number: u64, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0_u8; size.bytes() as usize];
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for (at, page) in bytes.chunks_exact_mut(8192).enumerate() {
        // The first half of a segment is filled, the rest is as after a switch.
        if at as u64 * 8192 < u64::from(size.bytes()) / 2 {
            for word in page.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Half of the bytes are random, so that it compresses as WAL does.
                word.copy_from_slice(&(state & 0xFFFF_FFFF).to_le_bytes());
            }
        }
        let position = number * u64::from(size.bytes()) + at as u64 * 8192;
        page[0..2].copy_from_slice(&0xD110_u16.to_le_bytes());
        page[2..4].copy_from_slice(&(if at == 0 { 2_u16 } else { 0 }).to_le_bytes());
        page[4..8].copy_from_slice(&1_u32.to_le_bytes());
        page[8..16].copy_from_slice(&position.to_le_bytes());
        page[16..24].fill(0);
        if at == 0 {
            page[24..32].copy_from_slice(&lineage().system().0.to_le_bytes());
            page[32..36].copy_from_slice(&size.bytes().to_le_bytes());
            page[36..40].copy_from_slice(&8192_u32.to_le_bytes());
        }
    }
    bytes
}

/// A backup to be written by a test.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) base: Option<BackupId>,
    pub(crate) timeline: u32,
    /// In segments of 1 MB, with a byte offset of 40.
    pub(crate) segment: u64,
    /// Seconds since 1970.
    pub(crate) stopped: i64,
    pub(crate) good: bool,
}

impl Spec {
    /// A full backup that starts in this segment and ends in the same.
    pub(crate) fn at(segment: u64) -> Self {
        Self { base: None, timeline: 1, segment, stopped: 1_800_000_000 + segment as i64 * 60, good: true }
    }

    /// The same as an incremental one.
    pub(crate) fn on(base: BackupId, segment: u64) -> Self {
        Self { base: Some(base), ..Self::at(segment) }
    }

    pub(crate) fn segment_size() -> WalSegmentSize {
        WalSegmentSize::new(1 << 20).unwrap()
    }

    fn lsn(&self, offset: u64) -> Lsn {
        Lsn((self.segment << 20) + offset)
    }
}

/// Names of backups of tests: unique, and in no order.
pub(crate) fn fresh_id() -> BackupId {
    let [a, b, c] = random_bytes();
    BackupId::new(Timestamp::from_second(1_700_000_000 + i64::from(a)).unwrap(), [a, b, c])
}

/// Takes the lease of a new backup.
pub(crate) fn begin(repository: &Repository, spec: &Spec) -> Result<WriterLease> {
    let claim = WriterClaim {
        kind: "test".into(),
        bases: spec.base.into_iter().collect(),
        wal: Some(WalNeeded { timeline: TimelineId(spec.timeline), from: spec.lsn(40) }),
    };
    let times = LeaseTimes { renew_every: std::time::Duration::from_secs(3600), ..LeaseTimes::default() };
    WriterLease::take(repository, lineage().backup(fresh_id()), claim, times)
}

/// The content of a file that [`write`] stores anew.
pub(crate) fn pages_of(spec: &Spec, file: usize) -> Vec<u8> {
    (0..2 * 8192_u64).map(|n| (n * spec.segment + file as u64) as u8).collect()
}

/// Writes one pack of its own and, for an incremental backup, a manifest that uses the base's packs too.
pub(crate) fn write(repository: &Repository, id: BackupId, spec: &Spec) -> Result<ManifestInfo> {
    let lineage = lineage();
    let mut pack = PackWriter::create(repository, lineage, &id, PackNumber(0))?;
    let mut encoder = Encoder::new(Codec::Zstd { level: 1 })?;
    let mut places = Vec::new();
    for (at, path) in ["base/5/1", "base/5/2"].into_iter().enumerate() {
        let pages = pages_of(spec, at);
        let piece = PackPiece { file: path, pages: 2, blocks: std::slice::from_ref(&(0..2)) };
        places.push(pack.append(&mut encoder, &pages, repository.identity(&pages), &[piece])?);
    }
    let info = pack.finish()?;
    let base = spec.base.map(|base| Manifest::open(repository, lineage, &base)).transpose()?;
    let mut table = base.as_ref().map_or_else(PackTable::new, |base| base.packs().clone());
    let index = table.next_index()?;
    table.insert(index, info);
    let mut writer = ManifestWriter::create(repository, lineage, &id)?;
    for (at, path) in ["base/5/1", "base/5/2", "base/5/3"].into_iter().enumerate() {
        // The second file is always new, the others are the base's where there is one.
        let map = match (&base, places.get(at)) {
            (Some(base), _) if at != 1 => base.file(path)?.unwrap().map,
            (_, Some(place)) => {
                FileMap::from_pieces([(ExtentRef::whole(index, *place), std::slice::from_ref(&(0..2)))], 2)?
            }
            _ => FileMap::new(),
        };
        let (kind, mode, modified) = (FileKind::File, 0o600, 0);
        writer.add(&FileEntry { path: path.into(), kind, mode, modified, length: 2 * 8192, map })?;
    }
    writer.finish(&table, &summary(id, spec))
}

/// A published backup.
pub(crate) fn publish(repository: &Repository, spec: &Spec) -> BackupId {
    let lease = begin(repository, spec).unwrap();
    let id = lease.objects().id();
    let info = write(repository, id, spec).unwrap();
    lease.publish(info.size, info.identity).unwrap();
    id
}

/// Archives segments of 1 MB on timeline 1.
pub(crate) fn archive(repository: &Repository, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        archive_one(repository, number).unwrap();
    }
}

/// The name of segment `number` on timeline 1.
pub(crate) fn segment_name(number: u64) -> ArchiveName {
    let segment = SegmentName::new(TimelineId(1), SegmentNumber(number));
    ArchiveName::Segment(segment.file_name(Spec::segment_size()))
}

/// Archives one segment.
pub(crate) fn archive_one(repository: &Repository, number: u64) -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let (path, segment_size) = (dir.path().join("segment"), Spec::segment_size());
    std::fs::write(&path, wal_bytes(segment_size, number, number)).unwrap();
    let source = PushSource { path: &path, name: &segment_name(number), segment_size };
    let pushed =
        PushedBy { at: Timestamp::UNIX_EPOCH, host: "test".into(), pgdata: "/data".into(), epoch: 0 };
    store_segment(repository, lineage(), source, pushed, StoreOptions::default()).map(drop)
}

fn summary(id: BackupId, spec: &Spec) -> BackupSummary {
    let at = Timestamp::from_second(spec.stopped).unwrap();
    let failure =
        PagePlace { path: "base/5/1".into(), database: None, relation: None, fork: "main".into(), block: 1 };
    BackupSummary {
        id,
        system: lineage().system(),
        kind: if spec.base.is_some() { BackupKind::Incremental } else { BackupKind::Full },
        base: spec.base,
        server_version: 150_004,
        control_version: 1300,
        catalog_version: 202_209_061,
        block_size: 8192,
        wal_segment_size: 1 << 20,
        checksums: true,
        timeline: TimelineId(spec.timeline),
        start_lsn: spec.lsn(40),
        stop_lsn: spec.lsn(4000),
        started: at,
        stopped: at,
        from_standby: false,
        origin: Default::default(),
        backup_label: String::new(),
        tablespace_map: None,
        tablespaces: Vec::new(),
        data_directory: DataDirectory { path: "/data".into(), mode: 0o700 },
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
        checksum_failures: if spec.good { Vec::new() } else { vec![failure] },
        unnamed_changes: Vec::new(),
        trusting: 0,
        tool_version: "0.1.0".into(),
        host: "test".into(),
        labels: BTreeMap::new(),
        dump: None,
    }
}

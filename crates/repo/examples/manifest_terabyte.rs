//! Writes and reads the manifest of a cluster of 1 TB, and prints its size, the times, and the peak of resident memory.
//!
//!     cargo run --release -p pgproof-repo --example manifest_terabyte [GIGABYTES [changed]]
//!
//! Files of 1 GiB in extents of 128 KiB, as a fresh full backup makes them. With `changed`, as thirty scattered incremental
//! backups leave them: one page in four was stored anew, in patch extents.

use pgproof_pg::{Lsn, SystemIdentifier, TimelineId, WalLevel};
use pgproof_repo::layout::BackupId;
use pgproof_repo::manifest::summary::{BackupKind, BackupSummary, DataDirectory, ServerSettings, Totals};
use pgproof_repo::pack::PackInfo;
use pgproof_repo::{
    CreateOptions, ExtentPlace, ExtentRef, FileEntry, FileKind, FileMap, Manifest, ManifestWriter, PackIndex,
    PackNumber, PackTable, Repository, Salt, Suite, key,
};
use pgproof_store::Directory;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Write, stdout};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

const FILE_EXTENTS: u32 = 8192;
const PACK_EXTENTS: u32 = 2048;
const SYSTEM: SystemIdentifier = SystemIdentifier(1);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let files: u32 = arguments.next().map_or(Ok(1000), |text| text.parse())?;
    let changed = arguments.next().is_some_and(|text| text == "changed");
    let dir = std::env::temp_dir().join(format!("pgproof-manifest-{}", std::process::id()));
    let options = CreateOptions { suite: Suite::Aes256Gcm, recipients: vec![key::generate().recipient] };
    let repository = Repository::create(Arc::new(Directory::create(&dir)?), &options)?;
    let result = run(&repository, files, changed);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn run(repository: &Repository, files: u32, changed: bool) -> Result<(), Box<dyn Error>> {
    let backup: BackupId = "20261122T203500Z-000000".parse()?;
    let mut out = stdout().lock();
    let start = Instant::now();
    let mut writer = ManifestWriter::create(repository, SYSTEM, &backup)?;
    let mut packs = PackTable::new();
    for file in 0..files {
        let map = if changed { changed_map(file)? } else { fresh_map(file)? };
        for extent in map.extents() {
            if packs.get(extent.pack).is_err() {
                packs.insert(extent.pack, pack(backup, extent.pack));
            }
        }
        // Padded, because entries come in order of their paths.
        let path = format!("base/16384/{file:07}");
        writer.add(&FileEntry {
            path,
            kind: FileKind::File,
            mode: 0o600,
            modified: 1_790_000_000,
            length: 1 << 30,
            map,
        })?;
    }
    let info = writer.finish(&packs, &summary(backup)?)?;
    writeln!(
        out,
        "{files} files of 1 GiB: {} bytes of manifest, written in {:.2?}",
        info.size,
        start.elapsed()
    )?;

    let start = Instant::now();
    let manifest = Manifest::open(repository, SYSTEM, &backup)?;
    let opened = start.elapsed();
    let start = Instant::now();
    let file = manifest.file("base/16384/0000007")?.ok_or("the file is gone")?;
    let found = start.elapsed();
    let start = Instant::now();
    let mut pages = 0;
    for entry in manifest.files() {
        pages += entry?.map.mapped_pages();
    }
    writeln!(out, "opened in {opened:.2?}, one file of {} runs found in {found:.2?}", file.map.runs().len())?;
    writeln!(out, "{pages} pages walked in {:.2?}, peak memory {}", start.elapsed(), peak_memory()?)?;
    Ok(())
}

fn extent(number: u32, first_pack: u32, stored: u32) -> ExtentRef {
    let frame = number % PACK_EXTENTS;
    let place = ExtentPlace { frame, offset: 64 + u64::from(frame) * 60_000, stored, pages: 16 };
    ExtentRef::whole(PackIndex(first_pack + number / PACK_EXTENTS), place)
}

fn fresh_map(file: u32) -> Result<FileMap, Box<dyn Error>> {
    let mut offset = 64;
    let pieces: Vec<(ExtentRef, [Range<u32>; 1])> = (0..FILE_EXTENTS)
        .map(|at| {
            let number = file * FILE_EXTENTS + at;
            if number.is_multiple_of(PACK_EXTENTS) {
                offset = 64;
            }
            let stored = 28_000 + number.wrapping_mul(2_654_435_761) % 4000;
            let mut whole = extent(number, 0, stored);
            whole.offset = offset;
            offset += u64::from(stored);
            (whole, [at * 16..at * 16 + 16])
        })
        .collect();
    Ok(FileMap::from_pieces(pieces.iter().map(|(extent, blocks)| (*extent, &blocks[..])), FILE_EXTENTS * 16)?)
}

/// Every fourth page, in patches of sixteen pages.
fn changed_map(file: u32) -> Result<FileMap, Box<dyn Error>> {
    let patches: Vec<(ExtentRef, Vec<Range<u32>>)> = (0..FILE_EXTENTS / 4)
        .map(|at| {
            let blocks = (0..16).map(|page| at * 64 + page * 4..at * 64 + page * 4 + 1).collect();
            (extent(file * FILE_EXTENTS / 4 + at, 1 << 20, 30_000), blocks)
        })
        .collect();
    let pieces = patches.iter().map(|(extent, blocks)| (*extent, blocks.as_slice()));
    Ok(fresh_map(file)?.overlay(pieces, FILE_EXTENTS * 16)?)
}

fn pack(backup: BackupId, index: PackIndex) -> PackInfo {
    PackInfo {
        backup,
        number: PackNumber(index.0),
        salt: Salt::random(),
        size: 1 << 30,
        extents: PACK_EXTENTS,
    }
}

fn summary(backup: BackupId) -> Result<BackupSummary, Box<dyn Error>> {
    let at = "2026-11-22T20:35:00Z".parse()?;
    Ok(BackupSummary {
        id: backup,
        system: SYSTEM,
        kind: BackupKind::Full,
        base: None,
        server_version: 170_002,
        control_version: 1300,
        catalog_version: 202_406_281,
        block_size: 8192,
        wal_segment_size: 16 << 20,
        checksums: true,
        timeline: TimelineId(1),
        start_lsn: Lsn(1),
        stop_lsn: Lsn(2),
        started: at,
        stopped: at,
        from_standby: false,
        origin: Default::default(),
        backup_label: String::new(),
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
        tool_version: "0".to_owned(),
        host: "example".to_owned(),
        labels: BTreeMap::new(),
        dump: None,
    })
}

/// `VmHWM`: the most memory that was resident at once.
fn peak_memory() -> Result<String, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.ok_or("the kernel does not tell")?.trim().to_owned())
}

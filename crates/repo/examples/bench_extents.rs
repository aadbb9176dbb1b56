//! How fast extents are made: MB/s of content through the whole path of a backup (identity, compression, sealing, writing), against
//! the same extents through zstd alone. The difference is what the repository costs; it should stay below 15 %.
//!
//!     cargo run --release -p pgproof-repo --example bench_extents
//!
//! The content is made here: rows as pgbench has them, and bytes that do not compress. One thread; nothing is written to a disk.
//! Measured is the time on the processor, so that a busy machine does not disturb it much.

use jiff::Timestamp;
use pgproof_pg::SystemIdentifier;
use pgproof_repo::{
    Codec, CreateOptions, Encoder, PackNumber, PackPiece, PackWriter, Repository, Suite, key,
    layout::BackupId,
};
use pgproof_store::{
    Counters, Memory, ObjectMeta, ObjectPath, ObjectWriter, PutMode, Result as StoreResult, Store, StoreError,
};
use std::error::Error;
use std::io::{Write, stdout};
use std::sync::Arc;
use std::time::Duration;

const PAGE: usize = 8192;
const EXTENT: usize = 16 * PAGE;
const EXTENTS: usize = 1024;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = stdout().lock();
    writeln!(out, "{} MB in extents of 128 KiB, zstd 3, best of {ROUNDS} rounds", (EXTENTS * EXTENT) >> 20)?;
    for (name, content) in [("pgbench", pgbench()), ("random", random())] {
        let mut zstd = Duration::MAX;
        let mut paths = [Duration::MAX; 2];
        for _ in 0..ROUNDS {
            zstd = zstd.min(raw_zstd(&content)?);
            for (at, suite) in [Suite::Aes256Gcm, Suite::None].into_iter().enumerate() {
                paths[at] = paths[at].min(backup_path(&content, suite)?);
            }
        }
        let rate = |time: Duration| content.len() as f64 / 1e6 / time.as_secs_f64();
        let over = |time: Duration| 100.0 * (time.as_secs_f64() / zstd.as_secs_f64() - 1.0);
        writeln!(out, "{name:8} zstd alone  {:7.0} MB/s", rate(zstd))?;
        writeln!(out, "{name:8} aes-256-gcm {:7.0} MB/s  {:+.1} %", rate(paths[0]), over(paths[0]))?;
        writeln!(out, "{name:8} none        {:7.0} MB/s  {:+.1} %", rate(paths[1]), over(paths[1]))?;
    }
    Ok(())
}

/// How long this thread has been on a processor.
fn on_cpu() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(stat.split_whitespace().next().ok_or("the kernel does not tell")?.parse()?))
}

/// The same extents through one reused zstd context into one reused buffer.
fn raw_zstd(content: &[u8]) -> Result<Duration, Box<dyn Error>> {
    let mut compressor = zstd::bulk::Compressor::new(3)?;
    let mut buffer = Vec::with_capacity(zstd::zstd_safe::compress_bound(EXTENT));
    let start = on_cpu()?;
    for extent in content.chunks(EXTENT) {
        compressor.compress_to_buffer(extent, &mut buffer)?;
    }
    Ok(on_cpu()? - start)
}

/// What a backup does with each extent: identity, compression, sealing, index, handing over to the store.
fn backup_path(content: &[u8], suite: Suite) -> Result<Duration, Box<dyn Error>> {
    let recipients = match suite {
        Suite::Aes256Gcm => vec![key::generate().recipient],
        Suite::None => Vec::new(),
    };
    let repository =
        Repository::create(Arc::new(Discarding(Memory::new())), &CreateOptions { suite, recipients })?;
    let backup: BackupId = "20261122T203500Z-000000".parse()?;
    let mut encoder = Encoder::new(Codec::Zstd { level: 3 })?;
    let start = on_cpu()?;
    let mut writer = PackWriter::create(&repository, SystemIdentifier(1), &backup, PackNumber(0))?;
    for (at, extent) in content.chunks(EXTENT).enumerate() {
        let first = at as u32 * 16;
        let blocks = [first..first + 16];
        let piece = PackPiece { file: "base/5/16384", pages: 16, blocks: &blocks };
        writer.append(&mut encoder, extent, repository.identity(extent), &[piece])?;
    }
    let elapsed = on_cpu()? - start;
    drop(writer);
    Ok(elapsed)
}

/// Pages of `pgbench_accounts`: tuple headers, a rising key, a balance, 84 blanks; line pointers at the front.
fn pgbench() -> Vec<u8> {
    let mut content = Vec::with_capacity(EXTENTS * EXTENT);
    let mut state = 1_u64;
    for page in 0..EXTENTS * EXTENT / PAGE {
        let mut bytes = vec![0; PAGE];
        bytes[..8].copy_from_slice(&(page as u64 * 7919).to_le_bytes());
        for row in 0..61_usize {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let start = PAGE - (row + 1) * 128;
            bytes[24 + row * 4..28 + row * 4].copy_from_slice(&(start as u32 | 121 << 17).to_le_bytes());
            let tuple = &mut bytes[start..start + 121];
            tuple[..4].copy_from_slice(&(700 + (state >> 60) as u32).to_le_bytes());
            tuple[20..24].copy_from_slice(&[4, 0, 2, 9]);
            tuple[24..28].copy_from_slice(&((page * 61 + row) as u32).to_le_bytes());
            tuple[28..32].copy_from_slice(&1_u32.to_le_bytes());
            tuple[32..36].copy_from_slice(&(((state >> 40) as i32 % 5000) - 2500).to_le_bytes());
            tuple[36] = 171;
            tuple[37..].fill(b' ');
        }
        content.extend_from_slice(&bytes);
    }
    content
}

fn random() -> Vec<u8> {
    let mut content = vec![0; EXTENTS * EXTENT];
    let mut state = 88_172_645_463_325_252_u64;
    for word in content.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    content
}

/// A store that forgets what is written to it piece by piece: memory for it would be most of the time measured.
#[derive(Debug)]
struct Discarding(Memory);

impl Store for Discarding {
    fn describe(&self) -> String {
        "nowhere".to_owned()
    }

    fn put(&self, path: &ObjectPath, body: &[&[u8]], mode: PutMode) -> StoreResult<ObjectMeta> {
        self.0.put(path, body, mode)
    }

    fn writer(&self, path: &ObjectPath) -> StoreResult<Box<dyn ObjectWriter>> {
        Ok(Box::new(Discard { path: path.clone(), size: 0 }))
    }

    fn get_with_meta(&self, path: &ObjectPath) -> StoreResult<(Vec<u8>, ObjectMeta)> {
        self.0.get_with_meta(path)
    }

    fn get_range(&self, path: &ObjectPath, offset: u64, buf: &mut [u8]) -> StoreResult<()> {
        self.0.get_range(path, offset, buf)
    }

    fn get_tail(&self, path: &ObjectPath, len_max: u64) -> StoreResult<(Vec<u8>, u64)> {
        self.0.get_tail(path, len_max)
    }

    fn head(&self, path: &ObjectPath) -> StoreResult<Option<ObjectMeta>> {
        self.0.head(path)
    }

    fn list(&self, dir: Option<&ObjectPath>, start_after: Option<&str>) -> StoreResult<Vec<ObjectMeta>> {
        self.0.list(dir, start_after)
    }

    fn list_dirs(&self, dir: Option<&ObjectPath>) -> StoreResult<Vec<String>> {
        self.0.list_dirs(dir)
    }

    fn delete(&self, path: &ObjectPath) -> StoreResult<()> {
        self.0.delete(path)
    }

    fn now(&self) -> StoreResult<Timestamp> {
        self.0.now()
    }

    fn clean(&self, age: Duration) -> StoreResult<u64> {
        self.0.clean(age)
    }

    fn counters(&self) -> Counters {
        self.0.counters()
    }
}

#[derive(Debug)]
struct Discard {
    path: ObjectPath,
    size: u64,
}

impl ObjectWriter for Discard {
    fn write_all(&mut self, bytes: &[u8]) -> StoreResult<()> {
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn finish(self: Box<Self>, _mode: PutMode) -> StoreResult<ObjectMeta> {
        Err(StoreError::NotFound { object: self.path.to_string() })
    }
}

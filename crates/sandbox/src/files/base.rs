//! What the repository has: pages of the backup, fetched, unsealed and decompressed when they are read.
//!
//! Decoded extents are kept within a bound that all files share; an extent that two threads want is read once. A failure is never kept:
//! the next read asks the repository again.

use super::bits::Bits;
use crate::record::Statistics;
use pgproof_repo::{Error, ExtentReader, ExtentRef, FileMap, Manifest, PAGE_BYTES, Repository, Result};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Files whose maps are remembered. The map of a file of 1 GiB takes about 400 kB.
const MAPS: usize = 128;

/// Bytes of a decoded extent as backups make them, for turning bytes into a number.
const EXTENT_BYTES: u64 = 128 << 10;

/// An extent by pack number and frame.
type Key = (u32, u32);

/// Pages of one backup, for all threads.
pub(crate) struct Base {
    repository: Repository,
    manifest: Manifest,
    maps: Mutex<Recent<String, Arc<FileMap>>>,
    extents: Mutex<Extents>,
    arrived: Condvar,
    /// Readers that no thread uses right now.
    idle: Mutex<Vec<ExtentReader>>,
    extents_read: AtomicU64,
    pages_read: AtomicU64,
    read_failures: AtomicU64,
    last_failure: Mutex<Option<String>>,
}

/// Decoded extents, and those that somebody reads right now.
struct Extents {
    decoded: Recent<Key, Arc<Vec<u8>>>,
    on_their_way: HashSet<Key>,
}

/// Pages of a file that one extent gives.
struct Piece {
    extent: ExtentRef,
    /// First page in the extent.
    page: u16,
    /// First block of the file.
    block: u32,
    pages: u32,
}

impl Base {
    pub(crate) fn new(repository: &Repository, manifest: Manifest, cache_bytes: u64) -> Self {
        let extents = (cache_bytes / EXTENT_BYTES).max(16) as usize;
        Self {
            repository: repository.clone(),
            manifest,
            maps: Mutex::new(Recent::new(MAPS)),
            extents: Mutex::new(Extents { decoded: Recent::new(extents), on_their_way: HashSet::new() }),
            arrived: Condvar::new(),
            idle: Mutex::default(),
            extents_read: AtomicU64::new(0),
            pages_read: AtomicU64::new(0),
            read_failures: AtomicU64::new(0),
            last_failure: Mutex::default(),
        }
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Fills `out`, which is whole pages, with the blocks from `first` on. `seen` notes which were read.
    pub(crate) fn read(&self, path: &str, first: u32, out: &mut [u8], seen: &Mutex<Bits>) -> Result<()> {
        let read = self.try_read(path, first, out);
        match &read {
            Ok(()) => {
                let pages = u64::from(first)..u64::from(first) + (out.len() / PAGE_BYTES) as u64;
                self.pages_read.fetch_add(lock(seen).insert(pages), Ordering::Relaxed);
            }
            Err(error) => {
                self.read_failures.fetch_add(1, Ordering::Relaxed);
                let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
                *lock(&self.last_failure) =
                    Some(format!("block {first} of {path}: {error}{}", cause.unwrap_or_default()));
            }
        }
        read
    }

    fn try_read(&self, path: &str, first: u32, out: &mut [u8]) -> Result<()> {
        let map = self.map(path)?;
        out.fill(0);
        let pieces = pieces(&map, first..first + (out.len() / PAGE_BYTES) as u32);
        let mut rest: Vec<&Piece> = pieces.iter().collect();
        while !rest.is_empty() {
            let (had, mine) = self.claim(&rest);
            for (key, pages) in &had {
                for piece in rest.iter().filter(|piece| key_of(&piece.extent) == *key) {
                    self.place(piece, pages, first, out)?;
                }
            }
            rest.retain(|piece| !had.iter().any(|(key, _)| *key == key_of(&piece.extent)));
            if mine.is_empty() {
                continue;
            }
            for (key, pages) in self.fetch(&mine)? {
                for piece in rest.iter().filter(|piece| key_of(&piece.extent) == key) {
                    self.place(piece, &pages, first, out)?;
                }
                rest.retain(|piece| key_of(&piece.extent) != key);
            }
        }
        Ok(())
    }

    fn place(&self, piece: &Piece, pages: &[u8], first: u32, out: &mut [u8]) -> Result<()> {
        let from = usize::from(piece.page) * PAGE_BYTES;
        let length = piece.pages as usize * PAGE_BYTES;
        let to = (piece.block - first) as usize * PAGE_BYTES;
        // Two entries of a forged manifest could tell different things of one extent.
        let found = pages.get(from..from + length).ok_or_else(|| Error::Damaged {
            object: self.manifest.path().to_string(),
            what: format!("extent {} has fewer pages than is said of it", piece.extent.frame),
        })?;
        out[to..to + length].copy_from_slice(found);
        Ok(())
    }

    /// Those of the wanted extents that are decoded, and those that this thread is to read now. When all others are on their way to other
    /// threads and none is here, it waits for one to arrive.
    fn claim(&self, wanted: &[&Piece]) -> (Vec<(Key, Arc<Vec<u8>>)>, Vec<ExtentRef>) {
        let mut extents = lock(&self.extents);
        loop {
            let (mut had, mut mine): (Vec<(Key, Arc<Vec<u8>>)>, Vec<ExtentRef>) = (Vec::new(), Vec::new());
            for piece in wanted {
                let key = key_of(&piece.extent);
                if let Some(pages) = extents.decoded.get(&key) {
                    had.push((key, pages));
                } else if extents.on_their_way.insert(key) {
                    mine.push(piece.extent);
                }
            }
            if !had.is_empty() || !mine.is_empty() {
                return (had, mine);
            }
            extents = self.arrived.wait(extents).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Reads claimed extents, neighbours in one request, and lets others have them.
    fn fetch(&self, claimed: &[ExtentRef]) -> Result<Vec<(Key, Arc<Vec<u8>>)>> {
        let mut by_pack: BTreeMap<u32, Vec<ExtentRef>> = BTreeMap::new();
        for extent in claimed {
            by_pack.entry(extent.pack.0).or_default().push(*extent);
        }
        let mut fetched = Vec::with_capacity(claimed.len());
        let done = by_pack.values().try_for_each(|group| self.fetch_group(group, &mut fetched));
        let mut extents = lock(&self.extents);
        for (key, pages) in &fetched {
            extents.decoded.insert(*key, Arc::clone(pages));
        }
        for extent in claimed {
            extents.on_their_way.remove(&key_of(extent));
        }
        drop(extents);
        self.arrived.notify_all();
        done.map(|()| fetched)
    }

    fn fetch_group(&self, group: &[ExtentRef], fetched: &mut Vec<(Key, Arc<Vec<u8>>)>) -> Result<()> {
        let Some(first) = group.first() else { return Ok(()) };
        let pack = self.manifest.packs().get(first.pack)?;
        let idle = lock(&self.idle).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => ExtentReader::new(&self.repository, self.manifest.summary().system)?,
        };
        let read = reader.read_many(pack, group, &mut |at, pages| {
            fetched.push((key_of(&group[at]), Arc::new(pages.to_vec())));
            ControlFlow::Continue(())
        });
        lock(&self.idle).push(reader);
        self.extents_read.fetch_add(group.len() as u64, Ordering::Relaxed);
        read
    }

    fn map(&self, path: &str) -> Result<Arc<FileMap>> {
        if let Some(known) = lock(&self.maps).get(&path.to_owned()) {
            return Ok(known);
        }
        let entry = self.manifest.file(path)?.ok_or_else(|| Error::Damaged {
            object: self.manifest.path().to_string(),
            what: format!("{path} was listed and is not found"),
        })?;
        let map = Arc::new(entry.map);
        lock(&self.maps).insert(path.to_owned(), Arc::clone(&map));
        Ok(map)
    }

    /// Adds what is known here.
    pub(crate) fn count(&self, statistics: &mut Statistics) {
        let counters = self.repository.store().counters();
        statistics.bytes_read = counters.bytes_read;
        statistics.requests = counters.gets + counters.lists;
        statistics.extents_read = self.extents_read.load(Ordering::Relaxed);
        statistics.pages_read = self.pages_read.load(Ordering::Relaxed);
        statistics.read_failures = self.read_failures.load(Ordering::Relaxed);
        statistics.last_failure = lock(&self.last_failure).clone();
    }
}

fn key_of(extent: &ExtentRef) -> Key {
    (extent.pack.0, extent.frame)
}

/// Where the blocks lie, holes left out.
fn pieces(map: &FileMap, blocks: Range<u32>) -> Vec<Piece> {
    let runs = map.runs();
    let first = runs.partition_point(|run| run.block + run.pages <= blocks.start);
    let inside = runs[first..].iter().take_while(|run| run.block < blocks.end);
    inside
        .map(|run| {
            let (start, end) = (run.block.max(blocks.start), (run.block + run.pages).min(blocks.end));
            let extent = map.extents()[run.extent as usize];
            let page = extent.piece_first + run.page + (start - run.block) as u16;
            Piece { extent, page, block: start, pages: end - start }
        })
        .collect()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A small map that forgets what was not used for longest: forgetting looks at all of its hundreds of entries, which is little beside
/// decoding what takes their place.
struct Recent<K, V> {
    capacity: usize,
    clock: u64,
    entries: HashMap<K, (V, u64)>,
}

impl<K: std::hash::Hash + Eq + Clone, V: Clone> Recent<K, V> {
    fn new(capacity: usize) -> Self {
        Self { capacity, clock: 0, entries: HashMap::new() }
    }

    fn get(&mut self, key: &K) -> Option<V> {
        self.clock += 1;
        let (value, used) = self.entries.get_mut(key)?;
        *used = self.clock;
        Some(value.clone())
    }

    fn insert(&mut self, key: K, value: V) {
        self.clock += 1;
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            let oldest = self.entries.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.entries.remove(&oldest);
            }
        }
        self.entries.insert(key, (value, self.clock));
    }
}

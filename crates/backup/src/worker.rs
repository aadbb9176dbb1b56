//! Stores pages: reads, checks, gathers extents, compresses, seals, and appends them to packs.
//!
//! Each worker has its own open pack, so workers share nothing but the queue of work. Whole regions of a file become extents of
//! their own; what is smaller (small files, ends of files, scattered changed pages) shares extents, because sixteen pages together
//! compress far better than one. Full packs go to a closing thread: waiting for the disk to hold a pack costs no worker time.
//!
//! Content that the earlier backup (`Prior`) or an interrupted attempt (`Salvage`) already holds is found by identity and not stored again.

use crate::error::BackupError;
use crate::feed::Feed;
use crate::options::EXTENT_PAGES;
use crate::plan::blocks_of;
use crate::salvage::Salvage;
use crate::scan::Entry;
use crate::source::Source;
use crate::throttle::Throttle;
use pgproof_base::Progress;
use pgproof_pg::relfile::BLOCK_SIZE;
use pgproof_repo::access::Page;
use pgproof_repo::{
    BackupId, Codec, ContentId, Encoder, ExtentRef, FileMap, PackIndex, PackNumber, PackPiece, PackWriter,
    Repository,
};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::SyncSender;

/// One file, or one part of a big one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    /// Index of the file in the plan.
    pub(crate) file: usize,
    /// Blocks to store, counted from the file's begin.
    pub(crate) ranges: Vec<Range<u32>>,
    /// What of the earlier backup it is compared with first; then only what differs is stored.
    pub(crate) compare: Compare,
}

/// How a file is compared with the earlier backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Compare {
    /// Not at all.
    Nothing,
    /// By content.
    Content,
    /// By content; and a page that is another one now must be in these ranges, which are those that WAL names.
    Check(Vec<Range<u32>>),
}

/// Pages of one file that now lie in one extent.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    /// Index of the file in the plan.
    pub(crate) file: usize,
    /// Where the extent lies and which of its pages are this file's.
    pub(crate) extent: ExtentRef,
    /// The blocks, in the order of the pages.
    pub(crate) blocks: Vec<Range<u32>>,
}

/// A page that was not as expected: its checksum failed every time it was read, or no WAL tells why it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Suspect {
    /// Index of the file in the plan.
    pub(crate) file: usize,
    /// Block, counted from the file's begin.
    pub(crate) block: u32,
}

/// What one worker did.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Pages stored, or found stored.
    pub(crate) placed: Vec<Placed>,
    /// Files that turned out to be shorter than planned: file and its blocks.
    pub(crate) shortened: Vec<(usize, u32)>,
    /// Files that were gone.
    pub(crate) vanished: Vec<usize>,
    /// Pages that failed their checksum.
    pub(crate) suspects: Vec<Suspect>,
    /// Pages that changed though WAL did not name them.
    pub(crate) unnamed: Vec<Suspect>,
    /// Bytes read from the cluster.
    pub(crate) bytes_read: u64,
    /// Pages whose checksum was verified.
    pub(crate) pages_verified: u64,
    /// Stored bytes of extents written now.
    pub(crate) bytes_stored: u64,
    /// Bytes that an interrupted attempt had already stored.
    pub(crate) bytes_salvaged: u64,
}

/// Finds what the earlier backup holds of a file.
pub(crate) trait Prior: Sync {
    /// The file's map and the identities of its extents where they are known; `None` where it has no such file.
    fn of(&self, path: &str) -> Result<Option<(FileMap, Vec<Option<ContentId>>)>, BackupError>;

    /// Is this image of a block of the file the page that the earlier backup holds, as PostgreSQL sees it?
    fn holds(&self, entry: &Entry, block: u32, image: &Page) -> Result<bool, BackupError>;
}

/// What all workers share.
pub(crate) struct Shared<'a> {
    /// Work, and the files that it is about.
    pub(crate) feed: &'a dyn Feed,
    /// Set when any worker failed: the others stop early.
    pub(crate) failed: AtomicBool,
    /// The repository.
    pub(crate) repository: &'a Repository,
    /// Object names of the cluster.
    pub(crate) system: pgproof_pg::SystemIdentifier,
    /// The backup being written.
    pub(crate) backup: &'a BackupId,
    /// The next pack.
    pub(crate) next_pack: AtomicU32,
    /// Index of pack 0 of this backup in the manifest's table of packs.
    pub(crate) first_index: u32,
    /// See `BackupOptions::pack_bytes`.
    pub(crate) pack_bytes: u64,
    /// How extents are compressed.
    pub(crate) codec: Codec,
    /// What keeps the reads below a rate.
    pub(crate) throttle: Throttle,
    /// Are page checksums verified?
    pub(crate) checksums: bool,
    /// What the earlier backup holds.
    pub(crate) prior: Option<&'a dyn Prior>,
    /// What an interrupted attempt left.
    pub(crate) salvage: &'a Salvage,
    /// Who is told.
    pub(crate) progress: &'a dyn Progress,
}

/// Takes batches until none is left.
pub(crate) fn work(shared: &Shared<'_>, closing: SyncSender<PackWriter>) -> Result<Output, BackupError> {
    let mut worker = Worker::new(shared, closing)?;
    let result = worker.drain();
    if result.is_err() {
        shared.failed.store(true, Ordering::Relaxed);
    }
    result?;
    worker.finish()
}

/// Stores contents that were read already: `pg_control` and what lies outside the data directory.
pub(crate) fn store_contents(
    shared: &Shared<'_>,
    closing: SyncSender<PackWriter>,
    contents: &[(usize, Vec<u8>)],
) -> Result<Output, BackupError> {
    let mut worker = Worker::new(shared, closing)?;
    for (file, content) in contents {
        let mut pages = content.clone();
        pages.resize(blocks_of(content.len() as u64) as usize * BLOCK_SIZE, 0);
        worker.gather(*file, 0, &pages)?;
    }
    worker.finish()
}

struct Worker<'a, 'b> {
    shared: &'a Shared<'b>,
    closing: SyncSender<PackWriter>,
    encoder: Encoder,
    pack: Option<(PackIndex, PackWriter)>,
    region: Vec<u8>,
    gathered: Gathered,
    output: Output,
}

/// Pages of several files that will share an extent.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
}

struct Piece {
    file: usize,
    first_page: u16,
    pages: u16,
    blocks: Vec<Range<u32>>,
}

impl Gathered {
    fn pages(&self) -> usize {
        self.bytes.len() / BLOCK_SIZE
    }

    /// Adds pages of `file` that begin at `block`; they join its last piece where that is the last here.
    fn add(&mut self, file: usize, block: u32, bytes: &[u8]) {
        let pages = (bytes.len() / BLOCK_SIZE) as u16;
        let first_page = self.pages() as u16;
        self.bytes.extend_from_slice(bytes);
        let run = block..block + u32::from(pages);
        if let Some(last) = self.pieces.last_mut().filter(|last| last.file == file) {
            last.pages += pages;
            match last.blocks.last_mut() {
                Some(before) if before.end == block => before.end = run.end,
                _ => last.blocks.push(run),
            }
            return;
        }
        self.pieces.push(Piece { file, first_page, pages, blocks: vec![run] });
    }
}

impl<'a, 'b> Worker<'a, 'b> {
    fn new(shared: &'a Shared<'b>, closing: SyncSender<PackWriter>) -> Result<Self, BackupError> {
        Ok(Self {
            shared,
            closing,
            encoder: Encoder::new(shared.codec).map_err(repo("prepare the compressor"))?,
            pack: None,
            region: vec![0; EXTENT_PAGES * BLOCK_SIZE],
            gathered: Gathered::default(),
            output: Output::default(),
        })
    }

    fn drain(&mut self) -> Result<(), BackupError> {
        while !self.shared.failed.load(Ordering::Relaxed) {
            let Some(batch) = self.shared.feed.next() else { break };
            for task in batch.iter() {
                self.perform(task)?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Output, BackupError> {
        self.flush()?;
        self.close_pack();
        Ok(self.output)
    }

    fn perform(&mut self, task: &Task) -> Result<(), BackupError> {
        let entry = &*self.shared.feed.entry(task.file);
        let Some(file) = self.shared.feed.open(task.file)? else {
            self.output.vanished.push(task.file);
            return Ok(());
        };
        let source = Source::new(file, entry, self.shared.checksums);
        let planned: u64 = task.ranges.iter().map(|range| u64::from(range.end - range.start)).sum();
        let prior = match self.shared.prior {
            Some(prior) if task.compare != Compare::Nothing => {
                prior.of(&entry.path)?.map(|found| (prior, found))
            }
            _ => None,
        };
        match prior {
            None => self.store(task.file, &source, &task.ranges)?,
            Some((prior, (map, identities))) => {
                let differing = self.differing(task, &source, &map, &identities)?;
                if let Compare::Check(named) = &task.compare {
                    self.find_unnamed(prior, task.file, &source, &without(&differing, named))?;
                }
                self.store(task.file, &source, &differing)?;
            }
        }
        self.shared.feed.done(task);
        self.shared.progress.advance(planned * BLOCK_SIZE as u64);
        Ok(())
    }

    /// Reads again what the earlier backup holds of the file, extent by extent, and returns the blocks that are not as they were.
    fn differing(
        &mut self,
        task: &Task,
        source: &Source,
        map: &FileMap,
        identities: &[Option<ContentId>],
    ) -> Result<Vec<Range<u32>>, BackupError> {
        let mut same: Vec<Range<u32>> = Vec::new();
        let mut bytes = Vec::new();
        for piece in map.whole_pieces() {
            let inside = piece.blocks.iter().all(|run| covers(&task.ranges, run));
            if !inside {
                continue;
            }
            bytes.clear();
            for run in &piece.blocks {
                let start = bytes.len();
                bytes.resize(start + (run.end - run.start) as usize * BLOCK_SIZE, 0);
                self.shared.throttle.pass(bytes.len() - start);
                let pages = source.read(run.start, &mut bytes[start..])?;
                self.output.bytes_read += pages.bytes;
                bytes.truncate(start + pages.count * BLOCK_SIZE);
            }
            if identities[piece.extent as usize] == Some(self.shared.repository.identity(&bytes)) {
                same.extend(piece.blocks.iter().cloned());
            }
        }
        same.sort_unstable_by_key(|range| range.start);
        Ok(without(&task.ranges, &same))
    }

    /// Notes which of the blocks are other pages than the earlier backup holds: an extent differs as soon as one of its pages does.
    fn find_unnamed(
        &mut self,
        prior: &dyn Prior,
        file: usize,
        source: &Source,
        ranges: &[Range<u32>],
    ) -> Result<(), BackupError> {
        let entry = &*self.shared.feed.entry(file);
        let mut image = [0; BLOCK_SIZE];
        for block in ranges.iter().cloned().flatten() {
            self.shared.throttle.pass(BLOCK_SIZE);
            let read = source.read(block, &mut image)?;
            self.output.bytes_read += read.bytes;
            if read.count == 1 && !prior.holds(entry, block, &image)? {
                self.output.unnamed.push(Suspect { file, block });
            }
        }
        Ok(())
    }

    fn store(&mut self, file: usize, source: &Source, ranges: &[Range<u32>]) -> Result<(), BackupError> {
        let region_blocks = EXTENT_PAGES as u32;
        for range in ranges {
            let mut block = range.start;
            while block < range.end {
                let region_end = (block / region_blocks + 1) * region_blocks;
                let wanted = (range.end.min(region_end) - block) as usize;
                let mut region = std::mem::take(&mut self.region);
                let read = self.read(file, source, block, &mut region[..wanted * BLOCK_SIZE]);
                let stored = read.and_then(|pages| {
                    if pages == EXTENT_PAGES {
                        let piece = Piece {
                            file,
                            first_page: 0,
                            pages: EXTENT_PAGES as u16,
                            blocks: vec![block..block + region_blocks],
                        };
                        self.place(&region, vec![piece])?;
                    } else {
                        self.gather(file, block, &region[..pages * BLOCK_SIZE])?;
                    }
                    Ok(pages)
                });
                self.region = region;
                let pages = stored?;
                block += pages as u32;
                if pages < wanted {
                    self.output.shortened.push((file, block));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        file: usize,
        source: &Source,
        block: u32,
        buffer: &mut [u8],
    ) -> Result<usize, BackupError> {
        self.shared.throttle.pass(buffer.len());
        let pages = source.read(block, buffer)?;
        self.output.bytes_read += pages.bytes;
        if source.is_checked() {
            self.output.pages_verified += pages.count as u64;
        }
        self.output.suspects.extend(pages.suspect.iter().map(|&block| Suspect { file, block }));
        Ok(pages.count)
    }

    fn gather(&mut self, file: usize, mut block: u32, mut bytes: &[u8]) -> Result<(), BackupError> {
        while !bytes.is_empty() {
            let room = (EXTENT_PAGES - self.gathered.pages()) * BLOCK_SIZE;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.gathered.add(file, block, now);
            block += (now.len() / BLOCK_SIZE) as u32;
            bytes = later;
            if self.gathered.pages() == EXTENT_PAGES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BackupError> {
        if self.gathered.pieces.is_empty() {
            return Ok(());
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        self.place(&gathered.bytes, std::mem::take(&mut gathered.pieces))?;
        gathered.bytes.clear();
        self.gathered = gathered;
        Ok(())
    }

    /// Stores one extent, unless an interrupted attempt already has, and notes where its pages are.
    fn place(&mut self, bytes: &[u8], pieces: Vec<Piece>) -> Result<(), BackupError> {
        let identity = self.shared.repository.identity(bytes);
        let extent = match self.shared.salvage.find(identity) {
            Some(extent) => {
                self.output.bytes_salvaged += bytes.len() as u64;
                extent
            }
            None => self.append(bytes, identity, &pieces)?,
        };
        for piece in pieces {
            let extent = ExtentRef { piece_first: piece.first_page, piece_pages: piece.pages, ..extent };
            self.output.placed.push(Placed { file: piece.file, extent, blocks: piece.blocks });
        }
        Ok(())
    }

    fn append(
        &mut self,
        bytes: &[u8],
        identity: ContentId,
        pieces: &[Piece],
    ) -> Result<ExtentRef, BackupError> {
        let entries: Vec<_> = pieces.iter().map(|piece| self.shared.feed.entry(piece.file)).collect();
        let labels: Vec<PackPiece<'_>> = pieces
            .iter()
            .zip(&entries)
            .map(|(piece, entry)| PackPiece { file: &entry.path, pages: piece.pages, blocks: &piece.blocks })
            .collect();
        if self.pack.is_none() {
            self.pack = Some(self.open_pack()?);
        }
        let Some((index, pack)) = self.pack.as_mut() else { unreachable!("a pack was opened above") };
        let place =
            pack.append(&mut self.encoder, bytes, identity, &labels).map_err(repo("write to a pack"))?;
        self.output.bytes_stored += u64::from(place.stored);
        let extent = ExtentRef::whole(*index, place);
        if pack.size() >= self.shared.pack_bytes {
            self.close_pack();
        }
        Ok(extent)
    }

    fn open_pack(&self) -> Result<(PackIndex, PackWriter), BackupError> {
        let number = self.shared.next_pack.fetch_add(1, Ordering::Relaxed);
        let writer = PackWriter::create(
            self.shared.repository,
            self.shared.system,
            self.shared.backup,
            PackNumber(number),
        )
        .map_err(repo("begin a pack"))?;
        Ok((PackIndex(self.shared.first_index + number), writer))
    }

    fn close_pack(&mut self) {
        if let Some((_, pack)) = self.pack.take() {
            // A closed channel means that the closing thread failed, and tells why itself.
            if self.closing.send(pack).is_err() {
                self.shared.failed.store(true, Ordering::Relaxed);
            }
        }
    }
}

fn repo(operation: &'static str) -> impl FnOnce(pgproof_repo::Error) -> BackupError {
    move |source| BackupError::Repo { operation, source }
}

/// Is `run` inside one of `ranges` (sorted)?
fn covers(ranges: &[Range<u32>], run: &Range<u32>) -> bool {
    let after = ranges.partition_point(|range| range.start <= run.start);
    after > 0 && ranges[after - 1].end >= run.end
}

/// What of `ranges` is not in `holes`; both sorted and not overlapping.
fn without(ranges: &[Range<u32>], holes: &[Range<u32>]) -> Vec<Range<u32>> {
    let mut left = Vec::new();
    let mut holes = holes.iter().peekable();
    for range in ranges {
        let mut start = range.start;
        while let Some(hole) = holes.peek() {
            if hole.start >= range.end {
                break;
            }
            if hole.start > start {
                left.push(start..hole.start);
            }
            start = start.max(hole.end);
            if hole.end > range.end {
                break;
            }
            holes.next();
        }
        if start < range.end {
            left.push(start..range.end);
        }
    }
    left
}

/// Blocks of a whole file, as one range; none for an empty one.
pub(crate) fn whole(length: u64) -> Vec<Range<u32>> {
    match blocks_of(length) {
        0 => Vec::new(),
        blocks => vec![Range { start: 0, end: blocks }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_ranges_is_what_no_hole_covers() {
        assert_eq!(without(&[0..10, 20..30], &[2..4, 8..10, 25..26]), vec![0..2, 4..8, 20..25, 26..30]);
        assert_eq!(without(&[0..10, 20..30], &[5..25]), vec![0..5, 25..30]);
        assert!(covers(&[0..10, 20..30], &(20..30)));
        assert!(!covers(&[0..10, 20..30], &(8..12)));
    }

    #[test]
    fn pages_of_one_file_join_one_piece() {
        let mut gathered = Gathered::default();
        gathered.add(1, 4, &[0; 2 * BLOCK_SIZE]);
        gathered.add(1, 6, &[0; BLOCK_SIZE]);
        gathered.add(1, 9, &[0; BLOCK_SIZE]);
        gathered.add(2, 0, &[0; BLOCK_SIZE]);
        let blocks: Vec<_> = gathered
            .pieces
            .iter()
            .map(|piece| (piece.file, piece.first_page, piece.blocks.clone()))
            .collect();
        assert_eq!(blocks, vec![(1, 0, vec![4..7, 9..10]), (2, 4, vec![Range { start: 0, end: 1 }])]);
    }
}

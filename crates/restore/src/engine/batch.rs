//! Cuts the files of a manifest into batches of like size, in the order in which extents lie in their packs. Pure.
//!
//! Extents drive the work: within a batch each is read and decoded once, whichever files its pages belong to. Small files share
//! extents with their neighbours, so a batch takes many of them; a big file is cut between extents, never inside one.

use super::output::Output;
use pgproof_repo::map::PageUse;
use pgproof_repo::{ContentId, ExtentRef, FileMap, PAGE_BYTES};
use std::ops::Range;
use std::sync::Arc;

/// Pages of a batch: 8 MiB. Small enough that workers end together, large enough that reads from the repository are merged.
const BATCH_PAGES: u64 = 1024;

/// Files of a batch, so that empty ones do not pile up.
const BATCH_FILES: usize = 512;

/// What one extent gives to one file.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) extent: ExtentRef,
    /// Index of the file in the batch.
    pub(crate) file: usize,
    /// In order of page.
    pub(crate) uses: Vec<PageUse>,
    /// Identity of the file's piece, when all of it is in use in the order of the pages.
    pub(crate) identity: Option<ContentId>,
}

/// A file of a batch.
#[derive(Debug)]
pub(crate) struct BatchFile {
    pub(crate) output: Arc<Output>,
    /// Blocks that must be zeroes. Only looked at where the file existed before.
    pub(crate) holes: Vec<Range<u32>>,
    /// Whether no page of it comes from the repository, so that writing does not create it.
    pub(crate) all_hole: bool,
    /// Shares that are still to be written.
    pub(crate) waits_for: u32,
}

/// What one worker does at a time.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// `None` when nothing is left to do for it in this batch.
    pub(crate) files: Vec<Option<BatchFile>>,
    /// Those of one file together.
    pub(crate) shares: Vec<Share>,
    pages: u64,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.pages >= BATCH_PAGES || self.files.len() >= BATCH_FILES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Bytes that are in place when it is done.
    pub(crate) fn placed_bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }

    fn push_file(&mut self, output: &Arc<Output>, holes: Vec<Range<u32>>, all_hole: bool) -> usize {
        self.files.push(Some(BatchFile { output: output.clone(), holes, all_hole, waits_for: 0 }));
        self.files.len() - 1
    }
}

/// Takes files in order and gives batches.
#[derive(Debug, Default)]
pub(crate) struct Batcher {
    batch: Batch,
}

impl Batcher {
    /// Adds a file; `identities` are those of the extents of its map, empty when nothing is compared. Full batches go to `ready`.
    pub(crate) fn add(
        &mut self,
        output: &Arc<Output>,
        map: &FileMap,
        identities: &[Option<ContentId>],
        holes: Vec<Range<u32>>,
        ready: &mut Vec<Batch>,
    ) {
        let mut file = self.batch.push_file(output, holes, map.runs().is_empty());
        let whole = whole_extents(map, identities);
        let uses = map.inverted();
        for group in uses.chunk_by(|one, next| one.extent == next.extent) {
            if self.batch.is_full() {
                ready.push(std::mem::take(&mut self.batch));
                file = self.batch.push_file(output, Vec::new(), false);
            }
            let extent = group[0].extent as usize;
            self.batch.pages += group.iter().map(|used| u64::from(used.pages)).sum::<u64>();
            self.batch.shares.push(Share {
                extent: map.extents()[extent],
                file,
                uses: group.to_vec(),
                identity: whole.get(extent).copied().flatten(),
            });
        }
        if self.batch.is_full() {
            ready.push(std::mem::take(&mut self.batch));
        }
    }

    /// What is left.
    pub(crate) fn finish(self) -> Option<Batch> {
        Some(self.batch).filter(|batch| !batch.is_empty())
    }
}

/// Identities of those extents whose whole piece is in use. The others cannot be compared without being read.
fn whole_extents(map: &FileMap, identities: &[Option<ContentId>]) -> Vec<Option<ContentId>> {
    if identities.is_empty() {
        return Vec::new();
    }
    let mut whole = vec![None; map.extents().len()];
    for piece in map.whole_pieces() {
        whole[piece.extent as usize] = identities.get(piece.extent as usize).copied().flatten();
    }
    whole
}

/// The blocks that no run names.
pub(crate) fn holes(map: &FileMap, length: u64) -> Vec<Range<u32>> {
    let blocks = pgproof_repo::blocks_of(length).unwrap_or(u32::MAX);
    let mut holes = Vec::new();
    let mut end = 0;
    for run in map.runs() {
        if run.block > end {
            holes.push(end..run.block);
        }
        end = run.block + run.pages;
    }
    if end < blocks {
        holes.push(end..blocks);
    }
    holes
}

/// Whether the last mapped page ends the file, so that writing it gives the file its length.
pub(crate) fn ends_with_page(map: &FileMap, length: u64) -> bool {
    let end = map.runs().last().map_or(0, |run| u64::from(run.block) + u64::from(run.pages));
    end * PAGE_BYTES as u64 >= length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::output::{OutputSpec, Writing};
    use pgproof_repo::{ExtentPlace, PackIndex};

    fn output(name: &str) -> Arc<Output> {
        let spec = OutputSpec {
            path: name.into(),
            name: name.to_owned(),
            length: 0,
            mode: 0o600,
            ends_with_page: true,
        };
        Arc::new(Output::new(spec, None, Writing::Fresh, Arc::default()))
    }

    fn extent(frame: u32, first: u16, pages: u16) -> ExtentRef {
        let place = ExtentPlace { frame, offset: 64 + u64::from(frame) * 100, stored: 100, pages: 32 };
        ExtentRef { piece_first: first, piece_pages: pages, ..ExtentRef::whole(PackIndex(0), place) }
    }

    fn map(pieces: &[(ExtentRef, Range<u32>)], blocks: u32) -> FileMap {
        FileMap::from_pieces(
            pieces.iter().map(|(extent, range)| (*extent, std::slice::from_ref(range))),
            blocks,
        )
        .unwrap()
    }

    #[test]
    fn small_files_share_a_batch_and_a_big_one_is_cut_between_extents() {
        let mut batcher = Batcher::default();
        let mut ready = Vec::new();
        let small = map(&[(extent(0, 0, 1), 0..1)], 1);
        batcher.add(&output("a"), &small, &[], Vec::new(), &mut ready);
        let small = map(&[(extent(0, 1, 2), 0..2)], 2);
        batcher.add(&output("b"), &small, &[], Vec::new(), &mut ready);
        let pieces: Vec<_> = (0..80).map(|n| (extent(n + 1, 0, 32), n * 32..n * 32 + 32)).collect();
        batcher.add(&output("c"), &map(&pieces, 2560), &[], Vec::new(), &mut ready);
        ready.extend(batcher.finish());
        let shapes: Vec<_> = ready.iter().map(|b| (b.files.len(), b.shares.len(), b.pages)).collect();
        assert_eq!(shapes, [(3, 34, 1027), (1, 32, 1024), (1, 16, 512)]);
    }

    #[test]
    fn holes_and_ends_are_those_of_the_map() {
        let map = map(&[(extent(0, 0, 2), 1..3), (extent(1, 0, 1), 5..6)], 8);
        assert_eq!(holes(&map, 8 * 8192), [0..1, 3..5, 6..8]);
        assert_eq!(holes(&map, 6 * 8192), [0..1, 3..5]);
        assert!(!ends_with_page(&map, 7 * 8192));
        assert!(ends_with_page(&map, 5 * 8192 + 17));
        assert!(ends_with_page(&FileMap::new(), 0));
        assert!(!ends_with_page(&FileMap::new(), 1));
    }

    #[test]
    fn only_whole_pieces_keep_their_identity() {
        let id = Some(ContentId([1; 16]));
        let whole = map(&[(extent(0, 0, 2), 0..2)], 2);
        assert_eq!(whole_extents(&whole, &[id]), [id]);
        let blocks = [0..1];
        let over = whole.overlay([(extent(1, 0, 1), &blocks[..])], 2).unwrap();
        assert_eq!(whole_extents(&over, &[id, id]), [None, id]);
    }
}

//! Where each block of a file lies: a pure data structure and its bytes.
//!
//! A [`FileMap`] is a list of extents and a list of runs; a run says that some blocks of the file are some pages of an extent. What
//! no run names is a hole of zeroes. Maps are kept in one normal form (extents in order of pack and frame, none unused; runs in
//! order of block, joined where they can be), so that equal content has equal bytes and fresh maps code to about three
//! bytes an extent. Changing a map never changes an extent: [`FileMap::overlay`] makes a new map that uses old and new extents.
//!
//! The bytes are in section 5 of `docs/formats/repository.md`.

mod coding;

use crate::{Error, Result};
use std::ops::Range;

pub(crate) use coding::MapCoder;

/// Bytes of a page. PostgreSQL's `BLCKSZ`; other block sizes are refused long before.
pub const PAGE_BYTES: usize = 8192;

/// Most pages in an extent: 256 KiB. Twice what backups use, which leaves room to choose anew without a new format.
pub const EXTENT_PAGES_MAX: u16 = 32;

/// How many blocks a file of this length has, the last one padded with zeroes.
///
/// `None` beyond what block numbers reach: 32 TiB.
pub fn blocks_of(length: u64) -> Option<u32> {
    u32::try_from(length.div_ceil(PAGE_BYTES as u64)).ok()
}

/// A pack's place in the pack table of a manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackIndex(pub u32);

/// Where an extent lies in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtentPlace {
    /// Number of its frame.
    pub frame: u32,
    /// Where its frame begins, in bytes.
    pub offset: u64,
    /// Length of its frame in bytes.
    pub stored: u32,
    /// Pages in it.
    pub pages: u16,
}

/// An extent, and the part of it that belongs to one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtentRef {
    /// Which pack of the manifest's table.
    pub pack: PackIndex,
    /// Number of its frame.
    pub frame: u32,
    /// Where its frame begins, in bytes.
    pub offset: u64,
    /// Length of its frame in bytes.
    pub stored: u32,
    /// Pages in it, of all files.
    pub pages: u16,
    /// First page of this file's piece.
    pub piece_first: u16,
    /// Pages of this file's piece.
    pub piece_pages: u16,
}

impl ExtentRef {
    /// An extent that belongs to one file as a whole.
    pub fn whole(pack: PackIndex, place: ExtentPlace) -> Self {
        let ExtentPlace { frame, offset, stored, pages } = place;
        Self { pack, frame, offset, stored, pages, piece_first: 0, piece_pages: pages }
    }

    /// Where it lies in its pack.
    pub fn place(&self) -> ExtentPlace {
        ExtentPlace { frame: self.frame, offset: self.offset, stored: self.stored, pages: self.pages }
    }

    /// The order of normal form, which is also the order of reading.
    fn key(&self) -> (PackIndex, u32, u16) {
        (self.pack, self.frame, self.piece_first)
    }

    fn is_well_formed(&self) -> bool {
        let end = u32::from(self.piece_first) + u32::from(self.piece_pages);
        self.pages <= EXTENT_PAGES_MAX && self.piece_pages > 0 && end <= self.pages.into()
    }
}

/// Blocks of a file that are consecutive pages of one extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Run {
    /// First block of the file.
    pub block: u32,
    /// How many.
    pub pages: u32,
    /// Index of the extent in the map.
    pub extent: u32,
    /// First page, counted from the begin of the file's piece.
    pub page: u16,
}

impl Run {
    fn end(&self) -> u32 {
        self.block + self.pages
    }

    /// Whether `next` goes on where this one ends, in the file and in the extent.
    fn is_continued_by(&self, next: &Self) -> bool {
        self.extent == next.extent
            && self.end() == next.block
            && u32::from(self.page) + self.pages == u32::from(next.page)
    }
}

/// Where one page lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLocation<'a> {
    /// Its extent.
    pub extent: &'a ExtentRef,
    /// Its page, counted from the begin of the extent.
    pub page: u16,
}

/// Pages of an extent and the blocks they are: a step of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageUse {
    /// Index of the extent in the map.
    pub extent: u32,
    /// First page, counted from the begin of the extent.
    pub page: u16,
    /// How many.
    pub pages: u16,
    /// The block that the first page is.
    pub block: u32,
}

/// An extent of which every page of the file's piece is still in use, exactly once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholePiece {
    /// Index of the extent in the map.
    pub extent: u32,
    /// The blocks in the order of the pages.
    pub blocks: Vec<Range<u32>>,
}

/// Where each block of one file lies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileMap {
    extents: Vec<ExtentRef>,
    runs: Vec<Run>,
}

/// Pages stored anew: an extent and the blocks that the pages of its piece are, in order.
pub type NewPiece<'a> = (ExtentRef, &'a [Range<u32>]);

impl FileMap {
    /// The map of an empty file, or of one that is all hole.
    pub fn new() -> Self {
        Self::default()
    }

    /// The map of a file of which only these pieces exist.
    ///
    /// # Errors
    /// As [`FileMap::overlay`].
    pub fn from_pieces<'a>(pieces: impl IntoIterator<Item = NewPiece<'a>>, blocks: u32) -> Result<Self> {
        Self::new().overlay(pieces, blocks)
    }

    /// Takes extents and runs as they were read, and checks that they are a map of a file of this many blocks.
    fn checked(extents: Vec<ExtentRef>, runs: Vec<Run>, blocks: u32) -> Result<Self, crate::Malformed> {
        let bad = crate::Malformed::new;
        if !extents.iter().all(ExtentRef::is_well_formed) {
            return Err(bad("a piece of a file is not inside its extent"));
        }
        let mut end = 0_u32;
        for run in &runs {
            let extent = extents.get(run.extent as usize).ok_or(bad("a run names no extent"))?;
            let last_page = u64::from(run.page) + u64::from(run.pages);
            if run.pages == 0 || last_page > extent.piece_pages.into() {
                return Err(bad("a run is not inside its piece"));
            }
            if run.block < end {
                return Err(bad("runs overlap or are out of order"));
            }
            end = run.block.checked_add(run.pages).ok_or(bad("a run ends beyond all blocks"))?;
        }
        if end > blocks {
            Err(bad("a run ends behind the end of its file"))
        } else {
            Ok(Self { extents, runs })
        }
    }

    /// The extents, in order of pack and frame.
    pub fn extents(&self) -> &[ExtentRef] {
        &self.extents
    }

    /// The runs, in order of block.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// How many blocks are no holes.
    pub fn mapped_pages(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.pages)).sum()
    }

    /// Where a block lies; `None` when it is a hole.
    pub fn locate(&self, block: u32) -> Option<PageLocation<'_>> {
        let after = self.runs.partition_point(|run| run.block <= block);
        let run = self.runs[..after].last().filter(|run| block < run.end())?;
        let extent = &self.extents[run.extent as usize];
        Some(PageLocation { extent, page: extent.piece_first + run.page + (block - run.block) as u16 })
    }

    /// How many different extents the blocks of a region lie in. A region that lies in too many is rewritten by the next backup.
    pub fn fragments(&self, region: Range<u32>) -> usize {
        let first = self.runs.partition_point(|run| run.end() <= region.start);
        let inside = self.runs[first..].iter().take_while(|run| run.block < region.end);
        let mut extents: Vec<u32> = inside.map(|run| run.extent).collect();
        extents.sort_unstable();
        extents.dedup();
        extents.len()
    }

    /// The same runs, extent by extent and page by page, so that a restore decodes every extent once. Group with
    /// [`slice::chunk_by`] on [`PageUse::extent`].
    pub fn inverted(&self) -> Vec<PageUse> {
        let mut uses: Vec<PageUse> = self
            .runs
            .iter()
            .map(|run| PageUse {
                extent: run.extent,
                page: self.extents[run.extent as usize].piece_first + run.page,
                pages: run.pages as u16,
                block: run.block,
            })
            .collect();
        // Fresh maps are in this order already, which the sort notices.
        uses.sort_by_key(|used| (used.extent, used.page));
        uses
    }

    /// The extents whose whole piece is still in use: only these can be compared with a file by the identity of the piece.
    pub fn whole_pieces(&self) -> Vec<WholePiece> {
        let uses = self.inverted();
        let groups = uses.chunk_by(|one, next| one.extent == next.extent);
        groups.filter_map(|uses| self.whole_piece(uses)).collect()
    }

    /// The piece that these uses of one extent, in order of page, make up; `None` unless they cover it exactly.
    fn whole_piece(&self, uses: &[PageUse]) -> Option<WholePiece> {
        let extent = uses.first()?.extent;
        let piece = &self.extents[extent as usize];
        let mut page = piece.piece_first;
        let mut blocks: Vec<Range<u32>> = Vec::with_capacity(uses.len());
        for used in uses {
            if used.page != page {
                return None;
            }
            page += used.pages;
            let end = used.block + u32::from(used.pages);
            match blocks.last_mut() {
                Some(before) if before.end == used.block => before.end = end,
                _ => blocks.push(used.block..end),
            }
        }
        (page == piece.piece_first + piece.piece_pages).then_some(WholePiece { extent, blocks })
    }

    /// The map of the file after these pieces were stored and its length became `blocks`: new pieces hide what lay under
    /// them, blocks behind the end are gone, and extents of which nothing is left are dropped.
    ///
    /// # Errors
    /// [`Error::Refused`] when a piece is not inside its extent, does not have as many blocks as pages, or two pieces hold one block,
    /// or one is behind the end.
    pub fn overlay<'a>(&self, pieces: impl IntoIterator<Item = NewPiece<'a>>, blocks: u32) -> Result<Self> {
        let mut extents = self.extents.clone();
        let new_runs = new_runs(pieces, blocks, &mut extents)?;
        if extents.len() > u32::MAX as usize {
            return Err(refused("the file has more extents than can be numbered"));
        }
        let mut runs = Vec::with_capacity(self.runs.len() + 2 * new_runs.len());
        let mut new_runs = new_runs.into_iter().peekable();
        for old in &self.runs {
            let mut left = clipped(old, blocks);
            while let Some(rest) = left {
                match new_runs.peek() {
                    Some(new) if new.end() <= rest.block => {
                        runs.extend(new_runs.next());
                    }
                    Some(new) if new.block < rest.end() => {
                        let (before, after) = around(&rest, new);
                        runs.extend(before);
                        left = after;
                        if left.is_some() || new.end() == rest.end() {
                            runs.extend(new_runs.next());
                        }
                    }
                    _ => {
                        runs.push(rest);
                        left = None;
                    }
                }
            }
        }
        runs.extend(new_runs);
        Ok(normal(extents, runs))
    }
}

fn refused(reason: &'static str) -> Error {
    Error::Refused { operation: "put the pages of a file together", reason: reason.to_owned() }
}

/// The runs of new pieces, in order of block; their extents are appended to `extents`.
fn new_runs<'a>(
    pieces: impl IntoIterator<Item = NewPiece<'a>>,
    blocks: u32,
    extents: &mut Vec<ExtentRef>,
) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for (extent, ranges) in pieces {
        if !extent.is_well_formed() {
            return Err(refused("a piece is not inside its extent"));
        }
        let index = extents.len() as u32;
        let mut page = 0_u32;
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            let pages = range.end - range.start;
            runs.push(Run {
                block: range.start,
                pages,
                extent: index,
                page: page.min(u16::MAX.into()) as u16,
            });
            page = page.saturating_add(pages);
        }
        if page != u32::from(extent.piece_pages) {
            return Err(refused("a piece has not as many blocks as pages"));
        }
        extents.push(extent);
    }
    runs.sort_by_key(|run| run.block);
    if runs.windows(2).any(|pair| pair[0].end() > pair[1].block) {
        return Err(refused("two new pieces hold the same block"));
    }
    if runs.last().is_some_and(|run| run.end() > blocks) {
        return Err(refused("a new piece lies behind the end of the file"));
    }
    Ok(runs)
}

/// What of a run lies before block `end`.
fn clipped(run: &Run, end: u32) -> Option<Run> {
    let pages = run.pages.min(end.saturating_sub(run.block));
    (pages > 0).then_some(Run { pages, ..*run })
}

/// What of a run lies before and after another one that overlaps it.
fn around(run: &Run, hidden_by: &Run) -> (Option<Run>, Option<Run>) {
    let before = clipped(run, hidden_by.block);
    let skipped = hidden_by.end().saturating_sub(run.block);
    let after = (skipped < run.pages).then(|| Run {
        block: run.block + skipped,
        pages: run.pages - skipped,
        extent: run.extent,
        page: run.page + skipped as u16,
    });
    (before, after)
}

/// The normal form: extents sorted and all in use, runs renumbered and joined. `runs` are in order of block.
fn normal(extents: Vec<ExtentRef>, runs: Vec<Run>) -> FileMap {
    const UNUSED: u32 = u32::MAX;
    let mut number = vec![UNUSED; extents.len()];
    for run in &runs {
        number[run.extent as usize] = 0;
    }
    let mut order: Vec<u32> = (0..extents.len() as u32).filter(|&at| number[at as usize] != UNUSED).collect();
    order.sort_by_key(|&at| extents[at as usize].key());
    for (new, &old) in order.iter().enumerate() {
        number[old as usize] = new as u32;
    }
    let mut joined: Vec<Run> = Vec::with_capacity(runs.len());
    for run in runs {
        let run = Run { extent: number[run.extent as usize], ..run };
        match joined.last_mut() {
            Some(last) if last.is_continued_by(&run) => last.pages += run.pages,
            _ => joined.push(run),
        }
    }
    FileMap { extents: order.into_iter().map(|old| extents[old as usize]).collect(), runs: joined }
}

#[cfg(test)]
mod tests;

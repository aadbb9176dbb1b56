//! Maps as bytes: about three bytes an extent for a fresh file, ten for a patch.
//!
//! Extents are written one after the other into packs, so most are "the next frame", as many pages as the one before, all of
//! one file: one integer then holds all of it beside the frame's length. [`MapCoder`] remembers the last extent, also
//! from one file to the next.

use super::{ExtentRef, FileMap, PackIndex, Run};
use crate::error::Malformed;
use crate::seal::TAG_BYTES;
use crate::wire::{Wire, put_varint, unzigzag, zigzag};

/// Longest frame of an extent in bytes: the pages as they are, the head of the payload, the tag.
const EXTENT_FRAME_BYTES_MAX: u64 =
    super::EXTENT_PAGES_MAX as u64 * super::PAGE_BYTES as u64 + 11 + TAG_BYTES as u64;

/// Low two bits of an extent's head: where it lies.
const EXPLICIT: u64 = 0;
const NEXT: u64 = 1;
const SAME: u64 = 2;

/// Third bit: its pages are the expected ones. For `SAME` the piece follows the one before; else the extent has as many pages
/// as the one before and belongs to this file as a whole.
const EXPECTED: u64 = 4;

const BAD_COUNT: &str = "a map has more parts than bytes";
const BAD_EXTENT: &str = "an extent cannot lie where a map says";

/// Codes the maps of the files of one chunk, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct MapCoder {
    last: Option<ExtentRef>,
}

impl MapCoder {
    /// Appends a map.
    pub(crate) fn encode(&mut self, map: &FileMap, out: &mut Vec<u8>) {
        put_varint(out, map.extents.len() as u64);
        for extent in &map.extents {
            self.encode_extent(extent, out);
            self.last = Some(*extent);
        }
        let tags = run_tags(map);
        put_varint(out, tags.len() as u64);
        for tag in tags {
            match tag {
                RunTag::WholePieces(count) => put_varint(out, u64::from(count) << 1 | 1),
                RunTag::Explicit { gap, pages, extent_step, page } => {
                    put_varint(out, u64::from(gap) << 1);
                    put_varint(out, pages.into());
                    put_varint(out, zigzag(extent_step));
                    put_varint(out, page.into());
                }
            }
        }
    }

    fn encode_extent(&self, extent: &ExtentRef, out: &mut Vec<u8>) {
        let last = self.last.as_ref();
        if let Some(last) = last.filter(|last| last.pack == extent.pack && last.place() == extent.place()) {
            let expected = extent.piece_first == last.piece_first + last.piece_pages;
            put_head(out, extent.piece_pages.into(), SAME, expected);
            if !expected {
                put_varint(out, extent.piece_first.into());
            }
            return;
        }
        let is_next = last.is_some_and(|last| {
            last.pack == extent.pack
                && last.frame.checked_add(1) == Some(extent.frame)
                && last.offset.checked_add(last.stored.into()) == Some(extent.offset)
        });
        let is_whole = extent.piece_pages == extent.pages;
        let expected = is_whole && last.is_some_and(|last| last.pages == extent.pages);
        put_head(out, extent.stored.into(), if is_next { NEXT } else { EXPLICIT }, expected);
        if !is_next {
            put_varint(out, extent.pack.0.into());
            put_varint(out, extent.frame.into());
            put_varint(out, extent.offset);
        }
        if !expected {
            put_varint(out, extent.pages.into());
            put_varint(out, extent.piece_first.into());
            put_varint(out, extent.piece_pages.into());
        }
    }

    /// Reads the map of a file of this many blocks.
    pub(crate) fn decode(&mut self, wire: &mut Wire<'_>, blocks: u32) -> Result<FileMap, Malformed> {
        let count = wire.count(1, BAD_COUNT)?;
        let mut extents = Vec::with_capacity(count);
        for _ in 0..count {
            let extent = self.decode_extent(wire)?;
            self.last = Some(extent);
            extents.push(extent);
        }
        let runs = decode_runs(wire, &extents)?;
        FileMap::checked(extents, runs, blocks)
    }

    fn decode_extent(&self, wire: &mut Wire<'_>) -> Result<ExtentRef, Malformed> {
        let bad = Malformed::new(BAD_EXTENT);
        let head = wire.varint()?;
        let (value, expected) = (head >> 3, head & EXPECTED != 0);
        let last = || self.last.ok_or(bad);
        let (pack, frame, offset) = match head & 3 {
            SAME => {
                let last = last()?;
                let piece_pages = u16::try_from(value).map_err(|_| bad)?;
                let after_last = last.piece_first + last.piece_pages;
                let piece_first = if expected { after_last } else { wire.varint_u16(BAD_EXTENT)? };
                return Ok(ExtentRef { piece_first, piece_pages, ..last }).and_then(well_formed);
            }
            NEXT => {
                let last = last()?;
                let frame = last.frame.checked_add(1).ok_or(bad)?;
                (last.pack, frame, last.offset.checked_add(last.stored.into()).ok_or(bad)?)
            }
            EXPLICIT => {
                let pack = PackIndex(wire.varint_u32(BAD_EXTENT)?);
                (pack, wire.varint_u32(BAD_EXTENT)?, wire.varint()?)
            }
            _ => return Err(bad),
        };
        if value <= TAG_BYTES as u64 || value > EXTENT_FRAME_BYTES_MAX {
            return Err(bad);
        }
        let (pages, piece_first, piece_pages) = if expected {
            let pages = last()?.pages;
            (pages, 0, pages)
        } else {
            (wire.varint_u16(BAD_EXTENT)?, wire.varint_u16(BAD_EXTENT)?, wire.varint_u16(BAD_EXTENT)?)
        };
        let stored = value as u32;
        well_formed(ExtentRef { pack, frame, offset, stored, pages, piece_first, piece_pages })
    }
}

/// Checked at once, because the next extent is read in terms of this one.
fn well_formed(extent: ExtentRef) -> Result<ExtentRef, Malformed> {
    if extent.is_well_formed() { Ok(extent) } else { Err(Malformed::new(BAD_EXTENT)) }
}

fn put_head(out: &mut Vec<u8>, value: u64, place: u64, expected: bool) {
    put_varint(out, value << 3 | if expected { EXPECTED } else { 0 } | place);
}

/// One or many runs.
enum RunTag {
    /// So many runs, each directly behind the one before, each all of the next extent's piece.
    WholePieces(u32),
    /// One run, told by how it differs from the one before.
    Explicit { gap: u32, pages: u32, extent_step: i64, page: u16 },
}

fn run_tags(map: &FileMap) -> Vec<RunTag> {
    let mut tags = Vec::new();
    let (mut end, mut extent) = (0_u32, -1_i64);
    for run in &map.runs {
        let step = i64::from(run.extent) - extent;
        let piece_pages = u32::from(map.extents[run.extent as usize].piece_pages);
        let whole = run.block == end && step == 1 && run.page == 0 && run.pages == piece_pages;
        match tags.last_mut() {
            Some(RunTag::WholePieces(count)) if whole => *count += 1,
            _ if whole => tags.push(RunTag::WholePieces(1)),
            _ => tags.push(RunTag::Explicit {
                gap: run.block - end,
                pages: run.pages,
                extent_step: step,
                page: run.page,
            }),
        }
        (end, extent) = (run.end(), run.extent.into());
    }
    tags
}

/// Reads runs. Whether they are inside their pieces and in order is judged by [`FileMap::checked`].
fn decode_runs(wire: &mut Wire<'_>, extents: &[ExtentRef]) -> Result<Vec<Run>, Malformed> {
    let no_extent = Malformed::new("a run names no extent");
    let no_block = Malformed::new("a run ends beyond all blocks");
    let mut runs = Vec::new();
    let (mut end, mut extent) = (0_u32, -1_i64);
    for _ in 0..wire.count(1, BAD_COUNT)? {
        let head = wire.varint()?;
        if head & 1 == 1 {
            let count = (head >> 1) as usize;
            let first = (extent + 1) as usize;
            let pieces = extents.get(first..).and_then(|rest| rest.get(..count)).ok_or(no_extent)?;
            for (at, piece) in (first as u32..).zip(pieces) {
                let pages = u32::from(piece.piece_pages);
                runs.push(Run { block: end, pages, extent: at, page: 0 });
                end = end.checked_add(pages).ok_or(no_block)?;
            }
            extent += count as i64;
        } else {
            let gap = u32::try_from(head >> 1).map_err(|_| no_block)?;
            let block = end.checked_add(gap).ok_or(no_block)?;
            let pages = wire.varint_u32("a run ends beyond all blocks")?;
            let step = unzigzag(wire.varint()?);
            extent = extent.checked_add(step).ok_or(no_extent)?;
            let index = u32::try_from(extent).map_err(|_| no_extent)?;
            let page = wire.varint_u16("a run is not inside its piece")?;
            runs.push(Run { block, pages, extent: index, page });
            end = block.checked_add(pages).ok_or(no_block)?;
        }
    }
    Ok(runs)
}

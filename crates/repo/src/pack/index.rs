//! The index of a pack: what each extent is, told without reading it.

use super::{EXTENT_FRAME_BYTES_MAX, PackPiece};
use crate::error::Malformed;
use crate::framing::HEADER_BYTES;
use crate::map::{EXTENT_PAGES_MAX, ExtentPlace, ExtentRef, PackIndex};
use crate::seal::{ContentId, TAG_BYTES};
use crate::wire::{Wire, put_text, put_varint};
use std::ops::Range;

/// Longest path in bytes, as PostgreSQL's `MAXPGPATH` times four.
const PATH_BYTES_MAX: usize = 4096;

const BAD_EXTENT: &str = "an extent of its index has an impossible size";
const BAD_PIECE: &str = "a piece of its index is not inside its extent";

/// One extent of a pack, by its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackEntry {
    /// Number of its frame.
    pub frame: u32,
    /// Where its frame begins, in bytes.
    pub offset: u64,
    /// Length of its frame in bytes.
    pub stored: u32,
    /// Pages in it.
    pub pages: u16,
    /// Identity of all of its content.
    pub identity: ContentId,
    /// The files it was made of, in order.
    pub pieces: Vec<PackedPiece>,
}

impl PackEntry {
    /// Where it lies.
    pub fn place(&self) -> ExtentPlace {
        ExtentPlace { frame: self.frame, offset: self.offset, stored: self.stored, pages: self.pages }
    }

    /// The extent as a whole, for a map.
    pub fn extent(&self, pack: PackIndex) -> ExtentRef {
        ExtentRef::whole(pack, self.place())
    }
}

/// The part of an extent that was written for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedPiece {
    /// Path of the file, relative to the data directory, when the extent was written.
    pub file: String,
    /// Identity of its pages.
    pub identity: ContentId,
    /// How many pages it has.
    pub pages: u16,
    /// Which blocks they were, in the order of the pages.
    pub blocks: Vec<Range<u32>>,
}

/// Appends an extent to a raw index. `identities` are those of the pieces where there are several.
pub(super) fn put_entry(
    index: &mut Vec<u8>,
    place: &ExtentPlace,
    identity: ContentId,
    pieces: &[PackPiece<'_>],
    identities: &[ContentId],
) {
    put_varint(index, place.stored.into());
    put_varint(index, place.pages.into());
    index.extend_from_slice(&identity.0);
    put_varint(index, pieces.len() as u64);
    for (at, piece) in pieces.iter().enumerate() {
        put_text(index, piece.file);
        if pieces.len() > 1 {
            index.extend_from_slice(&identities[at].0);
        }
        put_varint(index, piece.pages.into());
        put_varint(index, piece.blocks.len() as u64);
        for blocks in piece.blocks {
            put_varint(index, blocks.start.into());
            put_varint(index, u64::from(blocks.end - blocks.start));
        }
    }
}

/// Reads the raw index of a pack whose index frame begins at `index_offset`. Pure, for fuzzing.
///
/// # Errors
/// [`Malformed`] when it is not one, or its extents do not fill the pack exactly.
pub fn decode_index(raw: &[u8], extents: u32, index_offset: u64) -> Result<Vec<PackEntry>, Malformed> {
    let mut wire = Wire::new(raw);
    // An extent takes at least this many bytes: two integers, an identity, a count.
    let count = wire.count(19, "its index has more extents than bytes")?;
    if count != extents as usize {
        return Err(Malformed::new("its index has not as many extents as its trailer says"));
    }
    let mut entries = Vec::with_capacity(count);
    let mut offset = HEADER_BYTES;
    for frame in 0..extents {
        let entry = decode_entry(&mut wire, frame, offset)?;
        offset += u64::from(entry.stored);
        entries.push(entry);
    }
    wire.finish()?;
    if offset != index_offset {
        return Err(Malformed::new("the extents of its index do not fill it"));
    }
    Ok(entries)
}

fn decode_entry(wire: &mut Wire<'_>, frame: u32, offset: u64) -> Result<PackEntry, Malformed> {
    let stored = wire.varint_up_to(EXTENT_FRAME_BYTES_MAX as u64, BAD_EXTENT)? as u32;
    let pages = wire.varint_up_to(EXTENT_PAGES_MAX.into(), BAD_EXTENT)? as u16;
    if stored <= TAG_BYTES as u32 || pages == 0 {
        return Err(Malformed::new(BAD_EXTENT));
    }
    let identity = wire.id16()?;
    let count = wire.varint_up_to(pages.into(), BAD_PIECE)?;
    let mut pieces = Vec::with_capacity(count as usize);
    let mut left = pages;
    for _ in 0..count {
        let piece = decode_piece(wire, left, (count == 1).then_some(identity))?;
        left -= piece.pages;
        pieces.push(piece);
    }
    if left != 0 {
        return Err(Malformed::new(BAD_PIECE));
    }
    Ok(PackEntry { frame, offset, stored, pages, identity, pieces })
}

fn decode_piece(
    wire: &mut Wire<'_>,
    pages_max: u16,
    identity: Option<ContentId>,
) -> Result<PackedPiece, Malformed> {
    let bad = || Malformed::new(BAD_PIECE);
    let file = wire.text(PATH_BYTES_MAX, "a path in its index is too long or not UTF-8")?.to_owned();
    let identity = identity.map_or_else(|| wire.id16(), Ok)?;
    let pages = wire.varint_up_to(pages_max.into(), BAD_PIECE)? as u16;
    let count = wire.varint_up_to(pages.into(), BAD_PIECE)?;
    let mut blocks = Vec::with_capacity(count as usize);
    let mut left = u32::from(pages);
    for _ in 0..count {
        let start = wire.varint_u32(BAD_PIECE)?;
        let length = wire.varint_up_to(left.into(), BAD_PIECE)? as u32;
        left -= length;
        blocks.push(start..start.checked_add(length).ok_or_else(bad)?);
    }
    if left == 0 && pages > 0 { Ok(PackedPiece { file, identity, pages, blocks }) } else { Err(bad()) }
}

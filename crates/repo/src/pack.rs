//! Packs: extents, tens of MiB of them in one object, so that a million files are not a million objects.
//!
//! [`PackWriter`] appends extents; [`PackReader`] goes by the index at the end of a pack, for verification, for continuing an
//! interrupted backup and for the identities of pieces; [`ExtentReader`] goes by positions from a manifest and needs one ranged
//! request. A pack is never changed after it was finished. Section 4 of `docs/formats/repository.md`.

mod extents;
mod identities;
mod index;
mod reader;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

pub use extents::ExtentReader;
pub use identities::PieceIdentities;
pub use index::{PackEntry, PackedPiece, decode_index};
pub use reader::PackReader;
pub use writer::{PackPiece, PackWriter};

use crate::framing::{Header, close_trailer, open_trailer};
use crate::layout::{BackupId, Lineage, PackNumber};
use crate::map::{EXTENT_PAGES_MAX, ExtentPlace, PAGE_BYTES};
use crate::repository::Repository;
use crate::seal::{ObjectKind, Salt, Sealer, TAG_BYTES};
use crate::{Malformed, Result};
use pgproof_store::ObjectPath;

const MAGIC: [u8; 8] = *b"PGPFPACK";
const END_MAGIC: [u8; 8] = *b"PGPFPEND";

/// Length of the trailer in bytes, and of the part that the checksum covers.
const TRAILER_BYTES: usize = 48;
const TRAILER_COVERED: usize = 32;

/// Longest raw index in bytes. An extent takes about 50, so this is far beyond any pack.
const INDEX_BYTES_MAX: usize = 64 << 20;

/// Longest content of an extent in bytes.
const EXTENT_BYTES_MAX: usize = EXTENT_PAGES_MAX as usize * PAGE_BYTES;

/// Longest frame of an extent in bytes: content that does not shrink, the head of its payload, the tag.
const EXTENT_FRAME_BYTES_MAX: usize = EXTENT_BYTES_MAX + 11 + TAG_BYTES;

/// What must be known of a pack to read extents from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackInfo {
    /// The backup that wrote it.
    pub backup: BackupId,
    /// Its number within that backup.
    pub number: PackNumber,
    /// Its salt.
    pub salt: Salt,
    /// Its size in bytes.
    pub size: u64,
    /// Extents in it.
    pub extents: u32,
}

impl PackInfo {
    /// Where it lies.
    pub fn path(&self, lineage: impl Into<Lineage>) -> ObjectPath {
        lineage.into().backup(self.backup).pack(self.number)
    }

    /// Whether an extent can lie there: inside the pack, and of a size that extents have.
    pub(crate) fn can_hold(&self, place: &ExtentPlace) -> bool {
        let end = place.offset.checked_add(place.stored.into());
        place.frame < self.extents
            && (1..=EXTENT_PAGES_MAX).contains(&place.pages)
            && (TAG_BYTES..=EXTENT_FRAME_BYTES_MAX).contains(&(place.stored as usize))
            && place.offset >= crate::framing::HEADER_BYTES
            && end.is_some_and(|end| end + TRAILER_BYTES as u64 <= self.size)
    }
}

fn header(repository: &Repository, salt: Salt) -> Header {
    Header { magic: MAGIC, kind: ObjectKind::Pack, suite: repository.suite(), salt }
}

fn sealer(repository: &Repository, salt: &Salt, path: &ObjectPath) -> Sealer {
    repository.sealer(ObjectKind::Pack, salt, path)
}

/// The end of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trailer {
    index_offset: u64,
    index_stored: u32,
    extents: u32,
    salt: Salt,
}

impl Trailer {
    fn bytes(&self) -> Vec<u8> {
        let mut trailer = Vec::with_capacity(TRAILER_BYTES);
        trailer.extend_from_slice(&self.index_offset.to_le_bytes());
        trailer.extend_from_slice(&self.index_stored.to_le_bytes());
        trailer.extend_from_slice(&self.extents.to_le_bytes());
        trailer.extend_from_slice(&self.salt.0);
        close_trailer(trailer, TRAILER_BYTES, END_MAGIC)
    }

    /// Reads the trailer of a pack of this size.
    fn parse(bytes: &[u8], size: u64) -> Result<Self, Malformed> {
        let mut wire = open_trailer(bytes, TRAILER_COVERED, END_MAGIC)?;
        let (index_offset, index_stored, extents) = (wire.u64()?, wire.u32()?, wire.u32()?);
        let trailer = Self { index_offset, index_stored, extents, salt: Salt(wire.array()?) };
        let expected = size.checked_sub(TRAILER_BYTES as u64);
        let end = index_offset.checked_add(index_stored.into());
        if index_offset < crate::framing::HEADER_BYTES || end.is_none() || end != expected {
            return Err(Malformed::new("its index does not lie where the trailer says"));
        }
        Ok(trailer)
    }
}

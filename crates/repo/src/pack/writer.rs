//! Writing packs: the hot path of every backup. Compress, seal in place, write; nothing is copied or allocated for an extent.

use super::index::put_entry;
use super::{EXTENT_BYTES_MAX, INDEX_BYTES_MAX, PackInfo, Trailer, header, sealer};
use crate::codec::{Codec, Encoder};
use crate::layout::{BackupId, Lineage, PackNumber};
use crate::map::{ExtentPlace, PAGE_BYTES};
use crate::repository::Repository;
use crate::seal::{ContentId, Salt, Sealer, Section};
use crate::wire::put_varint;
use crate::{Error, Result};
use pgproof_store::{ObjectPath, ObjectWriter, PutMode};
use std::ops::Range;

/// Frames are handed to the store in chunks of at least this many bytes: patches of single pages would be a write each.
const FLUSH_BYTES: usize = 256 << 10;

/// The part of an extent that belongs to one file.
#[derive(Debug, Clone, Copy)]
pub struct PackPiece<'a> {
    /// Path of the file, relative to the data directory.
    pub file: &'a str,
    /// How many pages.
    pub pages: u16,
    /// Which blocks they are, in the order of the pages.
    pub blocks: &'a [Range<u32>],
}

/// A pack in the making. Dropped without [`PackWriter::finish`] it leaves nothing.
pub struct PackWriter {
    repository: Repository,
    path: ObjectPath,
    info: PackInfo,
    sealer: Sealer,
    object: Box<dyn ObjectWriter>,
    /// Sealed frames, not written yet.
    pending: Vec<u8>,
    /// Entries of the index so far.
    index: Vec<u8>,
    identities: Vec<ContentId>,
}

impl std::fmt::Debug for PackWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackWriter({}, {} extents)", self.path, self.info.extents)
    }
}

impl PackWriter {
    /// Begins a pack.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn create(
        repository: &Repository,
        lineage: impl Into<Lineage>,
        backup: &BackupId,
        number: PackNumber,
    ) -> Result<Self> {
        let path = lineage.into().backup(*backup).pack(number);
        let object = repository.store().writer(&path).map_err(Error::store("begin a pack"))?;
        let salt = Salt::random();
        let mut pending = Vec::with_capacity(2 * FLUSH_BYTES);
        pending.extend_from_slice(&header(repository, salt).bytes());
        Ok(Self {
            sealer: sealer(repository, &salt, &path),
            repository: repository.clone(),
            path,
            info: PackInfo { backup: *backup, number, salt, size: pending.len() as u64, extents: 0 },
            object,
            pending,
            index: Vec::new(),
            identities: Vec::new(),
        })
    }

    /// Bytes of frames and header so far. The index comes to about 50 bytes an extent.
    pub fn size(&self) -> u64 {
        self.info.size
    }

    /// Extents so far.
    pub fn extents(&self) -> u32 {
        self.info.extents
    }

    /// Stores an extent: pages of one or several files. `identity` is that of all of `pages`
    /// ([`Repository::identity`]); callers have it, because they look for stored content by it first.
    ///
    /// # Errors
    /// [`Error::Refused`] when pages and pieces do not go together; [`Error::Store`], after which the writer can only be dropped.
    pub fn append(
        &mut self,
        encoder: &mut Encoder,
        pages: &[u8],
        identity: ContentId,
        pieces: &[PackPiece<'_>],
    ) -> Result<ExtentPlace> {
        self.check(pages, pieces)?;
        let start = self.pending.len();
        encoder.encode(pages, &mut self.pending)?;
        self.close_extent(start, pages, identity, pieces)
    }

    /// Stores an extent of another repository's pack: `payload` as it was made there, and the `pages` that it decodes to. It takes as
    /// many bytes as it did there, so that places in maps stay what they are.
    ///
    /// # Errors
    /// As [`PackWriter::append`].
    pub(crate) fn append_payload(
        &mut self,
        payload: &[u8],
        pages: &[u8],
        pieces: &[PackPiece<'_>],
    ) -> Result<ExtentPlace> {
        self.check(pages, pieces)?;
        let start = self.pending.len();
        self.pending.extend_from_slice(payload);
        self.close_extent(start, pages, self.repository.identity(pages), pieces)
    }

    fn check(&self, pages: &[u8], pieces: &[PackPiece<'_>]) -> Result<()> {
        check_pieces(pages, pieces)?;
        match self.index.len() + 64 * 1024 * pieces.len() > INDEX_BYTES_MAX {
            true => Err(refused("the index of the pack would become too long")),
            false => Ok(()),
        }
    }

    /// Seals the payload that lies from `start` on in what is pending, and notes it in the index.
    fn close_extent(
        &mut self,
        start: usize,
        pages: &[u8],
        identity: ContentId,
        pieces: &[PackPiece<'_>],
    ) -> Result<ExtentPlace> {
        self.sealer.seal(Section::Content, self.info.extents.into(), &mut self.pending, start);
        let place = ExtentPlace {
            frame: self.info.extents,
            offset: self.info.size,
            stored: (self.pending.len() - start) as u32,
            pages: (pages.len() / PAGE_BYTES) as u16,
        };
        self.identify_pieces(pages, pieces);
        put_entry(&mut self.index, &place, identity, pieces, &self.identities);
        self.info.extents += 1;
        self.info.size += u64::from(place.stored);
        if self.pending.len() >= FLUSH_BYTES {
            self.flush()?;
        }
        Ok(place)
    }

    /// Where several files share the extent, each piece has an identity of its own: a file is compared with its piece alone.
    fn identify_pieces(&mut self, pages: &[u8], pieces: &[PackPiece<'_>]) {
        self.identities.clear();
        if pieces.len() < 2 {
            return;
        }
        let mut rest = pages;
        for piece in pieces {
            let (own, behind) = rest.split_at(usize::from(piece.pages) * PAGE_BYTES);
            self.identities.push(self.repository.identity(own));
            rest = behind;
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.object.write_all(&self.pending).map_err(Error::store("write to a pack"))?;
        self.pending.clear();
        Ok(())
    }

    /// Writes the index and makes the pack visible, durably when this returns. Never overwrites a pack.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::is_conflict`] when there is a pack of this name.
    pub fn finish(mut self) -> Result<PackInfo> {
        let mut raw = Vec::with_capacity(self.index.len() + 8);
        put_varint(&mut raw, self.info.extents.into());
        raw.append(&mut self.index);
        let start = self.pending.len();
        Encoder::new(Codec::default())?.encode(&raw, &mut self.pending)?;
        self.sealer.seal(Section::Index, self.info.extents.into(), &mut self.pending, start);
        let trailer = Trailer {
            index_offset: self.info.size,
            index_stored: (self.pending.len() - start) as u32,
            extents: self.info.extents,
            salt: self.info.salt,
        };
        self.pending.extend_from_slice(&trailer.bytes());
        self.info.size += (self.pending.len() - start) as u64;
        self.flush()?;
        self.object.finish(PutMode::IfAbsent).map_err(Error::store("finish a pack"))?;
        Ok(self.info)
    }
}

fn refused(reason: &str) -> Error {
    Error::Refused { operation: "store an extent", reason: reason.to_owned() }
}

fn check_pieces(pages: &[u8], pieces: &[PackPiece<'_>]) -> Result<()> {
    if pages.is_empty() || !pages.len().is_multiple_of(PAGE_BYTES) || pages.len() > EXTENT_BYTES_MAX {
        return Err(refused("an extent has 1 to 32 whole pages"));
    }
    let mut total = 0;
    for piece in pieces {
        let blocks: u64 = piece.blocks.iter().map(|run| u64::from(run.end.saturating_sub(run.start))).sum();
        if blocks != u64::from(piece.pages) || piece.pages == 0 || piece.blocks.len() > piece.pages.into() {
            return Err(refused("a piece has not as many blocks as pages"));
        }
        total += usize::from(piece.pages);
    }
    if total * PAGE_BYTES == pages.len() {
        Ok(())
    } else {
        Err(refused("the pieces do not make up the extent"))
    }
}

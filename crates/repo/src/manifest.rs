//! Manifests: where every page of a backup lies, and all that must be known to restore it.
//!
//! [`ManifestWriter`] takes files in order of path and keeps one chunk of them in memory; [`Manifest`] opens with one request
//! (two for the largest), finds one file with one more, and walks all of them chunk by chunk. Every backup has a whole manifest of its
//! own: restoring reads no other one. Section 5 of `docs/formats/repository.md`.

mod entry;
mod index;
mod packs;
mod reader;
pub mod summary;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

pub use entry::{FileEntry, FileKind, decode_chunk};
pub use index::decode_index;
pub use packs::{PackTable, PackUse};
pub use reader::{Files, Manifest};
pub use summary::BackupSummary;
pub use writer::{ManifestInfo, ManifestWriter};

use crate::framing::{HEADER_BYTES, Header, close_trailer, open_trailer};
use crate::repository::Repository;
use crate::seal::{ObjectKind, Salt};
use crate::{Malformed, Result};

const MAGIC: [u8; 8] = *b"PGPFMANI";
const END_MAGIC: [u8; 8] = *b"PGPFMEND";

/// Length of the trailer in bytes, and of the part that the checksum covers.
const TRAILER_BYTES: usize = 64;
const TRAILER_COVERED: usize = 44;

/// A chunk is closed when it has this many raw bytes: small enough to read for one page, large enough to compress well.
const CHUNK_BYTES: usize = 256 << 10;

/// Longest raw chunk in bytes, which bounds the entry of one file: 5 million extents, 700 GB in one piece.
const CHUNK_BYTES_MAX: usize = 16 << 20;

/// Longest raw index in bytes.
const INDEX_BYTES_MAX: usize = 64 << 20;

/// Longest summary in bytes of JSON.
const SUMMARY_BYTES_MAX: usize = 16 << 20;

fn header(repository: &Repository, salt: Salt) -> Header {
    Header { magic: MAGIC, kind: ObjectKind::Manifest, suite: repository.suite(), salt }
}

/// The end of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trailer {
    index_offset: u64,
    index_stored: u32,
    summary_offset: u64,
    summary_stored: u32,
    chunks: u32,
    salt: Salt,
}

impl Trailer {
    fn bytes(&self) -> Vec<u8> {
        let mut trailer = Vec::with_capacity(TRAILER_BYTES);
        trailer.extend_from_slice(&self.index_offset.to_le_bytes());
        trailer.extend_from_slice(&self.index_stored.to_le_bytes());
        trailer.extend_from_slice(&self.summary_offset.to_le_bytes());
        trailer.extend_from_slice(&self.summary_stored.to_le_bytes());
        trailer.extend_from_slice(&self.chunks.to_le_bytes());
        trailer.extend_from_slice(&self.salt.0);
        close_trailer(trailer, TRAILER_BYTES, END_MAGIC)
    }

    /// Reads the trailer of a manifest of this size.
    fn parse(bytes: &[u8], size: u64) -> Result<Self, Malformed> {
        let mut wire = open_trailer(bytes, TRAILER_COVERED, END_MAGIC)?;
        let (index_offset, index_stored) = (wire.u64()?, wire.u32()?);
        let (summary_offset, summary_stored, chunks) = (wire.u64()?, wire.u32()?, wire.u32()?);
        let salt = Salt(wire.array()?);
        let index_end = index_offset.checked_add(index_stored.into());
        let summary_end = summary_offset.checked_add(summary_stored.into());
        let joined = index_offset >= HEADER_BYTES
            && index_end == Some(summary_offset)
            && summary_end.is_some()
            && summary_end == size.checked_sub(TRAILER_BYTES as u64);
        let small =
            index_stored as usize <= 2 * INDEX_BYTES_MAX && summary_stored as usize <= 2 * SUMMARY_BYTES_MAX;
        if !joined || !small {
            return Err(Malformed::new("its index and summary do not lie where the trailer says"));
        }
        Ok(Self { index_offset, index_stored, summary_offset, summary_stored, chunks, salt })
    }
}

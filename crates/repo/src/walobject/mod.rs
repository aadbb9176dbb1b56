//! WAL objects: one sealed object for each archived segment, with a summary of what it changed and when.
//!
//! Promises that a segment is stored once and durably, or not at all: the same name with the same content is success
//! ([`Stored::SameContent`]), with other content an error that names both sides. Everything about a segment but its content is at the end of
//! the object, so that one request for the tail answers who pushed it, when its transactions ended and what it touched. Timeline history
//! files and backup history files are small records ([`history`]). Section 6 of `docs/formats/repository.md`.
//!
//! Reading goes chunk by chunk: a 1 GB segment needs no more memory than a 16 MB one.

mod fetch;
pub mod history;
mod index;
pub(crate) mod reseal;
mod store;
mod summary;
#[cfg(test)]
mod tests;

pub use fetch::{Fetched, SegmentReader, fetch_segment};
pub use index::{PushedBy, SegmentIndex, decode_index};
pub use store::{PushSource, StoreOptions, Stored, store_segment, store_segment_unless};
pub use summary::{instants_of, read_instants};

use crate::framing::{Header, close_trailer, open_trailer};
use crate::layout::Lineage;
use crate::repository::Repository;
use crate::seal::{ObjectKind, Salt, Sealer, TAG_BYTES};
use crate::{Error, Malformed, Result};
use pgproof_pg::{ArchiveName, WalSegmentSize};
use pgproof_store::ObjectPath;

const MAGIC: [u8; 8] = *b"PGPFWAL1";
const END_MAGIC: [u8; 8] = *b"PGPFWEND";

/// Raw bytes of each frame but the last: 1 MiB. Small enough that the content of a segment is compressed by several threads and that a
/// core's cache holds a chunk, large enough that zstd loses nothing to a single stream (measured on pgbench WAL: below 0.5 %).
pub const CHUNK_BYTES: usize = 1 << 20;

/// Longest frame of a chunk: content that does not shrink, the head of its payload, the tag.
const CHUNK_FRAME_BYTES_MAX: usize = CHUNK_BYTES + 11 + TAG_BYTES;

/// Most chunks that an object can have: a segment of 1 GB.
const CHUNKS_MAX: usize = 1024;

/// Longest summary in bytes. One of a 16 MB segment has some kilobytes; this leaves room for a block reference in every 16 bytes of 1 GB.
const SUMMARY_BYTES_MAX: usize = 256 << 20;

/// Longest index in bytes.
const INDEX_BYTES_MAX: usize = 64 << 10;

/// Length of the trailer in bytes, and of the part that the checksum covers.
const TRAILER_BYTES: usize = 64;
const TRAILER_COVERED: usize = 44;

fn header(repository: &Repository, salt: Salt) -> Header {
    Header { magic: MAGIC, kind: ObjectKind::Wal, suite: repository.suite(), salt }
}

fn sealer(repository: &Repository, salt: &Salt, path: &ObjectPath) -> Sealer {
    repository.sealer(ObjectKind::Wal, salt, path)
}

/// The end of every WAL object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trailer {
    summary_offset: u64,
    summary_stored: u32,
    index_offset: u64,
    index_stored: u32,
    chunks: u32,
    salt: Salt,
}

impl Trailer {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TRAILER_BYTES);
        bytes.extend_from_slice(&self.summary_offset.to_le_bytes());
        bytes.extend_from_slice(&self.summary_stored.to_le_bytes());
        bytes.extend_from_slice(&self.index_offset.to_le_bytes());
        bytes.extend_from_slice(&self.index_stored.to_le_bytes());
        bytes.extend_from_slice(&self.chunks.to_le_bytes());
        bytes.extend_from_slice(&self.salt.0);
        close_trailer(bytes, TRAILER_BYTES, END_MAGIC)
    }

    /// Reads the trailer of an object of `size` bytes. Everything in it lies where a writer puts it, or it is refused.
    fn parse(bytes: &[u8], size: u64) -> Result<Self, Malformed> {
        let mut wire = open_trailer(bytes, TRAILER_COVERED, END_MAGIC)?;
        let trailer = Self {
            summary_offset: wire.u64()?,
            summary_stored: wire.u32()?,
            index_offset: wire.u64()?,
            index_stored: wire.u32()?,
            chunks: wire.u32()?,
            salt: Salt(wire.array()?),
        };
        wire.finish()?;
        let index_end = trailer.index_offset.checked_add(trailer.index_stored.into());
        let in_place = trailer.summary_offset.checked_add(trailer.summary_stored.into())
            == Some(trailer.index_offset)
            && index_end.and_then(|end| end.checked_add(TRAILER_BYTES as u64)) == Some(size)
            && trailer.chunks as usize <= CHUNKS_MAX
            && trailer.index_stored as usize <= INDEX_BYTES_MAX
            && trailer.summary_stored as usize <= SUMMARY_BYTES_MAX;
        if in_place { Ok(trailer) } else { Err(Malformed::new("its trailer names parts that cannot be")) }
    }
}

/// Where the file of this name lies, for the kinds that are WAL objects.
///
/// # Errors
/// [`Error::NotA`] for a name that does not fit the segment size, and for history files.
pub fn object_path(lineage: Lineage, name: &ArchiveName, size: WalSegmentSize) -> Result<ObjectPath> {
    let fail = || Error::NotA { kind: "the name of a WAL segment", text: name.to_string() };
    let segment = name.segment(size).map_err(|_| fail())?.ok_or_else(fail)?;
    match name {
        ArchiveName::Segment(_) => Ok(lineage.segment(segment, size)),
        ArchiveName::Partial(_) => Ok(lineage.partial_segment(segment, size)),
        ArchiveName::History(_) | ArchiveName::Backup { .. } => Err(fail()),
    }
}

//! The index of a manifest: the pack table, and where each chunk of files is.

use super::{CHUNK_BYTES_MAX, PackTable};
use crate::error::Malformed;
use crate::framing::HEADER_BYTES;
use crate::wire::{Wire, put_text, put_varint};

/// One chunk of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Where its frame begins, in bytes.
    pub(super) offset: u64,
    /// Length of its frame in bytes.
    pub(super) stored: u32,
    /// Path of its first entry.
    pub(super) first_path: String,
    /// How many entries it has.
    pub(super) entries: u32,
}

/// The index as values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) packs: PackTable,
    pub(super) chunks: Vec<Chunk>,
}

impl Index {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.packs.encode(&mut out);
        put_varint(&mut out, self.chunks.len() as u64);
        for chunk in &self.chunks {
            put_varint(&mut out, chunk.stored.into());
            put_text(&mut out, &chunk.first_path);
            put_varint(&mut out, chunk.entries.into());
        }
        out
    }

    /// Reads the raw index of a manifest with this many chunks, whose index frame begins at `index_offset`.
    pub(super) fn decode(raw: &[u8], chunks: u32, index_offset: u64) -> Result<Self, Malformed> {
        const BAD: &str = "its table of chunks is not one";
        let mut wire = Wire::new(raw);
        let packs = PackTable::decode(&mut wire)?;
        let count = wire.count(3, BAD)?;
        if count != chunks as usize {
            return Err(Malformed::new("its index has not as many chunks as its trailer says"));
        }
        let mut offset = HEADER_BYTES;
        let mut read: Vec<Chunk> = Vec::with_capacity(count);
        for _ in 0..count {
            let stored = wire.varint_up_to(2 * CHUNK_BYTES_MAX as u64, BAD)? as u32;
            let first_path = wire.text(4096, BAD)?.to_owned();
            let entries = wire.varint_u32(BAD)?;
            if entries == 0 || read.last().is_some_and(|last| last.first_path >= first_path) {
                return Err(Malformed::new(BAD));
            }
            read.push(Chunk { offset, stored, first_path, entries });
            offset += u64::from(stored);
        }
        wire.finish()?;
        if offset != index_offset {
            return Err(Malformed::new("its chunks do not fill it"));
        }
        Ok(Self { packs, chunks: read })
    }
}

/// Reads the raw index of a manifest, and gives the pack table. Pure, for fuzzing.
///
/// # Errors
/// [`Malformed`] when it is not one, or its chunks do not fill the manifest exactly.
pub fn decode_index(raw: &[u8], chunks: u32, index_offset: u64) -> Result<PackTable, Malformed> {
    Index::decode(raw, chunks, index_offset).map(|index| index.packs)
}

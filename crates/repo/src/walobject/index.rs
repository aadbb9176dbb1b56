//! The index of a WAL object: where its chunks are, what they hold together, and where they came from.

use super::{CHUNK_BYTES, CHUNK_FRAME_BYTES_MAX, CHUNKS_MAX};
use crate::ContentId;
use crate::error::Malformed;
use crate::wire::{Wire, put_varint};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who archived a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushedBy {
    /// When, by the host's clock.
    pub at: Timestamp,
    /// The host.
    pub host: String,
    /// Its data directory.
    pub pgdata: String,
    /// Its writer epoch.
    pub epoch: u64,
}

/// What the end of a WAL object says about the rest of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentIndex {
    /// Length of the segment in bytes.
    pub raw_bytes: u64,
    /// Identity of its content.
    pub identity: ContentId,
    /// Length of each frame in bytes.
    pub frames: Vec<u32>,
    /// Who archived it.
    pub pushed: PushedBy,
}

impl SegmentIndex {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 4 * self.frames.len());
        put_varint(&mut out, self.raw_bytes);
        out.extend_from_slice(&self.identity.0);
        put_varint(&mut out, self.frames.len() as u64);
        self.frames.iter().for_each(|&frame| put_varint(&mut out, frame.into()));
        out.extend_from_slice(&serde_json::to_vec(&self.pushed).unwrap_or_default());
        out
    }

    /// Raw bytes of a chunk.
    pub(super) fn chunk_bytes(&self, number: usize) -> usize {
        let from = (number * CHUNK_BYTES) as u64;
        self.raw_bytes.saturating_sub(from).min(CHUNK_BYTES as u64) as usize
    }

    /// Where each frame lies in the object, from the first chunk on.
    pub(super) fn offsets(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.frames.iter().scan(crate::framing::HEADER_BYTES, |at, &frame| {
            let offset = *at;
            *at += u64::from(frame);
            Some((offset, frame))
        })
    }
}

/// Reads an index of which the trailer says that it has so many chunks, which end at `summary_offset`.
///
/// # Errors
/// [`Malformed`] when the numbers do not fit together.
pub fn decode_index(raw: &[u8], chunks: u32, summary_offset: u64) -> Result<SegmentIndex, Malformed> {
    let mut wire = Wire::new(raw);
    let raw_bytes =
        wire.varint_up_to((CHUNKS_MAX * CHUNK_BYTES) as u64, "it is longer than a segment can be")?;
    let identity = wire.id16()?;
    let count = wire.count(1, "its index has more chunks than bytes")?;
    if count as u64 != raw_bytes.div_ceil(CHUNK_BYTES as u64) || count as u64 != u64::from(chunks) {
        return Err(Malformed::new("its index has another number of chunks than its length asks for"));
    }
    let mut frames = Vec::with_capacity(count);
    for _ in 0..count {
        let frame = wire.varint_up_to(CHUNK_FRAME_BYTES_MAX as u64, "a chunk is longer than any")?;
        frames.push(frame as u32);
    }
    let end = frames.iter().map(|&frame| u64::from(frame)).sum::<u64>() + crate::framing::HEADER_BYTES;
    if end != summary_offset {
        return Err(Malformed::new("its chunks do not end where its summary begins"));
    }
    let pushed = serde_json::from_slice(wire.rest())
        .map_err(|_| Malformed::new("its index does not say who archived it"))?;
    Ok(SegmentIndex { raw_bytes, identity, frames, pushed })
}

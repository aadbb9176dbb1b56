//! Reading archived segments back.
//!
//! A segment is delivered whole or not at all: it is written under a temporary name, every frame is authenticated, and only a complete file
//! gets the name that PostgreSQL waits for. PostgreSQL refuses a file of another length than its own segments, so the length is
//! checked here, where the answer can still be an error instead of the end of the archive.

use super::index::{SegmentIndex, decode_index};
use super::{
    CHUNK_BYTES, INDEX_BYTES_MAX, SUMMARY_BYTES_MAX, TRAILER_BYTES, Trailer, header, object_path, sealer,
};
use crate::codec::Decoder;
use crate::error::Malformed;
use crate::framing::HEADER_BYTES;
use crate::layout::Lineage;
use crate::parallel::lock;
use crate::repository::Repository;
use crate::seal::{Sealer, Section};
use crate::{Error, Result};
use pgproof_pg::wal::SegmentSummary;
use pgproof_pg::{ArchiveName, WalSegmentSize};
use pgproof_store::ObjectPath;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Asked for at once: trailer, index and nearly every summary (a busy segment's has some tens of kilobytes, and up to two fragments of
/// 64 KiB).
const TAIL_BYTES: u64 = 192 << 10;

/// Stored bytes that are asked for at once while a segment is read: few requests for the usual segment, bounded memory for a long one.
const READ_BYTES: usize = 8 << 20;

/// An archived segment.
#[derive(Debug)]
pub struct SegmentReader {
    repository: Repository,
    path: ObjectPath,
    sealer: Sealer,
    trailer: Trailer,
    index: SegmentIndex,
    size: u64,
    tail: Vec<u8>,
}

impl SegmentReader {
    /// Reads the end of the object that lies at `path`, with one request.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is none, [`Error::Damaged`] when its end is not what was written, [`Error::Store`].
    pub fn open(repository: &Repository, path: &ObjectPath) -> Result<Self> {
        let damaged = |malformed: Malformed| malformed.in_object(path.as_str());
        let (tail, size) = repository.store().get_tail(path, TAIL_BYTES).map_err(|source| {
            if source.is_not_found() {
                Error::Missing { object: path.to_string() }
            } else {
                Error::Store { operation: "read the end of an archived segment", source }
            }
        })?;
        let trailer_at = tail.len().checked_sub(TRAILER_BYTES);
        let trailer_at = trailer_at.ok_or_else(|| damaged(Malformed::new("it is too short")))?;
        let trailer = Trailer::parse(&tail[trailer_at..], size).map_err(damaged)?;
        let sealer = sealer(repository, &trailer.salt, path);
        let mut frame = tail_part(&tail, size, trailer.index_offset, trailer.index_stored)
            .ok_or_else(|| damaged(Malformed::new("its index is longer than any")))?
            .to_vec();
        let index = open_index(&sealer, &trailer, &mut frame)?.map_err(damaged)?;
        Ok(Self { repository: repository.clone(), path: path.clone(), sealer, trailer, index, size, tail })
    }

    /// What the end of the object says about the rest.
    pub fn index(&self) -> &SegmentIndex {
        &self.index
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &ObjectPath {
        &self.path
    }

    /// The repository that it is read from.
    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Bytes of the object.
    pub fn stored_bytes(&self) -> u64 {
        self.size
    }

    /// The summary; `None` where none could be made, or one of a version that this program does not know. A long one needs a second
    /// request.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Store`].
    pub fn summary(&self) -> Result<Option<SegmentSummary>> {
        let raw = self.summary_bytes()?;
        Ok(if raw.is_empty() { None } else { SegmentSummary::decode(&raw).ok() })
    }

    /// The summary as it was stored.
    pub(crate) fn summary_bytes(&self) -> Result<Vec<u8>> {
        let damaged = |malformed: Malformed| malformed.in_object(self.path.as_str());
        let (offset, stored) = (self.trailer.summary_offset, self.trailer.summary_stored);
        let mut frame = match tail_part(&self.tail, self.size, offset, stored) {
            Some(part) => part.to_vec(),
            None => {
                let mut frame = vec![0; stored as usize];
                let store = self.repository.store();
                store
                    .get_range(&self.path, offset, &mut frame)
                    .map_err(Error::store("read the summary of an archived segment"))?;
                frame
            }
        };
        let payload = self.sealer.open(Section::Summary, 0, &mut frame).map_err(damaged)?;
        let mut raw = Vec::new();
        Decoder::new()?.decode(payload, SUMMARY_BYTES_MAX, &mut raw).map_err(damaged)?;
        Ok(raw)
    }

    /// Checks the header, which nothing else reads.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::UnknownFormat`].
    pub fn check_header(&self) -> Result<()> {
        let mut found = [0; HEADER_BYTES as usize];
        self.repository
            .store()
            .get_range(&self.path, 0, &mut found)
            .map_err(Error::store("read the header of an archived segment"))?;
        header(&self.repository, self.trailer.salt).check(&found, self.path.as_str())
    }

    /// Reads the content in a few requests and hands chunks of it, with their offsets, to `each`, in no order and from up to `threads`
    /// threads. Every chunk handed over was authenticated.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Store`], and those of `each`.
    pub fn read_chunks(
        &self,
        threads: usize,
        each: &(dyn Fn(u64, &[u8]) -> Result<()> + Sync),
    ) -> Result<()> {
        let places: Vec<(u64, u32)> = self.index.offsets().collect();
        let mut first = 0;
        for batch in batches(&places) {
            let mut stored = vec![0; batch.iter().map(|&(_, length)| length as usize).sum()];
            self.repository
                .store()
                .get_range(&self.path, batch[0].0, &mut stored)
                .map_err(Error::store("read an archived segment"))?;
            self.open_batch(first, batch, stored, threads, each)?;
            first += batch.len();
        }
        Ok(())
    }

    /// Reads the content in order and hands on each chunk's payload too, as it was made when the segment was archived.
    ///
    /// # Errors
    /// As [`SegmentReader::read_chunks`].
    pub(super) fn read_payloads(&self, each: &mut dyn FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut decoder = Decoder::new()?;
        let (mut stored, mut raw) = (Vec::new(), Vec::new());
        let places: Vec<(u64, u32)> = self.index.offsets().collect();
        let mut number = 0;
        for batch in batches(&places) {
            stored.resize(batch.iter().map(|&(_, length)| length as usize).sum(), 0);
            self.repository
                .store()
                .get_range(&self.path, batch[0].0, &mut stored)
                .map_err(Error::store("read an archived segment"))?;
            let mut rest = stored.as_mut_slice();
            for &(_, length) in batch {
                let (frame, after) = rest.split_at_mut(length as usize);
                let payload = self
                    .open_chunk(number, frame, &mut decoder, &mut raw)
                    .map_err(|malformed| malformed.in_object(self.path.as_str()))?;
                each(payload, &raw)?;
                rest = after;
                number += 1;
            }
        }
        Ok(())
    }

    fn open_batch(
        &self,
        first: usize,
        places: &[(u64, u32)],
        mut stored: Vec<u8>,
        threads: usize,
        each: &(dyn Fn(u64, &[u8]) -> Result<()> + Sync),
    ) -> Result<()> {
        let mut rest = stored.as_mut_slice();
        let mut frames = Vec::with_capacity(places.len());
        for &(_, length) in places {
            let (frame, after) = rest.split_at_mut(length as usize);
            frames.push(std::sync::Mutex::new(frame));
            rest = after;
        }
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            let mut decoder = Decoder::new()?;
            let mut raw = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(frame) = frames.get(at) else { return Ok(()) };
                let mut frame = lock(frame);
                self.open_chunk(first + at, &mut frame, &mut decoder, &mut raw)
                    .map_err(|malformed| malformed.in_object(self.path.as_str()))?;
                each(((first + at) * CHUNK_BYTES) as u64, &raw)?;
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads.min(places.len())).map(|_| scope.spawn(work)).collect();
            let own = work();
            let joined = others
                .into_iter()
                .map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            own.and(joined.collect())
        })
    }

    fn open_chunk<'a>(
        &self,
        number: usize,
        frame: &'a mut [u8],
        decoder: &mut Decoder,
        raw: &mut Vec<u8>,
    ) -> Result<&'a [u8], Malformed> {
        let payload = self.sealer.open(Section::Content, number as u64, frame)?;
        decoder.decode(payload, CHUNK_BYTES, raw)?;
        if raw.len() != self.index.chunk_bytes(number) {
            return Err(Malformed::new("a chunk has another length than the segment asks for"));
        }
        Ok(payload)
    }
}

/// Frames that are read with one request each: at least one, and no more bytes than [`READ_BYTES`].
fn batches(places: &[(u64, u32)]) -> impl Iterator<Item = &[(u64, u32)]> {
    let mut rest = places;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|&&(_, length)| {
            bytes += length as usize;
            bytes <= READ_BYTES
        });
        let count = fits.count().max(1);
        let (batch, behind) = rest.split_at_checked(count)?;
        rest = behind;
        Some(batch)
    })
}

/// The part of an object that its tail holds, if it does.
fn tail_part(tail: &[u8], size: u64, offset: u64, length: u32) -> Option<&[u8]> {
    let start = offset.checked_sub(size - tail.len() as u64)? as usize;
    tail.get(start..start.checked_add(length as usize)?)
}

fn open_index(
    sealer: &Sealer,
    trailer: &Trailer,
    frame: &mut [u8],
) -> Result<Result<SegmentIndex, Malformed>> {
    let mut decoder = Decoder::new()?;
    Ok(sealer.open(Section::Index, 0, frame).and_then(|payload| {
        let mut raw = Vec::new();
        decoder.decode(payload, INDEX_BYTES_MAX, &mut raw)?;
        decode_index(&raw, trailer.chunks, trailer.summary_offset)
    }))
}

/// What fetching came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// The file is complete at its destination.
    Delivered {
        /// Its length in bytes.
        bytes: u64,
    },
    /// The store proved that it is not archived.
    Absent,
}

/// Writes an archived segment to `destination`, which appears only when it is complete. It is not synced: PostgreSQL replays it
/// from the cache, and asks again after a crash.
///
/// # Errors
/// [`Error::Damaged`], [`Error::File`], [`Error::Store`]. Nothing is left at the destination then.
pub fn fetch_segment(
    repository: &Repository,
    lineage: Lineage,
    name: &ArchiveName,
    size: WalSegmentSize,
    destination: &Path,
    threads: usize,
) -> Result<Fetched> {
    let path = object_path(lineage, name, size)?;
    let reader = match SegmentReader::open(repository, &path) {
        Ok(reader) => reader,
        Err(Error::Missing { .. }) => return Ok(Fetched::Absent),
        Err(error) => return Err(error),
    };
    let bytes = reader.index().raw_bytes;
    if bytes != u64::from(size.bytes()) {
        let what = format!("it holds {bytes} bytes, and segments of this cluster have {}", size.bytes());
        return Err(Error::Damaged { object: path.to_string(), what });
    }
    let file = TemporaryFile::create(destination)?;
    reader.read_chunks(threads, &|offset, chunk| file.write_at(offset, chunk))?;
    file.keep()?;
    Ok(Fetched::Delivered { bytes })
}

/// A file that gets its name only when it is complete, and disappears otherwise.
pub(super) struct TemporaryFile<'a> {
    file: File,
    path: PathBuf,
    destination: &'a Path,
    kept: bool,
}

impl<'a> TemporaryFile<'a> {
    pub(super) fn create(destination: &'a Path) -> Result<Self> {
        let mut name = destination.file_name().unwrap_or_default().to_owned();
        name.push(format!(".pgproof-{}.tmp", std::process::id()));
        let path = destination.with_file_name(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.map_err(file_error("create", &path))?;
        Ok(Self { file, path, destination, kept: false })
    }

    pub(super) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(file_error("write", &self.path))
    }

    pub(super) fn keep(mut self) -> Result<()> {
        fs::rename(&self.path, self.destination).map_err(file_error("rename", &self.path))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for TemporaryFile<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // What stays behind has a name that nobody reads, and the error on its way is the one to tell.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn file_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { operation, path: path.display().to_string(), source }
}

//! Storing one segment: read once, summarised, hashed, compressed and sealed by a few threads, put in one piece.
//!
//! The thread that reads also hashes and summarises, because both go through the content from begin to end while it is still in the
//! cache; the others compress chunks as they come. So a segment takes little longer than its slowest half, and the archiver's latency
//! is that of one core compressing half a segment plus one sync.

use super::index::{PushedBy, SegmentIndex};
use super::{CHUNK_BYTES, Trailer, header, object_path, sealer, summary::SegmentSummarizer};
use crate::codec::{Codec, Encoder};
use crate::framing::HEADER_BYTES;
use crate::layout::Lineage;
use crate::repository::Repository;
use crate::seal::{IdentityHasher, Salt, Sealer, Section};
use crate::{ContentId, Error, Result};
use pgproof_pg::{ArchiveName, WalSegmentSize};
use pgproof_store::{ObjectMeta, ObjectPath, PutMode, StoreError};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

/// How a segment is stored.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// How chunks are compressed.
    pub codec: Codec,
    /// Threads that compress, the reading one included. More than four gain nothing for 16 MB.
    pub threads: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { codec: Codec::Zstd { level: 1 }, threads: cores.min(4) }
    }
}

/// What storing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It was not there before.
    New {
        /// Bytes of the object.
        stored_bytes: u64,
    },
    /// The same content was archived before; nothing was written.
    SameContent,
}

/// Where a segment comes from.
#[derive(Debug, Clone, Copy)]
pub struct PushSource<'a> {
    /// The file.
    pub path: &'a Path,
    /// The name under which it is archived.
    pub name: &'a ArchiveName,
    /// Bytes of a segment of this cluster.
    pub segment_size: WalSegmentSize,
}

/// Chunks that are held in memory at once: 64 MB, every segment of the usual sizes.
const BATCH_CHUNKS: usize = 64;

/// Archives a segment or a partial one. When it returns `Ok`, the content is durable in the store.
///
/// # Errors
/// [`Error::WalConflict`] when the archive holds other content by this name, [`Error::File`] when the file cannot be read or is not
/// as long as a segment, [`Error::Store`].
pub fn store_segment(
    repository: &Repository,
    lineage: Lineage,
    source: PushSource<'_>,
    pushed: PushedBy,
    options: StoreOptions,
) -> Result<Stored> {
    let path = object_path(lineage, source.name, source.segment_size)?;
    let chunks = (source.segment_size.bytes() as usize).div_ceil(CHUNK_BYTES);
    let salt = Salt::random();
    let object = NewObject { repository, path, salt, pushed, options };
    let mut intake = Intake::open(repository, source)?;
    let (index, put) = match chunks <= BATCH_CHUNKS {
        true => object.put_at_once(&mut intake, chunks)?,
        false => object.put_in_batches(&mut intake, chunks)?,
    };
    match put {
        Ok(meta) => Ok(Stored::New { stored_bytes: meta.size }),
        Err(StoreError::AlreadyExists { .. }) => compare(repository, &object.path, source.name, &index),
        Err(source) => Err(Error::Store { operation: "archive a segment", source }),
    }
}

/// An object that is being made.
struct NewObject<'a> {
    repository: &'a Repository,
    path: ObjectPath,
    salt: Salt,
    pushed: PushedBy,
    options: StoreOptions,
}

type Put = std::result::Result<ObjectMeta, StoreError>;

impl NewObject<'_> {
    fn sealer(&self) -> Sealer {
        sealer(self.repository, &self.salt, &self.path)
    }

    fn put_at_once(&self, intake: &mut Intake<'_>, chunks: usize) -> Result<(SegmentIndex, Put)> {
        let sealer = self.sealer();
        let frames = intake.batch(0..chunks, &sealer, self.options)?;
        let (index, end) = self.end(intake, &sealer, lengths(&frames))?;
        let header = header(self.repository, self.salt).bytes();
        let mut parts: Vec<&[u8]> = Vec::with_capacity(frames.len() + 2);
        parts.push(&header);
        parts.extend(frames.iter().map(Vec::as_slice));
        parts.push(&end);
        let put = self.repository.store().put(&self.path, &parts, PutMode::IfAbsent);
        Ok((index, put))
    }

    fn put_in_batches(&self, intake: &mut Intake<'_>, chunks: usize) -> Result<(SegmentIndex, Put)> {
        let failed = || Error::store("archive a segment");
        let sealer = self.sealer();
        let mut writer = self.repository.store().writer(&self.path).map_err(failed())?;
        writer.write_all(&header(self.repository, self.salt).bytes()).map_err(failed())?;
        let mut stored = Vec::with_capacity(chunks);
        for first in (0..chunks).step_by(BATCH_CHUNKS) {
            let frames = intake.batch(first..chunks.min(first + BATCH_CHUNKS), &sealer, self.options)?;
            for frame in &frames {
                writer.write_all(frame).map_err(failed())?;
            }
            stored.extend(lengths(&frames));
        }
        let (index, end) = self.end(intake, &sealer, stored)?;
        writer.write_all(&end).map_err(failed())?;
        Ok((index, writer.finish(PutMode::IfAbsent)))
    }

    fn end(
        &self,
        intake: &mut Intake<'_>,
        sealer: &Sealer,
        frames: Vec<u32>,
    ) -> Result<(SegmentIndex, Vec<u8>)> {
        let (raw_bytes, identity, summary) = intake.finish()?;
        let index = SegmentIndex { raw_bytes, identity, frames, pushed: self.pushed.clone() };
        let end = seal_end(sealer, self.salt, &index, &summary)?;
        Ok((index, end))
    }
}

fn lengths(frames: &[Vec<u8>]) -> Vec<u32> {
    frames.iter().map(|frame| frame.len() as u32).collect()
}

/// The file on its way in.
struct Intake<'a> {
    source: PushSource<'a>,
    file: File,
    read_bytes: u64,
    hasher: IdentityHasher,
    summarizer: Option<SegmentSummarizer>,
}

/// A chunk on its way from the reader to whoever compresses it.
type Chunk = (usize, Vec<u8>);

impl<'a> Intake<'a> {
    fn open(repository: &Repository, source: PushSource<'a>) -> Result<Self> {
        let file = File::open(source.path).map_err(read_error(source))?;
        let hasher = repository.identity_hasher();
        let summarizer = SegmentSummarizer::new(source.name, source.segment_size);
        Ok(Self { source, file, read_bytes: 0, hasher, summarizer: Some(summarizer) })
    }

    /// Reads some chunks and gives their frames.
    fn batch(
        &mut self,
        chunks: Range<usize>,
        sealer: &Sealer,
        options: StoreOptions,
    ) -> Result<Vec<Vec<u8>>> {
        let slots: Vec<Mutex<Vec<u8>>> = chunks.clone().map(|_| Mutex::default()).collect();
        let first = chunks.start;
        // Everything read fits, so reading never waits and one thread alone can read first and compress then.
        let (send, receive) = sync_channel::<Chunk>(BATCH_CHUNKS);
        let receive = Mutex::new(receive);
        let compress = || compress_chunks(&receive, &slots, first, sealer, options.codec);
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..options.threads).map(|_| scope.spawn(compress)).collect();
            let read = self.read_chunks(chunks, send);
            let own = compress();
            let others = others
                .into_iter()
                .map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            read.and(own).and(others.collect::<Result<()>>())
        })?;
        let frames = slots.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
        Ok(frames.collect())
    }

    /// Hashing and summarising happen here, while the bytes are in the cache.
    fn read_chunks(&mut self, chunks: Range<usize>, send: SyncSender<Chunk>) -> Result<()> {
        for number in chunks {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            (&mut self.file)
                .take(CHUNK_BYTES as u64)
                .read_to_end(&mut chunk)
                .map_err(read_error(self.source))?;
            self.read_bytes += chunk.len() as u64;
            if chunk.len() < CHUNK_BYTES {
                return Err(self.wrong_length());
            }
            self.hasher.update(&chunk);
            if let Some(summarizer) = &mut self.summarizer {
                summarizer.push(&chunk);
            }
            if send.send((number, chunk)).is_err() {
                // Whoever compresses gave up, and says why.
                break;
            }
        }
        Ok(())
    }

    /// Length, identity and summary, once everything was read.
    fn finish(&mut self) -> Result<(u64, ContentId, Vec<u8>)> {
        let more = self.file.read(&mut [0]).map_err(read_error(self.source))?;
        if more > 0 {
            self.read_bytes += more as u64;
            return Err(self.wrong_length());
        }
        let summary = self.summarizer.take().map(SegmentSummarizer::finish).unwrap_or_default();
        Ok((self.read_bytes, self.hasher.finish(), summary))
    }

    fn wrong_length(&self) -> Error {
        let expected = u64::from(self.source.segment_size.bytes());
        let reason = match self.read_bytes > expected {
            true => format!("it is longer than a segment of {expected} bytes"),
            false => format!("it ends after {} bytes, and a segment has {expected}", self.read_bytes),
        };
        read_error(self.source)(io::Error::new(io::ErrorKind::InvalidData, reason))
    }
}

fn read_error(source: PushSource<'_>) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::File { operation: "read", path: source.path.display().to_string(), source: error }
}

/// Takes chunks until none come any more.
fn compress_chunks(
    receive: &Mutex<Receiver<Chunk>>,
    slots: &[Mutex<Vec<u8>>],
    first: usize,
    sealer: &Sealer,
    codec: Codec,
) -> Result<()> {
    let mut encoder = Encoder::new(codec)?;
    loop {
        let next = receive.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, chunk)) = next else { return Ok(()) };
        let mut frame = Vec::new();
        encoder.encode(&chunk, &mut frame)?;
        sealer.seal(Section::Content, number as u64, &mut frame, 0);
        if let Some(slot) = slots.get(number - first) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = frame;
        }
    }
}

/// Summary, index and trailer.
fn seal_end(sealer: &Sealer, salt: Salt, index: &SegmentIndex, summary: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = Encoder::new(Codec::default())?;
    let mut end = Vec::with_capacity(summary.len() + 4096);
    encoder.encode(summary, &mut end)?;
    sealer.seal(Section::Summary, 0, &mut end, 0);
    let summary_stored = end.len() as u32;
    encoder.encode(&index.encode(), &mut end)?;
    sealer.seal(Section::Index, 0, &mut end, summary_stored as usize);
    let content: u64 = index.frames.iter().map(|&frame| u64::from(frame)).sum();
    let trailer = Trailer {
        summary_offset: HEADER_BYTES + content,
        summary_stored,
        index_offset: HEADER_BYTES + content + u64::from(summary_stored),
        index_stored: end.len() as u32 - summary_stored,
        chunks: index.frames.len() as u32,
        salt,
    };
    end.extend_from_slice(&trailer.bytes());
    Ok(end)
}

/// What is there already is the same, or somebody else's.
fn compare(
    repository: &Repository,
    path: &ObjectPath,
    name: &ArchiveName,
    offered: &SegmentIndex,
) -> Result<Stored> {
    let present = super::SegmentReader::open(repository, path)?;
    let present = present.index();
    if present.identity == offered.identity && present.raw_bytes == offered.raw_bytes {
        return Ok(Stored::SameContent);
    }
    Err(conflict(name, (present.identity, &present.pushed), (offered.identity, &offered.pushed)))
}

/// Both sides of a conflict, so that a person sees which two servers it is about.
pub(super) fn conflict(
    name: &ArchiveName,
    archived: (ContentId, &PushedBy),
    offered: (ContentId, &PushedBy),
) -> Error {
    let side = |(identity, by): (ContentId, &PushedBy)| {
        format!("{identity} from {} on {} (writer epoch {}) at {}", by.pgdata, by.host, by.epoch, by.at)
    };
    Error::WalConflict { name: name.to_string(), archived: side(archived), offered: side(offered) }
}

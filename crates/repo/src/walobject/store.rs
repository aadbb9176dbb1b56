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
use crate::parallel::lock;
use crate::repository::Repository;
use crate::seal::{IdentityHasher, Salt, Sealer, Section, TAG_BYTES};
use crate::{ContentId, Error, Result};
use pgproof_pg::{ArchiveName, WalSegmentSize};
use pgproof_store::{ObjectMeta, ObjectPath, PutMode, StoreError};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
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

/// Read, hashed and summarised before the next ones are, so that they stay in the core's own cache meanwhile: a chunk as a whole would not.
const PIECE_BYTES: usize = 128 << 10;

/// Chunks whose frames are held in memory at once: 64 MB at most, every segment of the usual sizes.
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
    store_segment_unless(repository, lineage, source, pushed, options, &AtomicBool::new(false))
}

/// The same, unless the file was `withdrawn` before all of it was read: then nothing is stored. Whoever gives up waiting sets this before
/// anybody may overwrite the file.
///
/// # Errors
/// As for [`store_segment`], and [`Error::Withdrawn`].
pub fn store_segment_unless(
    repository: &Repository,
    lineage: Lineage,
    source: PushSource<'_>,
    pushed: PushedBy,
    options: StoreOptions,
    withdrawn: &AtomicBool,
) -> Result<Stored> {
    let path = object_path(lineage, source.name, source.segment_size)?;
    let chunks = (source.segment_size.bytes() as usize).div_ceil(CHUNK_BYTES);
    let salt = Salt::random();
    let object = NewObject { repository, path, salt, pushed, options, withdrawn };
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
    withdrawn: &'a AtomicBool,
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
        // All of it was read by now; nothing of it has its name yet.
        if self.withdrawn.load(Ordering::SeqCst) {
            return Err(Error::Withdrawn { path: intake.source.path.display().to_string() });
        }
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
        // As many may wait as there are threads; then the reading one compresses too.
        let (send, receive) = sync_channel::<Chunk>(options.threads.max(1));
        let work = Work {
            receive: Mutex::new(receive),
            idle: Mutex::default(),
            first: chunks.start,
            frames: chunks.clone().map(|_| Mutex::default()).collect(),
            sealer,
            codec: options.codec,
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..options.threads)
                .map(|_| scope.spawn(|| work.compress_waiting(&mut work.encoder()?)))
                .collect();
            let own = self.read_chunks(chunks, send, &work);
            let others = others
                .into_iter()
                .map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            own.and(others.collect::<Result<()>>())
        })?;
        Ok(work
            .frames
            .into_iter()
            .map(|frame| frame.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect())
    }

    fn read_chunks(&mut self, chunks: Range<usize>, send: SyncSender<Chunk>, work: &Work<'_>) -> Result<()> {
        let mut encoder = work.encoder()?;
        for number in chunks {
            let mut chunk = work.idle_buffer();
            self.read_chunk(&mut chunk)?;
            match send.try_send((number, chunk)) {
                Ok(()) => {}
                Err(TrySendError::Full(chunk) | TrySendError::Disconnected(chunk)) => {
                    work.compress(&mut encoder, chunk)?;
                }
            }
        }
        drop(send);
        work.compress_waiting(&mut encoder)
    }

    /// Reads one chunk, which is full: segments are whole megabytes.
    fn read_chunk(&mut self, chunk: &mut [u8]) -> Result<()> {
        for piece in chunk.chunks_mut(PIECE_BYTES) {
            let read = fill(&mut self.file, piece).map_err(read_error(self.source))?;
            self.read_bytes += read as u64;
            if read < piece.len() {
                return Err(self.wrong_length());
            }
            self.hasher.update(piece);
            if let Some(summarizer) = &mut self.summarizer {
                summarizer.push(piece);
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

/// Reads until the buffer is full or the file ends. (`read_to_end` begins with small reads, each time anew.)
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn read_error(source: PushSource<'_>) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::File { operation: "read", path: source.path.display().to_string(), source: error }
}

/// What the threads of one batch share.
struct Work<'a> {
    receive: Mutex<Receiver<Chunk>>,
    /// Buffers that were used. Memory that is new to a process costs more than what is done with it here.
    idle: Mutex<Vec<Vec<u8>>>,
    /// Number of the first chunk.
    first: usize,
    frames: Vec<Mutex<Vec<u8>>>,
    sealer: &'a Sealer,
    codec: Codec,
}

/// What a thread compresses with.
struct FrameEncoder {
    encoder: Encoder,
    scratch: Vec<u8>,
}

impl Work<'_> {
    fn encoder(&self) -> Result<FrameEncoder> {
        Ok(FrameEncoder { encoder: Encoder::new(self.codec)?, scratch: Vec::new() })
    }

    fn idle_buffer(&self) -> Vec<u8> {
        lock(&self.idle).pop().unwrap_or_else(|| vec![0; CHUNK_BYTES])
    }

    /// Takes chunks until none come any more.
    fn compress_waiting(&self, encoder: &mut FrameEncoder) -> Result<()> {
        loop {
            let next = lock(&self.receive).recv();
            let Ok(chunk) = next else { return Ok(()) };
            self.compress(encoder, chunk)?;
        }
    }

    fn compress(&self, encoder: &mut FrameEncoder, (number, chunk): Chunk) -> Result<()> {
        // Room for the worst case is made once; what is kept until all are there is as long as it is.
        encoder.scratch.clear();
        encoder.encoder.encode(&chunk, &mut encoder.scratch)?;
        lock(&self.idle).push(chunk);
        let mut frame = Vec::with_capacity(encoder.scratch.len() + TAG_BYTES);
        frame.extend_from_slice(&encoder.scratch);
        self.sealer.seal(Section::Content, number as u64, &mut frame, 0);
        if let Some(slot) = self.frames.get(number - self.first) {
            *lock(slot) = frame;
        }
        Ok(())
    }
}

/// Summary, index and trailer.
pub(super) fn seal_end(sealer: &Sealer, salt: Salt, index: &SegmentIndex, summary: &[u8]) -> Result<Vec<u8>> {
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

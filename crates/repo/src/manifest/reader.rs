//! Reading manifests: the end first, files when they are asked for.

use super::entry::{Admission, ChunkEntries, ChunkLookup};
use super::index::{Chunk, Index};
use super::{
    BackupSummary, CHUNK_BYTES_MAX, FileEntry, INDEX_BYTES_MAX, PackTable, SUMMARY_BYTES_MAX, TRAILER_BYTES,
    Trailer, header,
};
use crate::codec::Decoder;
use crate::error::Malformed;
use crate::framing::HEADER_BYTES;
use crate::layout::{BackupId, Content, Lineage};
use crate::lru::Lru;
use crate::parallel::lock;
use crate::repository::Repository;
use crate::seal::{ObjectKind, Salt, Sealer, Section};
use crate::{Error, Result};
use pgproof_store::ObjectPath;
use std::sync::{Arc, Mutex};

/// Asked for at once: the end of most manifests, and all of a small one.
const TAIL_BYTES: u64 = 512 << 10;

/// Chunks in which files were looked up and that are remembered: usually of 256 KiB.
const LOOKUPS: usize = 8;

/// An open manifest.
pub struct Manifest {
    repository: Repository,
    path: ObjectPath,
    sealer: Sealer,
    salt: Salt,
    size: u64,
    summary: BackupSummary,
    index: Index,
    /// The end of the object as it was read: chunks that lie in it need no further request.
    tail: Vec<u8>,
    lookups: Mutex<Lru<usize, Arc<ChunkLookup>>>,
}

impl std::fmt::Debug for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Manifest({})", self.path)
    }
}

impl Manifest {
    /// Opens the manifest of a backup: one request, two when index and summary are long.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is none, [`Error::Damaged`] when it is not what was written, [`Error::Store`].
    pub fn open(repository: &Repository, lineage: impl Into<Lineage>, backup: &BackupId) -> Result<Self> {
        let lineage = lineage.into();
        let path = lineage.backup(*backup).manifest();
        let damaged = |malformed: Malformed| malformed.in_object(path.as_str());
        let store = repository.store();
        let (mut tail, size) = store.get_tail(&path, TAIL_BYTES).map_err(|source| {
            if source.is_not_found() {
                Error::Missing { object: path.to_string() }
            } else {
                Error::Store { operation: "read a manifest", source }
            }
        })?;
        let too_short = || damaged(Malformed::new("it is too short"));
        let trailer_start = tail.len().checked_sub(TRAILER_BYTES).ok_or_else(too_short)?;
        let trailer = Trailer::parse(&tail[trailer_start..], size).map_err(damaged)?;
        let ends = trailer.index_stored as usize + trailer.summary_stored as usize;
        if ends > trailer_start {
            tail = vec![0; ends + TRAILER_BYTES];
            store
                .get_range(&path, trailer.index_offset, &mut tail)
                .map_err(Error::store("read a manifest"))?;
        }
        let sealer = repository.sealer(ObjectKind::Manifest, &trailer.salt, &path);
        let index_start = tail.len() - TRAILER_BYTES - ends;
        let frames = &mut tail[index_start..index_start + ends];
        let (summary, index) = open_ends(frames, &trailer, &sealer).map_err(damaged_by(&path))?;
        if summary.id != *backup || summary.system != lineage.system() {
            return Err(damaged(Malformed::new("its summary is that of another backup")));
        }
        if summary.dump.is_some() != (lineage.content() == Content::Dumps) {
            return Err(damaged(Malformed::new("a dump and a backup of files lie in each other's place")));
        }
        // What was decrypted in place is of no more use; chunks before it are.
        tail.truncate(index_start);
        Ok(Self {
            repository: repository.clone(),
            sealer,
            salt: trailer.salt,
            path,
            size,
            summary,
            index,
            tail,
            lookups: Mutex::new(Lru::new(LOOKUPS)),
        })
    }

    /// What the backup is.
    pub fn summary(&self) -> &BackupSummary {
        &self.summary
    }

    /// The packs that its files lie in.
    pub fn packs(&self) -> &PackTable {
        &self.index.packs
    }

    /// Where it lies.
    pub fn path(&self) -> &ObjectPath {
        &self.path
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many files, directories and links it has.
    pub fn entries(&self) -> u64 {
        self.index.chunks.iter().map(|chunk| u64::from(chunk.entries)).sum()
    }

    /// All files, directories and links in order of path; one chunk of them is in memory at a time.
    pub fn files(&self) -> Files<'_> {
        Files { manifest: self, next_chunk: 0, admission: Admission::default(), chunk: None }
    }

    /// One file, directory or link: reads one chunk, or none that was read lately. `None` when there is none of this path.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Store`].
    pub fn file(&self, path: &str) -> Result<Option<FileEntry>> {
        let after = self.index.chunks.partition_point(|chunk| chunk.first_path.as_str() <= path);
        let Some(number) = after.checked_sub(1) else { return Ok(None) };
        let known = lock(&self.lookups).get(&number);
        let damaged = |malformed: Malformed| malformed.in_object(self.path.as_str());
        let lookup = match known {
            Some(lookup) => lookup,
            None => {
                let read = ChunkLookup::new(self.chunk(number)?, &self.index.packs).map_err(damaged)?;
                let read = Arc::new(read);
                lock(&self.lookups).insert(number, Arc::clone(&read));
                read
            }
        };
        lookup.find(path, &self.index.packs).map_err(damaged)
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
            .map_err(Error::store("read the header of a manifest"))?;
        header(&self.repository, self.salt).check(&found, self.path.as_str())
    }

    /// The raw bytes of a chunk.
    fn chunk(&self, number: usize) -> Result<Vec<u8>> {
        let Chunk { offset, stored, .. } = self.index.chunks[number];
        let mut frame = vec![0; stored as usize];
        // `tail` ends where the index begins.
        let tail_start = self.index_offset() - self.tail.len() as u64;
        match offset.checked_sub(tail_start) {
            Some(start) => frame.copy_from_slice(&self.tail[start as usize..][..stored as usize]),
            None => self
                .repository
                .store()
                .get_range(&self.path, offset, &mut frame)
                .map_err(Error::store("read a manifest"))?,
        }
        let mut raw = Vec::new();
        let payload = self.sealer.open(Section::Files, number as u64, &mut frame);
        let mut decoder = Decoder::new()?;
        payload
            .and_then(|payload| decoder.decode(payload, CHUNK_BYTES_MAX, &mut raw))
            .map_err(|malformed| malformed.in_object(self.path.as_str()))?;
        Ok(raw)
    }

    fn index_offset(&self) -> u64 {
        self.index.chunks.last().map_or(HEADER_BYTES, |last| last.offset + u64::from(last.stored))
    }
}

/// Why the end of a manifest could not be read.
enum EndError {
    Malformed(Malformed),
    Summary(serde_json::Error),
    Decoder(Error),
}

impl From<Malformed> for EndError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

fn damaged_by(path: &ObjectPath) -> impl Fn(EndError) -> Error {
    move |error| match error {
        EndError::Malformed(malformed) => malformed.in_object(path.as_str()),
        EndError::Summary(error) => {
            Error::Damaged { object: path.to_string(), what: format!("its summary cannot be read: {error}") }
        }
        EndError::Decoder(error) => error,
    }
}

/// Opens the frames of index and summary, which lie one behind the other.
fn open_ends(
    frames: &mut [u8],
    trailer: &Trailer,
    sealer: &Sealer,
) -> Result<(BackupSummary, Index), EndError> {
    let mut decoder = Decoder::new().map_err(EndError::Decoder)?;
    let mut raw = Vec::new();
    let (index, summary) = frames.split_at_mut(trailer.index_stored as usize);
    let payload = sealer.open(Section::Index, trailer.chunks.into(), index)?;
    decoder.decode(payload, INDEX_BYTES_MAX, &mut raw)?;
    let index = Index::decode(&raw, trailer.chunks, trailer.index_offset)?;
    let payload = sealer.open(Section::Summary, 0, summary)?;
    decoder.decode(payload, SUMMARY_BYTES_MAX, &mut raw)?;
    let summary = serde_json::from_slice(&raw).map_err(EndError::Summary)?;
    Ok((summary, index))
}

/// Walks all entries of a manifest. After an error it ends.
#[derive(Debug)]
pub struct Files<'a> {
    manifest: &'a Manifest,
    next_chunk: usize,
    admission: Admission,
    chunk: Option<OpenChunk>,
}

/// The chunk being walked, and what its index says of it.
#[derive(Debug)]
struct OpenChunk {
    entries: ChunkEntries,
    /// Entries that must still come.
    left: u32,
    /// Path of the next entry, while it is the first.
    first_path: Option<String>,
}

impl Files<'_> {
    fn step(&mut self) -> Result<Option<FileEntry>> {
        let damaged = |malformed: Malformed| malformed.in_object(self.manifest.path.as_str());
        loop {
            let Some(chunk) = &mut self.chunk else {
                let Some(next) = self.manifest.index.chunks.get(self.next_chunk) else { return Ok(None) };
                let entries = ChunkEntries::new(self.manifest.chunk(self.next_chunk)?);
                let first_path = Some(next.first_path.clone());
                self.chunk = Some(OpenChunk { entries, left: next.entries, first_path });
                self.next_chunk += 1;
                continue;
            };
            let entry = chunk.entries.next(&self.manifest.index.packs).transpose().map_err(damaged)?;
            let as_described = match &entry {
                Some(entry) => {
                    chunk.left > 0 && chunk.first_path.take().is_none_or(|path| path == entry.path)
                }
                None => chunk.left == 0,
            };
            if !as_described {
                return Err(damaged(Malformed::new("a chunk is not the one that its index describes")));
            }
            let Some(entry) = entry else {
                self.chunk = None;
                continue;
            };
            chunk.left -= 1;
            self.admission.admit(&entry).map_err(damaged)?;
            return Ok(Some(entry));
        }
    }
}

impl Iterator for Files<'_> {
    type Item = Result<FileEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.next_chunk = usize::MAX;
            self.chunk = None;
        }
        step.transpose()
    }
}

//! Stores files: cut into chunks, each an extent and an entry of the manifest, unless the repository holds its content already.
//!
//! A file `toc.dat` becomes the entries `toc.dat/00000000`, `toc.dat/00000001` and so on; one behind the other they are the file again.

use crate::chunk::{CHUNK_MAX, cut};
use crate::error::DumpError;
use crate::known::Known;
use pgproof_base::Progress;
use pgproof_repo::{
    BackupId, Codec, ContentId, Encoder, ExtentRef, FileEntry, FileKind, FileMap, Lineage, PAGE_BYTES,
    PackIndex, PackInfo, PackNumber, PackPiece, PackWriter, Repository,
};
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender};

/// Permission bits that a load gives to files.
const MODE: u32 = 0o600;

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) lineage: Lineage,
    pub(crate) dump: BackupId,
    pub(crate) codec: Codec,
    pub(crate) pack_bytes: u64,
    pub(crate) known: Known,
    pub(crate) next_pack: AtomicU32,
    /// Index of this dump's pack 0 in the manifest's table.
    pub(crate) first_index: u32,
}

/// A file to store, and then to remove.
#[derive(Debug)]
pub(crate) struct Job {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What the dump calls it.
    pub(crate) name: String,
}

/// A file that was stored.
#[derive(Debug)]
pub(crate) struct StoredFile {
    /// Its chunks, in order.
    pub(crate) entries: Vec<FileEntry>,
    /// Its bytes.
    pub(crate) bytes: u64,
    /// Bytes of them that were not known.
    pub(crate) bytes_new: u64,
}

/// Takes jobs until there are no more; gives the packs that were written.
pub(crate) fn work(
    sink: &Sink<'_>,
    jobs: &Mutex<Receiver<Job>>,
    done: &Sender<Result<StoredFile, DumpError>>,
    progress: &dyn Progress,
) -> Result<Vec<PackInfo>, DumpError> {
    let mut storer = Storer::new(sink)?;
    loop {
        let next = jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
        let Ok(job) = next else { break };
        let stored = storer.store(&job, progress);
        let failed = stored.is_err();
        // Whoever waits for the result is gone when another thread has failed.
        if done.send(stored).is_err() || failed {
            return Ok(Vec::new());
        }
    }
    storer.finish()
}

struct Storer<'a, 'b> {
    sink: &'a Sink<'b>,
    encoder: Encoder,
    pack: Option<(PackIndex, PackWriter)>,
    packs: Vec<PackInfo>,
    /// Read and not stored yet.
    content: Vec<u8>,
    pages: Vec<u8>,
}

impl<'a, 'b> Storer<'a, 'b> {
    fn new(sink: &'a Sink<'b>) -> Result<Self, DumpError> {
        let encoder = Encoder::new(sink.codec).map_err(DumpError::repo("prepare the compressor"))?;
        Ok(Self { sink, encoder, pack: None, packs: Vec::new(), content: Vec::new(), pages: Vec::new() })
    }

    fn store(&mut self, job: &Job, progress: &dyn Progress) -> Result<StoredFile, DumpError> {
        let file = File::open(&job.path).map_err(DumpError::host("open", &job.path))?;
        let stored = self.store_content(file, &job.path, &job.name, progress)?;
        fs::remove_file(&job.path).map_err(DumpError::host("remove", &job.path))?;
        Ok(stored)
    }

    fn store_content(
        &mut self,
        file: impl Read,
        path: &Path,
        name: &str,
        progress: &dyn Progress,
    ) -> Result<StoredFile, DumpError> {
        let mut stored = StoredFile { entries: Vec::new(), bytes: 0, bytes_new: 0 };
        let mut file = file.take(u64::MAX);
        self.content.clear();
        loop {
            let wanted = (CHUNK_MAX - self.content.len()) as u64;
            file.set_limit(wanted);
            file.read_to_end(&mut self.content).map_err(DumpError::host("read", path))?;
            let length = cut(&self.content);
            // An empty file has one empty chunk, so that it is there.
            if length == 0 && !stored.entries.is_empty() {
                return Ok(stored);
            }
            let entry = format!("{name}/{:08}", stored.entries.len());
            let (entry, new) = self.store_chunk(entry, length)?;
            stored.bytes += length as u64;
            stored.bytes_new += if new { length as u64 } else { 0 };
            stored.entries.push(entry);
            self.content.drain(..length);
            progress.advance(length as u64);
        }
    }

    /// Stores the first bytes of what was read; says whether they were new.
    fn store_chunk(&mut self, path: String, length: usize) -> Result<(FileEntry, bool), DumpError> {
        let mut entry = FileEntry {
            path,
            kind: FileKind::File,
            mode: MODE,
            modified: 0,
            length: length as u64,
            map: FileMap::new(),
        };
        if length == 0 {
            return Ok((entry, false));
        }
        self.pages.clear();
        self.pages.extend_from_slice(&self.content[..length]);
        self.pages.resize(length.next_multiple_of(PAGE_BYTES), 0);
        let blocks = (self.pages.len() / PAGE_BYTES) as u32;
        let identity = self.sink.repository.identity(&self.pages);
        let (extent, new) = match self.sink.known.find(identity) {
            Some(extent) => (extent, false),
            None => (self.append(identity, &entry.path, blocks)?, true),
        };
        let whole = [Range { start: 0, end: blocks }];
        entry.map = FileMap::from_pieces([(extent, whole.as_slice())], blocks)
            .map_err(DumpError::repo("describe a file"))?;
        Ok((entry, new))
    }

    fn append(&mut self, identity: ContentId, path: &str, blocks: u32) -> Result<ExtentRef, DumpError> {
        if self.pack.is_none() {
            self.pack = Some(self.open_pack()?);
        }
        let Some((index, pack)) = self.pack.as_mut() else { unreachable!("a pack was opened above") };
        let whole = [Range { start: 0, end: blocks }];
        let piece = PackPiece { file: path, pages: blocks as u16, blocks: &whole };
        let place = pack
            .append(&mut self.encoder, &self.pages, identity, &[piece])
            .map_err(DumpError::repo("write to a pack"))?;
        let extent = ExtentRef::whole(*index, place);
        self.sink.known.add(identity, extent);
        if pack.size() >= self.sink.pack_bytes {
            self.close_pack()?;
        }
        Ok(extent)
    }

    fn open_pack(&self) -> Result<(PackIndex, PackWriter), DumpError> {
        let number = self.sink.next_pack.fetch_add(1, Ordering::Relaxed);
        let Sink { repository, lineage, dump, .. } = self.sink;
        let writer = PackWriter::create(repository, *lineage, dump, PackNumber(number))
            .map_err(DumpError::repo("begin a pack"))?;
        Ok((PackIndex(self.sink.first_index + number), writer))
    }

    fn close_pack(&mut self) -> Result<(), DumpError> {
        if let Some((_, pack)) = self.pack.take() {
            self.packs.push(pack.finish().map_err(DumpError::repo("finish a pack"))?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<PackInfo>, DumpError> {
        self.close_pack()?;
        Ok(self.packs)
    }
}

//! Writing a manifest: entries in order of path, one chunk in memory at a time.

use super::entry::{Admission, EntryCoder};
use super::index::{Chunk, Index};
use super::packs::LivePacks;
use super::{
    BackupSummary, CHUNK_BYTES, CHUNK_BYTES_MAX, FileEntry, INDEX_BYTES_MAX, PackTable, SUMMARY_BYTES_MAX,
    Trailer, header,
};
use crate::codec::{Codec, Encoder};
use crate::layout::{BackupId, Lineage};
use crate::map::blocks_of;
use crate::repository::Repository;
use crate::seal::{ContentId, IdentityHasher, ObjectKind, Salt, Sealer, Section};
use crate::{Error, Malformed, Result};
use pgproof_store::{ObjectPath, ObjectWriter, PutMode};

/// A manifest that was written. What a backup's outcome says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestInfo {
    /// Its size in bytes.
    pub size: u64,
    /// Identity of all of its bytes.
    pub identity: ContentId,
    /// The packs it refers to.
    pub packs: PackTable,
}

/// A manifest in the making. Dropped without [`ManifestWriter::finish`] it leaves nothing.
pub struct ManifestWriter {
    path: ObjectPath,
    object: Box<dyn ObjectWriter>,
    sealer: Sealer,
    salt: Salt,
    hasher: IdentityHasher,
    encoder: Encoder,
    admission: Admission,
    coder: EntryCoder,
    /// The chunk so far, raw.
    raw: Vec<u8>,
    first_path: String,
    entries: u32,
    chunks: Vec<Chunk>,
    size: u64,
    live: LivePacks,
    frame: Vec<u8>,
}

impl std::fmt::Debug for ManifestWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ManifestWriter({}, {} bytes)", self.path, self.size)
    }
}

fn refused(reason: impl Into<String>) -> Error {
    Error::Refused { operation: "write a manifest", reason: reason.into() }
}

impl ManifestWriter {
    /// Begins a manifest.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn create(repository: &Repository, lineage: impl Into<Lineage>, backup: &BackupId) -> Result<Self> {
        let path = lineage.into().backup(*backup).manifest();
        let object = repository.store().writer(&path).map_err(Error::store("begin a manifest"))?;
        let salt = Salt::random();
        let mut writer = Self {
            sealer: repository.sealer(ObjectKind::Manifest, &salt, &path),
            path,
            object,
            salt,
            hasher: repository.identity_hasher(),
            encoder: Encoder::new(Codec::default())?,
            admission: Admission::default(),
            coder: EntryCoder::default(),
            raw: Vec::with_capacity(2 * CHUNK_BYTES),
            first_path: String::new(),
            entries: 0,
            chunks: Vec::new(),
            size: 0,
            live: LivePacks::default(),
            frame: Vec::new(),
        };
        writer.write(&header(repository, salt).bytes())?;
        Ok(writer)
    }

    /// Adds an entry. Paths come in byte order.
    ///
    /// # Errors
    /// [`Error::Refused`] for a path that is unsafe, out of order or below a symbolic link, and for a file that cannot be described;
    /// [`Error::Store`], after which the writer can only be dropped.
    pub fn add(&mut self, entry: &FileEntry) -> Result<()> {
        let about = |malformed: Malformed| refused(format!("{}: {malformed}", entry.path.escape_debug()));
        self.admission.admit(entry).map_err(about)?;
        let blocks = blocks_of(entry.length);
        let last = entry.map.runs().last().map_or(0, |run| u64::from(run.block) + u64::from(run.pages));
        if blocks.is_none_or(|blocks| last > u64::from(blocks)) {
            return Err(about(Malformed::new("its map and its length do not go together")));
        }
        if self.entries == 0 {
            self.first_path.clone_from(&entry.path);
        }
        self.coder.encode(entry, &mut self.raw);
        self.entries += 1;
        self.live.add(&entry.map);
        if self.raw.len() >= CHUNK_BYTES {
            self.close_chunk()?;
        }
        Ok(())
    }

    fn close_chunk(&mut self) -> Result<()> {
        if self.entries == 0 {
            return Ok(());
        }
        if self.raw.len() > CHUNK_BYTES_MAX {
            return Err(refused(format!("{} has too many extents", self.coder_path())));
        }
        let raw = std::mem::take(&mut self.raw);
        let offset = self.size;
        let stored = self.write_frame(Section::Files, self.chunks.len() as u64, &raw)?;
        let first_path = std::mem::take(&mut self.first_path);
        self.chunks.push(Chunk { offset, stored, first_path, entries: self.entries });
        (self.entries, self.coder, self.raw) = (0, EntryCoder::default(), raw);
        self.raw.clear();
        Ok(())
    }

    fn coder_path(&self) -> String {
        self.first_path.escape_debug().to_string()
    }

    fn write_frame(&mut self, section: Section, number: u64, raw: &[u8]) -> Result<u32> {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        self.encoder.encode(raw, &mut frame)?;
        self.sealer.seal(section, number, &mut frame, 0);
        self.write(&frame)?;
        let stored = frame.len() as u32;
        self.frame = frame;
        Ok(stored)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.object.write_all(bytes).map_err(Error::store("write a manifest"))
    }

    /// Writes index and summary and makes the manifest visible, durably when this returns. Never overwrites one. `packs` are all packs
    /// that maps may refer to; only those that they do refer to are kept.
    ///
    /// # Errors
    /// [`Error::Refused`] when a map names a pack or an extent that `packs` does not hold, or the summary is too long; [`Error::Store`], and
    /// [`Error::is_conflict`] when there is a manifest of this backup.
    pub fn finish(self, packs: &PackTable, summary: &BackupSummary) -> Result<ManifestInfo> {
        self.finish_with(packs, summary, PutMode::IfAbsent)
    }

    /// As [`ManifestWriter::finish`], and with `IfMatch` in place of exactly the version that is known to be damaged.
    ///
    /// # Errors
    /// As [`ManifestWriter::finish`].
    pub(crate) fn finish_with(
        mut self,
        packs: &PackTable,
        summary: &BackupSummary,
        mode: PutMode,
    ) -> Result<ManifestInfo> {
        self.close_chunk()?;
        let packs = packs.used(&self.live)?;
        let index = Index { packs, chunks: std::mem::take(&mut self.chunks) };
        let raw_index = index.encode();
        let raw_summary = serde_json::to_vec(summary).map_err(|error| refused(error.to_string()))?;
        if raw_index.len() > INDEX_BYTES_MAX || raw_summary.len() > SUMMARY_BYTES_MAX {
            return Err(refused("its index or summary would become too long"));
        }
        let chunks = index.chunks.len() as u32;
        let index_offset = self.size;
        let index_stored = self.write_frame(Section::Index, chunks.into(), &raw_index)?;
        let summary_offset = self.size;
        let summary_stored = self.write_frame(Section::Summary, 0, &raw_summary)?;
        let trailer =
            Trailer { index_offset, index_stored, summary_offset, summary_stored, chunks, salt: self.salt };
        self.write(&trailer.bytes())?;
        self.object.finish(mode).map_err(Error::store("finish a manifest"))?;
        Ok(ManifestInfo { size: self.size, identity: self.hasher.finish(), packs: index.packs })
    }
}

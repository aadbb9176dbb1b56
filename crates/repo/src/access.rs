//! Single pages of a backup, at random: what a sandbox, a diagnosis and a look into the past live on.
//!
//! [`PageReader`] is shared by threads. A cold page costs one ranged request for its extent; finding a file costs one more the first
//! time. What was found (where a file's blocks lie, the extents decoded last) is remembered within bounds.

use crate::lru::Lru;
use crate::manifest::{FileKind, Manifest};
use crate::map::{ExtentRef, FileMap, PAGE_BYTES, blocks_of};
use crate::pack::ExtentReader;
use crate::repository::Repository;
use crate::{BackupId, Error, Result};
use pgproof_pg::SystemIdentifier;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A page as PostgreSQL has it.
pub type Page = [u8; PAGE_BYTES];

/// How much a [`PageReader`] remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessLimits {
    /// Files whose maps are remembered. The map of a file of 1 GiB takes about 400 kB.
    pub files: usize,
    /// Decoded extents that are remembered, of usually 128 KiB.
    pub extents: usize,
}

impl Default for AccessLimits {
    /// About 64 MiB.
    fn default() -> Self {
        Self { files: 128, extents: 128 }
    }
}

/// What a backup holds of one file.
#[derive(Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Length in bytes.
    pub length: u64,
    /// Where its blocks lie.
    pub map: FileMap,
}

/// An extent by pack number and frame.
type ExtentKey = (u32, u32);

/// Reads pages of one backup.
#[derive(Debug)]
pub struct PageReader {
    repository: Repository,
    system: SystemIdentifier,
    manifest: Manifest,
    files: Mutex<Lru<String, Option<Arc<StoredFile>>>>,
    extents: Mutex<Lru<ExtentKey, Arc<Vec<u8>>>>,
    /// Readers that no thread uses right now.
    idle: Mutex<Vec<ExtentReader>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PageReader {
    /// Opens a backup for reading pages.
    ///
    /// # Errors
    /// As [`Manifest::open`].
    pub fn open(
        repository: &Repository,
        system: SystemIdentifier,
        backup: &BackupId,
        limits: AccessLimits,
    ) -> Result<Self> {
        Ok(Self {
            repository: repository.clone(),
            system,
            manifest: Manifest::open(repository, system, backup)?,
            files: Mutex::new(Lru::new(limits.files)),
            extents: Mutex::new(Lru::new(limits.extents)),
            idle: Mutex::new(Vec::new()),
        })
    }

    /// The manifest that is read by.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Length and map of a file; `None` when the backup has no file of this path.
    ///
    /// # Errors
    /// As [`Manifest::file`].
    pub fn file(&self, path: &str) -> Result<Option<Arc<StoredFile>>> {
        if let Some(known) = lock(&self.files).get(&path.to_owned()) {
            return Ok(known);
        }
        let entry = self.manifest.file(path)?.filter(|entry| entry.kind == FileKind::File);
        let file = entry.map(|entry| Arc::new(StoredFile { length: entry.length, map: entry.map }));
        lock(&self.files).insert(path.to_owned(), file.clone());
        Ok(file)
    }

    /// Reads a page. Behind the end of a file that is no multiple of 8192 long, and in its holes, there are zeroes.
    ///
    /// # Errors
    /// [`Error::Refused`] when the backup has no such file or the file no such block; [`Error::Damaged`], [`Error::Missing`], [`Error::Store`].
    pub fn page(&self, path: &str, block: u32, page: &mut Page) -> Result<()> {
        let refused = |reason| Error::Refused { operation: "read a page", reason };
        let file = self.file(path)?.ok_or_else(|| refused(format!("the backup has no file {path}")))?;
        if blocks_of(file.length).is_none_or(|blocks| block >= blocks) {
            return Err(refused(format!("{path} has no block {block}")));
        }
        let Some(location) = file.map.locate(block) else {
            page.fill(0);
            return Ok(());
        };
        let pages = self.extent(location.extent)?;
        let start = usize::from(location.page) * PAGE_BYTES;
        // Two entries of a forged manifest could tell different things of one extent.
        let found = pages.get(start..start + PAGE_BYTES).ok_or_else(|| Error::Damaged {
            object: self.manifest.path().to_string(),
            what: format!("extent {} has fewer pages than is said of it", location.extent.frame),
        })?;
        page.copy_from_slice(found);
        Ok(())
    }

    /// All pages of an extent, of which the file's are a part.
    ///
    /// # Errors
    /// As [`ExtentReader::read`].
    pub fn extent(&self, extent: &ExtentRef) -> Result<Arc<Vec<u8>>> {
        let key = (extent.pack.0, extent.frame);
        if let Some(pages) = lock(&self.extents).get(&key) {
            return Ok(pages);
        }
        let pack = self.manifest.packs().get(extent.pack)?;
        let idle = lock(&self.idle).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => ExtentReader::new(&self.repository, self.system)?,
        };
        let mut pages = Vec::new();
        let read = reader.read(pack, extent, &mut pages);
        lock(&self.idle).push(reader);
        read?;
        let pages = Arc::new(pages);
        lock(&self.extents).insert(key, pages.clone());
        Ok(pages)
    }
}

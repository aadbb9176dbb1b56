//! Single pages of a backup, at random: what a sandbox, a diagnosis and a look into the past live on.
//!
//! [`PageReader`] is shared by threads. A cold page costs one ranged request for its extent; finding a file costs one more the first
//! time. What was found (where a file's blocks lie, the extents decoded last) is remembered within bounds.

use crate::lru::Lru;
use crate::manifest::{FileKind, Manifest};
use crate::map::{ExtentRef, FileMap, PAGE_BYTES, blocks_of};
use crate::pack::ExtentReader;
use crate::parallel::lock;
use crate::repository::Repository;
use crate::{BackupId, Error, Lineage, Result};
use std::sync::{Arc, Mutex};

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
    lineage: Lineage,
    manifest: Manifest,
    files: Mutex<Lru<String, Option<Arc<StoredFile>>>>,
    extents: Mutex<Lru<ExtentKey, Arc<Vec<u8>>>>,
    /// Readers that no thread uses right now.
    idle: Mutex<Vec<ExtentReader>>,
}

impl PageReader {
    /// Opens a backup for reading pages.
    ///
    /// # Errors
    /// As [`Manifest::open`].
    pub fn open(
        repository: &Repository,
        lineage: impl Into<Lineage>,
        backup: &BackupId,
        limits: AccessLimits,
    ) -> Result<Self> {
        let lineage = lineage.into();
        Ok(Self {
            repository: repository.clone(),
            lineage,
            manifest: Manifest::open(repository, lineage, backup)?,
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
            None => ExtentReader::new(&self.repository, self.lineage)?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::{backup, summary};
    use crate::manifest::{FileEntry, ManifestWriter, PackTable};
    use crate::map::PackIndex;
    use crate::pack::tests::pages;
    use crate::pack::{PackPiece, PackWriter};
    use crate::seal::Suite;
    use crate::testing::{lineage, on};
    use crate::{Codec, Encoder, PackNumber};
    use pgproof_store::Memory;
    use std::ops::Range;

    /// A backup of one file of 40 blocks, of which 16 to 31 are a hole, and of which the last is not full.
    fn backup_of(repository: &Repository, content: &[u8]) -> FileEntry {
        let lineage = lineage();
        let mut pack = PackWriter::create(repository, lineage, &backup(), PackNumber(0)).unwrap();
        let mut encoder = Encoder::new(Codec::default()).unwrap();
        let mut placed = Vec::new();
        for range in [0..16_u32, 32..40] {
            let bytes = &content[range.start as usize * PAGE_BYTES..range.end as usize * PAGE_BYTES];
            let blocks: Vec<Range<u32>> = vec![range];
            let piece = PackPiece { file: "a", pages: (bytes.len() / PAGE_BYTES) as u16, blocks: &blocks };
            let place = pack.append(&mut encoder, bytes, repository.identity(bytes), &[piece]).unwrap();
            placed.push((ExtentRef::whole(PackIndex(0), place), blocks));
        }
        let mut packs = PackTable::new();
        packs.insert(PackIndex(0), pack.finish().unwrap());
        let pieces = placed.iter().map(|(extent, blocks)| (*extent, blocks.as_slice()));
        let entry = FileEntry {
            path: "base/5/1".to_owned(),
            kind: FileKind::File,
            mode: 0o600,
            modified: 0,
            length: 39 * 8192 + 1,
            map: FileMap::from_pieces(pieces, 40).unwrap(),
        };
        let mut manifest = ManifestWriter::create(repository, lineage, &backup()).unwrap();
        manifest.add(&entry).unwrap();
        manifest.finish(&packs, &summary()).unwrap();
        entry
    }

    #[test]
    fn a_cold_page_costs_one_request_and_a_warm_one_none() {
        let repository = on(Arc::new(Memory::new()), Suite::Aes256Gcm);
        let mut content = pages(40, 1);
        content[16 * PAGE_BYTES..32 * PAGE_BYTES].fill(0);
        let entry = backup_of(&repository, &content);
        let limits = AccessLimits { files: 1, extents: 1 };
        let reader = PageReader::open(&repository, lineage(), &backup(), limits).unwrap();
        assert_eq!(reader.file("base/5/1").unwrap().unwrap().map, entry.map);
        let mut page = [1; PAGE_BYTES];
        let mut read = |block: u32| {
            let before = repository.store().counters().gets;
            reader.page("base/5/1", block, &mut page).unwrap();
            assert_eq!(page[..], content[block as usize * PAGE_BYTES..][..PAGE_BYTES]);
            repository.store().counters().gets - before
        };
        assert_eq!([read(3), read(4), read(20), read(39), read(39), read(3)], [1, 0, 0, 1, 0, 1]);
    }

    #[test]
    fn what_the_backup_does_not_have_is_told_from_damage() {
        let repository = on(Arc::new(Memory::new()), Suite::None);
        backup_of(&repository, &pages(40, 1));
        let limits = AccessLimits::default();
        let reader = PageReader::open(&repository, lineage(), &backup(), limits).unwrap();
        let mut page = [0; PAGE_BYTES];
        assert_eq!(reader.page("base/5/1", 40, &mut page).unwrap_err().code(), "repository-refused");
        assert_eq!(reader.page("base/5/2", 0, &mut page).unwrap_err().code(), "repository-refused");
        let pack = lineage().backup(backup()).pack(PackNumber(0));
        repository.store().delete(&pack).unwrap();
        assert!(reader.page("base/5/1", 0, &mut page).unwrap_err().is_not_found());
    }
}

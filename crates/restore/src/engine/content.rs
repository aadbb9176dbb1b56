//! Small files of a backup as a whole, in memory: the control file, settings, configuration.

use crate::error::{RestoreError, Result};
use pgproof_repo::{ExtentReader, FileEntry, FileKind, Manifest, PAGE_BYTES, Repository};

/// Longest file that is read into memory: far above any configuration.
const BYTES_MAX: u64 = 16 << 20;

/// The content of a file of the backup; `None` when the backup has no file of this path.
///
/// # Errors
/// [`RestoreError::Damage`] when it is not what was stored, [`RestoreError::Repository`] when it cannot be read.
pub fn content(repository: &Repository, manifest: &Manifest, path: &str) -> Result<Option<Vec<u8>>> {
    let entry = manifest.file(path).map_err(RestoreError::repository("read the manifest"))?;
    match entry.filter(|entry| entry.kind == FileKind::File) {
        None => Ok(None),
        Some(entry) => content_of(repository, manifest, &entry).map(Some),
    }
}

/// The content of a file of the backup.
///
/// # Errors
/// As [`content`].
pub fn content_of(repository: &Repository, manifest: &Manifest, entry: &FileEntry) -> Result<Vec<u8>> {
    let backup = manifest.summary().id;
    if entry.length > BYTES_MAX {
        let source = pgproof_repo::Error::Damaged {
            object: manifest.path().to_string(),
            what: format!("{} is said to have {} bytes", entry.path, entry.length),
        };
        return Err(RestoreError::Damage { backup, what: entry.path.clone(), other: None, source });
    }
    let mut reader = ExtentReader::new(repository, manifest.summary().system)
        .map_err(RestoreError::repository("read extents"))?;
    let blocks = entry.length.div_ceil(PAGE_BYTES as u64) as usize;
    let mut bytes = vec![0; blocks * PAGE_BYTES];
    let mut pages = Vec::new();
    for used in entry.map.inverted() {
        let extent = &entry.map.extents()[used.extent as usize];
        let pack = manifest.packs().get(extent.pack).map_err(RestoreError::repository("find a pack"))?;
        reader.read(pack, extent, &mut pages).map_err(|source| match source.is_damage() {
            true => {
                let what = format!("block {} of file {}", used.block, entry.path);
                RestoreError::Damage { backup, what, other: None, source }
            }
            false => RestoreError::Repository { operation: "read extents", source },
        })?;
        let from = usize::from(used.page) * PAGE_BYTES;
        let to = used.block as usize * PAGE_BYTES;
        let length = usize::from(used.pages) * PAGE_BYTES;
        bytes[to..to + length].copy_from_slice(&pages[from..from + length]);
    }
    bytes.truncate(entry.length as usize);
    Ok(bytes)
}

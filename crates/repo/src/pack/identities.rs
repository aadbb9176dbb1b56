//! Identities of the pieces of a file, from the indexes of the packs they lie in.
//!
//! Manifests do not repeat identities: 16 bytes an extent would make up five sixths of every manifest, and most backups never ask.
//! Who compares a file's content with an earlier backup asks here. One pack's index answers for about 2000 extents, and extents
//! of one file lie close together.

use super::{PackInfo, PackReader};
use crate::Result;
use crate::layout::{BackupId, Lineage, PackNumber};
use crate::lru::Lru;
use crate::manifest::PackTable;
use crate::map::{ExtentRef, FileMap};
use crate::repository::Repository;
use crate::seal::ContentId;
use std::sync::{Arc, Mutex, PoisonError};

/// A piece of one pack: frame, first page, pages.
type PieceKey = (u32, u16, u16);

/// One pack's pieces, in order of key.
type PackPieces = Arc<[(PieceKey, ContentId)]>;

/// Looks up identities of pieces; shared by threads.
#[derive(Debug)]
pub struct PieceIdentities {
    repository: Repository,
    lineage: Lineage,
    packs: Mutex<Lru<(BackupId, PackNumber), PackPieces>>,
}

impl PieceIdentities {
    /// Remembers the pieces of `packs_max` packs: about 60 kB for each, more where extents are shared by many files.
    pub fn new(repository: &Repository, lineage: impl Into<Lineage>, packs_max: usize) -> Self {
        Self {
            repository: repository.clone(),
            lineage: lineage.into(),
            packs: Mutex::new(Lru::new(packs_max)),
        }
    }

    /// The identity of each extent's piece of a map, in the order of [`FileMap::extents`]. `None` where no index
    /// names such a piece: an extent can be used by a file that it was not written for.
    ///
    /// # Errors
    /// As [`PackReader::open`], and [`crate::Error::Damaged`] when the map names a pack that the table does not.
    pub fn of(&self, packs: &PackTable, map: &FileMap) -> Result<Vec<Option<ContentId>>> {
        let mut found = Vec::with_capacity(map.extents().len());
        // Extents are in order of pack.
        for group in map.extents().chunk_by(|one, next| one.pack == next.pack) {
            let pieces = self.pieces(packs.get(group[0].pack)?)?;
            found.extend(group.iter().map(|extent| find(&pieces, extent)));
        }
        Ok(found)
    }

    fn pieces(&self, pack: &PackInfo) -> Result<PackPieces> {
        let key = (pack.backup, pack.number);
        let known = self.packs.lock().unwrap_or_else(PoisonError::into_inner).get(&key);
        if let Some(pieces) = known {
            return Ok(pieces);
        }
        let reader = PackReader::open(&self.repository, self.lineage, &pack.backup, pack.number)?;
        let pieces = pieces_of(&reader);
        self.packs.lock().unwrap_or_else(PoisonError::into_inner).insert(key, pieces.clone());
        Ok(pieces)
    }
}

fn pieces_of(reader: &PackReader) -> PackPieces {
    let mut pieces = Vec::new();
    for entry in reader.entries() {
        let mut first = 0;
        for piece in &entry.pieces {
            pieces.push(((entry.frame, first, piece.pages), piece.identity));
            first += piece.pages;
        }
        if entry.pieces.len() > 1 {
            pieces.push(((entry.frame, 0, entry.pages), entry.identity));
        }
    }
    pieces.sort_unstable_by_key(|(key, _)| *key);
    pieces.into()
}

fn find(pieces: &[(PieceKey, ContentId)], extent: &ExtentRef) -> Option<ContentId> {
    let key = (extent.frame, extent.piece_first, extent.piece_pages);
    let at = pieces.binary_search_by_key(&key, |(key, _)| *key).ok()?;
    Some(pieces[at].1)
}

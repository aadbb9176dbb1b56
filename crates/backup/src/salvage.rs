//! What an interrupted backup left in the repository: packs that were finished before it was killed.
//!
//! Their extents are found by the identity of their content alone, so it does not matter what changed since: an extent is used
//! when the cluster still holds the same pages, whatever file they are in, and is dead weight of its pack otherwise.

use crate::error::BackupError;
use pgproof_pg::SystemIdentifier;
use pgproof_repo::{BackupId, ContentId, ExtentRef, PackIndex, PackInfo, PackReader, Repository};
use std::collections::HashMap;

/// Extents of an interrupted attempt, by identity.
#[derive(Debug, Default)]
pub(crate) struct Salvage {
    extents: HashMap<ContentId, ExtentRef>,
    packs: Vec<PackInfo>,
}

impl Salvage {
    /// Reads the indexes of the packs that `backup` finished. `first_index` is the place of pack 0 in the manifest's table.
    pub(crate) fn read(
        repository: &Repository,
        system: SystemIdentifier,
        backup: &BackupId,
        first_index: u32,
    ) -> Result<Self, BackupError> {
        let failed =
            |source| BackupError::Repo { operation: "read the packs of the interrupted backup", source };
        let mut salvage = Self::default();
        for number in PackReader::list(repository, system, backup).map_err(failed)? {
            let reader = PackReader::open(repository, system, backup, number).map_err(failed)?;
            let index = PackIndex(first_index + number.0);
            for entry in reader.entries() {
                salvage.extents.insert(entry.identity, entry.extent(index));
            }
            salvage.packs.push(reader.info());
        }
        Ok(salvage)
    }

    /// The extent that holds content of this identity.
    pub(crate) fn find(&self, identity: ContentId) -> Option<ExtentRef> {
        self.extents.get(&identity).copied()
    }

    /// The packs found.
    pub(crate) fn packs(&self) -> &[PackInfo] {
        &self.packs
    }

    /// The number that the next pack gets: above every number in use.
    pub(crate) fn next_number(&self) -> u32 {
        self.packs.iter().map(|pack| pack.number.0 + 1).max().unwrap_or(0)
    }
}

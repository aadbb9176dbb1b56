//! What the repository holds already, by the identity of its content: the extents of the earlier dump, those that an interrupted one
//! stored, and those of this one.
//!
//! File names say nothing here: `pg_dump` numbers its files anew whenever a definition is added. An extent takes about 60 bytes of memory, half a
//! gigabyte for a dump of a terabyte.

use crate::error::DumpError;
use pgproof_base::Progress;
use pgproof_repo::{
    BackupId, ContentId, ExtentRef, Lineage, Manifest, PackIndex, PackInfo, PackReader, PackTable, Repository,
};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Of a pack of which the earlier dump uses less than one part in so many, nothing is used again: otherwise a few old extents
/// would keep whole packs for ever.
const LIVE_PART_MIN: u64 = 4;

/// Extents by identity; shared by threads.
#[derive(Debug, Default)]
pub(crate) struct Known {
    extents: Mutex<HashMap<ContentId, ExtentRef>>,
}

impl Known {
    /// The extent that holds this content.
    pub(crate) fn find(&self, identity: ContentId) -> Option<ExtentRef> {
        self.lock().get(&identity).copied()
    }

    /// Content that was stored now.
    pub(crate) fn add(&self, identity: ContentId, extent: ExtentRef) {
        self.lock().insert(identity, extent);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ContentId, ExtentRef>> {
        self.extents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what the earlier dump refers to. A pack that cannot be read is passed over: its content is stored once more.
    pub(crate) fn add_earlier(
        &self,
        repository: &Repository,
        lineage: Lineage,
        earlier: &Manifest,
        progress: &dyn Progress,
    ) -> Result<(), DumpError> {
        let dense = |used: u64, size: u64| used.saturating_mul(LIVE_PART_MIN) >= size;
        for (index, used) in earlier.packs().iter() {
            if !dense(used.bytes_live, used.info.size) {
                continue;
            }
            match PackReader::open(repository, lineage, &used.info.backup, used.info.number) {
                Ok(pack) => self.add_pack(&pack, index),
                Err(error) if error.is_unreadable() => {
                    progress.note(&format!("not using what an earlier dump stored: {error}"));
                }
                Err(source) => {
                    return Err(DumpError::Repo { operation: "read what the earlier dump stored", source });
                }
            }
        }
        Ok(())
    }

    /// Adds what an interrupted attempt at this dump stored, and gives its packs.
    pub(crate) fn add_interrupted(
        &self,
        repository: &Repository,
        lineage: Lineage,
        dump: &BackupId,
        packs: &PackTable,
    ) -> Result<Vec<(PackIndex, PackInfo)>, DumpError> {
        let failed = || DumpError::repo("read what the interrupted dump stored");
        let first = packs.next_index().map_err(DumpError::repo("number the packs"))?.0;
        let mut found = Vec::new();
        for number in PackReader::list(repository, lineage, dump).map_err(failed())? {
            let pack = PackReader::open(repository, lineage, dump, number).map_err(failed())?;
            let index = PackIndex(first + number.0);
            self.add_pack(&pack, index);
            found.push((index, pack.info()));
        }
        Ok(found)
    }

    fn add_pack(&self, pack: &PackReader, index: PackIndex) {
        let mut extents = self.lock();
        extents.extend(pack.entries().iter().map(|entry| (entry.identity, entry.extent(index))));
    }
}

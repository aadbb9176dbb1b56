//! What is in the repository: lineages, their backups in every state, their WAL, who is at work.
//!
//! Promises one consistent view for `list`, `show`, restore, expire and verify: what a backup's objects mean is decided here and
//! nowhere else ([`BackupState`]). Costs one listing of the backups of a lineage, one of its WAL where asked for, and three small
//! requests for each backup. A damaged manifest makes its backup [`BackupState::Damaged`] and leaves the rest readable; a store that cannot be
//! reached is an error, never an empty catalog.
//!
//! Backups are ordered by timeline, position and time. Names mean nothing.

mod backup;
mod pin;
mod wal;

pub use backup::{BackupSizes, BackupState, CatalogBackup, Lapse};
pub use pin::{pin, unpin};
pub use wal::{WalListing, WalObject, list_wal};

use crate::layout::{BackupId, Content, Lineage, PackNumber};
use crate::lease::{LeaseTimes, ReaderRecord};
use crate::record::{self, Stored};
use crate::repository::Repository;
use crate::walset::{BackupSpan, RecoveryWindows, WalSet, recovery_windows};
use crate::writer::ArchiveWriter;
use crate::{Error, Result, parallel};
use backup::Found;
use jiff::Timestamp;
use pgproof_pg::SystemIdentifier;
use pgproof_store::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};

/// Requests at a time: each waits for the store, not for a core.
const THREADS: usize = 8;

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Backups and leases.
    Backups,
    /// WAL too. A listing of 200,000 segments takes a second on a disk and some more elsewhere.
    BackupsAndWal,
}

/// A pack as the listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackObject {
    /// The backup below which it lies.
    pub backup: BackupId,
    /// Its number.
    pub number: PackNumber,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was stored, by the store's clock.
    pub stored: Timestamp,
}

/// A reader's lease.
#[derive(Debug, Clone)]
pub struct CatalogReader {
    /// What it says; `None` when it cannot be read, which protects nothing in particular.
    pub record: Option<ReaderRecord>,
    /// The object.
    pub meta: ObjectMeta,
    /// Whether it is live.
    pub live: bool,
}

/// One lineage.
#[derive(Debug)]
pub struct LineageCatalog {
    /// Which.
    pub lineage: Lineage,
    /// The store's clock when reading began: the measure of every age here.
    pub at: Timestamp,
    /// Its backups, oldest first; those without a manifest come last, by the age of their objects.
    pub backups: Vec<CatalogBackup>,
    /// All packs that lie there, referenced or not, in order of backup and number.
    pub packs: Vec<PackObject>,
    /// Who reads.
    pub readers: Vec<CatalogReader>,
    /// Who may archive; `None` while nobody ever took over, or when the record of it cannot be read.
    pub writer: Option<Stored<ArchiveWriter>>,
    /// Its WAL, when asked for and there is any.
    pub wal: Option<WalListing>,
    /// Names that no version of the format gives to objects.
    pub strays: Vec<ObjectMeta>,
}

/// The lineages of clusters of a repository, by system identifier. Those of dumps are [`dump_lineages`].
///
/// # Errors
/// [`Error::Store`].
pub fn lineages(repository: &Repository) -> Result<Vec<Lineage>> {
    Ok(all_lineages(repository)?
        .into_iter()
        .filter(|lineage| lineage.content() == Content::Cluster)
        .collect())
}

/// The lineages of dumps of a repository, by system identifier.
///
/// # Errors
/// [`Error::Store`].
pub fn dump_lineages(repository: &Repository) -> Result<Vec<Lineage>> {
    Ok(all_lineages(repository)?.into_iter().filter(|lineage| lineage.content() == Content::Dumps).collect())
}

/// Both kinds of lineages: for what is done to objects whatever is in them.
///
/// # Errors
/// [`Error::Store`].
pub fn all_lineages(repository: &Repository) -> Result<Vec<Lineage>> {
    let dirs = repository.store().list_dirs(None).map_err(Error::store("list the lineages"))?;
    Ok(dirs.iter().filter_map(|name| Lineage::of_dir(name)).collect())
}

impl LineageCatalog {
    /// Reads the catalog of one lineage.
    ///
    /// # Errors
    /// [`Error::Store`]; damage is part of the catalog.
    pub fn read(repository: &Repository, lineage: Lineage, scope: Scope, times: LeaseTimes) -> Result<Self> {
        let store = repository.store();
        let at = store.now().map_err(Error::store("ask for the time"))?;
        let objects =
            store.list(Some(&lineage.backups_dir()), None).map_err(Error::store("list the backups"))?;
        let (found, packs, strays) = sort_objects(lineage, objects);
        let read = parallel::map(&found, THREADS, |found| backup::read(repository, found, at, times));
        let mut backups = read.into_iter().collect::<Result<Vec<_>>>()?;
        backup::count_sizes(&mut backups, &packs);
        backups.sort_by_key(CatalogBackup::order);
        let size =
            backups.iter().rev().find_map(|backup| backup.summary.as_ref()).map(|s| s.wal_segment_size);
        let wal = match scope {
            Scope::Backups => None,
            Scope::BackupsAndWal => list_wal(repository, lineage, size.map(u64::from))?,
        };
        let readers = readers(repository, lineage, at, times)?;
        let writer = match crate::writer::current(repository, lineage) {
            Ok(writer) => writer,
            Err(error) if error.is_unreadable() => None,
            Err(error) => return Err(error),
        };
        Ok(Self { lineage, at, backups, packs, readers, writer, wal, strays })
    }

    /// The lineage's system identifier.
    pub fn system(&self) -> SystemIdentifier {
        self.lineage.system()
    }

    /// The backup of this name.
    pub fn backup(&self, id: BackupId) -> Option<&CatalogBackup> {
        self.backups.iter().find(|backup| backup.id == id)
    }

    /// Published backups with a readable manifest, marked or not, oldest first.
    pub fn published(&self) -> impl DoubleEndedIterator<Item = &CatalogBackup> {
        self.backups.iter().filter(|backup| backup.state == BackupState::Published)
    }

    /// Where published backups lie in the WAL.
    pub fn spans(&self) -> Vec<BackupSpan> {
        self.published().filter_map(CatalogBackup::span).collect()
    }

    /// What can be reached from backups that are not marked for removal. Times are those of the backups; see
    /// [`crate::walset::reachable_times`].
    pub fn windows(&self) -> RecoveryWindows {
        let Some(wal) = &self.wal else { return RecoveryWindows::default() };
        let unmarked = self.published().filter(|backup| backup.marked.is_none());
        let spans: Vec<BackupSpan> = unmarked.filter_map(CatalogBackup::span).collect();
        recovery_windows(&spans, &wal.set)
    }

    /// The archived WAL, when it was asked for and there is any.
    pub fn wal_set(&self) -> Option<&WalSet> {
        self.wal.as_ref().map(|wal| &wal.set)
    }

    /// Stored bytes of all packs, manifests and WAL.
    pub fn stored_bytes(&self) -> u64 {
        let packs: u64 = self.packs.iter().map(|pack| pack.bytes).sum();
        let manifests: u64 = self.backups.iter().map(|backup| backup.sizes.manifest).sum();
        packs + manifests + self.wal.as_ref().map_or(0, |wal| wal.stored_bytes())
    }

    /// The newest unpublished backup whose writer is dead: what it wrote can be used again. A copy is none of these: only its source
    /// knows how it goes on.
    pub fn resumable(&self) -> Option<&CatalogBackup> {
        let is_copy = |backup: &CatalogBackup| {
            backup.lease.as_ref().is_some_and(|(_, lease)| lease.copied_from.is_some())
        };
        let lapsed = |backup: &&CatalogBackup| {
            matches!(backup.state, BackupState::Interrupted { .. }) && !is_copy(backup)
        };
        self.backups.iter().filter(lapsed).max_by_key(|backup| backup.touched)
    }
}

/// Sorts the objects below `backup/` by the backup that they belong to.
fn sort_objects(
    lineage: Lineage,
    objects: Vec<ObjectMeta>,
) -> (Vec<Found>, Vec<PackObject>, Vec<ObjectMeta>) {
    let dir = lineage.backups_dir();
    let mut found: BTreeMap<BackupId, Found> = BTreeMap::new();
    let mut packs: BTreeSet<PackObject> = BTreeSet::new();
    let mut strays = Vec::new();
    for object in objects {
        let below = object.path.as_str().strip_prefix(dir.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let mut parts = below.unwrap_or_default().splitn(2, '/');
        let id = parts.next().and_then(|id| id.parse::<BackupId>().ok());
        let (Some(id), Some(name)) = (id, parts.next()) else {
            strays.push(object);
            continue;
        };
        let entry = found.entry(id).or_insert_with(|| Found::new(lineage.backup(id)));
        entry.touched = entry.touched.max(object.modified);
        match name.strip_prefix("pack/").map(str::parse::<PackNumber>) {
            Some(Ok(number)) => {
                packs.insert(PackObject { backup: id, number, bytes: object.size, stored: object.modified });
            }
            _ if ["lease", "manifest", "outcome", "expired", "pin"].contains(&name) => {
                entry.objects.insert(name.to_owned(), object);
            }
            _ => strays.push(object),
        }
    }
    (found.into_values().collect(), packs.into_iter().collect(), strays)
}

fn readers(
    repository: &Repository,
    lineage: Lineage,
    at: Timestamp,
    times: LeaseTimes,
) -> Result<Vec<CatalogReader>> {
    let objects = repository.store().list(Some(&lineage.readers_dir()), None);
    let objects = objects.map_err(Error::store("list the readers"))?;
    let mut readers = Vec::new();
    for object in objects {
        let record = match record::read::<ReaderRecord>(repository, &object.path) {
            Ok(Some(found)) => Some(found.value),
            // It let go between the two requests.
            Ok(None) => continue,
            Err(error) if error.is_unreadable() => None,
            Err(error) => return Err(error),
        };
        let live = times.is_live(object.modified, at);
        readers.push(CatalogReader { record, meta: object, live });
    }
    Ok(readers)
}

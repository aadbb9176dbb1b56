//! One backup: what its objects say about it.

use super::PackObject;
use crate::layout::{BackupId, BackupObjects, PackNumber};
use crate::lease::{ExpiredMark, LeaseTimes, Outcome, PinRecord, WriterRecord, holder_is_dead};
use crate::manifest::{BackupSummary, Manifest};
use crate::record::{self, Stored};
use crate::repository::Repository;
use crate::walset::BackupSpan;
use crate::{ContentId, Result};
use jiff::Timestamp;
use pgproof_pg::{Lsn, TimelineId};
use pgproof_store::{ObjectMeta, Version};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};

/// Why an unfinished backup's writer counts as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lapse {
    /// Its process is gone from this host, though its lease has not run out yet.
    ProcessGone,
    /// Its lease ran out.
    LeaseRanOut,
}

/// What a backup is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum BackupState {
    /// It exists and can be restored; `marked` says whether it is to be removed.
    Published,
    /// Its writer is at work.
    Running,
    /// Its writer died before it was published.
    Interrupted {
        /// How that is known.
        lapse: Lapse,
    },
    /// It was given up, and its objects are to be removed.
    Revoked {
        /// Why.
        why: String,
    },
    /// It is being removed: its manifest is gone already.
    Removing,
    /// It was removed; packs that other backups use are still below its name.
    Remains,
    /// It was published, but its manifest or outcome cannot be read or is missing.
    Damaged {
        /// What is wrong.
        what: String,
    },
}

/// Sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BackupSizes {
    /// What a restore writes.
    pub logical: u64,
    /// All packs that it refers to, and its manifest.
    pub stored: u64,
    /// What removing it would free: packs that no other published backup refers to, and its manifest.
    pub unique: u64,
    /// Its manifest.
    pub manifest: u64,
}

/// A backup.
#[derive(Debug)]
pub struct CatalogBackup {
    /// Its name.
    pub id: BackupId,
    /// Its objects.
    pub objects: BackupObjects,
    /// What it is.
    pub state: BackupState,
    /// What its manifest says, where that can be read.
    pub summary: Option<Box<BackupSummary>>,
    /// Size and identity of its manifest, as the outcome states them.
    pub manifest: Option<(u64, ContentId)>,
    /// The packs that its manifest refers to, with their sizes.
    pub packs: BTreeMap<(BackupId, PackNumber), u64>,
    /// Its sizes.
    pub sizes: BackupSizes,
    /// Why it is kept, where it is pinned.
    pub pin: Option<PinRecord>,
    /// When it was marked for removal by the store's clock, and why.
    pub marked: Option<(Timestamp, ExpiredMark)>,
    /// Its writer's lease, and when it was last renewed by the store's clock.
    pub lease: Option<(Timestamp, WriterRecord)>,
    /// When one of its objects was stored last, by the store's clock.
    pub touched: Timestamp,
    /// When its outcome was stored, by the store's clock.
    pub decided: Option<Timestamp>,
}

impl CatalogBackup {
    /// Where it lies in the WAL, for a published one.
    pub fn span(&self) -> Option<BackupSpan> {
        let summary = self.summary.as_ref()?;
        Some(BackupSpan {
            backup: self.id,
            timeline: summary.timeline,
            start: summary.start_lsn,
            stop: summary.stop_lsn,
            stopped: summary.stopped,
        })
    }

    /// Whether its checks found nothing wrong.
    pub fn is_good(&self) -> bool {
        self.summary.as_ref().is_some_and(|summary| summary.checksum_failures.is_empty())
    }

    /// Whether its lease is that of a copy that will replace this version of the outcome.
    fn is_copied_over(&self, outcome: &Version) -> bool {
        let over = self.lease.as_ref().and_then(|(_, lease)| lease.over.as_deref());
        over == Some(outcome.as_str())
    }

    /// Timeline, position and time; what has none of these comes last, by the age of its objects.
    pub(super) fn order(&self) -> (bool, TimelineId, Lsn, Timestamp, BackupId) {
        match &self.summary {
            Some(summary) => (false, summary.timeline, summary.start_lsn, summary.stopped, self.id),
            None => (true, TimelineId(0), Lsn::INVALID, self.touched, self.id),
        }
    }
}

/// The objects that a listing showed below one backup's name, apart from packs.
#[derive(Debug)]
pub(super) struct Found {
    backup: BackupObjects,
    pub(super) objects: BTreeMap<String, ObjectMeta>,
    pub(super) touched: Timestamp,
}

impl Found {
    pub(super) fn new(backup: BackupObjects) -> Self {
        Self { backup, objects: BTreeMap::new(), touched: Timestamp::MIN }
    }

    fn has(&self, name: &str) -> bool {
        self.objects.contains_key(name)
    }
}

/// A record, or why it cannot be read.
type Readable<T> = Result<Option<Stored<T>>, String>;

/// Reads a record that a listing showed. Damage is an answer, an unreachable store an error.
fn read_record<T: DeserializeOwned>(
    repository: &Repository,
    found: &Found,
    name: &str,
) -> Result<Readable<T>> {
    let Some(meta) = found.objects.get(name) else { return Ok(Ok(None)) };
    match record::read(repository, &meta.path) {
        Ok(read) => Ok(Ok(read)),
        Err(error) if error.is_unreadable() => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

pub(super) fn read(
    repository: &Repository,
    found: &Found,
    at: Timestamp,
    times: LeaseTimes,
) -> Result<CatalogBackup> {
    let mut backup = CatalogBackup {
        id: found.backup.id(),
        objects: found.backup,
        state: BackupState::Remains,
        summary: None,
        manifest: None,
        packs: BTreeMap::new(),
        sizes: BackupSizes::default(),
        pin: None,
        marked: None,
        lease: None,
        touched: found.touched,
        decided: found.objects.get("outcome").map(|meta| meta.modified),
    };
    let placeholder = || "its record cannot be read".to_owned();
    // A pin or mark that cannot be read still says what it is by being there.
    if let Some(meta) = found.objects.get("pin") {
        let pin = read_record::<PinRecord>(repository, found, "pin")?;
        let unreadable =
            PinRecord { by: crate::lease::Holder::unknown(), why: placeholder(), at: meta.modified };
        backup.pin = pin.map_or(Some(unreadable), |pin| pin.map(|pin| pin.value));
    }
    if let Some(meta) = found.objects.get("expired") {
        let mark = read_record::<ExpiredMark>(repository, found, "expired")?;
        let unreadable = ExpiredMark { by: crate::lease::Holder::unknown(), why: placeholder() };
        let mark = mark.map_or(Some(unreadable), |mark| mark.map(|mark| mark.value));
        backup.marked = mark.map(|mark| (meta.modified, mark));
    }
    if let Ok(Some(lease)) = read_record::<WriterRecord>(repository, found, "lease")? {
        backup.lease = Some((lease.meta.modified, lease.value));
    }
    let outcome = read_record::<Outcome>(repository, found, "outcome")?;
    backup.state = state(repository, found, outcome, &mut backup, at, times)?;
    Ok(backup)
}

fn state(
    repository: &Repository,
    found: &Found,
    outcome: Readable<Outcome>,
    backup: &mut CatalogBackup,
    at: Timestamp,
    times: LeaseTimes,
) -> Result<BackupState> {
    match outcome {
        Ok(None) => Ok(unfinished(found, backup, at, times)),
        Ok(Some(outcome)) => match outcome.value {
            // A copy is being made anew in its place, unless that was revoked in its turn.
            Outcome::Revoked { .. } if backup.is_copied_over(&outcome.meta.version) => {
                Ok(unfinished(found, backup, at, times))
            }
            Outcome::Revoked { why, .. } => Ok(BackupState::Revoked { why }),
            Outcome::Published { manifest_bytes, manifest_identity, .. } => {
                backup.manifest = Some((manifest_bytes, manifest_identity));
                published(repository, found, backup)
            }
        },
        Err(what) => {
            // Who could read the manifest may still want the backup, so it is told in full.
            Ok(match published(repository, found, backup)? {
                BackupState::Removing => BackupState::Removing,
                _ => BackupState::Damaged { what },
            })
        }
    }
}

fn unfinished(found: &Found, backup: &CatalogBackup, at: Timestamp, times: LeaseTimes) -> BackupState {
    let Some(meta) = found.objects.get("lease") else {
        // Writers put their lease before anything else and remove it after the outcome, so nobody is at work here; and where a manifest
        // is, an outcome was.
        return match found.has("manifest") && !found.has("expired") {
            true => BackupState::Damaged { what: "its outcome is missing".to_owned() },
            false => BackupState::Remains,
        };
    };
    if !times.is_live(meta.modified, at) {
        return BackupState::Interrupted { lapse: Lapse::LeaseRanOut };
    }
    match &backup.lease {
        Some((_, lease)) if holder_is_dead(&lease.holder) => {
            BackupState::Interrupted { lapse: Lapse::ProcessGone }
        }
        _ => BackupState::Running,
    }
}

fn published(repository: &Repository, found: &Found, backup: &mut CatalogBackup) -> Result<BackupState> {
    if !found.has("manifest") {
        return Ok(match found.has("expired") {
            true => BackupState::Removing,
            false => BackupState::Damaged { what: "its manifest is missing".to_owned() },
        });
    }
    let manifest = match Manifest::open(repository, found.backup.lineage(), &backup.id) {
        Ok(manifest) => manifest,
        Err(error) if error.is_unreadable() => return Ok(BackupState::Damaged { what: error.to_string() }),
        Err(error) => return Err(error),
    };
    backup.sizes.logical = manifest.summary().totals.bytes_logical;
    backup.sizes.manifest = manifest.size();
    for (_, used) in manifest.packs().iter() {
        backup.packs.insert((used.info.backup, used.info.number), used.info.size);
    }
    backup.summary = Some(Box::new(manifest.summary().clone()));
    Ok(match backup.manifest {
        Some((bytes, _)) if bytes != manifest.size() => BackupState::Damaged {
            what: format!("its manifest has {} bytes instead of {bytes}", manifest.size()),
        },
        _ => BackupState::Published,
    })
}

/// Counts what backups share.
pub(super) fn count_sizes(backups: &mut [CatalogBackup], packs: &[PackObject]) {
    let present: BTreeMap<_, _> = packs.iter().map(|pack| ((pack.backup, pack.number), pack.bytes)).collect();
    let mut used_once: BTreeSet<(BackupId, PackNumber)> = BTreeSet::new();
    let mut used_more: BTreeSet<(BackupId, PackNumber)> = BTreeSet::new();
    for pack in backups.iter().flat_map(|backup| backup.packs.keys()) {
        if !used_once.insert(*pack) {
            used_more.insert(*pack);
        }
    }
    for backup in backups {
        let bytes = |pack: &&(BackupId, PackNumber)| present.get(*pack).copied().unwrap_or(0);
        let all: u64 = backup.packs.keys().map(|pack| bytes(&pack)).sum();
        let unique: u64 =
            backup.packs.keys().filter(|pack| !used_more.contains(pack)).map(|pack| bytes(&pack)).sum();
        backup.sizes.stored = all + backup.sizes.manifest;
        backup.sizes.unique = unique + backup.sizes.manifest;
    }
}

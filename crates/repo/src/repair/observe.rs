//! What is wrong with a lineage, and what the second repository holds of it.

use crate::catalog::{BackupState, LineageCatalog};
use crate::layout::{BackupId, Lineage, PackNumber};
use crate::lease::LeaseTimes;
use crate::manifest::Manifest;
use crate::pack::PackInfo;
use crate::repository::Repository;
use crate::transfer::observe::{PackKey, Sides};
use crate::verify::LineageReport;
use crate::{Error, Result};
use pgproof_pg::ArchiveName;
use std::collections::BTreeMap;

/// Everything that a plan is made from.
#[derive(Debug)]
pub(super) struct Observation {
    /// The repository that heals is the source, the one to be healed the target.
    pub(super) sides: Sides,
    /// What verification found in the target.
    pub(super) report: LineageReport,
    /// The source's pack for each of the target, told by manifests that both can read.
    pub(super) origins: BTreeMap<PackKey, PackInfo>,
}

impl Observation {
    pub(super) fn read(
        target: &Repository,
        source: &Repository,
        lineage: Lineage,
        report: LineageReport,
        times: LeaseTimes,
    ) -> Result<Self> {
        let sides = Sides::read(source, target, lineage, times)?;
        let origins = origins(target, source, &sides)?;
        Ok(Self { sides, report, origins })
    }
}

/// Goes by the manifests of backups that both sides hold, also those that are damaged further behind.
fn origins(target: &Repository, source: &Repository, sides: &Sides) -> Result<BTreeMap<PackKey, PackInfo>> {
    let mut origins = BTreeMap::new();
    for backup in sides.source.published() {
        let lineage = sides.source.lineage;
        let there = Manifest::open(source, lineage, &backup.id)?;
        let Some(here) = readable(Manifest::open(target, lineage, &backup.id))? else { continue };
        if here.summary() != there.summary() {
            continue;
        }
        for (index, used) in here.packs().iter() {
            if let Ok(info) = there.packs().get(index)
                && info.extents == used.info.extents
            {
                origins.insert((used.info.backup, used.info.number), *info);
            }
        }
    }
    Ok(origins)
}

/// Turns damage into `None` and leaves everything else an error.
pub(super) fn readable<T>(result: Result<T>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_unreadable() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The object that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Pack(PackKey),
    Manifest(BackupId),
    Outcome(BackupId),
    /// A segment, a partial one, or a history file.
    Wal(ArchiveName),
    Other,
}

impl Place {
    pub(super) fn of(lineage: Lineage, object: &str) -> Self {
        let dir = lineage.dir();
        let below = object.strip_prefix(dir.as_str()).map_or("", |below| below.trim_start_matches('/'));
        let parts: Vec<&str> = below.split('/').collect();
        let place = match parts.as_slice() {
            ["backup", id, "pack", number] => {
                let key = id.parse().ok().zip(number.parse::<PackNumber>().ok());
                key.map(Self::Pack)
            }
            ["backup", id, "manifest"] => id.parse().ok().map(Self::Manifest),
            ["backup", id, "outcome"] => id.parse().ok().map(Self::Outcome),
            ["wal", .., name] => ArchiveName::parse(name).ok().map(Self::Wal),
            _ => None,
        };
        place.unwrap_or(Self::Other)
    }
}

/// Whether a backup was published, however damaged it is now.
pub(super) fn was_published(catalog: &LineageCatalog, id: BackupId) -> bool {
    let state = catalog.backup(id).map(|backup| &backup.state);
    matches!(state, Some(BackupState::Published | BackupState::Damaged { .. }))
}

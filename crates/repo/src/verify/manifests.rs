//! Resolves every entry of every manifest against the packs as they were read.

use super::object::ReadPack;
use super::report::Hurts;
use crate::Result;
use crate::catalog::CatalogBackup;
use crate::layout::{BackupId, Lineage, PackNumber};
use crate::manifest::{FileEntry, Manifest};
use crate::repository::Repository;
use std::collections::BTreeMap;

/// A pack's name.
pub(super) type PackKey = (BackupId, PackNumber);

/// What walking one manifest showed.
#[derive(Debug, Default)]
pub(super) struct ManifestCheck {
    /// What is wrong with the manifest itself.
    pub(super) wrong: Vec<String>,
    /// Files for which it names extents that are not in their packs as it says.
    pub(super) unresolved: Hurts,
    /// The first of those, in words.
    pub(super) example: Option<String>,
    /// Files that damaged or missing packs hurt.
    pub(super) hurts: BTreeMap<PackKey, Hurts>,
}

/// Walks the manifest of a published backup.
pub(super) fn check(
    repository: &Repository,
    lineage: Lineage,
    backup: &CatalogBackup,
    packs: &BTreeMap<PackKey, ReadPack>,
) -> Result<ManifestCheck> {
    let mut check = ManifestCheck::default();
    let manifest = match Manifest::open(repository, lineage, &backup.id) {
        Ok(manifest) => manifest,
        Err(error) if error.is_unreadable() => {
            check.wrong.push(super::object::what_is_wrong(&error));
            return Ok(check);
        }
        Err(error) => return Err(error),
    };
    let header = manifest.check_header();
    check.note(header)?;
    for (_, used) in manifest.packs().iter() {
        let key = (used.info.backup, used.info.number);
        if packs.get(&key).and_then(|pack| pack.info).is_some_and(|info| info != used.info) {
            check.wrong.push(format!("it describes another pack {} than there is", used.info.path(lineage)));
        }
    }
    for entry in manifest.files() {
        match entry {
            Ok(entry) => check.resolve(&manifest, backup.id, &entry, packs)?,
            Err(error) => check.note(Err(error))?,
        }
    }
    Ok(check)
}

impl ManifestCheck {
    /// Damage is an answer; everything else is an error.
    fn note(&mut self, result: Result<()>) -> Result<()> {
        match result {
            Err(error) if error.is_unreadable() => self.wrong.push(super::object::what_is_wrong(&error)),
            other => return other,
        }
        Ok(())
    }

    fn resolve(
        &mut self,
        manifest: &Manifest,
        backup: BackupId,
        entry: &FileEntry,
        packs: &BTreeMap<PackKey, ReadPack>,
    ) -> Result<()> {
        let mut hurt_by: Vec<PackKey> = Vec::new();
        let mut unresolved = None;
        for extent in entry.map.extents() {
            let info = manifest.packs().get(extent.pack)?;
            let key = (info.backup, info.number);
            let place = extent.place();
            match packs.get(&key) {
                Some(pack) if pack.info.is_some() && !pack.damaged.contains(&place.frame) => {
                    unresolved = unresolved.or((!pack.holds(&place)).then_some((key, place.frame)));
                }
                // Missing, unreadable, or damaged just here.
                _ if !hurt_by.contains(&key) => hurt_by.push(key),
                _ => {}
            }
        }
        for key in hurt_by {
            self.hurts.entry(key).or_default().add_file(backup, &entry.path);
        }
        if let Some(((of, number), frame)) = unresolved {
            self.unresolved.add_file(backup, &entry.path);
            self.example.get_or_insert_with(|| {
                format!(
                    "{} is to be in extent {frame} of pack {number} of {of}, which is another",
                    entry.path
                )
            });
        }
        Ok(())
    }
}

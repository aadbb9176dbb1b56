//! Mends one backup: its packs from the second repository, its manifest and its outcome anew.

use super::observe::readable;
use super::plan::Hopeless;
use crate::catalog::LineageCatalog;
use crate::layout::{BackupId, BackupObjects, Lineage, PackNumber};
use crate::lease::Outcome;
use crate::manifest::{Manifest, PackTable};
use crate::map::{ExtentPlace, PackIndex};
use crate::pack::{PackEntry, PackInfo, PackReader};
use crate::repository::Repository;
use crate::transfer::objects;
use crate::transfer::observe::{PackKey, Vouched};
use crate::{ContentId, Error, Malformed, Result, record};
use jiff::Timestamp;
use pgproof_base::Progress;
use pgproof_store::{ObjectPath, PutMode};
use std::collections::{BTreeMap, BTreeSet};

/// What mending backups of one lineage needs and finds out.
pub(super) struct Mending<'a> {
    pub(super) target: &'a Repository,
    pub(super) source: &'a Repository,
    pub(super) lineage: Lineage,
    pub(super) progress: &'a dyn Progress,
    /// Packs of the target that are damaged or missing.
    pub(super) bad: &'a BTreeSet<PackKey>,
    /// The source's pack for each of the target.
    pub(super) origins: &'a BTreeMap<PackKey, PackInfo>,
    /// The target's pack for each of the source.
    pub(super) vouched: &'a Vouched,
    /// The highest number of a pack below each backup, in use or not.
    pub(super) numbers: BTreeMap<BackupId, u32>,
    /// Packs of the source that were written into the target by this repair.
    pub(super) healed: BTreeMap<PackKey, PackInfo>,
    pub(super) failed: Vec<Hopeless>,
}

/// The numbers that packs have had: those that lie there, and those that manifests name though they are missing.
pub(super) fn numbers(catalog: &LineageCatalog, bad: &BTreeSet<PackKey>) -> BTreeMap<BackupId, u32> {
    let listed = catalog.packs.iter().map(|pack| (pack.backup, pack.number));
    let named = catalog.backups.iter().flat_map(|backup| backup.packs.keys().copied());
    let mut numbers: BTreeMap<BackupId, u32> = BTreeMap::new();
    for (backup, number) in listed.chain(named).chain(bad.iter().copied()) {
        let highest = numbers.entry(backup).or_default();
        *highest = (*highest).max(number.0);
    }
    numbers
}

/// A manifest that is written anew, before it is.
struct Draft {
    table: PackTable,
    /// Whether the table is not the one that lies there.
    changed: bool,
    /// Where extents lie in packs that were put in the place of others.
    places: BTreeMap<PackIndex, Vec<ExtentPlace>>,
}

impl Mending<'_> {
    /// Mends a backup. Packs that cannot be healed are told, and stay what they are; the others are.
    ///
    /// # Errors
    /// Damage when the backup cannot be mended at all, [`Error::Store`].
    pub(super) fn backup(&mut self, objects: BackupObjects) -> Result<()> {
        let lineage = self.lineage;
        let here = readable(Manifest::open(self.target, lineage, &objects.id()))?;
        let is_whole = match &here {
            Some(manifest) => readable(walk(manifest))?.is_some(),
            None => false,
        };
        let there = readable(Manifest::open(self.source, lineage, &objects.id()))?;
        if let (Some(here), Some(there)) = (&here, &there)
            && here.summary() != there.summary()
        {
            let reason = format!("the other repository holds another backup by the name {}", objects.id());
            return Err(Error::Refused { operation: "heal a backup", reason });
        }
        let content = match (&here, &there) {
            (Some(here), _) if is_whole => here,
            (_, Some(there)) => there,
            _ => {
                let lost =
                    Malformed::new("the other repository does not hold it, or it is damaged there too");
                return Err(lost.in_object(objects.manifest().as_str()));
            }
        };
        let draft = self.draft(content, here.as_ref(), there.as_ref())?;
        check_places(content, &draft)?;
        let (size, identity) = match (&here, is_whole && !draft.changed) {
            (Some(here), true) => {
                let identity = objects::manifest_identity(self.target, here.path(), here.size())?;
                (here.size(), identity)
            }
            _ => {
                let mode = self.over(&objects.manifest())?;
                let written =
                    objects::write_manifest(content, self.target, self.lineage, &draft.table, mode)?;
                (written.size, written.identity)
            }
        };
        self.outcome(objects, size, identity, content.summary().stopped)
    }

    /// Finds or makes a sound pack for each that the manifest refers to.
    fn draft(
        &mut self,
        content: &Manifest,
        here: Option<&Manifest>,
        there: Option<&Manifest>,
    ) -> Result<Draft> {
        let mut draft = Draft { table: PackTable::new(), changed: false, places: BTreeMap::new() };
        let backup = content.summary().id;
        for (index, _) in content.packs().iter() {
            let present = here.and_then(|manifest| manifest.packs().get(index).ok().copied());
            if let Some(info) = present.filter(|info| self.is_good(info))
                && readable(objects::open_pack(self.target, self.lineage, &info))?.is_some()
            {
                draft.table.insert(index, info);
                continue;
            }
            let origin = there.and_then(|manifest| manifest.packs().get(index).ok().copied());
            let known = |info: PackInfo| self.origins.get(&(info.backup, info.number)).copied();
            let origin = origin.or_else(|| present.and_then(known));
            match (self.sound(backup, origin), present) {
                (Ok(info), _) => {
                    let reader = objects::open_pack(self.target, self.lineage, &info)?;
                    let places = reader.entries().iter().map(PackEntry::place).collect();
                    draft.places.insert(index, places);
                    draft.table.insert(index, info);
                    draft.changed = true;
                }
                // The rest of the backup is worth healing all the same.
                (Err(error), Some(info)) if error.is_unreadable() => {
                    self.failed.push(Hopeless {
                        object: info.path(self.lineage).to_string(),
                        seen: "it is damaged or missing".to_owned(),
                        why: format!("in the other repository, {error}"),
                    });
                    draft.table.insert(index, info);
                }
                (Err(error), _) => return Err(error),
            }
        }
        Ok(draft)
    }

    /// A pack of the target that holds what one of the source does; it is written where there is none.
    fn sound(&mut self, backup: BackupId, origin: Option<PackInfo>) -> Result<PackInfo> {
        let lost = || Error::Missing { object: "the pack".to_owned() };
        let origin = origin.ok_or_else(lost)?;
        let key = (origin.backup, origin.number);
        if let Some(info) = self.healed.get(&key) {
            return Ok(*info);
        }
        if let Some((info, _)) = self.vouched.get(key).filter(|(info, _)| self.is_good(info)) {
            return Ok(*info);
        }
        if let Some(info) = self.same_by_name(&origin)? {
            return Ok(info);
        }
        let number = self.numbers.get(&backup).map_or(0, |highest| highest + 1);
        self.numbers.insert(backup, number);
        let (lineage, advance) = (self.lineage, |bytes| self.progress.advance(bytes));
        let to = (backup, PackNumber(number));
        let info = objects::copy_pack(self.source, self.target, lineage, &origin, to, &advance)?;
        self.healed.insert(key, info);
        Ok(info)
    }

    fn is_good(&self, info: &PackInfo) -> bool {
        !self.bad.contains(&(info.backup, info.number))
    }

    /// A pack that lies in the target by the name that it has in the source, if it holds the very same pages. A manifest that is lost
    /// leaves no other way to tell.
    fn same_by_name(&self, origin: &PackInfo) -> Result<Option<PackInfo>> {
        if self.bad.contains(&(origin.backup, origin.number)) {
            return Ok(None);
        }
        let lineage = self.lineage;
        let opened = PackReader::open(self.target, lineage, &origin.backup, origin.number);
        let Some(present) = readable(opened)? else { return Ok(None) };
        let from = objects::open_pack(self.source, lineage, origin)?;
        if !objects::same_layout(&from, &present) {
            return Ok(None);
        }
        let mut is_same = true;
        from.read_payloads(&mut |entry, _, pages| {
            let entry = &present.entries()[entry.frame as usize];
            is_same &= self.target.identity(pages) == entry.identity;
            Ok(())
        })?;
        Ok(is_same.then(|| present.info()))
    }

    /// States the manifest that lies there now.
    fn outcome(
        &self,
        objects: BackupObjects,
        manifest_bytes: u64,
        manifest_identity: ContentId,
        stopped: Timestamp,
    ) -> Result<()> {
        let path = objects.outcome();
        let published = |repository: &Repository| -> Result<Option<Timestamp>> {
            let found = readable(record::read::<Outcome>(repository, &path))?.flatten();
            Ok(found.and_then(|found| match found.value {
                Outcome::Published { at, .. } => Some(at),
                Outcome::Revoked { .. } => None,
            }))
        };
        let at = match published(self.target)? {
            Some(at) => at,
            None => published(self.source)?.unwrap_or(stopped),
        };
        let outcome = Outcome::Published { manifest_bytes, manifest_identity, at };
        if readable(record::read::<Outcome>(self.target, &path))?.flatten().map(|found| found.value)
            == Some(outcome.clone())
        {
            return Ok(());
        }
        record::write(self.target, &path, &outcome, self.over(&path)?).map(drop)
    }

    /// What writing to a path may replace: exactly what lies there now.
    fn over(&self, path: &ObjectPath) -> Result<PutMode> {
        let found = self.target.store().head(path).map_err(Error::store("look at a damaged object"))?;
        Ok(found.map_or(PutMode::IfAbsent, |meta| PutMode::IfMatch(meta.version)))
    }
}

/// Reads all of a manifest.
fn walk(manifest: &Manifest) -> Result<()> {
    manifest.check_header()?;
    manifest.files().try_for_each(|entry| entry.map(drop))
}

/// Whether every extent lies in its new pack where the manifest says: otherwise it is not the same pack.
fn check_places(content: &Manifest, draft: &Draft) -> Result<()> {
    if draft.places.is_empty() {
        return Ok(());
    }
    for entry in content.files() {
        for extent in entry?.map.extents() {
            let place = extent.place();
            let Some(places) = draft.places.get(&extent.pack) else { continue };
            if places.get(place.frame as usize) != Some(&place) {
                let reason = format!("pack {} of the other repository is laid out otherwise", extent.pack.0);
                return Err(Error::Refused { operation: "heal a pack", reason });
            }
        }
    }
    Ok(())
}

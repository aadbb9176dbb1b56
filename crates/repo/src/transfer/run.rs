//! Performs a copy: lineage by lineage, backups oldest first, each with the WAL that it needs, and the rest of the WAL last.
//!
//! Order is what makes an interruption harmless: a backup is published when all that a restore of it reads is durable in the target.

use super::observe::{PackKey, Sides, Vouched};
use super::plan::{BackupPlan, CopyPlan, Fate, plan};
use super::report::{CopiedBackup, CopyReport, CopyState, LineageCopy, Problem};
use super::{CopyOptions, objects};
use crate::catalog::{CatalogBackup, LineageCatalog, WalObject, all_lineages};
use crate::layout::{BackupId, Lineage, PackNumber};
use crate::lease::{Ground, ReaderClaim, ReaderLease, WalNeeded, WriterClaim, WriterLease};
use crate::manifest::{Manifest, ManifestInfo, PackTable};
use crate::map::PackIndex;
use crate::pack::{PackInfo, PackReader};
use crate::parallel::{lock, try_map};
use crate::repository::Repository;
use crate::walobject::{Stored, reseal};
use crate::{Error, Result, record, writer};
use pgproof_base::{Bytes, Progress, Stage};
use pgproof_pg::{ArchiveName, Lsn, TimelineId};
use pgproof_store::{ObjectPath, PutMode};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// Copies what `options` choose from `source` to `target`.
///
/// # Errors
/// [`Error::Refused`] when both are the same repository, [`Error::Store`] when one of them fails. What is damaged or in conflict is part
/// of the report.
pub fn copy(
    source: &Repository,
    target: &Repository,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<CopyReport> {
    let chosen = chosen_lineages(source, target, options)?;
    let copied = chosen.into_iter().map(|lineage| {
        let sides = Sides::read(source, target, lineage, options.times)?;
        let lease = take_lease(source, lineage, &plan(&sides, options), &sides.source, options, progress);
        // Looked at again under the lease: what was swept in between is not missing.
        let sides = Sides::read(source, target, lineage, options.times)?;
        let plan = plan(&sides, options);
        let Sides { source: here, vouched, .. } = sides;
        let mut copying = Copying {
            wal: plan.wal.clone(),
            source,
            target,
            lineage,
            options,
            progress,
            here,

            vouched,
            stored: Mutex::default(),
            _lease: lease,
        };
        copying.run(&plan)
    });
    Ok(CopyReport { lineages: copied.collect::<Result<_>>()? })
}

/// What [`copy`] would do.
///
/// # Errors
/// As [`copy`].
pub fn plan_copy(source: &Repository, target: &Repository, options: &CopyOptions) -> Result<Vec<CopyPlan>> {
    let chosen = chosen_lineages(source, target, options)?;
    let planned = chosen.into_iter().map(|lineage| {
        Sides::read(source, target, lineage, options.times).map(|sides| plan(&sides, options))
    });
    planned.collect()
}

fn chosen_lineages(source: &Repository, target: &Repository, options: &CopyOptions) -> Result<Vec<Lineage>> {
    refuse_same(source, target)?;
    let mut chosen = all_lineages(source)?;
    chosen.retain(|lineage| options.lineage.is_none_or(|wanted| wanted == lineage.system()));
    Ok(chosen)
}

/// A repository cannot be copied onto itself, whatever it was called.
pub(crate) fn refuse_same(source: &Repository, target: &Repository) -> Result<()> {
    match source.id() == target.id() {
        false => Ok(()),
        true => Err(Error::Refused {
            operation: "use two repositories",
            reason: format!(
                "{} and {} are the same one",
                source.store().describe(),
                target.store().describe()
            ),
        }),
    }
}

/// Announces reading. A source that cannot be written is copied without a lease.
fn take_lease(
    source: &Repository,
    lineage: Lineage,
    plan: &CopyPlan,
    catalog: &LineageCatalog,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Option<ReaderLease> {
    let kept = || plan.backups.iter().filter(|backup| !matches!(backup.fate, Fate::Left { .. }));
    let oldest = kept().find_map(|backup| catalog.backup(backup.backup)?.span());
    let claim = ReaderClaim {
        kind: "copy".to_owned(),
        backups: kept().map(|backup| backup.backup).collect(),
        wal: oldest.map(|span| WalNeeded { timeline: span.timeline, from: span.start }),
    };
    match ReaderLease::take(source, lineage, claim, options.times) {
        Ok(lease) => Some(lease),
        Err(error) => {
            progress.note(&format!(
                "copying without a lease, so what expires meanwhile in the source may be missed: {error}"
            ));
            None
        }
    }
}

/// A copy of one lineage.
struct Copying<'a> {
    source: &'a Repository,
    target: &'a Repository,
    lineage: Lineage,
    options: &'a CopyOptions,
    progress: &'a dyn Progress,
    here: LineageCatalog,

    vouched: Vouched,
    /// All WAL that goes along, in reading order.
    wal: Vec<WalObject>,
    /// WAL that was dealt with: what came of it.
    stored: Mutex<BTreeMap<ObjectPath, Dealt>>,
    /// While it is held, nothing that is being read is removed.
    _lease: Option<ReaderLease>,
}

/// What came of one object of WAL.
#[derive(Debug, Clone)]
enum Dealt {
    New(u64),
    Present,
    /// The source let go of it meanwhile.
    Gone,
    Failed(String),
}

/// A pack that the target lacks, and the name it gets there.
struct PackTask {
    index: PackIndex,
    from: PackInfo,
    number: PackNumber,
}

/// What one backup needs in the target before its manifest can be written.
struct Layout {
    table: PackTable,
    tasks: Vec<PackTask>,
    bases: BTreeSet<BackupId>,
}

impl Copying<'_> {
    fn run(&mut self, plan: &CopyPlan) -> Result<LineageCopy> {
        self.progress.stage(Stage::Copying, Some(plan.bytes()));
        self.histories()?;
        let mut backups = Vec::with_capacity(plan.backups.len());
        for backup in &plan.backups {
            backups.push(self.backup(backup)?);
        }
        self.segments(&self.wal)?;
        let epoch = self.epoch()?;
        let ledger_objects = crate::ledger::copy(self.source, self.target, self.lineage)?;
        Ok(LineageCopy { ledger_objects, ..self.report(plan, backups, epoch) })
    }

    /// Timeline histories go first: without them the target would take a timeline's WAL for another cluster's.
    fn histories(&self) -> Result<()> {
        let files = self.here.wal.as_ref().map_or(&[][..], |wal| &wal.histories);
        try_map(files, self.options.threads, |object| {
            let Ok(name) = ArchiveName::parse(object.path.name()) else { return Ok(()) };
            let stored = reseal::copy_history(self.source, self.target, self.lineage, &name);
            self.deal(&object.path, stored)
        })
        .map(drop)
    }

    /// What goes along before a backup is published: so the windows of those before it have no gap up to it.
    fn wal_up_to(&self, timeline: TimelineId, stop: Lsn) -> Vec<WalObject> {
        let Some(listing) = &self.here.wal else { return Vec::new() };
        let size = listing.set.segment_size();
        let is_due =
            |object: &&WalObject| object.segment.timeline == timeline && object.segment.start(size) < stop;
        self.wal.iter().filter(is_due).cloned().collect()
    }

    /// Copies segments that were not dealt with before.
    fn segments(&self, segments: &[WalObject]) -> Result<()> {
        let new: Vec<&WalObject> = {
            let stored = lock(&self.stored);
            segments.iter().filter(|object| !stored.contains_key(&object.meta.path)).collect()
        };
        try_map(&new, self.options.threads, |object| {
            let path = &object.meta.path;
            let stored = reseal::copy_segment(self.source, self.target, path, &object.name);
            if matches!(stored, Ok(Stored::New { .. })) {
                self.progress.advance(object.meta.size);
            }
            self.deal(path, stored)
        })
        .map(drop)
    }

    /// Damage and conflicts are answers, a store that fails is an error.
    fn deal(&self, path: &ObjectPath, stored: Result<Stored>) -> Result<()> {
        let dealt = match stored {
            Ok(Stored::New { stored_bytes }) => Dealt::New(stored_bytes),
            Ok(Stored::SameContent) => Dealt::Present,
            Err(error) if error.is_unreadable() || matches!(error, Error::WalConflict { .. }) => {
                let found = self.source.store().head(path).map_err(Error::store("look for WAL"))?;
                found.map_or(Dealt::Gone, |_| Dealt::Failed(error.to_string()))
            }
            Err(error) => return Err(error),
        };
        lock(&self.stored).insert(path.clone(), dealt);
        Ok(())
    }

    fn backup(&mut self, plan: &BackupPlan) -> Result<CopiedBackup> {
        let mut copied = CopiedBackup {
            backup: plan.backup,
            state: CopyState::Present,
            packs: 0,
            bytes: Bytes(0),
            why: None,
        };
        match &plan.fate {
            Fate::Present => return Ok(copied),
            Fate::Left { why } => {
                (copied.state, copied.why) = (CopyState::Left, Some(why.clone()));
                return Ok(copied);
            }
            Fate::Copy | Fate::Resume => {}
        }
        match self.copy_backup(plan, &mut copied) {
            Ok(()) => copied.state = CopyState::Copied,
            Err(error) if is_answer(&error) => {
                let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
                (copied.state, copied.why) = (CopyState::Left, Some(format!("{error}{hint}")));
            }
            Err(error) => return Err(error),
        }
        Ok(copied)
    }

    /// Whatever ends this early leaves the lease behind, and with it what was written: the next copy goes on.
    fn copy_backup(&mut self, plan: &BackupPlan, copied: &mut CopiedBackup) -> Result<()> {
        let manifest = Manifest::open(self.source, self.lineage, &plan.backup)?;
        let mut layout = self.layout(&manifest);
        let summary = manifest.summary();
        let claim = WriterClaim {
            kind: "copy".to_owned(),
            bases: layout.bases.iter().copied().collect(),
            wal: Some(WalNeeded { timeline: summary.timeline, from: summary.start_lsn }),
        };
        let (objects, from) = (self.lineage.backup(plan.backup), self.origin(plan.backup));
        let (lease, ground) = WriterLease::copy(self.target, objects, claim, from, self.options.times)?;
        for (index, info, bytes) in
            try_map(&layout.tasks, self.options.threads, |task| self.pack(plan.backup, task, ground))?
        {
            layout.table.insert(index, info);
            copied.packs += u64::from(bytes > 0);
            copied.bytes.0 += bytes;
        }
        self.segments(&self.wal_up_to(summary.timeline, summary.stop_lsn))?;
        self.segments(&plan.needs)?;
        self.check_wal(plan)?;
        lease.check()?;
        let written = self.manifest(&manifest, &layout.table, ground)?;
        self.pin(plan.backup)?;
        lease.publish(written.size, written.identity)?;
        self.vouched.add(plan.backup, manifest.packs(), &written.packs);
        Ok(())
    }

    /// What tells whether an interrupted copy gave its packs the same numbers: it was made by the very same manifest.
    fn origin(&self, backup: BackupId) -> String {
        let stated = self.here.backup(backup).and_then(|backup| backup.manifest);
        let manifest = stated.map(|(_, identity)| identity.to_string()).unwrap_or_default();
        format!("{} {manifest}", self.source.id())
    }

    /// Where each pack of a backup is or will be. Packs of its own keep their numbers; those of backups that are not in the target come
    /// behind, in an order that depends on the manifest alone, so that an interrupted copy finds its own again.
    fn layout(&self, manifest: &Manifest) -> Layout {
        let backup = manifest.summary().id;
        let own = manifest.packs().iter().filter(|(_, used)| used.info.backup == backup);
        let mut foreign = own.map(|(_, used)| used.info.number.0 + 1).max().unwrap_or(0);
        let mut layout = Layout { table: PackTable::new(), tasks: Vec::new(), bases: BTreeSet::new() };
        for (index, used) in manifest.packs().iter() {
            let number = match used.info.backup == backup {
                true => used.info.number,
                false => {
                    foreign += 1;
                    PackNumber(foreign - 1)
                }
            };
            let key: PackKey = (used.info.backup, used.info.number);
            match self.vouched.get(key) {
                Some((info, by)) => {
                    layout.bases.insert(*by);
                    layout.table.insert(index, *info);
                }
                None => layout.tasks.push(PackTask { index, from: used.info, number }),
            }
        }
        layout
    }

    /// Copies a pack unless an interrupted copy did; gives the bytes that were written.
    fn pack(&self, backup: BackupId, task: &PackTask, ground: Ground) -> Result<(PackIndex, PackInfo, u64)> {
        let lineage = self.lineage;
        match (PackReader::open(self.target, lineage, &backup, task.number), ground) {
            (Err(Error::Missing { .. }), _) => {}
            (Ok(present), Ground::Resumed) => {
                let from = objects::open_pack(self.source, lineage, &task.from)?;
                if !objects::same_layout(&from, &present) {
                    return Err(in_the_way(present.path()));
                }
                self.progress.advance(task.from.size);
                return Ok((task.index, present.info(), 0));
            }
            (Err(error), Ground::Resumed) if error.is_unreadable() => {
                // Nothing refers to what an unpublished copy wrote.
                let path = self.lineage.backup(backup).pack(task.number);
                self.target.store().delete(&path).map_err(Error::store("remove a damaged pack"))?;
            }
            // Nothing protected it up to now, so it may be gone in the next moment.
            (Ok(_), Ground::Fresh) => {
                return Err(in_the_way(&self.lineage.backup(backup).pack(task.number)));
            }
            (Err(error), _) => return Err(error),
        }
        let advance = |bytes| self.progress.advance(bytes);
        let to = (backup, task.number);
        let info = objects::copy_pack(self.source, self.target, lineage, &task.from, to, &advance)?;
        Ok((task.index, info, info.size))
    }

    /// A backup that lacks its WAL in the target could not be restored from there.
    fn check_wal(&self, plan: &BackupPlan) -> Result<()> {
        let stored = lock(&self.stored);
        for object in &plan.needs {
            let path = &object.meta.path;
            match stored.get(path) {
                Some(Dealt::New(_) | Dealt::Present) => {}
                Some(Dealt::Failed(what)) => {
                    return Err(Error::Damaged { object: path.to_string(), what: what.clone() });
                }
                Some(Dealt::Gone) | None => return Err(Error::Missing { object: path.to_string() }),
            }
        }
        Ok(())
    }

    /// Writes the manifest; one that an interrupted copy wrote is published as it is, because whoever was interrupted may still do so.
    fn manifest(&self, from: &Manifest, table: &PackTable, ground: Ground) -> Result<ManifestInfo> {
        let backup = from.summary().id;
        let path = self.lineage.backup(backup).manifest();
        let found = self.target.store().head(&path).map_err(Error::store("look for a manifest"))?;
        if found.is_none() || ground == Ground::Fresh {
            return objects::write_manifest(from, self.target, self.lineage, table, PutMode::IfAbsent);
        }
        let present = Manifest::open(self.target, self.lineage, &backup)?;
        present.check_header()?;
        let fits =
            |(index, used): (PackIndex, &crate::manifest::PackUse)| table.get(index).ok() == Some(&used.info);
        if present.summary() != from.summary() || !present.packs().iter().all(fits) {
            return Err(in_the_way(&path));
        }
        present.files().try_for_each(|entry| entry.map(drop))?;
        let identity = objects::manifest_identity(self.target, &path, present.size())?;
        Ok(ManifestInfo { size: present.size(), identity, packs: present.packs().clone() })
    }

    /// A backup that somebody wants kept is kept in the target too, from its first moment. Later pins are each repository's own.
    fn pin(&self, backup: BackupId) -> Result<()> {
        let pin = self.here.backup(backup).and_then(|backup: &CatalogBackup| backup.pin.as_ref());
        let Some(pin) = pin else { return Ok(()) };
        record::write(self.target, &self.lineage.backup(backup).pin(), pin, PutMode::Overwrite).map(drop)
    }

    /// Whoever was replaced as the archiving server in the source may not archive into its copy either. An epoch is never lowered.
    fn epoch(&self) -> Result<Option<u64>> {
        let Some(here) = &self.here.writer else { return Ok(None) };
        let there = match writer::current(self.target, self.lineage) {
            Ok(there) => there,
            Err(error) if error.is_unreadable() => return Ok(None),
            Err(error) => return Err(error),
        };
        let mode = match there {
            None => PutMode::IfAbsent,
            Some(there) if there.value.epoch < here.value.epoch => PutMode::IfMatch(there.meta.version),
            Some(_) => return Ok(None),
        };
        match record::write(self.target, &self.lineage.writer(), &here.value, mode) {
            Ok(_) => Ok(Some(here.value.epoch)),
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn report(&self, plan: &CopyPlan, backups: Vec<CopiedBackup>, epoch: Option<u64>) -> LineageCopy {
        let mut report = LineageCopy {
            system: plan.system,
            content: self.lineage.content(),
            backups,
            segments: 0,
            segment_bytes: Bytes(0),
            segments_present: 0,
            histories: 0,
            ledger_objects: 0,
            epoch,
            problems: Vec::new(),
        };
        let histories = self.lineage.history_dir();
        for (path, dealt) in lock(&self.stored).iter() {
            match dealt {
                Dealt::New(_) if path.is_below(Some(&histories)) => report.histories += 1,
                Dealt::New(bytes) => {
                    report.segments += 1;
                    report.segment_bytes.0 += bytes;
                }
                Dealt::Present if !path.is_below(Some(&histories)) => report.segments_present += 1,
                Dealt::Failed(what) => {
                    report.problems.push(Problem { object: path.to_string(), what: what.clone() });
                }
                Dealt::Present | Dealt::Gone => {}
            }
        }
        report
    }
}

/// Something else lies where a copy is to be written.
fn in_the_way(path: &ObjectPath) -> Error {
    let reason =
        format!("{path} is there and belongs to no backup; `pgproof expire` on the target removes it");
    Error::Refused { operation: "copy a backup", reason }
}

/// Whether an error is about this backup alone, so that the others can still be copied.
fn is_answer(error: &Error) -> bool {
    error.is_unreadable()
        || matches!(
            error,
            Error::BackupGone { .. }
                | Error::LeaseHeld { .. }
                | Error::LeaseLost { .. }
                | Error::Revoked { .. }
                | Error::Refused { .. }
        )
}

//! Performs a repair: verify, plan, heal, verify what was healed.

use super::RepairOptions;
use super::backup::{Mending, numbers};
use super::observe::{Observation, was_published};
use super::plan::{Heal, HealKind, Hopeless, RepairPlan, is_unclear, plan};
use super::report::{Absent, LineageRepair, RepairReport, Restorable};
use crate::catalog::{BackupState, LineageCatalog, Scope, all_lineages};
use crate::layout::{BackupId, Lineage};
use crate::lease::{ReaderClaim, ReaderLease, WalNeeded, holder_is_dead};
use crate::parallel;
use crate::repository::Repository;
use crate::transfer::observe::PackKey;
use crate::verify::{LineageReport, VerifyFinding, VerifyOptions, VerifyReport, verify};
use crate::walobject::reseal;
use crate::{Error, Result};
use pgproof_base::{Progress, Severity, Stage};
use pgproof_store::{ObjectPath, PutMode};
use std::collections::BTreeSet;
use std::time::Duration;

/// Heals `target` from `source`.
///
/// # Errors
/// [`Error::Refused`] when both are the same repository, [`Error::Store`] when one of them fails. What cannot be healed is part of the
/// report.
pub fn repair(
    target: &Repository,
    source: &Repository,
    options: &RepairOptions,
    progress: &dyn Progress,
) -> Result<RepairReport> {
    crate::transfer::refuse_same(source, target)?;
    let found = verify(target, &verify_options(options, options.since), progress)?;
    let began = found.began;
    let mut lineages = Vec::new();
    for report in found.lineages {
        let repairing = Repairing { target, source, lineage: report.lineage(), options, progress };
        lineages.push(repairing.run(report)?);
    }
    if lineages.iter().any(|lineage| !lineage.healed.is_empty() || !lineage.removed.is_empty()) {
        let now = target.store().now().map_err(Error::store("ask for the time"))?;
        // What the first verification read needs no second look, what was healed since does.
        let since = Duration::try_from(now.duration_since(began)).unwrap_or_default() + SLACK;
        let after = verify(target, &verify_options(options, Some(since)), progress)?;
        lineages.iter_mut().for_each(|lineage| lineage.remaining = remaining(lineage.lineage(), &after));
    }
    for lineage in &mut lineages {
        lineage.restorable = restorable(target, lineage, options)?;
    }
    Ok(RepairReport { lineages, absent: absent(target, source, options)? })
}

/// What [`repair`] would do. The repository is read as [`verify`] does.
///
/// # Errors
/// As [`repair`].
pub fn plan_repair(
    target: &Repository,
    source: &Repository,
    options: &RepairOptions,
    progress: &dyn Progress,
) -> Result<Vec<RepairPlan>> {
    crate::transfer::refuse_same(source, target)?;
    let found = verify(target, &verify_options(options, options.since), progress)?;
    let planned = found.lineages.into_iter().map(|report| {
        let lineage = report.lineage();
        Observation::read(target, source, lineage, report, options.times).map(|observed| plan(&observed))
    });
    planned.collect()
}

/// Lineages of which the source holds backups and the target holds none: no damage that could be healed, and all the same nothing could
/// be restored.
///
/// # Errors
/// [`Error::Store`].
pub fn absent(target: &Repository, source: &Repository, options: &RepairOptions) -> Result<Vec<Absent>> {
    let has_backups = |repository: &Repository, lineage: Lineage| -> Result<bool> {
        let catalog = LineageCatalog::read(repository, lineage, Scope::Backups, options.times)?;
        Ok(catalog.published().next().is_some())
    };
    let mut absent = Vec::new();
    for lineage in all_lineages(source)? {
        let (system, content) = (lineage.system(), lineage.content());
        let is_meant = options.lineage.is_none_or(|wanted| wanted == system);
        if is_meant && has_backups(source, lineage)? && !has_backups(target, lineage)? {
            absent.push(Absent { system, content });
        }
    }
    Ok(absent)
}

/// Clocks of stores that tell whole seconds only.
const SLACK: Duration = Duration::from_secs(2);

fn verify_options(options: &RepairOptions, since: Option<Duration>) -> VerifyOptions {
    VerifyOptions { threads: options.threads, since, lineage: options.lineage, times: options.times }
}

/// What counts of a lineage's findings.
fn remaining(lineage: Lineage, report: &VerifyReport) -> Vec<VerifyFinding> {
    let own = report.lineages.iter().filter(|one| one.lineage() == lineage);
    own.flat_map(|lineage| &lineage.findings).filter(|found| counts(found)).cloned().collect()
}

fn counts(found: &VerifyFinding) -> bool {
    found.finding.severity > Severity::Info
}

/// The backups that nothing found hurts.
fn restorable(
    target: &Repository,
    lineage: &LineageRepair,
    options: &RepairOptions,
) -> Result<Vec<Restorable>> {
    let catalog = LineageCatalog::read(target, lineage.lineage(), Scope::Backups, options.times)?;
    let hurt: BTreeSet<BackupId> =
        lineage.remaining.iter().flat_map(|found| &found.hurts.backups).copied().collect();
    let whole = catalog.published().filter(|b| b.marked.is_none() && b.is_good() && !hurt.contains(&b.id));
    let restorable =
        whole.filter_map(|backup| Some(Restorable { backup: backup.id, stopped: backup.span()?.stopped }));
    Ok(restorable.collect())
}

/// The repair of one lineage.
struct Repairing<'a> {
    target: &'a Repository,
    source: &'a Repository,
    lineage: Lineage,
    options: &'a RepairOptions,
    progress: &'a dyn Progress,
}

impl Repairing<'_> {
    fn run(&self, report: LineageReport) -> Result<LineageRepair> {
        let before: Vec<VerifyFinding> = report.findings.iter().filter(|f| counts(f)).cloned().collect();
        let observed = Observation::read(self.target, self.source, self.lineage, report, self.options.times)?;
        let plan = plan(&observed);
        let mut repaired = LineageRepair {
            system: self.lineage.system(),
            content: self.lineage.content(),
            healed: Vec::new(),
            failed: plan.hopeless.clone(),
            removed: Vec::new(),
            remaining: before,
            restorable: Vec::new(),
        };
        if plan.heal.is_empty() && plan.remove.is_empty() {
            return Ok(repaired);
        }
        self.progress.stage(Stage::Copying, None);
        let lease = self.announce(&observed)?;
        let _source = self.hold_source(&observed, &plan);
        self.wal(&plan, &mut repaired)?;
        self.backups(&observed, &plan, &mut repaired)?;
        self.remove_replaced(&plan.bad, &lease, &mut repaired)?;
        Ok(repaired)
    }

    /// While it is held, expiry in the target removes nothing of what is being healed, and nothing that was written for it.
    fn announce(&self, observed: &Observation) -> Result<ReaderLease> {
        let here = &observed.sides.target;
        let backups = here.backups.iter().filter(|backup| was_published(here, backup.id));
        let oldest = here.spans().into_iter().min_by_key(|span| (span.timeline, span.start));
        let claim = ReaderClaim {
            kind: "repair".to_owned(),
            backups: backups.map(|backup| backup.id).collect(),
            wal: oldest.map(|span| WalNeeded { timeline: span.timeline, from: span.start }),
        };
        ReaderLease::announce(self.target, self.lineage, claim, self.options.times)
    }

    /// A second repository that cannot be written is read without a lease.
    fn hold_source(&self, observed: &Observation, plan: &RepairPlan) -> Option<ReaderLease> {
        let wanted = plan.heal.iter().filter_map(|heal| match &heal.kind {
            HealKind::Backup { backup, .. } => Some(*backup),
            _ => None,
        });
        let there = &observed.sides.source;
        let is_there = |id: &BackupId| there.published().any(|b| b.id == *id && b.marked.is_none());
        let backups = wanted.filter(is_there).collect();
        let claim = ReaderClaim { kind: "repair".to_owned(), backups, wal: None };
        let lease = ReaderLease::take(self.source, self.lineage, claim, self.options.times);
        lease.map_err(|error| self.progress.note(&format!("reading without a lease: {error}"))).ok()
    }

    fn wal(&self, plan: &RepairPlan, repaired: &mut LineageRepair) -> Result<()> {
        // Histories come first, and are few.
        for kind_is_history in [true, false] {
            let is_due = |heal: &&Heal| match heal.kind {
                HealKind::History { .. } => kind_is_history,
                HealKind::Segment { .. } => !kind_is_history,
                HealKind::Backup { .. } => false,
            };
            let due: Vec<&Heal> = plan.heal.iter().filter(is_due).collect();
            let results = parallel::try_map(&due, self.options.threads, |heal| self.one(heal))?;
            for (heal, result) in due.into_iter().zip(results) {
                note(heal, result, repaired);
            }
        }
        Ok(())
    }

    /// Writes one object of WAL, in the place of exactly what was found; gives what kept it from that.
    fn one(&self, heal: &Heal) -> Result<Option<String>> {
        let path = ObjectPath::new(&heal.object).map_err(Error::store("name a damaged object"))?;
        let mode = match heal.missing {
            true => PutMode::IfAbsent,
            false => {
                let found = self.target.store().head(&path).map_err(Error::store("look at damaged WAL"))?;
                found.map_or(PutMode::IfAbsent, |meta| PutMode::IfMatch(meta.version))
            }
        };
        let written = match &heal.kind {
            HealKind::Segment { .. } => reseal::restore_segment(self.source, self.target, &path, mode),
            HealKind::History { name } => {
                reseal::restore_history(self.source, self.target, self.lineage, name, mode)
            }
            HealKind::Backup { .. } => return Ok(None),
        };
        match written {
            Ok(stored) => {
                if let crate::walobject::Stored::New { stored_bytes } = stored {
                    self.progress.advance(stored_bytes);
                }
                Ok(None)
            }
            // Somebody archived it meanwhile; the verification that follows looks at what.
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) if error.is_unreadable() => Ok(Some(format!("in the other repository, {error}"))),
            Err(error) => Err(error),
        }
    }

    fn backups(&self, observed: &Observation, plan: &RepairPlan, repaired: &mut LineageRepair) -> Result<()> {
        let mut mending = Mending {
            target: self.target,
            source: self.source,
            lineage: self.lineage,
            progress: self.progress,
            bad: &plan.bad,
            origins: &observed.origins,
            vouched: &observed.sides.vouched,
            numbers: numbers(&observed.sides.target, &plan.bad),
            healed: Default::default(),
            failed: Vec::new(),
        };
        for heal in &plan.heal {
            let HealKind::Backup { backup, .. } = &heal.kind else { continue };
            let failed = mending.failed.len();
            let result = match mending.backup(self.lineage.backup(*backup)) {
                Ok(()) if mending.failed.len() > failed => continue,
                Ok(()) => None,
                Err(error) if error.is_unreadable() || matches!(error, Error::Refused { .. }) => {
                    Some(error.to_string())
                }
                Err(error) if error.is_conflict() => {
                    Some("it was changed meanwhile; run it again".to_owned())
                }
                Err(error) => return Err(error),
            };
            note(heal, result, repaired);
        }
        repaired.failed.append(&mut mending.failed);
        Ok(())
    }

    /// Removes damaged packs that no manifest names any more. Whoever is at work may still read the good part of them: then expiry does it
    /// later.
    fn remove_replaced(
        &self,
        bad: &BTreeSet<PackKey>,
        lease: &ReaderLease,
        repaired: &mut LineageRepair,
    ) -> Result<()> {
        if bad.is_empty() {
            return Ok(());
        }
        let catalog = LineageCatalog::read(self.target, self.lineage, Scope::Backups, self.options.times)?;
        let others = catalog.readers.iter().any(|reader| {
            let is_gone = reader.record.as_ref().is_some_and(|record| holder_is_dead(&record.holder));
            reader.live && !is_gone && reader.meta.path != *lease.path()
        });
        let at_work = others || catalog.backups.iter().any(|backup| backup.state == BackupState::Running);
        let used: BTreeSet<&PackKey> = catalog.backups.iter().flat_map(|b| b.packs.keys()).collect();
        let named = catalog.packs.iter().filter(|pack| {
            let key = (pack.backup, pack.number);
            bad.contains(&key) && !used.contains(&key) && !is_unclear(&catalog, pack.backup)
        });
        let paths: Vec<ObjectPath> =
            named.map(|pack| self.lineage.backup(pack.backup).pack(pack.number)).collect();
        if paths.is_empty() {
            return Ok(());
        }
        if at_work {
            let note = "somebody is at work in the repository, so damaged packs that nothing refers to stay until \
                        `pgproof expire` removes them";
            self.progress.note(note);
            return Ok(());
        }
        self.target.store().delete_all(&paths).map_err(Error::store("remove damaged packs"))?;
        repaired.removed = paths.iter().map(ToString::to_string).collect();
        Ok(())
    }
}

fn note(heal: &Heal, failure: Option<String>, repaired: &mut LineageRepair) {
    match failure {
        None => repaired.healed.push(heal.clone()),
        Some(why) => repaired.failed.push(Hopeless {
            object: heal.object.clone(),
            seen: if heal.missing { "it is missing" } else { "it is damaged" }.to_owned(),
            why,
        }),
    }
}

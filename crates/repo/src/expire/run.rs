//! Carries out a plan, in an order that leaves a usable repository whenever it ends.
//!
//! A backup is removed from its meaning to its content: manifest, packs, lease, outcome, and the mark last, so that what is left of an
//! interrupted removal is always marked. WAL goes oldest first: what is left has no new gap.

use super::plan::{ExpirePlan, plan_expire};
use super::{ExpireOptions, Sweep};
use crate::catalog::{LineageCatalog, Scope};
use crate::layout::{BackupId, Lineage};
use crate::lease::{ExpiredMark, Holder, Outcome, WriterRecord};
use crate::record;
use crate::repository::Repository;
use crate::retention::RemoveReason;
use crate::{Error, Result};
use jiff::Timestamp;
use pgproof_base::{Bytes, Progress};
use pgproof_pg::ArchiveName;
use pgproof_store::{ObjectPath, PutMode};
use serde::Serialize;
use std::time::Duration;

/// Objects removed with one call: what S3 takes in one request.
const BATCH: usize = 1000;

/// Unfinished writes of killed processes older than this are swept out of the store. No write takes a day.
const LEFTOVERS_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What a run did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExpireReport {
    /// The plan that it carried out last.
    pub plan: ExpirePlan,
    /// Backups that were declared void.
    pub revoked: Vec<BackupId>,
    /// Backups that were marked.
    pub marked: Vec<BackupId>,
    /// Backups that were removed.
    pub swept: Vec<BackupId>,
    /// Packs removed.
    pub packs: u64,
    /// WAL segments removed.
    pub segments: u64,
    /// Bytes freed.
    pub bytes: Bytes,
    /// Objects of the ledger that only repeated others, removed.
    pub ledger_objects: u64,
    /// Leftovers of killed writers removed.
    pub leftovers: u64,
}

/// Applies the retention policy to one lineage. `superseded`: another lineage has a newer backup.
///
/// # Errors
/// [`Error::Store`]; whatever was done until then stays done, and the next run goes on.
pub fn run_expire(
    repository: &Repository,
    lineage: Lineage,
    options: &ExpireOptions,
    superseded: bool,
    progress: &dyn Progress,
) -> Result<ExpireReport> {
    let read = || LineageCatalog::read(repository, lineage, Scope::BackupsAndWal, options.times);
    let first = plan_expire(&read()?, options, superseded);
    let revoked = revoke(repository, lineage, &first, options)?;
    let marked = mark(repository, lineage, &first)?;
    let catalog = read()?;
    let plan = plan_expire(&catalog, options, superseded);
    let mut report = ExpireReport {
        revoked,
        marked,
        swept: Vec::new(),
        packs: plan.packs.len() as u64,
        segments: plan.wal.remove.iter().map(|run| run.count()).sum(),
        bytes: plan.pack_bytes,
        ledger_objects: 0,
        leftovers: 0,
        plan,
    };
    if let Some(why) = &report.plan.packs_kept {
        progress.note(&format!("no pack is removed: {why}"));
    }
    let unmark = report.plan.unmark.iter().map(|&backup| lineage.backup(backup).expired()).collect();
    delete(repository, unmark)?;
    sweep(repository, lineage, &report.plan)?;
    report.swept = report.plan.sweep.iter().map(|sweep| sweep.backup).collect();
    report.bytes.0 += remove_wal(repository, &catalog, &report.plan)?;
    remove_dead_readers(repository, &catalog, options)?;
    if report.plan.drops_lineage {
        drop_rest(repository, lineage)?;
    }
    report.ledger_objects = crate::ledger::trim(repository, lineage, options)?;
    let clean = repository.store().clean(LEFTOVERS_AFTER);
    report.leftovers = clean.map_err(Error::store("clean up after killed writers"))?;
    Ok(report)
}

/// Declares dead writers' backups void. Whoever is first decides: a writer that publishes in this moment wins.
fn revoke(
    repository: &Repository,
    lineage: Lineage,
    plan: &ExpirePlan,
    options: &ExpireOptions,
) -> Result<Vec<BackupId>> {
    let mut revoked = Vec::new();
    for revocation in &plan.revoke {
        let backup = lineage.backup(revocation.backup);
        // The plan is a moment old: somebody may have resumed the backup since.
        let lease = repository.store().head(&backup.lease()).map_err(Error::store("look at a lease"))?;
        let now = repository.store().now().map_err(Error::store("ask for the time"))?;
        if lease.is_some_and(|lease| options.times.is_live(lease.modified, now)) {
            continue;
        }
        let outcome = Outcome::Revoked {
            at: Timestamp::now(),
            by: Holder::this_process(),
            why: revocation.why.clone(),
        };
        // A copy that is made over an earlier revocation waits for just that version of it: a new one takes its place away.
        let mode = match record::read::<Outcome>(repository, &backup.outcome()) {
            Ok(None) => PutMode::IfAbsent,
            Ok(Some(found)) if matches!(found.value, Outcome::Revoked { .. }) => {
                PutMode::IfMatch(found.meta.version)
            }
            Ok(Some(_)) => continue,
            Err(error) if error.is_unreadable() => continue,
            Err(error) => return Err(error),
        };
        match record::write(repository, &backup.outcome(), &outcome, mode) {
            Ok(_) => revoked.push(revocation.backup),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(revoked)
}

fn mark(repository: &Repository, lineage: Lineage, plan: &ExpirePlan) -> Result<Vec<BackupId>> {
    for &backup in &plan.mark {
        let removed = plan.retention.remove.iter().find(|removed| removed.backup == backup);
        let why = match removed.map(|removed| removed.reason) {
            Some(RemoveReason::FailedChecks) => "it failed its checks and a newer good backup exists",
            Some(RemoveReason::LineageDropped) => "its lineage is dropped",
            _ => "no retention rule keeps it",
        };
        let mark = ExpiredMark { by: Holder::this_process(), why: why.to_owned() };
        match record::write(repository, &lineage.backup(backup).expired(), &mark, PutMode::IfAbsent) {
            Ok(_) => {}
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(plan.mark.clone())
}

fn sweep(repository: &Repository, lineage: Lineage, plan: &ExpirePlan) -> Result<()> {
    let backups = || plan.sweep.iter().map(|sweep: &Sweep| (sweep, lineage.backup(sweep.backup)));
    let manifests = backups().map(|(_, backup)| backup.manifest()).collect();
    delete(repository, manifests)?;
    let packs = plan.packs.iter().map(|&(backup, number)| lineage.backup(backup).pack(number)).collect();
    delete(repository, packs)?;
    let small = backups().flat_map(|(_, backup)| [backup.lease(), backup.pin()]).collect();
    delete(repository, small)?;
    let outcomes = backups().filter(|(sweep, _)| !sweep.keeps_tombstone).map(|(_, backup)| backup.outcome());
    delete(repository, outcomes.collect())?;
    delete(repository, backups().map(|(_, backup)| backup.expired()).collect())
}

fn delete(repository: &Repository, paths: Vec<ObjectPath>) -> Result<()> {
    paths.chunks(BATCH).try_for_each(|batch| {
        repository.store().delete_all(batch).map_err(Error::store("remove what expired"))
    })
}

/// Removes the segments of the plan and gives the bytes they took.
fn remove_wal(repository: &Repository, catalog: &LineageCatalog, plan: &ExpirePlan) -> Result<u64> {
    let Some(wal) = &catalog.wal else { return Ok(0) };
    let mut bytes = 0;
    for run in &plan.wal.remove {
        let goes = |segment: pgproof_pg::SegmentName| {
            segment.timeline == run.timeline && (run.first..=run.last).contains(&segment.number)
        };
        // A partial segment goes with the complete one of its name, or when the run covers its place.
        let mut objects: Vec<_> = wal.objects.iter().filter(|object| goes(object.segment)).collect();
        objects.sort_by_key(|object| (object.segment, matches!(object.name, ArchiveName::Segment(_))));
        bytes += objects.iter().map(|object| object.meta.size).sum::<u64>();
        delete(repository, objects.into_iter().map(|object| object.meta.path.clone()).collect())?;
    }
    Ok(bytes)
}

/// Leases that ran out long ago protect nothing and only make listings longer.
fn remove_dead_readers(
    repository: &Repository,
    catalog: &LineageCatalog,
    options: &ExpireOptions,
) -> Result<()> {
    let dead = catalog.readers.iter().filter(|reader| !reader.live);
    let long_dead = dead.filter(|reader| {
        let age = catalog.at.duration_since(reader.meta.modified);
        age > options.times.timeout.saturating_mul(2).try_into().unwrap_or(jiff::SignedDuration::MAX)
    });
    delete(repository, long_dead.map(|reader| reader.meta.path.clone()).collect())?;
    // The leases of published backups are removed by their writers, unless those were killed in between.
    let left = catalog.published().filter(|backup| backup.lease.is_some());
    let dead = left.filter(|backup| {
        let live = |lease: &(Timestamp, WriterRecord)| options.times.is_live(lease.0, catalog.at);
        !backup.lease.as_ref().is_some_and(live)
    });
    delete(repository, dead.map(|backup| backup.objects.lease()).collect())
}

/// What remains of a lineage without backups: history files, records of verifications, the writer, and stray partial segments.
fn drop_rest(repository: &Repository, lineage: Lineage) -> Result<()> {
    let rest = repository
        .store()
        .list(Some(&lineage.dir()), None)
        .map_err(Error::store("list a dropped lineage"))?;
    // Tombstones stay, or a writer that was stopped for long could publish into a lineage that is gone.
    let tombstones = lineage.backups_dir();
    let rest = rest.into_iter().map(|object| object.path).filter(|path| !path.is_below(Some(&tombstones)));
    delete(repository, rest.collect())
}

//! Performs a plan. No choices are left to it.

use crate::configuration;
use crate::databases::{GUARD, Treatment, VERSION_FILE};
use crate::dispositions::CONTROL_FILE;
use crate::engine::{Existing, Placed, Placement, content};
use crate::error::{Refusal, RestoreError, Result};
use crate::finish::Site;
use crate::observe::Prepared;
use crate::options::Archiving;
use crate::places::{Places, TABLESPACES};
use crate::report::Report;
use pgproof_base::{Progress, Stage};
use pgproof_repo::lease::{LeaseTimes, ReaderClaim, ReaderLease, WalNeeded};
use pgproof_repo::{FileEntry, Lineage, Repository, writer};
use std::time::Instant;

/// Restores. When this returns `Ok` everything is durable and a server started on the directory recovers to the target.
///
/// # Errors
/// Every [`RestoreError`]. PostgreSQL refuses to start on a directory that was left in the middle, and a restore with
/// `--delta` continues it.
pub fn run(repository: &Repository, prepared: &Prepared, progress: &dyn Progress) -> Result<Report> {
    let began = Instant::now();
    let Prepared { plan, manifest, .. } = prepared;
    // Held until the server has what it needs; whoever marked the backup before this is noticed here.
    let lease = take_lease(repository, prepared, progress)?;
    let control = content(repository, manifest, CONTROL_FILE)?
        .ok_or(RestoreError::Incomplete { backup: plan.chosen.backup, what: CONTROL_FILE })?;
    let places = plan.places();
    let site = Site::open(&places, plan.owner, plan.directory_mode, control)?;
    site.remove(&plan.removals)?;
    site.link_tablespaces()?;
    progress.stage(Stage::Restoring, Some(plan.bytes));
    let placed = place(repository, prepared, progress)?;
    site.require_directories()?;
    guard_shells(prepared, &places, &site)?;
    let mut notes = configuration::write(repository, manifest, plan, &site)?;
    let place_s = began.elapsed().as_secs_f64();
    progress.stage(Stage::Syncing, None);
    site.sync()?;
    let sync_s = began.elapsed().as_secs_f64() - place_s;
    match lease.as_ref().map(ReaderLease::check) {
        None => notes.push(UNANNOUNCED.to_owned()),
        Some(Err(_)) => {
            notes.push("the lease of this restore was lost; every extent was there all the same".to_owned());
        }
        Some(Ok(_)) => {}
    }
    // The last step that concerns others: from here on the origin is refused.
    let epoch = take_over(repository, prepared)?;
    site.release()?;
    Ok(Report {
        plan: plan.clone(),
        placed,
        place_s,
        sync_s,
        total_s: began.elapsed().as_secs_f64(),
        epoch,
        saved_s: saved_s(prepared, &placed, place_s),
        notes,
        recovery: None,
    })
}

/// What the databases left out would have taken, by what the others took.
fn saved_s(prepared: &Prepared, placed: &Placed, place_s: f64) -> Option<f64> {
    let databases = prepared.plan.databases.as_ref()?;
    let rate = placed.work.bytes_written as f64 / place_s.max(0.001);
    (rate > 0.0).then(|| databases.bytes_left_out as f64 / rate)
}

/// What a restore that could not announce itself says.
const UNANNOUNCED: &str = "the repository cannot be written, so this restore has no lease: let nothing expire there until it has what it needs";

/// Announces the restore. A repository that cannot be written, a mirror or one opened with credentials for reading, is restored from
/// all the same: the hour of need is no time to ask for more rights.
fn take_lease(
    repository: &Repository,
    prepared: &Prepared,
    progress: &dyn Progress,
) -> Result<Option<ReaderLease>> {
    let Prepared { plan, manifest, .. } = prepared;
    let wal = WalNeeded { timeline: manifest.summary().timeline, from: plan.chosen.replay_from };
    let claim = ReaderClaim { kind: "restore".to_owned(), backups: vec![plan.chosen.backup], wal: Some(wal) };
    match ReaderLease::take(repository, Lineage::new(plan.system), claim, LeaseTimes::default()) {
        Ok(lease) => Ok(Some(lease)),
        Err(error) if error.is_read_only() => {
            progress.note(UNANNOUNCED);
            Ok(None)
        }
        Err(error) => Err(RestoreError::repository("announce the restore")(error)),
    }
}

fn place(repository: &Repository, prepared: &Prepared, progress: &dyn Progress) -> Result<Placed> {
    let Prepared { plan, manifest, selection, .. } = prepared;
    let places = plan.places();
    let admits = |entry: &FileEntry| prepared.admits(&entry.path);
    let hollow = |entry: &FileEntry| matches!(selection.treatment(&entry.path), Treatment::Hollow(_));
    Placement {
        repository,
        manifest,
        places: &places,
        existing: if plan.onto.is_delta() { Existing::Compare } else { Existing::None },
        owner: plan.owner,
        workers: plan.workers,
        admits: &admits,
        hollow: &hollow,
        progress,
        other_backup: plan.chosen.others.first().copied(),
    }
    .perform()
}

/// Makes the databases that were left out refuse every connection. The file lies in the directory of a database's own tablespace only.
fn guard_shells(prepared: &Prepared, places: &Places, site: &Site<'_>) -> Result<()> {
    let Prepared { manifest, selection, .. } = prepared;
    let summary = manifest.summary();
    let version = format!("PG_{}_{}", summary.server_version / 10_000, summary.catalog_version);
    let spaces = summary.tablespaces.iter().map(|space| format!("{TABLESPACES}/{}/{version}", space.oid));
    let parents: Vec<String> = std::iter::once("base".to_owned()).chain(spaces).collect();
    for database in selection.left_out() {
        for parent in &parents {
            let name = format!("{parent}/{database}/{VERSION_FILE}");
            if manifest.file(&name).map_err(RestoreError::repository("read the manifest"))?.is_none() {
                continue;
            }
            let hostile = |why| Refusal::HostilePath { backup: summary.id, path: name.clone(), why };
            site.write(&places.resolve(&name).map_err(hostile)?, format!("{GUARD}\n").as_bytes())?;
        }
    }
    Ok(())
}

fn take_over(repository: &Repository, prepared: &Prepared) -> Result<Option<u64>> {
    let plan = &prepared.plan;
    let Archiving::TakeOver { reason } = &plan.archiving else { return Ok(None) };
    let lineage = Lineage::new(plan.system);
    let epoch = writer::take_over(repository, lineage, &plan.directory, reason)
        .map_err(RestoreError::repository("take over archiving"))?;
    writer::write_epoch(&plan.directory, epoch).map_err(RestoreError::repository("take over archiving"))?;
    if let Some(owner) = plan.owner {
        let path = plan.directory.join(writer::EPOCH_FILE);
        std::os::unix::fs::chown(&path, Some(owner.uid), Some(owner.gid))
            .map_err(RestoreError::file("give away", &path))?;
    }
    Ok(Some(epoch))
}

#[cfg(test)]
mod tests;

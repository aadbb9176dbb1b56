//! Looks for the newest backup that still passes, after a drill failed by its backup or its WAL.
//!
//! Each is recovered to its own end, which needs nothing but itself, and given the checks that a backup can fail. How many are tried is
//! bounded: each is a restore of the whole cluster.

use crate::check::Depth;
use crate::error::DrillError;
use crate::options::DrillOptions;
use crate::report::{CheckName, Tried};
use crate::run::{culprit, made};
use jiff::Timestamp;
use pgproof_base::Progress;
use pgproof_repo::catalog::{LineageCatalog, Scope, lineages};
use pgproof_repo::lease::LeaseTimes;
use pgproof_repo::walset::Target;
use pgproof_repo::{BackupId, Lineage, Repository};
use pgproof_restore::{Edge, GapRule, RecoveryTarget, Request, TargetAction, TimelineChoice};

/// Tries backups until one passes.
pub(crate) fn search(
    repository: &Repository,
    options: &DrillOptions,
    failed: CheckName,
    used: Option<BackupId>,
    now: Timestamp,
    progress: &dyn Progress,
) -> Result<Vec<Tried>, DrillError> {
    let mut tried = Vec::new();
    for (backup, stopped) in candidates(repository, options, failed, used)? {
        progress.note(&format!("trying backup {backup} to its own end"));
        let request = Request {
            target: RecoveryTarget {
                stop: Target::Immediate,
                edge: Edge::Inclusive,
                action: TargetAction::Promote,
            },
            timeline: TimelineChoice::Current,
            backup: Some(backup),
            gap: GapRule::Refuse,
        };
        let attempt = made(repository, options, request, Depth::Backup, now, progress)?;
        let culprit = culprit(&attempt.checks);
        let passed = culprit.is_none();
        tried.push(Tried { backup, stopped, culprit });
        if passed {
            break;
        }
    }
    Ok(tried)
}

/// Backups worth trying, newest first.
fn candidates(
    repository: &Repository,
    options: &DrillOptions,
    failed: CheckName,
    used: Option<BackupId>,
) -> Result<Vec<(BackupId, Timestamp)>, DrillError> {
    if options.older == 0 {
        return Ok(Vec::new());
    }
    let known = lineages(repository).map_err(DrillError::repository("list the clusters"))?;
    let Some(lineage) = options.system.map(Lineage::new).or_else(|| known.first().copied()) else {
        return Ok(Vec::new());
    };
    let catalog = LineageCatalog::read(repository, lineage, Scope::Backups, LeaseTimes::default())
        .map_err(DrillError::repository("read the catalog"))?;
    // What WAL did to a backup does not touch the backup's own end.
    let again = matches!(failed, CheckName::Wal | CheckName::Consistency | CheckName::Amcheck);
    let spans = catalog.published().rev().filter(|backup| backup.marked.is_none()).filter_map(|b| b.span());
    let spans = spans.filter(|span| again || Some(span.backup) != used);
    Ok(spans.take(options.older).map(|span| (span.backup, span.stopped)).collect())
}

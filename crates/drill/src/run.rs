//! The drill: recovers, checks, measures, judges, and clears away.

use crate::blame::{self, Blame};
use crate::check::{self, Depth};
use crate::error::DrillError;
use crate::options::{DrillOptions, PURPOSE, When};
use crate::recover::{Attempt, recover};
use crate::report::{CheckName, CheckReport, Culprit, DrillReport, Verdict};
use crate::{instant, older};
use jiff::Timestamp;
use pgproof_base::Progress;
use pgproof_repo::Repository;
use pgproof_restore::Request;
use pgproof_restore::private;
use std::time::Instant;

/// Makes a drill. Its server and directory are gone when this returns.
///
/// # Errors
/// [`DrillError`] for what keeps a drill from being made. That the cluster does not come back is no error but the report's verdict.
pub fn drill(
    repository: &Repository,
    options: &DrillOptions,
    now: Timestamp,
    progress: &dyn Progress,
) -> Result<DrillReport, DrillError> {
    let began = Instant::now();
    let swept = private::sweep(&options.scratch, &PURPOSE);
    let request = instant::request(repository, options)?;
    let mut attempt = made(repository, options, request, Depth::Everything, now, progress)?;
    attempt.notes.splice(0..0, swept);
    let culprit = culprit(&attempt.checks);
    let mut report = report(attempt, now);
    if let Some(found) = culprit.as_ref().filter(|found| found.check.depends_on_backup()) {
        let backup = report.source.as_ref().map(|source| source.backup);
        report.tried = older::search(repository, options, found.check, backup, now, progress)?;
        let passing = report.tried.iter().find(|tried| tried.culprit.is_none());
        report.newest_passing = passing.map(|tried| tried.backup);
    }
    report.total_s = began.elapsed().as_secs_f64();
    Ok(report)
}

/// The report of a drill whose repository does not open: a wrong key, most likely.
#[must_use]
pub fn unopened(error: &pgproof_repo::Error, now: Timestamp) -> DrillReport {
    let Blame { check, finding } = blame::of_repository(error);
    let checks = vec![CheckReport::judged(check, 0.0, "", vec![finding])];
    report(Attempt { checks, ..Attempt::default() }, now)
}

/// Recovers and checks once.
pub(crate) fn made(
    repository: &Repository,
    options: &DrillOptions,
    request: Request,
    depth: Depth,
    now: Timestamp,
    progress: &dyn Progress,
) -> Result<Attempt, DrillError> {
    let mut attempt = recover(repository, options, request, now, progress)?;
    let Some(recovered) = attempt.recovered.take() else { return Ok(attempt) };
    progress.note("checking what came back");
    let (checks, data_loss) = check::all(&recovered, options, depth, now)?;
    attempt.checks.extend(checks);
    if depth == Depth::Everything {
        attempt.measured.data_loss = data_loss.filter(|_| options.when == When::Latest);
        attempt.checks.push(check::recovery_time(&attempt.measured, options.objectives.rto));
        attempt.checks.push(check::data_loss(&attempt.measured, options));
    }
    // Its removal is part of the work, and the next recovery needs its place.
    drop(recovered);
    Ok(attempt)
}

/// The first check that failed.
pub(crate) fn culprit(checks: &[CheckReport]) -> Option<Culprit> {
    let failed = checks.iter().find(|check| check.verdict == Verdict::Failed)?;
    let worst = failed.findings.iter().max_by_key(|finding| finding.severity);
    let seen = worst.map(|finding| finding.seen.clone()).unwrap_or_default();
    Some(Culprit { check: failed.check, seen })
}

fn report(attempt: Attempt, began: Timestamp) -> DrillReport {
    let Attempt { source, mut checks, measured, notes, .. } = attempt;
    for check in CheckName::ALL {
        if checks.iter().all(|done| done.check != check) {
            checks.push(CheckReport::not_done(check, "the recovery did not come so far"));
        }
    }
    checks.sort_by_key(|done| done.check);
    let culprit = culprit(&checks);
    let verdict = if culprit.is_some() { Verdict::Failed } else { Verdict::Passed };
    DrillReport {
        verdict,
        began,
        total_s: 0.0,
        source,
        checks,
        measured,
        culprit,
        tried: Vec::new(),
        newest_passing: None,
        notes,
    }
}

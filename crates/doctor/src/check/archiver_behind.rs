//! `archiver-behind`: the archiver does not keep up.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use pgproof_base::Remedy;

pub(super) const CHECK: Check = Check {
    code: "archiver-behind",
    area: Area::Storage,
    title: "The archiver does not keep up",
    why: "What waits is lost with the host, and stays in pg_wal until it is archived: the disk fills.",
    mends: "A command that hangs is ended; the archiver then tries again. One that is too slow needs a faster link, compression, or an archiver that pushes in parallel (`pgproof archive run`).",
    limit: Some(Limit { unit: Unit::Count, warning: 10.0, critical: 100.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.server() else { return Vec::new() };
    let Some(archiver) = server.archiver.rows().first() else { return Vec::new() };
    let waiting = archiver.ready.or_else(|| Some(case.seen.directory.ok()?.ready.try_into().unwrap_or(0)));
    let failing =
        archiver.failed_s.is_some_and(|failed| archiver.archived_s.is_none_or(|done| done > failed));
    let Some(waiting) = waiting.filter(|_| !failing && is_set(case)) else { return Vec::new() };
    let Some(severity) = case.level(&CHECK, waiting as f64) else { return Vec::new() };
    let last = archiver.archived_s.map_or_else(
        || "none was archived yet".to_owned(),
        |s| format!("the last was done {} ago", super::case::ago(s)),
    );
    let seen = format!("{waiting} WAL files wait for the archiver; {last}");
    let process = case.archiver_process();
    let rows = process.iter().map(|one| format!("process {}: {}", one.pid, one.title));
    let command = server.setting("archive_command").map(|row| format!("archive_command = {}", row.value));
    let mut found = CHECK.found(severity, "archiver", seen).shown_by_all(command).shown_by_all(rows);
    if let Some(process) = process {
        // The shell, and what it started: the archiver takes the signal's end for a failure and tries again.
        let end = format!("pkill -TERM -P {}", process.pid);
        let remedy = Remedy::disruptive("if the command hangs: end it; the archiver tries again", end);
        found = found.with(remedy.afterwards("last_archived_time in pg_stat_archiver moves"));
    }
    vec![found.with(Remedy::safe("see what of the archive is missing, and why", "pgproof archive status"))]
}

/// Where nothing is set, that is the finding.
fn is_set(case: &Case<'_>) -> bool {
    !super::archive_command_empty::is_empty(case)
}

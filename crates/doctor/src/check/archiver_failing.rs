//! `archiver-failing`: WAL is not archived.

use super::case::ago;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "archiver-failing",
    area: Area::Storage,
    title: "WAL is not archived",
    why: "What is not archived cannot be recovered elsewhere, and stays in pg_wal until it is: the disk fills.",
    mends: "Mend the command; the archiver tries again by itself. Never remove files from pg_wal. `archive_command = '/bin/true'` throws WAL away: every backup since then loses its future.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.server() else { return stopped(case) };
    let Some(archiver) = server.archiver.rows().first() else { return Vec::new() };
    let Some(failed_s) = archiver.failed_s.filter(|_| archiver.mode != "off") else { return Vec::new() };
    if archiver.archived_s.is_some_and(|archived_s| archived_s <= failed_s) {
        return Vec::new();
    }
    let file = archiver.failed_wal.as_deref().unwrap_or("?");
    let seen =
        format!("the archiver failed {} ago with {file}, and has archived nothing since", ago(failed_s));
    let command = server.setting("archive_command").map(|row| format!("archive_command = {}", row.value));
    let ready = case.seen.directory.ok().map(|directory| format!("{} files wait", directory.ready));
    let logged = case
        .logged(&["archive command failed", "archive command was terminated"])
        .map(|entry| case.quote(entry));
    let found = CHECK
        .found(Severity::Critical, "archiver", seen)
        .shown_by_all([command, ready, logged].into_iter().flatten());
    let own = server.setting("archive_command").is_some_and(|row| row.value.contains("archive push"));
    let look = Remedy::safe("see what of the archive is missing, and why", "pgproof archive status");
    let set = Remedy::disruptive(
        "or let pgproof archive, into the configured repository",
        "pgproof init --replace-archive-command --yes",
    );
    let set = set.afterwards("`pgproof archive status` shows no lag");
    vec![if own { found.with(look) } else { found.with(set).with(look) }]
}

fn stopped(case: &Case<'_>) -> Vec<Found> {
    let Some(directory) =
        case.stopped().and(case.seen.directory.ok()).filter(|directory| directory.ready >= 10)
    else {
        return Vec::new();
    };
    let first = directory.ready_first.as_deref().unwrap_or("?");
    let seen = format!(
        "{} WAL files were not archived when the server stopped, the first is {first}",
        directory.ready
    );
    let logged = case
        .logged(&["archive command failed", "archive command was terminated"])
        .map(|entry| case.quote(entry));
    let remedy = Remedy::safe("see what of the archive is missing, and why", "pgproof archive status");
    vec![CHECK.found(Severity::Critical, "archiver", seen).shown_by_all(logged).with(remedy)]
}

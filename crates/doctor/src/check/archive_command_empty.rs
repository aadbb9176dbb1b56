//! `archive-command-empty`: archiving is switched on, and nothing says how.

use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "archive-command-empty",
    area: Area::Storage,
    title: "Archiving is switched on, and nothing says how",
    why: "The server keeps every WAL file for an archiver that never comes: the disk fills, and nothing is archived.",
    mends: "Set `archive_command` or `archive_library`; switching `archive_mode` off needs a restart.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    if !is_empty(case) {
        return Vec::new();
    }
    let Some(archiver) = case.server().and_then(|server| server.archiver.rows().first()) else {
        return Vec::new();
    };
    let seen =
        format!("archive_mode is {}, and neither archive_command nor archive_library is set", archiver.mode);
    let ready = archiver.ready.map(|ready| format!("{ready} files wait in pg_wal"));
    let set = Remedy::disruptive(
        "let pgproof archive, into the configured repository",
        "pgproof init --replace-archive-command --yes",
    );
    let off = case.disruptive_sql(
        "or keep no archive: what is lost is then lost; with the next restart",
        "ALTER SYSTEM SET archive_mode = off",
    );
    let found = CHECK.found(Severity::Critical, "archive_command", seen).shown_by_all(ready);
    vec![found.with(set.afterwards("`pgproof archive status` shows no lag")).with(off)]
}

/// On a standby only `always` archives.
pub(super) fn is_empty(case: &Case<'_>) -> bool {
    let Some(server) = case.server() else { return false };
    let mode = server.archiver.rows().first().map_or("off", |archiver| archiver.mode.as_str());
    let archives = mode == "always" || mode == "on" && !server.about.in_recovery;
    let unset = |name: &str| server.setting(name).is_none_or(|row| row.value.is_empty());
    // Who may not see the command reads nothing there.
    archives && server.about.superuser && unset("archive_command") && unset("archive_library")
}

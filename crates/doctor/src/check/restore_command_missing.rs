//! `restore-command-missing`: recovery is asked for, and nothing says where WAL comes from.

use super::case::word;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "restore-command-missing",
    area: Area::Start,
    title: "Recovery is asked for, and nothing says where WAL comes from",
    why: "With `recovery.signal` and without `restore_command` the server refuses to start.",
    mends: "Set `restore_command`. Removing `recovery.signal` instead makes the server start without the WAL that a restored backup needs: only where no backup was restored.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let (Some(place), Some(directory)) = (case.stopped(), case.seen.directory.ok()) else {
        return Vec::new();
    };
    let unset = case.files().is_some_and(|files| files.get("restore_command").is_none_or(str::is_empty));
    if !directory.recovery_signal || directory.standby_signal || !unset {
        return Vec::new();
    }
    let data = &place.data_directory;
    let found = CHECK.found(
        Severity::Critical,
        data.display().to_string(),
        "recovery.signal is there, and restore_command is not set",
    );
    let logged = case.logged(&["must specify restore_command"]).map(|entry| case.quote(entry));
    let found = found.shown_by_all(logged);
    let signal = word(&data.join("recovery.signal"));
    let aside = case.as_owner(&format!("mv {signal} {}", word(&data.join("recovery.signal.pgproof-aside"))));
    let command = format!("{aside}\n{}", case.start(place));
    let set = "echo \"restore_command = 'pgproof archive get %f %p'\" >> ".to_owned()
        + &word(&data.join("postgresql.auto.conf"));
    let get = Remedy::safe(
        "let recovery fetch WAL from the repository, and start",
        format!("{set}\n{}", case.start(place)),
    );
    let leave = Remedy::disruptive(
        "no backup was restored here: take the signal away, and start as the server was",
        command,
    )
    .afterwards("`SELECT pg_is_in_recovery()` gives f");
    // A label means that a backup was restored: then only its WAL makes it consistent.
    vec![if directory.backup_label { found.with(get) } else { found.with(leave).with(get) }]
}

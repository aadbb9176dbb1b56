//! `hba-broken`: pg_hba.conf has errors.

use super::case::word;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "hba-broken",
    area: Area::Reach,
    title: "pg_hba.conf has errors",
    why: "With an error in it the server keeps its old rules at a reload, and does not start at all.",
    mends: "Correct the named line, then reload. `SELECT * FROM pg_hba_file_rules` shows what the server thinks of each.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let (Some(place), Some(hba)) = (case.place(), case.seen.hba.ok()) else { return from_server(case) };
    if hba.problems.is_empty() {
        return Vec::new();
    }
    let all: Vec<String> =
        hba.problems.iter().map(|one| format!("{}:{}: {}", one.file.display(), one.line, one.why)).collect();
    let effect = if case.stopped().is_some() {
        "the server does not start"
    } else {
        "a reload is refused and the old rules stay"
    };
    let edits: Vec<String> = hba
        .problems
        .iter()
        .filter(|one| one.line > 0)
        .map(|one| case.as_owner(&format!("sed -i.before-pgproof '{}s/^/#/' {}", one.line, word(&one.file))))
        .collect();
    let then = if case.stopped().is_some() { case.start(place) } else { case.reload(place) };
    let remedy = Remedy::safe(
        "comment the refused lines out (a copy of the file stays beside it)",
        [edits, vec![then]].concat().join("\n"),
    );
    let seen = format!("{}, so {effect}", all[0]);
    vec![
        CHECK.found(Severity::Critical, place.hba_file.display().to_string(), seen).shown_by_all(all).with(
            remedy.afterwards("`SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL` gives 0"),
        ),
    ]
}

fn from_server(case: &Case<'_>) -> Vec<Found> {
    let rows = case.server().map_or(&[][..], |server| server.hba_errors.rows());
    let Some(first) = rows.first() else { return Vec::new() };
    let all = rows.iter().map(|row| format!("pg_hba.conf line {}: {}", row.line, row.error));
    let seen = format!("pg_hba.conf line {}: {}", first.line, first.error);
    vec![CHECK.found(Severity::Critical, "pg_hba.conf", seen).shown_by_all(all)]
}

//! `settings-refused`: the settings files have errors that the running server has not met yet.

use super::{Area, Case, Check, Found};
use crate::observe::FileError;
use pgproof_base::{Remedy, Severity, shell_word};

pub(super) const CHECK: Check = Check {
    code: "settings-refused",
    area: Area::Configuration,
    title: "The settings files have errors that the running server has not met yet",
    why: "It runs with its old settings; the next start fails.",
    mends: "Correct the named line, then reload.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.server() else { return Vec::new() };
    let rows = server.file_errors.rows();
    let Some(first) = rows.first() else { return Vec::new() };
    let show = |row: &FileError| {
        format!("{}:{}: {} {}", row.file, row.line, row.name.as_deref().unwrap_or(""), row.error)
    };
    let found =
        CHECK.found(Severity::Critical, first.file.clone(), show(first)).shown_by_all(rows.iter().map(show));
    let Some(place) = case.place() else { return vec![found] };
    let edit = |row: &FileError| {
        case.as_owner(&format!("sed -i.before-pgproof '{}s/^/#/' {}", row.line, shell_word(&row.file)))
    };
    let steps: Vec<String> = rows.iter().map(edit).chain([case.reload(place)]).collect();
    let remedy = Remedy::safe(
        "comment the refused lines out (a copy of each file stays beside it), and reload",
        steps.join("\n"),
    );
    vec![
        found.with(
            remedy.afterwards("`SELECT count(*) FROM pg_file_settings WHERE error IS NOT NULL` gives 0"),
        ),
    ]
}

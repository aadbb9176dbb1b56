//! `version-mismatch`: the programs are of another major version than the data.

use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "version-mismatch",
    area: Area::Start,
    title: "The programs are of another major version than the data",
    why: "A server reads data directories of its own major version only.",
    mends: "Start it with programs of the version that `PG_VERSION` names; `pg_upgrade` brings data to a newer one.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(place) = case.stopped() else { return Vec::new() };
    let logged = case
        .logged(&["database files are incompatible with server", "was initialized by PostgreSQL version"]);
    let directory = case.seen.directory.ok();
    let programs = directory.and_then(|directory| directory.program_version.clone());
    let data = directory.and_then(|directory| directory.version.clone());
    let differ = matches!((&programs, &data), (Some(programs), Some(data)) if programs.split('.').next() != Some(data));
    if logged.is_none() && !differ {
        return Vec::new();
    }
    let data = data.unwrap_or_default();
    let seen = format!(
        "the data directory is of PostgreSQL {data}, and programs of another version were started on it"
    );
    let found = CHECK.found(Severity::Critical, place.data_directory.display().to_string(), seen);
    let found = found.shown_by_all(logged.map(|entry| case.quote(entry)));
    vec![found.with(case.start_remedy(place))]
}

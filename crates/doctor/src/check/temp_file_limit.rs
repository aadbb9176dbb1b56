//! `temp-file-limit`: statements fail at the limit of temporary files.

use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "temp-file-limit",
    area: Area::Storage,
    title: "Statements fail at the limit of temporary files",
    why: "Sorts and hashes that do not fit into `work_mem` go to disk; at `temp_file_limit` the statement fails.",
    mends: "Give the statement more `work_mem`, or less to sort; raise the limit where the disk has room.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let failed = case.logged_all(&["temporary file size exceeds"]).filter(|entry| case.since_load(entry));
    let failed: Vec<_> = failed.collect();
    let (Some(newest), Some(server)) = (failed.first(), case.server()) else { return Vec::new() };
    let limit = server.setting("temp_file_limit");
    let value = limit.map_or("?", |row| row.value.as_str());
    let seen = format!("{} statements failed at temp_file_limit = {value}", failed.len());
    let subject = newest.database.clone().unwrap_or_default();
    let found = CHECK.found(Severity::Warning, subject, seen).shown_by(case.quote(newest));
    let room = limit.and_then(|row| crate::observe::settings::bytes_of(&row.value, 1024));
    let Some(bytes) = room else { return vec![found] };
    let raise = format!(
        "ALTER SYSTEM SET temp_file_limit = '{}kB';\nSELECT pg_reload_conf();",
        (bytes / 1024).max(1).saturating_mul(4)
    );
    vec![found.with(case.safe_sql("raise the limit fourfold, where the disk has room", raise))]
}

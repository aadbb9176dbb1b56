//! `sync-standby-missing`: commits wait for a standby that is not there.

use super::case::ago;
use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "sync-standby-missing",
    area: Area::Replication,
    title: "Commits wait for a standby that is not there",
    why: "With `synchronous_standby_names` set and too few of them connected, every commit waits, for ever.",
    mends: "Bring the standby back. Taking it out of the list lets commits go on without a second copy: data that the primary loses then is lost.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.primary() else { return Vec::new() };
    let Some(names) = server.setting("synchronous_standby_names").filter(|row| !row.value.trim().is_empty())
    else {
        return Vec::new();
    };
    let present = server
        .standbys
        .rows()
        .iter()
        .filter(|row| row.state == "streaming" && matches!(row.sync_state.as_str(), "sync" | "quorum"))
        .count();
    if server.standbys.ok().is_none() || present >= needed(&names.value) {
        return Vec::new();
    }
    let waiting = server.sessions.rows().iter().filter(|row| row.wait.as_deref() == Some("SyncRep"));
    let longest = waiting.clone().filter_map(|row| row.query_s).fold(0.0, f64::max);
    let seen = format!(
        "synchronous_standby_names is '{}', {present} of {} are connected; {} sessions wait",
        names.value,
        needed(&names.value),
        waiting.clone().count()
    );
    let there = server
        .standbys
        .rows()
        .iter()
        .map(|row| format!("standby {} is {} ({})", row.name, row.state, row.sync_state));
    let rows = waiting.take(5).map(|row| format!("process {} waits for its commit", row.pid));
    let found = CHECK
        .found(Severity::Critical, names.value.clone(), seen)
        .shown_by_all(there)
        .shown_by_all(rows)
        .shown_by(format!("the longest wait is {}", ago(longest)));
    let reset = "ALTER SYSTEM SET synchronous_standby_names = '';\nSELECT pg_reload_conf();";
    let remedy = case.disruptive_sql("if the standby does not come back soon: commit without it (the second copy of new commits is missing then)", reset);
    vec![found.with(remedy.afterwards("no session waits for SyncRep"))]
}

/// How many must answer: `FIRST 2 (a, b)`, `ANY 1 (a, b)`, `2 (a, b)`; one otherwise.
fn needed(names: &str) -> usize {
    let head = names.split('(').next().unwrap_or_default();
    head.split_whitespace().filter(|_| names.contains('(')).find_map(|word| word.parse().ok()).unwrap_or(1)
}

//! `standby-conflicts`: queries on the standby are cancelled by replay.

use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "standby-conflicts",
    area: Area::Replication,
    title: "Queries on the standby are cancelled by replay",
    why: "Replay removes what a query still reads; after `max_standby_streaming_delay` the query is cancelled.",
    mends: "`hot_standby_feedback` lets the primary keep what the standby reads, at the price of dead rows there; a longer delay lets replay wait, at the price of lag and a slower failover.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.server().filter(|server| server.about.in_recovery) else { return Vec::new() };
    let words = [
        "canceling statement due to conflict with recovery",
        "terminating connection due to conflict with recovery",
    ];
    let cancelled: Vec<_> = case.logged_all(&words).filter(|entry| case.since_load(entry)).collect();
    let Some(newest) = cancelled.first() else { return Vec::new() };
    let seen = format!("{} queries were cancelled because replay was in their way", cancelled.len());
    let shown = ["max_standby_streaming_delay", "hot_standby_feedback"];
    let shown = shown
        .iter()
        .filter_map(|name| server.setting(name))
        .map(|row| format!("{} = {}", row.name, row.value));
    let found = CHECK
        .found(Severity::Warning, newest.database.clone().unwrap_or_default(), seen)
        .shown_by(case.quote(newest))
        .shown_by_all(shown);
    let feedback = server.setting("hot_standby_feedback").is_some_and(|row| row.value == "on");
    let (what, name, value) = match feedback {
        false => ("let the primary know what is read here", "hot_standby_feedback", "on"),
        true => ("let replay wait longer for queries", "max_standby_streaming_delay", "'5min'"),
    };
    vec![
        found.with(
            case.safe_sql(what, format!("ALTER SYSTEM SET {name} = {value};\nSELECT pg_reload_conf();")),
        ),
    ]
}

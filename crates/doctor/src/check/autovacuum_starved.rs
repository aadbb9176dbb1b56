//! `autovacuum-starved`: tables wait for autovacuum, and all its workers are busy.

use super::case::ago;
use super::{Area, Case, Check, Found};
use crate::observe::{DatabaseSeen, TableRow};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "autovacuum-starved",
    area: Area::Vacuum,
    title: "Tables wait for autovacuum, and all its workers are busy",
    why: "Dead rows pile up in the tables that wait, while a few large ones keep the workers.",
    mends: "Let the workers work faster: a higher `autovacuum_vacuum_cost_limit`, or a shorter delay. More workers share the same limit, and each is then slower; they need a restart before 18.",
    limit: None,
    judge,
};

/// Times of the number at which autovacuum would begin.
const WAITS_FROM: f64 = 2.0;

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.primary() else { return Vec::new() };
    let workers: Vec<_> = server
        .sessions
        .rows()
        .iter()
        .filter(|row| row.kind.as_deref() == Some("autovacuum worker"))
        .collect();
    let most = server.setting("autovacuum_max_workers").and_then(|row| row.value.parse::<usize>().ok());
    let waits = |database: &DatabaseSeen| {
        let waits = |row: &&TableRow| !row.autovacuum_off && row.dead as f64 > WAITS_FROM * row.trigger;
        database.tables.rows().iter().filter(waits).map(|row| row.name.clone()).collect::<Vec<_>>()
    };
    let waiting: Vec<String> = case.seen.databases.iter().flat_map(waits).collect();
    // Each worker has one of them; only what is beyond that waits.
    if most.is_none_or(|most| workers.len() < most) || waiting.len() <= workers.len() {
        return Vec::new();
    }
    let seen = format!("{} tables need vacuum, and all {} workers are busy", waiting.len(), workers.len());
    let busy = workers.iter().map(|row| {
        format!("process {} works for {}", row.pid, ago(row.transaction_s.or(row.connected_s).unwrap_or(0.0)))
    });
    let limit = server.setting("autovacuum_vacuum_cost_limit").and_then(|row| row.value.parse::<i64>().ok());
    // -1 is the limit of vacuum by hand, which is 200.
    let wanted = limit.filter(|limit| *limit > 0).unwrap_or(200).saturating_mul(10).clamp(2_000, 10_000);
    let set = format!(
        "ALTER SYSTEM SET autovacuum_vacuum_cost_limit = {wanted};\nALTER SYSTEM SET autovacuum_vacuum_cost_delay = '2ms';\nSELECT pg_reload_conf();"
    );
    // Until 15 a worker keeps to what counted when its table began.
    let anew = "\nSELECT pg_sleep(1), pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker';";
    let set = if server.about.version_num < 160_000 { set + anew } else { set };
    let remedy = case.safe_sql("let the workers do ten times as much", set);
    let found = CHECK.found(Severity::Warning, "", seen).shown_by_all(busy);
    let first = waiting.into_iter().take(10).map(|name| format!("{name} waits"));
    vec![
        found
            .shown_by_all(first)
            .with(Remedy { afterwards: Some("pg_stat_progress_vacuum moves on".to_owned()), ..remedy }),
    ]
}

//! `lock-table-full`: the table of locks is nearly full.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::ServerSeen;

pub(super) const CHECK: Check = Check {
    code: "lock-table-full",
    area: Area::Sessions,
    title: "The table of locks is nearly full",
    why: "When it is full, statements of everybody fail with \"out of shared memory\".",
    mends: "End the session that holds most of them. Where so many are needed, as by a dump of many partitions, raise `max_locks_per_transaction`, which needs a restart.",
    limit: Some(Limit { unit: Unit::Percent, warning: 70.0, critical: 90.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.server() else { return Vec::new() };
    let holders = server.lock_holders.rows();
    let (Some(first), Some(room)) = (holders.first(), room(server)) else { return Vec::new() };
    let used = 100.0 * first.total as f64 / room;
    let Some(severity) = case.level(&CHECK, used) else { return Vec::new() };
    let seen = format!("{} locks are held, and there is room for about {room:.0}", first.total);
    let rows = holders.iter().map(|one| format!("process {} holds {}", one.pid, one.count));
    let logged = case.logged(&["out of shared memory"]).map(|entry| case.quote(entry));
    let found = CHECK.found(severity, first.pid.to_string(), seen).shown_by_all(rows).shown_by_all(logged);
    let end = case.disruptive_sql(
        "end the session that holds most of them",
        format!("SELECT pg_terminate_backend({})", first.pid),
    );
    let more = first.total * 2 / i64::from(sessions(server)).max(1);
    let raise = case.disruptive_sql(
        "or make room for twice as many, with the next restart",
        format!("ALTER SYSTEM SET max_locks_per_transaction = {}", more.max(128)),
    );
    vec![found.with(end.afterwards("`SELECT count(*) FROM pg_locks` falls")).with(raise)]
}

/// Sessions and prepared transactions that may hold locks (`NLOCKENTS` in `src/backend/storage/lmgr/lock.c`), without the server's own.
fn sessions(server: &ServerSeen) -> u32 {
    let number = |name: &str| server.setting(name).and_then(|row| row.value.parse::<u32>().ok());
    number("max_connections").unwrap_or(0) + number("max_prepared_transactions").unwrap_or(0)
}

fn room(server: &ServerSeen) -> Option<f64> {
    let each: f64 = server.setting("max_locks_per_transaction")?.value.parse().ok()?;
    Some(each * f64::from(sessions(server))).filter(|room| *room > 0.0)
}

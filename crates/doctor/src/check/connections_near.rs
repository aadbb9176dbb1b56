//! `connections-near`: few connection slots are left.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use std::collections::BTreeMap;

pub(super) const CHECK: Check = Check {
    code: "connections-near",
    area: Area::Sessions,
    title: "Few connection slots are left",
    why: "When the last one is taken nobody else can connect.",
    mends: "A pooler; sessions that are idle for long can be ended. A higher `max_connections` needs a restart and memory.",
    limit: Some(Limit { unit: Unit::Percent, warning: 80.0, critical: 95.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.server() else { return Vec::new() };
    let room = (server.about.max_connections - server.about.reserved).max(1);
    let used = 100.0 * server.about.clients as f64 / room as f64;
    let Some(severity) = case.level(&CHECK, used) else { return Vec::new() };
    let seen = format!("{} of {room} connection slots are taken", server.about.clients);
    let mut counts = BTreeMap::<String, usize>::new();
    for row in server.sessions.rows().iter().filter(|row| row.kind.as_deref() == Some("client backend")) {
        *counts
            .entry(format!(
                "{}, {}",
                super::idle_in_transaction::who(row),
                row.state.as_deref().unwrap_or("?")
            ))
            .or_default() += 1;
    }
    let mut counts: Vec<(usize, String)> = counts.into_iter().map(|(what, count)| (count, what)).collect();
    counts.sort_by(|a, b| b.cmp(a));
    let found = CHECK
        .found(severity, "", seen)
        .shown_by_all(counts.into_iter().take(5).map(|(count, what)| format!("{count} sessions of {what}")));
    let idle = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND state = 'idle' ORDER BY state_change LIMIT 10";
    let idle = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM ({}) q",
        idle.replace("pg_terminate_backend(pid)", "pid")
    );
    vec![found.with(case.disruptive_sql("end the ten sessions that are idle for longest", idle))]
}

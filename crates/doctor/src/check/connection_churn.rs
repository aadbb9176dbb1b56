//! `connection-churn`: clients connect anew all the time.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::DatabaseRow;
use pgproof_base::Remedy;

pub(super) const CHECK: Check = Check {
    code: "connection-churn",
    area: Area::Sessions,
    title: "Clients connect anew all the time",
    why: "Each connection costs a process, authentication and cold caches: milliseconds, where the statement may need less.",
    mends: "A pooler between (PgBouncer), or a pool in the application.",
    limit: Some(Limit { unit: Unit::Count, warning: 20.0, critical: 1_000.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.server() else { return Vec::new() };
    let one = |row: &DatabaseRow| {
        // Younger statistics tell of a start only.
        let since_s = row.statistics_s.unwrap_or(server.about.up_s).max(60.0);
        let rate = row.sessions? as f64 / since_s;
        let severity = case.level(&CHECK, rate)?;
        let seen = format!("{rate:.1} connections a second to {}, each a new process", row.name);
        Some(CHECK.found(severity, row.name.clone(), seen).with(Remedy::safe("put a pooler before it", "")))
    };
    server.databases.rows().iter().filter_map(one).collect()
}

//! `temporary-files`: much is written to temporary files.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::DatabaseRow;
use pgproof_base::Bytes;

pub(super) const CHECK: Check = Check {
    code: "temporary-files",
    area: Area::Storage,
    title: "Much is written to temporary files",
    why: "Sorts and hashes that do not fit into `work_mem` go to disk, which is slow, wears it and may fill it.",
    mends: "Log them (`log_temp_files`) to see which statements write them; give those more `work_mem`, or an index that makes the sort needless.",
    limit: Some(Limit { unit: Unit::Bytes, warning: 10_737_418_240.0, critical: 107_374_182_400.0 }),
    judge,
};

/// Younger statistics say nothing about an hour.
const SINCE_S_MIN: f64 = 60.0;

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.server() else { return Vec::new() };
    let one = |row: &DatabaseRow| {
        // Without a reset, statistics are as old as the server or older, as they survive a clean restart.
        let since_s = row.statistics_s.unwrap_or(server.about.up_s).max(SINCE_S_MIN);
        let hourly = row.temp_bytes? as f64 * 3600.0 / since_s.max(3600.0);
        let severity = case.level(&CHECK, hourly)?;
        let seen = format!("{} of temporary files an hour are written in {}", Bytes(hourly as u64), row.name);
        let set = "ALTER SYSTEM SET log_temp_files = '10MB';\nSELECT pg_reload_conf();";
        let log = case.safe_sql("log statements that write more than 10 MB", set);
        Some(CHECK.found(severity, row.name.clone(), seen).with(log))
    };
    server.databases.rows().iter().filter_map(one).collect()
}

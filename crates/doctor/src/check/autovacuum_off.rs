//! `autovacuum-off`: autovacuum is switched off.

use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "autovacuum-off",
    area: Area::Vacuum,
    title: "Autovacuum is switched off",
    why: "Dead rows pile up, statistics grow old, and in the end the server stops to take writes against wraparound.",
    mends: "Switch it on. If it disturbs, give it a cost limit instead.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.server() else { return Vec::new() };
    let off = ["autovacuum", "track_counts"]
        .into_iter()
        .filter_map(|name| server.setting(name))
        .find(|row| row.value == "off");
    let Some(row) = off else { return Vec::new() };
    let set = format!("ALTER SYSTEM SET {} = on;\nSELECT pg_reload_conf();", row.name);
    let found = CHECK
        .found(Severity::Critical, row.name.clone(), format!("{} is off", row.name))
        .shown_by_all(row.place.clone());
    vec![found.with(case.safe_sql("switch it on", set).afterwards(format!("`SHOW {}` gives on", row.name)))]
}

//! `triggers-bypassed`: all sessions bypass triggers and foreign keys.

use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "triggers-bypassed",
    area: Area::Data,
    title: "All sessions bypass triggers and foreign keys",
    why: "With `session_replication_role = replica` for the whole server, no foreign key is checked: rows without parents get in.",
    mends: "Reset it; then look for rows that got in meanwhile. A load that needs it sets it for its own session.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let row = case.server().and_then(|server| server.setting("session_replication_role"));
    let Some(row) = row.filter(|row| row.value == "replica") else { return Vec::new() };
    let set = "ALTER SYSTEM SET session_replication_role = origin;\nSELECT pg_reload_conf();";
    let found = CHECK
        .found(
            Severity::Critical,
            "session_replication_role",
            "session_replication_role is replica for everybody",
        )
        .shown_by_all(row.place.clone());
    vec![found.with(case.safe_sql("check again from now on", set))]
}

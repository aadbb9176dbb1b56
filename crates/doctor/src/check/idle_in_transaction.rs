//! `idle-in-transaction`: a session holds a transaction open and does nothing.

use super::case::ago;
use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::SessionRow;

pub(super) const CHECK: Check = Check {
    code: "idle-in-transaction",
    area: Area::Sessions,
    title: "A session holds a transaction open and does nothing",
    why: "It holds its locks, and vacuum cannot remove what died since it began.",
    mends: "End it; then find out why the application does not commit. `idle_in_transaction_session_timeout` ends such sessions by itself.",
    limit: Some(Limit { unit: Unit::Seconds, warning: 300.0, critical: 1_800.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let rows = case.server().map_or(&[][..], |server| server.sessions.rows());
    let idle = rows
        .iter()
        .filter(|row| row.state.as_deref().is_some_and(|state| state.starts_with("idle in transaction")));
    let one = |row: &SessionRow| {
        let idle_s = row.state_s?;
        let severity = case.level(&CHECK, idle_s)?;
        let seen = format!("process {} ({}) is idle in a transaction for {}", row.pid, who(row), ago(idle_s));
        let found = CHECK
            .found(severity, row.pid.to_string(), seen)
            .shown_by(format!("its transaction began {} ago", ago(row.transaction_s.unwrap_or(0.0))));
        let end = case.disruptive_sql(
            "end it; what it did is rolled back",
            format!("SELECT pg_terminate_backend({})", row.pid),
        );
        let timeout =
            "ALTER SYSTEM SET idle_in_transaction_session_timeout = '5min';\nSELECT pg_reload_conf();";
        Some(
            found
                .with(end.afterwards("pg_stat_activity does not show it"))
                .with(case.safe_sql("and let the server end such sessions", timeout)),
        )
    };
    idle.filter_map(one).collect()
}

/// Who a session is.
pub(super) fn who(row: &SessionRow) -> String {
    let text = |text: &Option<String>| {
        text.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| "?".to_owned())
    };
    format!("{} in {}, application {}", text(&row.user), text(&row.database), text(&row.application))
}

//! `long-transaction`: a transaction runs for very long.

use super::case::ago;
use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::SessionRow;

pub(super) const CHECK: Check = Check {
    code: "long-transaction",
    area: Area::Sessions,
    title: "A transaction runs for very long",
    why: "Vacuum cannot remove what died since it began, and its locks stay.",
    mends: "Cancel it if nobody needs its result. Reports belong on a standby.",
    limit: Some(Limit { unit: Unit::Seconds, warning: 3_600.0, critical: 14_400.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let server = case.server();
    let rows = server.map_or(&[][..], |server| server.sessions.rows());
    // What the server itself takes long for is wanted.
    let wanted =
        |pid: i64| server.is_some_and(|server| server.running.rows().iter().any(|one| one.pid == pid));
    let active = rows.iter().filter(|row| {
        row.state.as_deref() == Some("active")
            && row.kind.as_deref() == Some("client backend")
            && !wanted(row.pid)
    });
    let one = |row: &SessionRow| {
        let severity = case.level(&CHECK, row.transaction_s?)?;
        let seen = format!(
            "process {} ({}) is in a transaction for {}",
            row.pid,
            super::idle_in_transaction::who(row),
            ago(row.transaction_s?)
        );
        let found = CHECK.found(severity, row.pid.to_string(), seen).shown_by(format!(
            "its statement, {}, runs for {}",
            row.command.as_deref().unwrap_or("?"),
            ago(row.query_s.unwrap_or(0.0))
        ));
        Some(
            found.with(
                case.disruptive_sql("cancel its statement", format!("SELECT pg_cancel_backend({})", row.pid))
                    .afterwards("pg_stat_activity does not show it as active"),
            ),
        )
    };
    active.filter_map(one).collect()
}

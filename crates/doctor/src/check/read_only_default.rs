//! `read-only-default`: transactions are read-only unless they say otherwise.

use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "read-only-default",
    area: Area::Configuration,
    title: "Transactions are read-only unless they say otherwise",
    why: "Every write fails with \"cannot execute ... in a read-only transaction\", on a server that is a primary and looks well.",
    mends: "Somebody froze writes, for a migration or because a disk was full, and did not undo it. Undo it.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let row = case.primary().and_then(|server| server.setting("default_transaction_read_only"));
    let Some(row) = row.filter(|row| row.value == "on") else { return Vec::new() };
    let logged = case.logged(&["in a read-only transaction"]).map(|entry| case.quote(entry));
    // Not RESET: a line of a file that was edited by hand would count again.
    let set = "ALTER SYSTEM SET default_transaction_read_only = off;\nSELECT pg_reload_conf();";
    let found = CHECK
        .found(Severity::Warning, "default_transaction_read_only", "default_transaction_read_only is on")
        .shown_by_all(row.place.clone())
        .shown_by_all(logged);
    vec![found.with(case.safe_sql("let transactions write again", set))]
}

//! `deadlocks`: transactions end in deadlocks.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use pgproof_base::Remedy;

pub(super) const CHECK: Check = Check {
    code: "deadlocks",
    area: Area::Sessions,
    title: "Transactions end in deadlocks",
    why: "Of two transactions that wait for each other, one is ended with an error, after both have waited for `deadlock_timeout`.",
    mends: "Take locks in the same order everywhere: sort the rows before updating several, or lock them first with SELECT ... ORDER BY ... FOR UPDATE. The log names the relations and, behind DETAIL, the statements.",
    limit: Some(Limit { unit: Unit::Count, warning: 3.0, critical: 100.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let all: Vec<_> = case.logged_all(&["deadlock detected"]).collect();
    let (Some(newest), Some(severity)) = (all.first(), case.level(&CHECK, all.len() as f64)) else {
        return Vec::new();
    };
    let seen = format!("{} deadlocks within the last hour", all.len());
    let found = CHECK.found(severity, newest.database.clone().unwrap_or_default(), seen);
    let look = "the log has the statements of both sides, under DETAIL of \"deadlock detected\"";
    vec![found.shown_by_all(all.iter().take(3).map(|entry| case.quote(entry))).with(Remedy::safe(look, ""))]
}

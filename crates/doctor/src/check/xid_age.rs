//! `xid-age`: transaction numbers come near their end.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::{DatabaseRow, OldRelation};
use pgproof_base::Remedy;

pub(super) const CHECK: Check = Check {
    code: "xid-age",
    area: Area::Vacuum,
    title: "Transaction numbers come near their end",
    why: "Before they wrap around the server refuses to write; then only vacuum helps.",
    mends: "End what holds freezing back (a finding of its own), then VACUUM FREEZE the oldest tables. Never in single-user mode, unless the server does not start.",
    limit: Some(Limit { unit: Unit::Percent, warning: 40.0, critical: 80.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    judge_ages(case, &CHECK, "transactions", |row| row.xid_age, |row| row.xid_age)
}

/// Half of the numbers are the past; three million before the end the server stops.
const NUMBERS: f64 = 2_147_483_648.0;

pub(super) fn judge_ages(
    case: &Case<'_>,
    check: &Check,
    what: &str,
    age: impl Fn(&DatabaseRow) -> i64,
    table_age: impl Fn(&OldRelation) -> i64,
) -> Vec<Found> {
    let rows = case.server().map_or(&[][..], |server| server.databases.rows());
    let Some(oldest) = rows.iter().max_by_key(|row| age(row)) else { return Vec::new() };
    let used = 100.0 * age(oldest) as f64 / NUMBERS;
    let Some(severity) = case.level(check, used) else { return Vec::new() };
    let seen =
        format!("database {} is {} {what} old, {used:.0} % of what there is", oldest.name, age(oldest));
    let database = case.seen.databases.iter().find(|database| database.name == oldest.name);
    let tables = database.map_or(&[][..], |database| database.oldest.rows());
    let found = check.found(severity, oldest.name.clone(), seen).shown_by_all(
        tables
            .iter()
            .map(|row| format!("{} is {} {what} old, {} pages", row.name, table_age(row), row.pages)),
    );
    let freeze: Vec<String> =
        tables.iter().map(|row| format!("VACUUM (FREEZE, VERBOSE) {};", row.name)).collect();
    let command = if freeze.is_empty() { "VACUUM (FREEZE);".to_owned() } else { freeze.join("\n") };
    vec![
        found.with(
            Remedy::safe("freeze the oldest tables", command)
                .in_database(oldest.name.clone())
                .afterwards("age(datfrozenxid) falls"),
        ),
    ]
}

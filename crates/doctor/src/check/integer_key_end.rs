//! `integer-key-end`: values of an integer key come to the end of its type.

use super::case::identifier;
use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::{DatabaseSeen, KeyRow};
use pgproof_base::Remedy;

pub(super) const CHECK: Check = Check {
    code: "integer-key-end",
    area: Area::Schema,
    title: "Values of an integer key come to the end of its type",
    why: "At the end every INSERT fails. No sequence of its own feeds the column, so that no sequence tells.",
    mends: "Make the column bigint: by rewriting the table, or by a new column that is filled behind a trigger.",
    limit: Some(Limit { unit: Unit::Percent, warning: 70.0, critical: 90.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |database: &DatabaseSeen| {
        let name = database.name.clone();
        let found = |row: &KeyRow| {
            let used = 100.0 * row.largest as f64 / row.limit.max(1) as f64;
            let severity = case.level(&CHECK, used)?;
            let column = identifier(&row.column_name);
            let seen = format!(
                "{}.{column} in {name} has values to {} of {} ({used:.0} %), by its statistics",
                row.table, row.largest, row.limit
            );
            let widen = Remedy::disruptive(
                "make the column bigint: rewrites the table under an exclusive lock",
                format!("ALTER TABLE {} ALTER COLUMN {column} TYPE bigint", row.table),
            );
            let found = CHECK.found(severity, format!("{}.{column}", row.table), seen);
            Some(found.with(widen.in_database(name.clone())))
        };
        database.integer_keys.rows().iter().filter_map(found).collect::<Vec<_>>()
    };
    case.seen.databases.iter().flat_map(one).collect()
}

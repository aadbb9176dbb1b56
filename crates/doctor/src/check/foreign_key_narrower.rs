//! `foreign-key-narrower`: a column is too narrow for what it refers to.

use super::case::identifier;
use super::{Area, Case, Check, Found};
use crate::observe::{DatabaseSeen, ForeignKeyRow};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "foreign-key-narrower",
    area: Area::Schema,
    title: "A column is too narrow for what it refers to",
    why: "Once the referenced key has grown beyond the column's type, rows that refer to it cannot be inserted.",
    mends: "Make the column as wide as the key: by rewriting the table, or by a new column that is filled behind a trigger.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |database: &DatabaseSeen| {
        let name = database.name.clone();
        let found = |row: &ForeignKeyRow| {
            let column = identifier(&row.column_name);
            let seen = format!(
                "{}.{column} in {name} is {}, and refers to {}, a {}",
                row.table, row.column_type, row.referenced, row.referenced_type
            );
            let remedy = Remedy::disruptive(
                "widen it: rewrites the table under an exclusive lock",
                format!("ALTER TABLE {} ALTER COLUMN {column} TYPE {}", row.table, row.referenced_type),
            );
            CHECK
                .found(Severity::Warning, format!("{}.{column}", row.table), seen)
                .shown_by(format!("foreign key {}", row.name))
                .with(remedy.in_database(name.clone()))
        };
        database.narrow_keys.rows().iter().map(found).collect::<Vec<_>>()
    };
    case.seen.databases.iter().flat_map(one).collect()
}

//! `constraint-unchecked`: a constraint was never validated.

use super::{Area, Case, Check, Found};
use crate::observe::{ConstraintRow, DatabaseSeen};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "constraint-unchecked",
    area: Area::Schema,
    title: "A constraint was never validated",
    why: "New rows obey it, old ones may not: a dump may not load, and the planner may not rely on it.",
    mends: "VALIDATE CONSTRAINT reads the table under a weak lock; rows that break it must be mended first.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |database: &DatabaseSeen| {
        let name = database.name.clone();
        let found = |row: &ConstraintRow| {
            let command = format!("ALTER TABLE {} VALIDATE CONSTRAINT {}", row.table, row.name);
            let seen = format!("constraint {} of {} in {name} is not validated", row.name, row.table);
            CHECK
                .found(Severity::Info, format!("{}.{}", row.table, row.name), seen)
                .with(Remedy::safe("validate it", command).in_database(name.clone()))
        };
        database.constraints.rows().iter().map(found).collect::<Vec<_>>()
    };
    case.seen.databases.iter().flat_map(one).collect()
}

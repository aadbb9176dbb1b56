//! `table-autovacuum-off`: autovacuum is switched off for a table.

use super::{Area, Case, Check, Found};
use crate::observe::{DatabaseSeen, TableRow};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "table-autovacuum-off",
    area: Area::Vacuum,
    title: "Autovacuum is switched off for a table",
    why: "Its dead rows pile up until somebody vacuums it by hand.",
    mends: "Take the setting away; give the table limits of its own if it needs them.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |database: &DatabaseSeen| {
        let off =
            database.tables.rows().iter().filter(|row| row.autovacuum_off && row.dead as f64 > row.trigger);
        let name = database.name.clone();
        let found = |row: &TableRow| {
            let seen =
                format!("autovacuum is off for {} in {name}, which has {} dead rows", row.name, row.dead);
            let command = format!(
                "ALTER TABLE {} RESET (autovacuum_enabled);\nVACUUM (ANALYZE) {};",
                row.name, row.name
            );
            CHECK
                .found(Severity::Warning, row.name.clone(), seen)
                .with(Remedy::safe("switch it on again, and vacuum", command).in_database(name.clone()))
        };
        off.map(found).collect::<Vec<_>>()
    };
    case.seen.databases.iter().flat_map(one).collect()
}

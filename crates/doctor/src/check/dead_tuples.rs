//! `dead-tuples`: dead rows pile up in a table.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::{DatabaseSeen, TableRow};
use pgproof_base::Remedy;

pub(super) const CHECK: Check = Check {
    code: "dead-tuples",
    area: Area::Vacuum,
    title: "Dead rows pile up in a table",
    why: "The table grows, and scans read what is dead.",
    mends: "Vacuum it; then find out why autovacuum does not keep up: what holds it back is a finding of its own, else its cost limit is too low.",
    limit: Some(Limit { unit: Unit::Count, warning: 5.0, critical: 50.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |database: &DatabaseSeen| {
        // Times of the number at which autovacuum would begin; few rows are no matter.
        let piled = database.tables.rows().iter().filter(|row| row.dead >= ROWS_MIN && !row.autovacuum_off);
        let name = database.name.clone();
        let found = |row: &TableRow| {
            let severity = case.level(&CHECK, row.dead as f64 / row.trigger.max(1.0))?;
            let seen = format!(
                "{} in {name} has {} dead rows of {}; autovacuum would begin at {:.0}",
                row.name,
                row.dead,
                row.live + row.dead,
                row.trigger
            );
            let remedy =
                Remedy::safe("vacuum it", format!("VACUUM (ANALYZE) {}", row.name)).in_database(name.clone());
            Some(
                CHECK
                    .found(severity, row.name.clone(), seen)
                    .with(remedy.afterwards("n_dead_tup in pg_stat_user_tables falls")),
            )
        };
        piled.filter_map(found).collect::<Vec<_>>()
    };
    case.seen.databases.iter().flat_map(one).collect()
}

const ROWS_MIN: i64 = 10_000;

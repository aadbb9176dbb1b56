//! `never-analysed`: a table has never been analysed.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::{DatabaseSeen, TableRow};
use pgproof_base::Remedy;

pub(super) const CHECK: Check = Check {
    code: "never-analysed",
    area: Area::Vacuum,
    title: "A table has never been analysed",
    why: "Without statistics the planner guesses, and plans are wrong by orders of magnitude.",
    mends: "ANALYZE. After pg_upgrade (before 18) every table is in this state: `vacuumdb --all --analyze-in-stages`.",
    limit: Some(Limit { unit: Unit::Count, warning: 10_000.0, critical: 1_000_000_000.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    // Autovacuum looks at a new table within its naptime.
    let young = case.server().is_none_or(|server| {
        server.about.up_s < 300.0 && server.setting("autovacuum").is_none_or(|row| row.value == "on")
    });
    let one = |database: &DatabaseSeen| {
        let never =
            database.tables.rows().iter().filter(|row| !row.analysed && (!young || row.autovacuum_off));
        let name = database.name.clone();
        let found = |row: &TableRow| {
            let severity = case.level(&CHECK, row.live as f64)?;
            let seen = format!("{} in {name} has {} rows and no statistics", row.name, row.live);
            let remedy =
                Remedy::safe("gather them", format!("ANALYZE {}", row.name)).in_database(name.clone());
            Some(CHECK.found(severity, row.name.clone(), seen).with(remedy))
        };
        never.filter_map(found).collect::<Vec<_>>()
    };
    case.seen.databases.iter().flat_map(one).collect()
}

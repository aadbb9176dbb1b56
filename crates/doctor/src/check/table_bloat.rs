//! `table-bloat`: a table is mostly empty space.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::{BloatRow, DatabaseSeen};
use pgproof_base::{Bytes, Remedy};

pub(super) const CHECK: Check = Check {
    code: "table-bloat",
    area: Area::Vacuum,
    title: "A table is mostly empty space",
    why: "Scans read it, the cache holds it, backups carry it; plain vacuum gives it back to the table only.",
    mends: "pg_repack rewrites the table while it is used. VACUUM (FULL) does it under an exclusive lock. Then find out why vacuum came too late. It is an estimate from statistics; pgstattuple_approx confirms it.",
    limit: Some(Limit { unit: Unit::Bytes, warning: 1_073_741_824.0, critical: 107_374_182_400.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |database: &DatabaseSeen| {
        let name = database.name.clone();
        let found = |row: &BloatRow| {
            let wasted = (row.pages - row.needed_pages).max(0) as f64 * 8192.0;
            let severity = case.level(&CHECK, wasted)?;
            let share = 100.0 * (row.pages - row.needed_pages) as f64 / row.pages.max(1) as f64;
            let seen =
                format!("{} in {name} is {share:.0} % empty: about {}", row.name, Bytes(wasted as u64));
            let rows = format!("{} pages, of which its rows need about {}", row.pages, row.needed_pages);
            let full = Remedy::disruptive(
                "rewrite it under an exclusive lock; it needs room for a second copy",
                format!("VACUUM (FULL, ANALYZE) {}", row.name),
            );
            Some(
                CHECK
                    .found(severity, row.name.clone(), seen)
                    .shown_by(rows)
                    .with(full.in_database(name.clone())),
            )
        };
        database.bloat.rows().iter().filter_map(found).collect::<Vec<_>>()
    };
    case.seen.databases.iter().flat_map(one).collect()
}

//! `index-bloat`: an index is mostly empty space.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::{BloatRow, DatabaseSeen};
use pgproof_base::{Bytes, Remedy};

pub(super) const CHECK: Check = Check {
    code: "index-bloat",
    area: Area::Vacuum,
    title: "An index is mostly empty space",
    why: "The cache and every scan of it carry pages that hold little. Vacuum gives back only pages that are wholly empty.",
    mends: "Rebuild it beside its use (REINDEX CONCURRENTLY). It is an estimate from statistics, of B-trees on columns; pgstatindex confirms it.",
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
                format!("index {} in {name} is {share:.0} % empty: about {}", row.name, Bytes(wasted as u64));
            let rows = format!("{} pages, of which its entries need about {}", row.pages, row.needed_pages);
            let rebuild = Remedy::safe(
                "rebuild it without locking its table",
                format!("REINDEX INDEX CONCURRENTLY {}", row.name),
            );
            Some(
                CHECK
                    .found(severity, row.name.clone(), seen)
                    .shown_by(rows)
                    .with(rebuild.in_database(name.clone())),
            )
        };
        database.index_bloat.rows().iter().filter_map(found).collect::<Vec<_>>()
    };
    case.seen.databases.iter().flat_map(one).collect()
}

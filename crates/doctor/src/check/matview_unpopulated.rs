//! `matview-unpopulated`: a materialized view holds nothing and cannot be read.

use super::{Area, Case, Check, Found};
use crate::observe::DatabaseSeen;
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "matview-unpopulated",
    area: Area::Schema,
    title: "A materialized view holds nothing and cannot be read",
    why: "Every query of it fails with \"has not been populated\". A load that failed at its end leaves it so.",
    mends: "Refresh it.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |database: &DatabaseSeen| {
        let name = database.name.clone();
        let found = |row: &crate::observe::NameRow| {
            let seen = format!("materialized view {} in {name} was never filled", row.name);
            let refresh = format!("REFRESH MATERIALIZED VIEW {}", row.name);
            let remedy =
                Remedy::safe("fill it; nobody can read it anyway", refresh).in_database(name.clone());
            CHECK.found(Severity::Warning, row.name.clone(), seen).with(remedy)
        };
        database.empty_views.rows().iter().map(found).collect::<Vec<_>>()
    };
    case.seen.databases.iter().flat_map(one).collect()
}

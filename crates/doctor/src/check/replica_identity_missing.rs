//! `replica-identity-missing`: a published table cannot be updated.

use super::{Area, Case, Check, Found};
use crate::observe::{DatabaseSeen, PublishedRow};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "replica-identity-missing",
    area: Area::Replication,
    title: "A published table cannot be updated",
    why: "A table in a publication without a primary key or another replica identity refuses every UPDATE and DELETE.",
    mends: "Add a primary key, or choose a unique index (`REPLICA IDENTITY USING INDEX`). `REPLICA IDENTITY FULL` works at once and costs WAL and time on the subscriber.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |database: &DatabaseSeen| {
        let name = database.name.clone();
        let found = |row: &PublishedRow| {
            let seen = format!("{} in {name} is published, and has no replica identity", row.name);
            let full = format!("ALTER TABLE {} REPLICA IDENTITY FULL", row.name);
            let remedy = Remedy::safe("identify rows by all their columns until there is a key", full);
            CHECK.found(Severity::Warning, row.name.clone(), seen).with(remedy.in_database(name.clone()))
        };
        database.published.rows().iter().map(found).collect::<Vec<_>>()
    };
    case.seen.databases.iter().flat_map(one).collect()
}

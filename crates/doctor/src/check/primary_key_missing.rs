//! `primary-key-missing`: tables have no primary key.

use super::{Area, Case, Check, Found};
use crate::observe::DatabaseSeen;
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "primary-key-missing",
    area: Area::Schema,
    title: "Tables have no primary key",
    why: "Duplicates cannot be told apart, and logical replication, and so an upgrade without downtime, cannot update them.",
    mends: "Add a primary key; a unique index on columns that are NOT NULL can become one without a rewrite (`ADD PRIMARY KEY USING INDEX`).",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |database: &DatabaseSeen| {
        let rows = database.without_key.rows();
        let first = rows.first()?;
        let more = if rows.len() > 1 { format!(" and {} more", rows.len() - 1) } else { String::new() };
        let seen = format!("{}{more} in {} have no primary key", first.name, database.name);
        let found = CHECK.found(Severity::Info, database.name.clone(), seen);
        Some(found.shown_by_all(rows.iter().take(20).map(|row| row.name.clone())))
    };
    case.seen.databases.iter().filter_map(one).collect()
}

//! `multixact-members`: the space of multixact members fills.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use pgproof_base::{Bytes, Remedy};

pub(super) const CHECK: Check = Check {
    code: "multixact-members",
    area: Area::Vacuum,
    title: "The space of multixact members fills",
    why: "At its end, statements that lock rows which others lock too are refused until old members are removed, whatever the age of multixacts.",
    mends: "Vacuum the tables with the oldest multixacts, with `vacuum_multixact_freeze_min_age = 0`; end what holds back the horizon.",
    limit: Some(Limit { unit: Unit::Percent, warning: 40.0, critical: 80.0 }),
    judge,
};

/// 2^32 members, four in 20 bytes (`src/backend/access/transam/multixact.c`); a multiple of 18's as well.
const FULL: f64 = 4_294_967_296.0 / 4.0 * 20.0;

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(directory) = case.seen.directory.ok() else { return Vec::new() };
    let bytes = directory.multixact_member_bytes;
    let Some(severity) = case.level(&CHECK, 100.0 * bytes as f64 / FULL) else { return Vec::new() };
    let seen = format!("pg_multixact/members holds {} of about {}", Bytes(bytes), Bytes(FULL as u64));
    let oldest = case.seen.databases.iter().flat_map(|database| {
        database.oldest.rows().iter().map(move |row| (row.mxid_age, &row.name, &database.name))
    });
    let found = CHECK.found(severity, "pg_multixact", seen);
    let Some((age, table, database)) = oldest.max() else { return vec![found] };
    let vacuum =
        Remedy::safe("freeze the table with the oldest multixacts", format!("VACUUM (FREEZE) {table}"));
    vec![
        found
            .shown_by(format!("{table} in {database} has multixacts {age} old"))
            .with(vacuum.in_database(database.clone())),
    ]
}

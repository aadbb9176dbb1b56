//! `public-create`: everybody may create objects in a schema.

use super::{Area, Case, Check, Found};
use crate::observe::DatabaseSeen;
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "public-create",
    area: Area::Schema,
    title: "Everybody may create objects in a schema",
    why: "A function or operator planted there can be run by others with their rights (CVE-2018-1058). Until 14 it was the default.",
    mends: "Revoke it, and grant CREATE to those who need it.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |database: &DatabaseSeen| {
        let name = database.name.clone();
        let found = |row: &crate::observe::NameRow| {
            let seen = format!("everybody may create objects in schema {} of {name}", row.name);
            let revoke = format!("REVOKE CREATE ON SCHEMA {} FROM PUBLIC", row.name);
            let remedy = Remedy::disruptive("revoke it; who creates there must then be granted it", revoke);
            CHECK
                .found(Severity::Info, format!("{name}.{}", row.name), seen)
                .with(remedy.in_database(name.clone()))
        };
        database.public_schemas.rows().iter().map(found).collect::<Vec<_>>()
    };
    case.seen.databases.iter().flat_map(one).collect()
}

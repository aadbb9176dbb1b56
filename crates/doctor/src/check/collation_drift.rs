//! `collation-drift`: the system sorts text otherwise than when indexes were built.

use super::case::identifier;
use super::{Area, Case, Check, Found};
use crate::observe::DatabaseRow;
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "collation-drift",
    area: Area::Data,
    title: "The system sorts text otherwise than when indexes were built",
    why: "Indexes on text were built in the order of another version of the C library or ICU: searches miss rows, and unique indexes let duplicates in.",
    mends: "Rebuild the indexes on text, then record the new version.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let rows = case.server().map_or(&[][..], |server| server.databases.rows());
    let drifted = rows.iter().filter(|row| {
        row.collation_recorded.is_some()
            && row.collation_actual.is_some()
            && row.collation_recorded != row.collation_actual
    });
    let one = |row: &DatabaseRow| {
        let (recorded, actual) = (
            row.collation_recorded.as_deref().unwrap_or_default(),
            row.collation_actual.as_deref().unwrap_or_default(),
        );
        let seen = format!(
            "database {} was built with collation version {recorded}, the system has {actual}",
            row.name
        );
        let name = identifier(&row.name);
        let command = format!("REINDEX DATABASE {name};\nALTER DATABASE {name} REFRESH COLLATION VERSION;");
        CHECK.found(Severity::Warning, row.name.clone(), seen).with(
            Remedy::disruptive("rebuild its indexes, and record the version", command)
                .in_database(row.name.clone()),
        )
    };
    drifted.map(one).collect()
}

//! `database-invalid`: a database was not dropped to the end.

use super::case::identifier;
use super::{Area, Case, Check, Found};
use crate::observe::DatabaseRow;
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "database-invalid",
    area: Area::Schema,
    title: "A database was not dropped to the end",
    why: "DROP DATABASE was interrupted: files are gone, nobody can connect, and its age still holds back freezing.",
    mends: "Drop it again. What it held is lost; a backup has it.",
    limit: None,
    judge,
};

/// `DATCONNLIMIT_INVALID_DB` in `src/include/catalog/pg_database.h`.
const INVALID: i64 = -2;

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.server() else { return Vec::new() };
    let one = |row: &DatabaseRow| {
        let seen = format!("database {} is invalid: dropping it was interrupted", row.name);
        let drop = format!("DROP DATABASE {}", identifier(&row.name));
        let keep = format!(
            "SELECT to_json(d)::text FROM pg_database d WHERE datname = {}",
            super::case::literal(&row.name)
        );
        let remedy = case.destructive_sql("drop it to the end", drop).keeping(keep);
        CHECK.found(Severity::Warning, row.name.clone(), seen).with(remedy)
    };
    server.databases.rows().iter().filter(|row| row.connection_limit == INVALID).map(one).collect()
}

//! `index-invalid`: an index is not valid.

use super::{Area, Case, Check, Found};
use crate::observe::{DatabaseSeen, IndexRow};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "index-invalid",
    area: Area::Schema,
    title: "An index is not valid",
    why: "A CREATE INDEX CONCURRENTLY failed: the index costs every write and serves no query; a unique one does not keep anything unique.",
    mends: "Rebuild it, or drop it. A unique one cannot be built while duplicates are there.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let built = |oid: i64| {
        case.server().is_some_and(|server| server.running.rows().iter().any(|one| one.index_oid == Some(oid)))
    };
    let one = |database: &DatabaseSeen| {
        let broken = database.invalid_indexes.rows().iter().filter(|row| !built(row.oid) && !row.locked);
        let name = database.name.clone();
        let found = |row: &IndexRow| {
            let seen = format!("index {} of {} in {name} is not valid", row.name, row.table);
            let drop = Remedy::destructive(
                "drop it, and create it again",
                format!("DROP INDEX CONCURRENTLY {}", row.name),
            )
            .in_database(name.clone())
            .keeping(format!("SELECT pg_get_indexdef({}::oid)", row.oid));
            let rebuild = Remedy::safe(
                "rebuild it without locking its table",
                format!("REINDEX INDEX CONCURRENTLY {}", row.name),
            )
            .in_database(name.clone());
            let rebuild = rebuild.afterwards("indisvalid in pg_index is true");
            let found = CHECK.found(Severity::Warning, row.name.clone(), seen);
            // A unique one failed most often for duplicates, and would again.
            if row.is_unique { found.with(drop).with(rebuild) } else { found.with(rebuild).with(drop) }
        };
        broken.map(found).collect::<Vec<_>>()
    };
    case.seen.databases.iter().flat_map(one).collect()
}

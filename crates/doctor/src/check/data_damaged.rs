//! `data-damaged`: pages or indexes are damaged.

use super::case::identifier;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "data-damaged",
    area: Area::Data,
    title: "Pages or indexes are damaged",
    why: "Queries fail or give wrong answers, and backups taken since then hold the damage.",
    mends: "Keep a copy of the data directory before anything else. An index is rebuilt by REINDEX; a table's page comes back from a backup taken before the damage.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let words = [
        "invalid page in block",
        "could not read block",
        "contains unexpected zero page",
        "page verification failed",
        "is not a btree",
        "missing chunk number",
        "contains corrupted page",
        "sibling's left-link doesn't match",
        "failed to re-find",
    ];
    let Some(entry) = case.logged(&words) else { return Vec::new() };
    let found = CHECK
        .found(Severity::Critical, "", format!("the server met damage: {}", entry.message))
        .shown_by(case.quote(entry));
    let found = found.shown_by_all(entry.database.as_ref().map(|name| format!("in database {name}")));
    let index = entry.message.strip_prefix("index \"").and_then(|rest| rest.split('"').next());
    let found = match (index, &entry.database) {
        (Some(index), Some(database)) => {
            let rebuild = Remedy::disruptive(
                "rebuild the index; nobody writes to its table meanwhile",
                format!("REINDEX INDEX {}", identifier(index)),
            );
            found.with(rebuild.in_database(database.clone()))
        }
        _ => found,
    };
    vec![found.with(Remedy::safe(
        "see which backups are sound, and which was taken before",
        "pgproof verify\npgproof list",
    ))]
}

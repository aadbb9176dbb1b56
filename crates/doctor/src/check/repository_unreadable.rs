//! `repository-unreadable`: a repository cannot be read.

use super::{Area, Case, Check, Found};
use crate::observe::RepositorySeen;
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "repository-unreadable",
    area: Area::Backups,
    title: "A repository cannot be read",
    why: "WAL does not get there, and nothing can be restored from there.",
    mends: "See what `pgproof check` says of its store, its key and its rights.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |row: &RepositorySeen| {
        let why = row.error.as_deref()?;
        let found =
            CHECK.found(Severity::Critical, row.name.clone(), format!("repository {}: {why}", row.name));
        Some(found.with(Remedy::safe("see which part of the way there is broken", "pgproof check")))
    };
    case.repositories().iter().filter_map(one).collect()
}

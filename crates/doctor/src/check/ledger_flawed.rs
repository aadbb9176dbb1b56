//! `ledger-flawed`: the evidence of a repository cannot be believed.

use super::{Area, Case, Check, Found};
use crate::observe::RepositorySeen;
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "ledger-flawed",
    area: Area::Backups,
    title: "The evidence of a repository cannot be believed",
    why: "Entries of the ledger are missing or were changed: what it says of backups and drills proves nothing.",
    mends: "Find out who could write there. The chain shows where it breaks; new entries prove again from now on.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |row: &RepositorySeen| {
        let first = row.flaws.first()?;
        let seen = format!("the ledger of repository {} does not fit together: {first}", row.name);
        let found = CHECK
            .found(Severity::Critical, row.name.clone(), seen)
            .shown_by_all(row.flaws.iter().skip(1).cloned());
        Some(found.with(Remedy::safe("see all of it", "pgproof status")))
    };
    case.repositories().iter().filter_map(one).collect()
}

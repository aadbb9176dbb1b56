//! `database-closed`: the database accepts no connections.

use super::case::identifier;
use super::{Area, Case, Check, Found};
use crate::observe::Outcome;
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "database-closed",
    area: Area::Reach,
    title: "The database accepts no connections",
    why: "Somebody closed it (`ALLOW_CONNECTIONS false`), or it was left half dropped.",
    mends: "Open it again. One whose DROP was interrupted can only be dropped.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(attempt) = case.failed() else { return Vec::new() };
    let Outcome::Refused { message, .. } = &attempt.outcome else { return Vec::new() };
    if !message.contains("is not currently accepting connections") {
        return Vec::new();
    }
    let alter = format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true", identifier(&attempt.to.database));
    let remedy =
        case.safe_sql("open it", alter).afterwards("`pgproof doctor` with the same parameters connects");
    vec![CHECK.found(Severity::Critical, attempt.to.database.clone(), message).with(remedy)]
}

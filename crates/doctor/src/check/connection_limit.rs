//! `connection-limit`: the role or the database has used up its own connections.

use super::case::identifier;
use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "connection-limit",
    area: Area::Reach,
    title: "The role or the database has used up its own connections",
    why: "A limit of one role or database refuses connections though the server has slots.",
    mends: "Find out who holds them; raise the limit only if they are needed.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some((attempt, message)) = case.refused("53300") else { return Vec::new() };
    let to = &attempt.to;
    let alter = if message.starts_with("too many connections for role") {
        format!("ALTER ROLE {} CONNECTION LIMIT -1", identifier(&to.user))
    } else if message.starts_with("too many connections for database") {
        format!("ALTER DATABASE {} CONNECTION LIMIT -1", identifier(&to.database))
    } else {
        return Vec::new();
    };
    let remedy = case
        .safe_sql("lift the limit", alter)
        .afterwards("`pgproof doctor` with the same parameters connects");
    vec![CHECK.found(Severity::Critical, to.user.clone(), message).with(remedy)]
}

//! `database-missing`: the database does not exist.

use super::case::identifier;
use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "database-missing",
    area: Area::Reach,
    title: "The database does not exist",
    why: "Without a database there is no session.",
    mends: "Name one that exists, or create it. Without a name, clients take that of the role.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some((attempt, message)) = case.refused("3D000") else { return Vec::new() };
    let name = &attempt.to.database;
    let there: Vec<String> = case
        .server()
        .map_or(&[][..], |server| server.databases.rows())
        .iter()
        .map(|row| row.name.clone())
        .collect();
    let found = CHECK.found(Severity::Critical, name.clone(), message);
    let found =
        if there.is_empty() { found } else { found.shown_by(format!("there are {}", there.join(", "))) };
    let remedy = case.safe_sql("create it", format!("CREATE DATABASE {}", identifier(name)));
    vec![found.with(remedy.afterwards("`pgproof doctor` with the same parameters connects"))]
}

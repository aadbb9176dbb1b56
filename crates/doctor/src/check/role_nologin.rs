//! `role-nologin`: the role may not log in.

use super::case::identifier;
use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "role-nologin",
    area: Area::Reach,
    title: "The role may not log in",
    why: "Roles without LOGIN are groups, or were locked out on purpose.",
    mends: "`ALTER ROLE ... LOGIN`, or connect as a member of it.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some((attempt, message)) = case.refused("28000") else { return Vec::new() };
    if !message.contains("is not permitted to log in") {
        return Vec::new();
    }
    let alter = format!("ALTER ROLE {} LOGIN", identifier(&attempt.to.user));
    let remedy = case
        .safe_sql("let it log in", alter)
        .afterwards("`pgproof doctor` with the same parameters connects");
    vec![CHECK.found(Severity::Critical, attempt.to.user.clone(), message).with(remedy)]
}

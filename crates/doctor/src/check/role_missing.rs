//! `role-missing`: the role does not exist.

use super::case::identifier;
use super::{Area, Case, Check, Found};
use crate::observe::Outcome;
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "role-missing",
    area: Area::Reach,
    title: "The role does not exist",
    why: "The server tells a client only that authentication failed; its log says why.",
    mends: "Create the role, or connect as one that exists. Names are as they were created: `\"App\"` is not `app`.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(attempt) = case.failed() else { return Vec::new() };
    let Outcome::Refused { message, .. } = &attempt.outcome else { return Vec::new() };
    let to = &attempt.to;
    let said = format!("role \"{}\" does not exist", to.user);
    let detail = format!("Role \"{}\" does not exist", to.user);
    let known = case.server().map(|server| server.roles.rows()).filter(|rows| !rows.is_empty());
    let logged = case.logged(&[detail.as_str()]);
    let absent = known.is_some_and(|rows| !rows.iter().any(|row| row.name == to.user)) && logged.is_some();
    if !(message.contains(&said) || absent || (logged.is_some() && known.is_none())) {
        return Vec::new();
    }
    let found = CHECK.found(
        Severity::Critical,
        to.user.clone(),
        format!("there is no role {}", identifier(&to.user)),
    );
    let create = format!("CREATE ROLE {} LOGIN", identifier(&to.user));
    vec![
        found.shown_by_all(logged.map(|entry| case.quote(entry))).with(
            case.safe_sql("create it; a password is set with \\password", create)
                .afterwards("`pgproof doctor` with the same parameters gets further"),
        ),
    ]
}

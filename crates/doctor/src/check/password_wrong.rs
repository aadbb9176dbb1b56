//! `password-wrong`: the password is wrong, missing or expired.

use super::case::identifier;
use super::{Area, Case, Check, Found};
use crate::observe::{Outcome, RoleRow};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "password-wrong",
    area: Area::Reach,
    title: "The password is wrong, missing or expired",
    why: "The server tells a client only that authentication failed; its log says why.",
    mends: "Set the password anew where it is lost. A role without a password, or with an expired one, is refused with the same words; `DETAIL` in the server's log tells them apart.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(attempt) = case.failed() else { return Vec::new() };
    let to = &attempt.to;
    let missing =
        matches!(&attempt.outcome, Outcome::Failed { message } if message.contains("password missing"));
    if case.refused("28P01").is_none() && !missing {
        return Vec::new();
    }
    let role = case.server().and_then(|server| server.roles.rows().iter().find(|row| row.name == to.user));
    let logged = case.logged(&[
        "password authentication failed",
        "has no password assigned",
        "has an expired password",
    ]);
    let (seen, remedy) = why(case, to, role, missing);
    let found =
        CHECK.found(Severity::Critical, to.user.clone(), seen).shown_by(crate::diagnosis::described(attempt));
    vec![
        found
            .shown_by_all(logged.map(|entry| case.quote(entry)))
            .with(remedy.afterwards("`pgproof doctor` with the same parameters connects")),
    ]
}

fn why(
    case: &Case<'_>,
    to: &pgproof_server::Reached,
    role: Option<&RoleRow>,
    missing: bool,
) -> (String, Remedy) {
    let name = identifier(&to.user);
    if role.is_some_and(|row| row.expires_s.is_some_and(|left| left < 0.0)) {
        let alter = format!("ALTER ROLE {name} VALID UNTIL 'infinity'");
        return (
            format!("the password of {} has expired", to.user),
            case.safe_sql("let it be valid again", alter),
        );
    }
    if role.is_some_and(|row| row.secret.as_deref() == Some("none")) {
        let remedy = Remedy::safe("set one, in psql", format!("\\password {name}"));
        return (format!("{} has no password at all", to.user), remedy);
    }
    if missing {
        let remedy = Remedy::safe("give it in PGPASSWORD or the password file (~/.pgpass, mode 600)", "");
        return (format!("the server wants a password for {}, and none is at hand", to.user), remedy);
    }
    (
        format!("the password for {} is wrong", to.user),
        Remedy::safe("set it anew, in psql", format!("\\password {name}")),
    )
}

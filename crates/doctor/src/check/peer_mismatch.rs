//! `peer-mismatch`: the operating system's user may not be this role.

use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity, shell_word};

pub(super) const CHECK: Check = Check {
    code: "peer-mismatch",
    area: Area::Reach,
    title: "The operating system's user may not be this role",
    why: "With the method `peer` the server lets in whoever's name in the operating system is the role's, or is mapped to it.",
    mends: "Run the program as that user, map the names in pg_ident.conf, or connect through TCP with a password.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some((attempt, message)) = case.refused("28000") else { return Vec::new() };
    if !message.starts_with("Peer authentication failed") {
        return Vec::new();
    }
    let to = &attempt.to;
    let seen = format!("{} of the operating system is not {} to the server", case.seen.user.name, to.user);
    let found = CHECK.found(Severity::Critical, to.user.clone(), seen).shown_by(message);
    let logged = case.logged(&["Peer authentication failed"]).map(|entry| case.quote(entry));
    let user = shell_word(&to.user);
    let command = format!(
        "sudo -u {user} psql -h {} -p {} -d {}",
        shell_word(&to.host),
        to.port,
        shell_word(&to.database)
    );
    vec![
        found
            .shown_by_all(logged)
            .with(Remedy::safe("connect as that user of the operating system", command)),
    ]
}

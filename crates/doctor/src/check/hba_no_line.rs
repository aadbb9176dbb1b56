//! `hba-no-line`: no line of pg_hba.conf lets this connection in.

use super::case::word;
use super::{Area, Case, Check, Found};
use crate::observe::Attempt;
use pgproof_base::{Remedy, Severity, shell_word};

pub(super) const CHECK: Check = Check {
    code: "hba-no-line",
    area: Area::Reach,
    title: "No line of pg_hba.conf lets this connection in",
    why: "The server refuses whoever no line is about, whatever the password.",
    mends: "Add a line for exactly this database, role and address, then reload. Never `trust` for an address that is not this host's.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some((attempt, message)) = case.refused("28000") else { return Vec::new() };
    if !message.starts_with("no pg_hba.conf entry") {
        return Vec::new();
    }
    let subject = format!("{}@{}", attempt.to.user, attempt.to.database);
    let found = CHECK.found(Severity::Critical, subject, message);
    let Some(place) = case.place() else { return vec![found] };
    let found = found.shown_by(format!("the rules are in {}", place.hba_file.display()));
    let line = line_for(attempt, message);
    let add = format!("echo {} >> {}", shell_word(&line), word(&place.hba_file));
    let remedy = Remedy::safe("let exactly this connection in", format!("{add}\n{}", case.reload(place)));
    vec![found.with(remedy.afterwards("`pgproof doctor` with the same parameters connects"))]
}

/// The line that would let this attempt in, with a password; through a socket, as the account of the same name.
fn line_for(attempt: &Attempt, message: &str) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let (database, user) = (quoted(&attempt.to.database), quoted(&attempt.to.user));
    let host = message.split("host \"").nth(1).and_then(|rest| rest.split('"').next());
    match host.filter(|host| host.parse::<std::net::IpAddr>().is_ok()) {
        Some(host) if host.contains(':') => format!("host {database} {user} {host}/128 scram-sha-256"),
        Some(host) => format!("host {database} {user} {host}/32 scram-sha-256"),
        None if attempt.to.has_password => format!("local {database} {user} scram-sha-256"),
        None => format!("local {database} {user} peer"),
    }
}

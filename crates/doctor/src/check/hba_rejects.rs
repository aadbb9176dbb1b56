//! `hba-rejects`: a line of pg_hba.conf rejects this connection.

use super::case::word;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "hba-rejects",
    area: Area::Reach,
    title: "A line of pg_hba.conf rejects this connection",
    why: "Somebody wrote that this connection is not wanted; lines below it are not looked at.",
    mends: "If it should be let in, put a line for it above the one that rejects, then reload.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some((attempt, message)) = case.refused("28000") else { return Vec::new() };
    if !message.starts_with("pg_hba.conf rejects connection") {
        return Vec::new();
    }
    let subject = format!("{}@{}", attempt.to.user, attempt.to.database);
    let found = CHECK.found(Severity::Critical, subject, message);
    let Some(place) = case.place() else { return vec![found] };
    let client = crate::observe::hba::Client {
        address: if attempt.to.is_socket() {
            None
        } else {
            attempt.to.host.parse().ok().or_else(|| "127.0.0.1".parse().ok())
        },
        tls: false,
        database: &attempt.to.database,
        user: &attempt.to.user,
    };
    let line = case.seen.hba.ok().and_then(|hba| match hba.decides(client) {
        crate::observe::hba::Match::Line(line) if line.method == "reject" => Some(line),
        _ => None,
    });
    let Some(line) = line else {
        return vec![found.shown_by(format!("the rules are in {}", place.hba_file.display()))];
    };
    let found = found.shown_by(format!("{}:{}: {}", line.file.display(), line.line, line.text()));
    let comment = case.as_owner(&format!("sed -i.before-pgproof '{}s/^/#/' {}", line.line, word(&line.file)));
    let remedy = Remedy::disruptive(
        "if it should not be rejected: take the line away",
        format!("{comment}\n{}", case.reload(place)),
    );
    vec![found.with(remedy.afterwards("`pgproof doctor` with the same parameters connects"))]
}

//! `port-taken`: another process has the server's port.

use super::case::word;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "port-taken",
    area: Area::Start,
    title: "Another process has the server's port",
    why: "Two servers cannot listen on one port or socket.",
    mends: "Stop the other one, or give one of them another port.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(place) = case.stopped() else { return Vec::new() };
    let Some(entry) = case.logged(&[
        "Address already in use",
        "is another postmaster already running on port",
        ".lock\" already exists",
    ]) else {
        return Vec::new();
    };
    let other = case.seen.others.iter().find(|other| other.port == place.port && other.postmaster.is_some());
    let who = other.map_or_else(
        || "another process".to_owned(),
        |other| format!("the server in {}", other.data_directory.display()),
    );
    let seen = format!("port {} is taken by {who}", place.port);
    let found = CHECK.found(Severity::Critical, place.port.to_string(), seen).shown_by(case.quote(entry));
    let Some(free) = free_port(case, place.port) else { return vec![found] };
    let set = format!("echo \"port = {free}\" >> {}", word(&place.config_file));
    let command = format!("{set}\n{}", case.start(place));
    vec![found.with(Remedy::disruptive(
        format!("let it listen on {free}, and start; clients must be told"),
        command,
    ))]
}

/// The next port that nothing listens on.
fn free_port(case: &Case<'_>, taken: u16) -> Option<u16> {
    let listening = case.seen.listening.ok()?;
    let mut next = taken.checked_add(1)?..u16::MAX;
    let used = |port: u16| {
        listening.tcp.iter().any(|one| one.port == port)
            || case.seen.others.iter().any(|one| one.port == port)
    };
    next.find(|port| !used(*port))
}

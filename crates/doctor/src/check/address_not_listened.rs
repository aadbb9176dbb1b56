//! `address-not-listened`: the server does not listen on that address.

use super::case::word;
use super::{Area, Case, Check, Found};
use crate::observe::Outcome;
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "address-not-listened",
    area: Area::Reach,
    title: "The server does not listen on that address",
    why: "Connections from elsewhere are refused by the operating system before PostgreSQL sees them.",
    mends: "Set `listen_addresses` and restart; then pg_hba.conf decides who gets in.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(attempt) =
        case.failed().filter(|attempt| matches!(attempt.outcome, Outcome::Unreachable { .. }))
    else {
        return Vec::new();
    };
    let Some(place) =
        case.place().filter(|place| place.postmaster.is_some() && place.port == attempt.to.port)
    else {
        return Vec::new();
    };
    if attempt.to.is_socket() {
        return Vec::new();
    }
    let value =
        case.server().and_then(|server| server.setting("listen_addresses")).map(|row| row.value.clone());
    let value = value
        .or_else(|| case.files().and_then(|files| files.get("listen_addresses")).map(str::to_owned))
        .unwrap_or_else(|| "localhost".to_owned());
    let seen = format!(
        "listen_addresses is '{value}', so nobody listens at {}:{}",
        attempt.to.host, attempt.to.port
    );
    let on =
        case.seen.listening.ok().into_iter().flat_map(|all| &all.tcp).filter(|one| one.port == place.port);
    let found = CHECK
        .found(Severity::Critical, attempt.to.host.clone(), seen)
        .shown_by_all(on.map(|one| format!("it listens on {}:{}", one.address, one.port)));
    let host = if attempt.to.host == "localhost" { "localhost".to_owned() } else { attempt.to.host.clone() };
    let wanted = if value.is_empty() { host } else { format!("{value},{host}") };
    let place_line = case.files().and_then(|files| files.line("listen_addresses"));
    let set = format!("listen_addresses = '{wanted}'");
    let edit = match place_line {
        Some(line) => {
            case.as_owner(&format!("sed -i.before-pgproof \"{}s/.*/{set}/\" {}", line.line, word(&line.file)))
        }
        None => format!("echo \"{set}\" >> {}", word(&place.config_file)),
    };
    let remedy =
        Remedy::disruptive("listen there too, and restart", format!("{edit}\n{}", case.restart(place)));
    vec![found.with(remedy.afterwards("`pgproof doctor` with the same parameters connects"))]
}

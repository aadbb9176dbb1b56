//! `port-wrong`: the server listens elsewhere than where it is looked for.

use super::{Area, Case, Check, Found};
use crate::observe::{Outcome, Place};
use pgproof_base::{Remedy, Severity, shell_word};

pub(super) const CHECK: Check = Check {
    code: "port-wrong",
    area: Area::Reach,
    title: "The server listens elsewhere than where it is looked for",
    why: "Nobody listens where the connection goes; the server itself is well.",
    mends: "Use the port and socket directory that it has, or set PGPORT and PGHOST.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(attempt) =
        case.failed().filter(|attempt| matches!(attempt.outcome, Outcome::Unreachable { .. }))
    else {
        return Vec::new();
    };
    // Its own server is known and does not run: that others do is no answer.
    if case.stopped().is_some() {
        return Vec::new();
    }
    let places = case.place().into_iter().chain(&case.seen.others).filter(|place| place.postmaster.is_some());
    let listens = |place: &&Place| {
        let socket = place
            .socket_directory
            .as_ref()
            .is_some_and(|folder| folder.display().to_string() == attempt.to.host);
        place.port == attempt.to.port && (socket || !attempt.to.is_socket())
    };
    let running: Vec<_> = places.collect();
    if running.is_empty() || running.iter().any(listens) {
        return Vec::new();
    }
    let one = running[0];
    let host = one
        .socket_directory
        .as_ref()
        .map_or_else(|| "localhost".to_owned(), |folder| folder.display().to_string());
    let seen = format!(
        "nobody listens at {}:{}; a server runs at {host}:{}",
        attempt.to.host, attempt.to.port, one.port
    );
    let command = format!(
        "pgproof doctor --host {} --port {} --user {}",
        shell_word(&host),
        one.port,
        shell_word(&attempt.to.user)
    );
    let found = CHECK.found(Severity::Critical, format!("{}:{}", attempt.to.host, attempt.to.port), seen);
    let found =
        found.shown_by(format!("{}: process {}", one.data_directory.display(), one.postmaster.unwrap_or(0)));
    vec![found.with(Remedy::safe("connect there", command))]
}

//! `server-starting`: the server is starting, stopping or recovering.

use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "server-starting",
    area: Area::Reach,
    title: "The server is starting, stopping or recovering",
    why: "It refuses connections until it has come up; killing it now makes it begin anew.",
    mends: "Wait, and watch the position of replay move. Recovery after a crash replays WAL from the last checkpoint: `max_wal_size` and `checkpoint_timeout` bound it.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some((attempt, message)) = case.refused("57P03") else { return Vec::new() };
    let titles = case.seen.processes.ok().into_iter().flat_map(|processes| &processes.postgres);
    let title = titles
        .filter(|process| process.title.contains("startup"))
        .map(|process| format!("process {}: {}", process.pid, process.title));
    let seen = format!("{}:{} says: {message}", attempt.to.host, attempt.to.port);
    let found = CHECK.found(Severity::Info, "", seen).shown_by_all(title);
    vec![found.with(Remedy::safe("wait, and look again; do not kill it", "pgproof doctor"))]
}

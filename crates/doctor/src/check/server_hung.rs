//! `server-hung`: the server accepts connections and does not answer.

use super::{Area, Case, Check, Found};
use crate::observe::Outcome;
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "server-hung",
    area: Area::Reach,
    title: "The server accepts connections and does not answer",
    why: "Nobody can work, and everybody who tries takes a slot.",
    mends: "A stopped process (state T) goes on with SIGCONT. Processes in state D wait for the disk: see to that. Where catalogs are locked, end the one who holds the lock.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(attempt) = case.failed() else { return Vec::new() };
    let Outcome::Silent { after_ms } = attempt.outcome else { return Vec::new() };
    let processes = case.seen.processes.ok().map_or(&[][..], |processes| processes.postgres.as_slice());
    let postmaster = case.place().and_then(|place| place.postmaster);
    let ours = |pid: u32, parent: u32| {
        postmaster.is_some_and(|postmaster| pid == postmaster || parent == postmaster)
    };
    let stopped: Vec<_> =
        processes.iter().filter(|one| ours(one.pid, one.parent) && matches!(one.state, 'T' | 'D')).collect();
    let seen = format!(
        "{}:{} accepted a connection and said nothing for {after_ms} ms",
        attempt.to.host, attempt.to.port
    );
    let rows = stopped
        .iter()
        .take(10)
        .map(|one| format!("process {} is in state {}: {}", one.pid, one.state, one.title));
    let found = CHECK
        .found(Severity::Critical, format!("{}:{}", attempt.to.host, attempt.to.port), seen)
        .shown_by_all(rows);
    let pids: Vec<String> =
        stopped.iter().filter(|one| one.state == 'T').map(|one| one.pid.to_string()).collect();
    if pids.is_empty() {
        return vec![found.with(Remedy::safe(
            "see what the processes wait for",
            "ps -eo pid,stat,wchan:32,args | grep '[p]ostgres'",
        ))];
    }
    let remedy = Remedy::safe("let the stopped processes go on", format!("kill -CONT {}", pids.join(" ")));
    vec![found.with(remedy.afterwards("`pgproof doctor` connects"))]
}

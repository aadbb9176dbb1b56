//! `backend-killed`: processes of the server were killed or crashed.

use super::case::ago;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "backend-killed",
    area: Area::Start,
    title: "Processes of the server were killed or crashed",
    why: "When one process dies hard, the server ends all sessions and recovers: an outage for everybody.",
    mends: "Signal 9 is somebody's `kill -9`, or the kernel's when memory ran out: lower memory, or forbid overcommit (`vm.overcommit_memory = 2`). Signals 6, 7, 11 are defects of the server, an extension or the memory: update, and test the memory. Use `pg_terminate_backend`, never `kill -9`.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(entry) = case.logged(&[") was terminated by signal"]) else { return Vec::new() };
    // A process that cannot write WAL aborts itself: the disk is the finding, and history once there is room again.
    let full = case.seen.log.ok().into_iter().flat_map(|log| &log.entries).any(|other| {
        other.severity == "PANIC" && other.offset < entry.offset && other.message.contains("No space left")
    });
    if full && entry.message.contains("signal 6") {
        return Vec::new();
    }
    let killed = case.seen.kernel.ok().into_iter().flat_map(|kernel| &kernel.lines);
    let killed = killed
        .filter(|line| line.text.contains("postgres"))
        .map(|line| format!("kernel, {} ago: {}", ago(line.age_s as f64), line.text));
    let seen = format!("{}; every session ended, and the server recovered", entry.message);
    let mut found = CHECK.found(Severity::Warning, "", seen).shown_by(case.quote(entry)).shown_by_all(killed);
    if let Some(memory) = case.seen.memory.ok().filter(|memory| memory.overcommit != Some(2)) {
        found = found.shown_by(format!("vm.overcommit_memory = {}", memory.overcommit.unwrap_or(0)));
        if entry.message.contains("signal 9") {
            let command = "sysctl -w vm.overcommit_memory=2 vm.overcommit_ratio=90";
            found = found.with(Remedy::disruptive(
                "if memory ran out: refuse memory that is not there, instead of killing for it",
                command,
            ));
        }
    }
    vec![found.with(Remedy::safe("if a person did it: end sessions with pg_terminate_backend", ""))]
}

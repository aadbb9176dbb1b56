//! `out-of-memory`: the system refuses memory to the server.

use super::{Area, Case, Check, Found};
use pgproof_base::{Bytes, Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "out-of-memory",
    area: Area::Sessions,
    title: "The system refuses memory to the server",
    why: "Statements fail, or nobody new can connect.",
    mends: "Lower `work_mem` and the number of sessions, or give the host, the container or the service (`ulimit -v`, `LimitAS`) more. The log lists, above the message, what each part of the session held.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let words = ["out of memory", "could not fork new process for connection"];
    // "out of shared memory" is the table of locks, and a different matter.
    let all = case
        .logged_all(&words)
        .filter(|entry| entry.severity != "LOG" || !entry.message.contains("out of memory"));
    let all: Vec<_> = all.filter(|entry| case.since_load(entry)).collect();
    let Some(newest) = all.first() else { return Vec::new() };
    let seen = format!("the server was refused memory {} times within the last hour", all.len());
    let memory = case.seen.memory.ok().map(|memory| {
        format!(
            "{} of {} can be had; overcommit {}",
            Bytes(memory.available),
            Bytes(memory.usable()),
            memory.overcommit.unwrap_or(0)
        )
    });
    let limit = case
        .place()
        .and_then(|place| place.address_space)
        .map(|bytes| format!("the server's processes may have {} each (ulimit -v)", Bytes(bytes)));
    let work = case
        .server()
        .and_then(|server| server.setting("work_mem"))
        .map(|row| format!("work_mem = {}", row.value));
    let found = CHECK
        .found(Severity::Critical, "", seen)
        .shown_by(case.quote(newest))
        .shown_by_all([memory, limit.clone(), work].into_iter().flatten());
    let raise = case.place().and_then(|place| {
        let (soft, hard) = (place.address_space?, place.address_space_max.as_ref()?);
        let is_more = hard.parse::<u64>().map_or(hard == "unlimited", |hard| hard > soft);
        is_more.then(|| Some(format!("prlimit --pid {} --as={hard}:", place.postmaster?))).flatten()
    });
    let found = match raise {
        Some(command) => found.with(Remedy::safe(
            "raise the limit of the running server, for sessions that begin from now on; and raise it where the server is started",
            case.as_owner(&command),
        )),
        None => found,
    };
    vec![found.with(case.safe_sql(
        "let each sort and hash take less",
        "ALTER SYSTEM SET work_mem = '4MB';\nSELECT pg_reload_conf();",
    ))]
}

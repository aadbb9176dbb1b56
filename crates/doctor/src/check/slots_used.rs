//! `slots-used`: all connection slots are taken.

use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};
use std::collections::BTreeMap;

pub(super) const CHECK: Check = Check {
    code: "slots-used",
    area: Area::Reach,
    title: "All connection slots are taken",
    why: "Nobody else can connect.",
    mends: "End sessions that do nothing; put a pooler between the application and the server. A higher `max_connections` needs a restart and memory, and rarely helps for long.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some((_, message)) = case.refused("53300") else { return Vec::new() };
    if message.starts_with("too many connections for") {
        return Vec::new();
    }
    let postmaster = case.place().and_then(|place| place.postmaster);
    let processes = case.seen.processes.ok().map_or(&[][..], |processes| processes.postgres.as_slice());
    let ours = processes.iter().filter(|one| Some(one.parent) == postmaster);
    let sessions: Vec<_> = ours.filter_map(|one| Some((one.pid, one.session()?))).collect();
    let mut counts = BTreeMap::<String, usize>::new();
    for (_, (user, database, _, doing)) in &sessions {
        let doing = if doing.starts_with("idle") { doing } else { "active" };
        *counts.entry(format!("{user} in {database}, {doing}")).or_default() += 1;
    }
    let mut counts: Vec<(usize, String)> = counts.into_iter().map(|(what, count)| (count, what)).collect();
    counts.sort_by(|a, b| b.cmp(a));
    let found = CHECK.found(Severity::Critical, "", format!("{message}: {} sessions", sessions.len()));
    let found =
        found.shown_by_all(counts.iter().take(5).map(|(count, what)| format!("{count} sessions of {what}")));
    let idle: Vec<String> =
        sessions.iter().filter(|(_, session)| session.3 == "idle").map(|(pid, _)| pid.to_string()).collect();
    if idle.is_empty() {
        return vec![found];
    }
    // A tenth is enough to get in again, and leaves most applications alone.
    let few = &idle[..idle.len().div_ceil(10).max(5).min(idle.len())];
    let what = format!(
        "end {} of the {} idle sessions (SIGTERM is what pg_terminate_backend sends)",
        few.len(),
        idle.len()
    );
    vec![
        found.with(
            Remedy::disruptive(what, format!("kill -TERM {}", few.join(" ")))
                .afterwards("`pgproof doctor` connects"),
        ),
    ]
}

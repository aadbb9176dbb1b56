//! `wait-pileup`: many sessions wait for the same thing inside the server.

use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::WaitRow;
use pgproof_base::Remedy;
use std::collections::BTreeMap;

pub(super) const CHECK: Check = Check {
    code: "wait-pileup",
    area: Area::Sessions,
    title: "Many sessions wait for the same thing inside the server",
    why: "More sessions make it worse: throughput falls while the processors idle.",
    mends: "By what is waited for. LockManager: fewer partitions a statement, or fewer sessions. Subtrans*, MultiXact*: fewer savepoints and row locks in long transactions. WALInsert, WALWrite: larger transactions, a faster disk. BufferContent, BufferMapping: a page that all want. SafeSnapshot: end long serializable transactions that write. A pooler bounds all of them.",
    limit: Some(Limit { unit: Unit::Percent, warning: 30.0, critical: 80.0 }),
    judge,
};

/// Fewer than these on average are no pile.
const SESSIONS_MIN: f64 = 4.0;
/// What the server itself makes sessions wait for; locks and commits that wait are findings of their own.
const KINDS: [&str; 3] = ["LWLock", "IPC", "BufferPin"];

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.server() else { return Vec::new() };
    let rows = server.waits.rows();
    let samples = rows.iter().map(|row| row.sample).max().map_or(0, |last| last + 1);
    let active: i64 = rows.iter().map(|row| row.sessions).sum();
    if samples == 0 || active == 0 {
        return Vec::new();
    }
    let of_server = |row: &&WaitRow| {
        row.kind.as_deref().is_some_and(|kind| KINDS.contains(&kind))
            && row.event.as_deref() != Some("SyncRep")
    };
    let mut events = BTreeMap::<String, i64>::new();
    for row in rows.iter().filter(of_server) {
        let name = format!("{}:{}", row.kind.as_deref().unwrap_or(""), row.event.as_deref().unwrap_or(""));
        *events.entry(name).or_default() += row.sessions;
    }
    let one = |(event, sessions): (String, i64)| {
        let average = sessions as f64 / samples as f64;
        let severity = case.level(&CHECK, 100.0 * sessions as f64 / active as f64)?;
        let seen = format!(
            "{average:.1} of {:.1} active sessions wait for {event}, on average of {samples} samples",
            active as f64 / samples as f64
        );
        let look = "SELECT pid, usename, datname, wait_event_type, wait_event, now() - query_start AS since FROM pg_stat_activity WHERE state = 'active' ORDER BY since DESC";
        (average >= SESSIONS_MIN).then(|| {
            let remedy = Remedy::safe("see who works, and for how long", look).in_database("postgres");
            CHECK.found(severity, event, seen).with(remedy)
        })
    };
    events.into_iter().filter_map(one).collect()
}

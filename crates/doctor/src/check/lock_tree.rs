//! `lock-tree`: sessions wait for locks that one session holds.

use super::case::ago;
use super::{Area, Case, Check, Found};
use crate::limits::{Limit, Unit};
use crate::observe::SessionRow;
use pgproof_base::Severity;
use std::collections::BTreeMap;

pub(super) const CHECK: Check = Check {
    code: "lock-tree",
    area: Area::Sessions,
    title: "Sessions wait for locks that one session holds",
    why: "One transaction keeps others waiting; a waiting ALTER keeps all that come after it waiting, too.",
    mends: "End the holder, not those who wait. Set `lock_timeout` for every change of a schema.",
    limit: Some(Limit { unit: Unit::Seconds, warning: 30.0, critical: 300.0 }),
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let rows = case.server().map_or(&[][..], |server| server.sessions.rows());
    let mut roots = BTreeMap::<i64, Vec<&SessionRow>>::new();
    for row in rows.iter().filter(|row| !row.blocked_by.is_empty()) {
        roots.entry(root(rows, row)).or_default().push(row);
    }
    roots.into_iter().filter_map(|(pid, waiters)| one(case, rows, pid, &waiters)).collect()
}

/// So many that wait are a pile, however short the wait.
const PILE: usize = 3;
const PILE_WAIT_S: f64 = 5.0;

fn root(rows: &[SessionRow], from: &SessionRow) -> i64 {
    let mut at = from;
    for _ in 0..rows.len() {
        let Some(next) = at.blocked_by.first() else { break };
        match rows.iter().find(|row| row.pid == *next) {
            Some(row) => at = row,
            None => return *next,
        }
    }
    at.pid
}

fn one(case: &Case<'_>, rows: &[SessionRow], pid: i64, waiters: &[&SessionRow]) -> Option<Found> {
    let longest = waiters.iter().filter_map(|row| row.query_s).fold(0.0, f64::max);
    let pile = waiters.len() >= PILE && longest >= PILE_WAIT_S;
    let severity = case.level(&CHECK, longest).max(pile.then_some(Severity::Warning))?;
    let holder = rows.iter().find(|row| row.pid == pid);
    let who = match (pid, holder) {
        (0, _) => "a prepared transaction".to_owned(),
        (_, Some(row)) => format!(
            "process {pid} ({}, {})",
            super::idle_in_transaction::who(row),
            row.state.as_deref().unwrap_or("?")
        ),
        (_, None) => format!("process {pid}"),
    };
    let seen = format!("{who} keeps {} sessions waiting, for up to {}", waiters.len(), ago(longest));
    let locks = case.server().map_or(&[][..], |server| server.locks.rows());
    let wait = |row: &&SessionRow| {
        let lock = locks.iter().find(|lock| lock.pid == row.pid);
        let what = lock.map_or_else(String::new, |lock| {
            format!(" for {} on {}", lock.mode, lock.relation.as_deref().unwrap_or("?"))
        });
        let by: Vec<String> = row.blocked_by.iter().map(ToString::to_string).collect();
        format!(
            "process {} ({}) waits{what}, behind {}",
            row.pid,
            row.command.as_deref().unwrap_or("?"),
            by.join(", ")
        )
    };
    let found = CHECK.found(severity, pid.to_string(), seen).shown_by_all(waiters.iter().take(8).map(wait));
    if pid == 0 {
        return Some(found);
    }
    let end = case.disruptive_sql(
        "end the holder; what it did is rolled back",
        format!("SELECT pg_terminate_backend({pid})"),
    );
    Some(found.with(
        end.afterwards("`SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'` gives 0"),
    ))
}

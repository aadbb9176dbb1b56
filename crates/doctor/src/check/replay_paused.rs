//! `replay-paused`: replay is paused.

use super::{Area, Case, Check, Found};
use pgproof_base::{Bytes, Severity};

pub(super) const CHECK: Check = Check {
    code: "replay-paused",
    area: Area::Replication,
    title: "Replay is paused",
    why: "The standby receives WAL and does not apply it: it falls behind, and its disk fills.",
    mends: "Resume it. It is also paused by a lowered setting such as `max_connections`, which the log names: raise that and restart.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.server() else { return Vec::new() };
    let Some(row) = server.receiver.rows().first().filter(|row| row.pause != "not paused") else {
        return Vec::new();
    };
    let logged =
        case.logged(&["recovery has paused", "hot standby is not possible"]).map(|entry| case.quote(entry));
    let seen = format!(
        "replay is {}; {} of WAL wait",
        row.pause,
        Bytes(u64::try_from(row.behind_bytes.unwrap_or(0)).unwrap_or(0))
    );
    let remedy = case
        .safe_sql("resume it", "SELECT pg_wal_replay_resume()")
        .afterwards("`SELECT pg_get_wal_replay_pause_state()` gives not paused");
    vec![CHECK.found(Severity::Warning, "", seen).shown_by_all(logged).with(remedy)]
}

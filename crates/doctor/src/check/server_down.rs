//! `server-down`: PostgreSQL is not running.

use super::{Area, Case, Check, Found};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "server-down",
    area: Area::Reach,
    title: "PostgreSQL is not running",
    why: "Nobody can work.",
    mends: "Start it. If it does not stay up, the findings that cause this one say why.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(place) = case.stopped() else { return Vec::new() };
    let data = place.data_directory.display().to_string();
    let state = case
        .seen
        .directory
        .ok()
        .and_then(|directory| directory.control.as_ref().ok())
        .map(|control| control.state);
    let how = match state {
        Some(pgproof_pg::ClusterState::ShutDown | pgproof_pg::ClusterState::ShutDownInRecovery) => {
            "it was shut down"
        }
        Some(_) => "it did not shut down: it crashed or was killed, and will recover when it starts",
        None => "how it ended is not known",
    };
    let seen = format!("no server runs in {data}; {how}");
    let story = case
        .last_life()
        .iter()
        .filter(|entry| matches!(entry.severity.as_str(), "FATAL" | "PANIC" | "ERROR"))
        .rev()
        .take(3);
    let found =
        CHECK.found(Severity::Critical, data, seen).shown_by_all(story.map(|entry| case.quote(entry)));
    vec![found.with(case.start_remedy(place))]
}

//! `restart-pending`: settings wait for a restart.

use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "restart-pending",
    area: Area::Configuration,
    title: "Settings wait for a restart",
    why: "The server does not work as its files say; what was meant to be mended is not.",
    mends: "Restart it when a short outage is bearable.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(server) = case.server() else { return Vec::new() };
    let names: Vec<String> =
        server.settings.rows().iter().filter(|row| row.pending_restart).map(|row| row.name.clone()).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let found = CHECK.found(Severity::Warning, "", format!("{} wait for a restart", names.join(", ")));
    let Some(place) = case.place() else { return vec![found] };
    let remedy = Remedy::disruptive("restart the server", case.restart(place));
    vec![found.with(remedy.afterwards("`SELECT name FROM pg_settings WHERE pending_restart` gives nothing"))]
}

//! `agent-down`: the agent of this host does not answer.

use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "agent-down",
    area: Area::Backups,
    title: "The agent of this host does not answer",
    why: "Nobody backs up, verifies and drills in time, and nobody alerts.",
    mends: "Start it; its log says why it ended.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let agent = case.seen.around.ok().and_then(|around| around.agent.as_ref());
    let Some((address, why)) = agent.and_then(|agent| Some((&agent.address, agent.error.as_ref()?))) else {
        return Vec::new();
    };
    let found = CHECK.found(Severity::Warning, address.clone(), format!("the agent at {address}: {why}"));
    let start = Remedy::safe("start it", "systemctl start pgproof-agent");
    vec![found.with(start).with(Remedy::safe("see why it ended", "journalctl -u pgproof-agent -n 50"))]
}

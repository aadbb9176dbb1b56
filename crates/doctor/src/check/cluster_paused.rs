//! `cluster-paused`: the cluster's automation is paused.

use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "cluster-paused",
    area: Area::Replication,
    title: "The cluster's automation is paused",
    why: "Nobody takes over when the primary is lost.",
    mends: "Resume it when the work that it was paused for is done.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(by) = case.cluster().and_then(|cluster| cluster.paused.as_ref()) else { return Vec::new() };
    let found = CHECK.found(Severity::Warning, "", format!("failover is paused, by {by}"));
    vec![found.with(Remedy::safe("resume it", "pgproof cluster resume"))]
}

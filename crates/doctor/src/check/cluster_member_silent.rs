//! `cluster-member-silent`: the agent of a member does not answer.

use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "cluster-member-silent",
    area: Area::Replication,
    title: "The agent of a member does not answer",
    why: "It can neither take over nor promise; one more failure may stop the cluster.",
    mends: "Start the agent there, or bring the host or its network back.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(cluster) = case.cluster() else { return Vec::new() };
    let silent = cluster.members.iter().filter(|member| !member.answers);
    let found = silent.map(|member| {
        let seen = format!(
            "the agent of {} does not answer; commits survive {} more failures",
            member.name, cluster.survivable
        );
        let severity = if cluster.survivable == 0 { Severity::Critical } else { Severity::Warning };
        let start = Remedy::safe(format!("on {}: start it", member.name), "systemctl start pgproof-agent");
        CHECK
            .found(severity, member.name.clone(), seen)
            .with(start.afterwards("`pgproof cluster status` shows its role"))
    });
    found.collect()
}

//! `cluster-without-primary`: the cluster has no primary.

use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "cluster-without-primary",
    area: Area::Replication,
    title: "The cluster has no primary",
    why: "Nobody can write.",
    mends: "A failover is under way, or something keeps it from ending: `pgproof cluster explain` says what.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(cluster) = case.cluster().filter(|cluster| cluster.error.is_none() && !cluster.available) else {
        return Vec::new();
    };
    let leader = cluster.leader.clone().unwrap_or_else(|| "nobody".to_owned());
    let rows = cluster.members.iter().map(|member| {
        let blocked = member.blocked.as_ref().map_or_else(String::new, |why| format!(", {why}"));
        format!(
            "{}: {}{}{blocked}",
            member.name,
            member.role,
            if member.answers { "" } else { ", does not answer" }
        )
    });
    let found =
        CHECK.found(Severity::Critical, leader.clone(), format!("{leader} leads, and takes no writes"));
    vec![
        found
            .shown_by_all(rows)
            .with(Remedy::safe("see what keeps somebody from being promoted", "pgproof cluster explain")),
    ]
}

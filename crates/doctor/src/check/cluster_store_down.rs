//! `cluster-store-down`: the cluster's store does not answer.

use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "cluster-store-down",
    area: Area::Replication,
    title: "The cluster's store does not answer",
    why: "Without it nobody is promoted; the primary goes on only while its standbys answer it.",
    mends: "Bring a majority of etcd's members back. Do not promote by hand meanwhile.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(cluster) = case.cluster() else { return Vec::new() };
    let Some(why) = &cluster.error else { return Vec::new() };
    let endpoints = cluster.endpoints.join(",");
    let found =
        CHECK.found(Severity::Critical, endpoints.clone(), format!("the store at {endpoints}: {why}"));
    let look = format!("etcdctl --endpoints={endpoints} endpoint health");
    vec![found.with(Remedy::safe("see which members live", look))]
}

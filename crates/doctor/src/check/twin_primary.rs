//! `twin-primary`: two servers of one cluster take writes.

use super::case::word;
use super::{Area, Case, Check, Found};
use crate::observe::Place;
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "twin-primary",
    area: Area::Replication,
    title: "Two servers of one cluster take writes",
    why: "Each holds commits that the other lacks, and they can never be merged. Every minute makes it worse.",
    mends: "Stop the one that is not meant, at once; keep its data directory, and look there for what the other lacks. The higher timeline is the one that was promoted last.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(place) = case.primary().and(case.place()) else { return Vec::new() };
    let writes = |other: &&Place| {
        other.postmaster.is_some() && !other.standby && other.system.is_some() && other.system == place.system
    };
    let one = |other: &Place| {
        let data = other.data_directory.display().to_string();
        let seen = format!(
            "the servers on ports {} and {} are of one cluster, and both take writes",
            place.port, other.port
        );
        let rows = [place, other].map(|one| {
            format!(
                "{}: system identifier {}, timeline {}",
                one.data_directory.display(),
                one.system.as_deref().unwrap_or("?"),
                one.timeline.map_or_else(|| "?".to_owned(), |timeline| timeline.to_string())
            )
        });
        let stop = |which: &Place| {
            format!("{} -D {} -m fast stop", case.program(which, "pg_ctl"), word(&which.data_directory))
        };
        let old = if other.timeline <= place.timeline { other } else { place };
        let remedy = Remedy::disruptive(
            format!("stop the older one, on port {}, and keep its directory", old.port),
            case.as_account(&old.owner, &stop(old)),
        );
        let remedy = remedy.afterwards("`pgproof doctor` finds one server that takes writes");
        CHECK.found(Severity::Critical, data, seen).shown_by_all(rows).with(remedy)
    };
    case.seen.others.iter().filter(writes).map(one).collect()
}

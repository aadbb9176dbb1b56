//! `objective-broken`: a stated objective is not kept.

use super::case::ago;
use super::{Area, Case, Check, Found};
use crate::observe::{ObjectiveSeen, RepositorySeen};
use pgproof_base::Severity;

pub(super) const CHECK: Check = Check {
    code: "objective-broken",
    area: Area::Backups,
    title: "A stated objective is not kept, or not proven",
    why: "More would be lost, or it would take longer, than was promised.",
    mends: "Each objective has its own remedy; `pgproof status` shows all of them with what was measured, and by what. `pgproof agent` does in time what keeps them.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let one = |repository: &RepositorySeen, line: &ObjectiveSeen| {
        let wanted = ago(line.wanted_s as f64);
        let (severity, seen) = match line.measured_s {
            Some(measured) => {
                (Severity::Critical, format!("{} is {}, and {wanted} was promised", line.name, ago(measured)))
            }
            None => (Severity::Warning, format!("{} of {wanted} was never proven", line.name)),
        };
        let mut found = CHECK
            .found(
                severity,
                format!("{}.{}", repository.name, line.name),
                format!("repository {}: {seen}", repository.name),
            )
            .shown_by(line.by.clone());
        found.finding.remedies.clone_from(&line.remedies);
        found
    };
    let broken = case.repositories().iter().flat_map(|repository| {
        repository.objectives.iter().filter(|line| !line.kept).map(move |line| one(repository, line))
    });
    broken.collect()
}

//! `shared-memory-ids`: the system has no identifiers for shared memory left.

use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "shared-memory-ids",
    area: Area::Start,
    title: "The system has no identifiers for shared memory left",
    why: "Every server takes one when it starts; servers that were killed leave theirs behind.",
    mends: "Raise `kernel.shmmni`. Segments to which nobody is attached (`ipcs -m`, nattch 0) can be removed with `ipcrm -m`.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let Some(place) = case.stopped() else { return Vec::new() };
    let Some(entry) = case.logged(&["could not create shared memory segment: No space left on device"])
    else {
        return Vec::new();
    };
    let command = format!("sysctl -w kernel.shmmni=32768\n{}", case.start(place));
    let remedy = Remedy::safe("allow more of them, and start", command);
    let found =
        CHECK.found(Severity::Critical, "kernel.shmmni", "a start found no identifier for its shared memory");
    vec![found.shown_by(case.quote(entry)).with(remedy.afterwards("`pgproof doctor` connects"))]
}

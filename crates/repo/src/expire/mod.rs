//! Removal: what a lineage's retention lets go of is marked, waited for, and swept.
//!
//! Promises of section 7 of `docs/formats/repository.md`: nothing is removed that a kept backup, the WAL it needs, a live
//! writer or a live reader refers to, whichever host those are on; whoever is killed at any point leaves a repository in which
//! every kept backup is whole and the next run goes on. [`plan_expire`] is pure and shows all of it beforehand; [`run_expire`] marks, reads
//! the catalog again, and does what a plan made from that second look allows.
//!
//! The second look is what makes it safe: readers and writers put their lease first and look for the mark then; here the mark
//! comes first and the look at the leases then. One of the two sees the other.

mod lock;
mod plan;
mod run;
#[cfg(test)]
mod tests;

pub use plan::{ExpirePlan, Revocation, Sweep, Waiting, plan_expire};
pub use run::{ExpireReport, run_expire};

use crate::lease::LeaseTimes;
use crate::retention::RetentionPolicy;
use std::time::Duration;

/// How removal is done.
#[derive(Debug, Clone)]
pub struct ExpireOptions {
    /// What stays.
    pub policy: RetentionPolicy,
    /// How long a mark must have stood, by the store's clock, before what it marks is removed. It covers stores whose listings lag;
    /// with a store that answers truthfully even none is safe.
    pub sweep_after: Duration,
    /// How old a revocation must be, by the store's clock, before its record is removed: a writer that was stopped for so long must be gone.
    pub tombstone_after: Duration,
    /// How long the store locks every object that is written once; none where it does not.
    pub locked_for: Option<Duration>,
    /// When leases count as dead.
    pub times: LeaseTimes,
}

/// How old leases and marks must be in a store that lacks conditional writes. There a writer that was stopped can publish what was
/// revoked, so that only the time in which it would have been noticed protects.
const AGE_MIN: Duration = Duration::from_secs(24 * 3600);

impl ExpireOptions {
    /// The rule for stores that lack conditional writes: a minimum age.
    #[must_use]
    pub fn with_minimum_age(mut self) -> Self {
        self.sweep_after = self.sweep_after.max(AGE_MIN);
        self.times.timeout = self.times.timeout.max(AGE_MIN);
        self
    }
}

impl Default for ExpireOptions {
    fn default() -> Self {
        Self {
            policy: RetentionPolicy::default(),
            sweep_after: Duration::from_secs(3600),
            tombstone_after: Duration::from_secs(30 * 24 * 3600),
            locked_for: None,
            times: LeaseTimes::default(),
        }
    }
}

//! Healing a repository from a second one that holds the same backups or WAL.
//!
//! Promises that nothing good is ever replaced or removed: what is written takes the place of exactly the version that was found damaged, or of
//! nothing; the good object is durable before a damaged one goes. What comes from the second repository is authenticated on the way, so nothing
//! is healed from what is damaged there too. Whoever is killed leaves what was healed so far, and the next run goes on.
//!
//! A pack is never written again by its own name: a manifest states the salt of each pack it refers to, and sealing other bytes under an
//! old salt would use a key and nonce twice. So a healed pack gets a new number and a new salt, the manifests that refer to the damaged one
//! are written anew, each with one atomic replacement, and the damaged pack goes last.
//!
//! Damage is found by [`crate::verify`], before and after; [`plan`](self) decides purely what can be healed, [`run`](self) heals, and
//! [`backup`](self) is the part of it that mends one backup.

mod backup;
mod observe;
mod plan;
mod report;
mod run;
#[cfg(test)]
mod tests;

pub use plan::{Heal, HealKind, Hopeless, RepairPlan};
pub use report::{Absent, LineageRepair, RepairReport, Restorable};
pub use run::{absent, plan_repair, repair};

use crate::lease::LeaseTimes;
use pgproof_pg::SystemIdentifier;
use std::time::Duration;

/// What to heal, and how.
#[derive(Debug, Clone)]
pub struct RepairOptions {
    /// Objects read at a time.
    pub threads: usize,
    /// Objects that a verification read within this time are taken for whole.
    pub since: Option<Duration>,
    /// Only this lineage.
    pub lineage: Option<SystemIdentifier>,
    /// When leases count as dead.
    pub times: LeaseTimes,
}

impl Default for RepairOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads: cores.min(8), since: None, lineage: None, times: LeaseTimes::default() }
    }
}

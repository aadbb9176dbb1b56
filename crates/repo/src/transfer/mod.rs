//! Backups and WAL from one repository into another, which has keys of its own.
//!
//! Promises that a backup is in the target as a whole or not at all, under its own name, and that nothing damaged is passed on: every
//! frame is authenticated and its content compared with its identity on the way. Compressed bytes stay as they are, so places in maps
//! do too; only pack table, keys and identities are the target's own. What the target holds is not copied again, and an interrupted
//! copy is resumed. The target is written under a writer's lease for each backup, the source is read under a reader's.
//!
//! Packs that a backup shares with earlier ones are referred to where the target has them below a published backup, and are otherwise
//! stored below the copied backup itself: so expiry needs no rule of its own for copies.
//!
//! [`observe`](self) looks at both sides, [`plan`](self) decides, [`run`](self) does it; [`objects`](self) moves one object. Healing
//! a repository from another is [`crate::repair`].

pub(crate) mod objects;
pub(crate) mod observe;
mod plan;
mod report;
mod run;
#[cfg(test)]
pub(crate) mod tests;

pub use plan::{BackupPlan, CopyPlan, Fate};
pub use report::{CopiedBackup, CopyReport, CopyState, LineageCopy, Problem};
pub(crate) use run::refuse_same;
pub use run::{copy, plan_copy};

use crate::layout::BackupId;
use crate::lease::LeaseTimes;
use jiff::Timestamp;
use pgproof_pg::SystemIdentifier;

/// How much WAL goes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalScope {
    /// What makes the copied backups consistent.
    Needed,
    /// That, and all that can be replayed after it.
    Windows,
}

/// What to copy, and how.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// Objects copied at a time.
    pub threads: usize,
    /// Only these backups; all when there are none.
    pub backups: Vec<BackupId>,
    /// Only backups that were finished at this instant or later.
    pub since: Option<Timestamp>,
    /// How much WAL.
    pub wal: WalScope,
    /// Only this lineage.
    pub lineage: Option<SystemIdentifier>,
    /// When leases count as dead.
    pub times: LeaseTimes,
}

impl Default for CopyOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads: cores.min(8),
            backups: Vec::new(),
            since: None,
            wal: WalScope::Windows,
            lineage: None,
            times: LeaseTimes::default(),
        }
    }
}

//! Reading the repository again: is everything there that backups and recovery need, and is it what was written?
//!
//! Promises to find every changed bit, every cut and every missing object that a backup or recovery window depends on, and to name the
//! backups, files and windows that each one hurts. Every frame is authenticated and every content compared with its identity; every entry of
//! every manifest is resolved against the packs as they are; every segment is summarised anew; every entry of the ledger is hashed and linked again. Memory is bounded by the number of threads and by
//! some ten bytes for each extent of the repository.
//!
//! What was read recently can be skipped ([`VerifyOptions::since`]); its names, sizes and references are checked all the same. A run
//! leaves a record of what it read ([`VerifiedRecord`]), which also shows later what has vanished.
//!
//! [`run`] performs it, [`object`](self) modules check one object each; [`manifests`](self) finds out what damage hurts.

mod hurts;
mod ledger;
mod manifests;
mod object;
mod report;
mod run;
#[cfg(test)]
mod tests;
mod verified;
pub(crate) mod wal;

pub use report::{HurtFile, Hurts, LineageReport, VerifyCounts, VerifyFinding, VerifyReport};
pub use run::verify;
pub use verified::{VerifiedObject, VerifiedRecord, read_verified};

use crate::lease::LeaseTimes;
use pgproof_pg::SystemIdentifier;
use std::time::Duration;

/// What to verify, and how.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Objects read at a time.
    pub threads: usize,
    /// Objects that a verification read within this time are not read again.
    pub since: Option<Duration>,
    /// Only this lineage.
    pub lineage: Option<SystemIdentifier>,
    /// When leases count as dead.
    pub times: LeaseTimes,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads: cores.min(8), since: None, lineage: None, times: LeaseTimes::default() }
    }
}

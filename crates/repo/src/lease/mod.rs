//! Leases: who is at work in the repository, and what must stay because of them.
//!
//! Promises of section 7 of `docs/formats/repository.md`: a lease lives in the repository and its age is measured by the store's
//! clock, so no host's clock, name or process table decides what may be removed; a backup is published by one conditional write that
//! races only with its revocation, so a writer that was stopped for hours and goes on fails instead of publishing. A lease that cannot
//! be renewed is not an error of its own: work goes on, and publication finds out.
//!
//! [`WriterLease`] is a running backup's, [`ReaderLease`] a restore's or verification's. Deciding what to do about the leases of
//! others is [`crate::expire`]'s business.

mod beat;
mod holder;
mod reader;
mod record;
mod writer;

pub use holder::Holder;
pub use holder::host_name;
pub use reader::{ReaderClaim, ReaderLease, ReaderRecord};
pub use record::{ExpiredMark, Outcome, PinRecord, WalNeeded, WriterRecord};
pub(crate) use writer::Ground;
pub use writer::{WriterClaim, WriterLease};

use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// How often a lease is renewed and when it is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    /// Pause between two renewals.
    pub renew_every: Duration,
    /// A lease that was not renewed for so long, by the store's clock, is dead.
    pub timeout: Duration,
}

impl Default for LeaseTimes {
    /// Thirty renewals have to fail before a lease dies: a store that is away for a few minutes kills no backup.
    fn default() -> Self {
        Self { renew_every: Duration::from_secs(20), timeout: Duration::from_secs(600) }
    }
}

/// Whether this host can prove that a holder is gone.
pub fn holder_is_dead(holder: &Holder) -> bool {
    holder.seen_from_here() == holder::Seen::Dead
}

impl LeaseTimes {
    /// Whether a lease that was last renewed at `renewed` is live at `now`, both by the store's clock.
    pub fn is_live(&self, renewed: Timestamp, now: Timestamp) -> bool {
        now.duration_since(renewed) < SignedDuration::try_from(self.timeout).unwrap_or(SignedDuration::MAX)
    }
}

#[cfg(test)]
mod tests;

//! What a restore did.

use crate::engine::Placed;
use crate::plan::Plan;
use crate::shells::Shell;
use jiff::Timestamp;
use pgproof_pg::{Lsn, TimelineId};
use serde::Serialize;

/// What was done, and how long it took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The plan that was performed.
    pub plan: Plan,
    /// Files placed.
    pub placed: Placed,
    /// Seconds until all files were written.
    pub place_s: f64,
    /// Seconds until all was durable.
    pub sync_s: f64,
    /// Seconds altogether, without the server's start.
    pub total_s: f64,
    /// The writer epoch that the repository now demands, after a take-over.
    pub epoch: Option<u64>,
    /// Seconds that databases left out would have taken at the same rate; none were left out when not given.
    pub saved_s: Option<f64>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// What the server did, when it was started.
    pub recovery: Option<RecoveryReport>,
}

/// How a started server came to its target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecoveryReport {
    /// What it is now.
    pub state: RecoveredState,
    /// Seconds from its start until the target was reached.
    pub replay_s: f64,
    /// How far it replayed, or where it writes now.
    pub reached: Option<Lsn>,
    /// The last commit that was replayed.
    pub last_commit: Option<Timestamp>,
    /// The timeline it is on.
    pub timeline: Option<TimelineId>,
    /// Databases that were left out, or copied from such, and can only be dropped.
    pub shells: Vec<Shell>,
    /// Lines of the log about pages of other databases that replay had to pass over: these databases are damaged.
    pub invalid_pages: Vec<String>,
}

/// What a server is after its recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecoveredState {
    /// Open for writing.
    Promoted,
    /// Read-only at the target, waiting.
    Paused,
    /// Stopped at the target, as asked.
    ShutDown,
}

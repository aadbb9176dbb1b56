//! The timers that a declared RTO leaves room for; see [`Timers`].

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long each thing may take. Derived, never set one by one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Timers {
    /// Agents ask each other this often; a leader renews its lease and its fence this often.
    pub heartbeat: Duration,
    /// Without an answer from the leader for this long, a node misses it.
    pub suspect_after: Duration,
    /// The lease of the leader in etcd: a hint for others that it is gone.
    pub lease: Duration,
    /// How long a primary may run on one reading of the store that names it leader.
    pub fence: Duration,
    /// What others wait beyond `fence`, for clocks that run at different rates and a fencing process that is late.
    pub fence_margin: Duration,
    /// For how long a voter refuses to promise when the leader asks.
    pub refusal: Duration,
    /// How long a better candidate is waited for, by rank.
    pub patience: Duration,
    /// A failover that has not ended by then says why.
    pub blocked_after: Duration,
    /// How long a fresh connection and a write probe may take.
    pub probe: Duration,
    /// An election that nobody won by then is cancelled by a leader that still can serve.
    pub election: Duration,
    /// A voter that has not streamed for this long is removed, if k remain.
    pub remove_voter_after: Duration,
    /// A standby that has streamed for this long becomes a voter.
    pub add_voter_after: Duration,
    /// What a failover is expected to take once it is decided: election, promotion, voters following.
    pub failover: Duration,
    /// How long the stop of a switchover may take.
    pub switchover_stop: Duration,
    /// Crashes are counted within this window.
    pub crash_window: Duration,
    /// So many crashes within the window: fail over instead of restarting; twice as many: stop.
    pub crashes_max: usize,
}

//! What a node does next: a pure function of what it remembers, what it sees and the time.
//!
//! Promises, for any number of agents that call it with true observations, however stale, delayed or repeated, and carry out what it
//! returns or do not: in quorum mode no acknowledged commit is lost and no two servers acknowledge at once, whatever clocks, leases
//! and the network do; in asynchronous mode no two servers write while fences work, and no promotion loses more than was declared;
//! and every failover ends or says why not. `docs/ha/model.md` tells how this is checked. No I/O, no clock, no randomness.
//!
//! Read [`Rules`] first: what safety rests on, one method a rule. Then `standby` and `election`, `leader` and `authority`.

mod action;
mod rules;

pub use action::{Action, Blocked, Change, Clients, Decision, KillReason, Way};
pub use rules::{Rules, TrueRules};

use crate::observation::{Admission, LeaderContact, Observation, Reading};
use crate::state::{Mode, Standing};
use crate::term::{Moment, NodeName};
use crate::timers::Timers;
use serde::{Deserialize, Serialize};

/// What the operator declared, as far as decisions need it. The store's [`Mode`] rules where both exist; a difference is reported.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// This node.
    pub me: NodeName,
    /// How commits shall be protected.
    pub mode: Mode,
    /// Whether this node can become primary.
    pub standing: Standing,
    /// Derived from the RTO.
    pub timers: Timers,
    /// Bytes of WAL that crash recovery replays in a second here.
    pub replay_bytes_s: u64,
    /// Whether this node may found the cluster when the store holds none.
    pub founding: Founding,
}

/// Whether a node may found a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Founding {
    /// It may: the operator named it, or its PostgreSQL is the primary to adopt.
    Allowed,
    /// It waits until another has.
    Forbidden,
}

/// What an agent remembers between decisions. Lost when the agent restarts, which [`Memory::fresh`] accounts for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Memory {
    /// The last reading that the store gave.
    pub last: Option<Reading>,
    /// This node promises nobody before then.
    pub refuses_until: Moment,
    /// The open election (by number) and when this node first saw it.
    pub election_seen: Option<(u64, Moment)>,
    /// When the open election first had enough promises.
    pub decidable_since: Option<Moment>,
    /// When this node last had a reason to believe in its leader, or began to watch it.
    pub leader_heard: Moment,
    /// Crashes of this node's PostgreSQL lately, oldest first.
    pub crashes: Vec<Moment>,
    /// Since when something is in the way.
    pub troubled_since: Option<Moment>,
    /// Rejoining failed this way, for this term; set by the agent with [`Memory::rejoin_failed`].
    pub rejoin: Way,
}

impl Memory {
    /// The memory of an agent that starts now: it may have refused something before, and it has just begun to watch its leader.
    pub fn fresh(now: Moment, timers: &Timers) -> Self {
        Self {
            last: None,
            refuses_until: now.plus(timers.refusal),
            election_seen: None,
            decidable_since: None,
            leader_heard: now,
            crashes: Vec::new(),
            troubled_since: None,
            rejoin: Way::Rewind,
        }
    }

    /// The next [`Action::Rejoin`] tries the next way.
    pub fn rejoin_failed(&mut self, way: Way) {
        self.rejoin = match way {
            Way::Rewind => Way::Restore,
            Way::Restore | Way::Clone => Way::Clone,
        };
    }
}

/// What this node does next.
pub fn decide(settings: &Settings, memory: &Memory, seen: &Observation, now: Moment) -> Decision {
    decide_by(&TrueRules, settings, memory, seen, now)
}

/// [`decide`] by given rules. Only the model calls it with others than [`TrueRules`], to show that it notices.
#[doc(hidden)]
pub fn decide_by(
    _rules: &impl Rules,
    settings: &Settings,
    memory: &Memory,
    _seen: &Observation,
    now: Moment,
) -> Decision {
    Decision {
        action: Action::Wait,
        memory: memory.clone(),
        fence: None,
        admission: Admission::AgentAndReplication,
        clients: Clients::Nobody,
        refusal: None,
        leader: LeaderContact::Missed,
        blocked: None,
        again: now.plus(settings.timers.heartbeat),
    }
}

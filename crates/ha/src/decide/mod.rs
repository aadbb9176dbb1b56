//! What a node does next: a pure function of what it remembers, what it sees and the time.
//!
//! Promises, for any number of agents that call it with true observations, however stale, delayed or repeated, and carry out what it
//! returns or do not: in quorum mode no acknowledged commit is lost and no two servers acknowledge at once, whatever clocks, leases
//! and the network do; in asynchronous mode no two servers write while fences work, and no promotion loses more than was declared;
//! and every failover ends or says why not. `docs/ha/model.md` tells how this is checked. No I/O, no clock, no randomness.
//!
//! Read [`Rules`] first: what safety rests on, one method a rule. Then `follower` and `election`, `leader`, `voters` and `authority`.
//! An agent takes decisions one at a time: it finishes or abandons a step before it decides anew.

mod action;
mod authority;
mod election;
mod follower;
mod leader;
mod memory;
mod rules;
#[cfg(test)]
mod tests;
mod voters;

pub use action::{Action, Blocked, Change, Clients, Decision, KillReason, Way};
pub use memory::Memory;
pub use rules::{Rules, TrueRules};

use crate::observation::{Admission, Observation, Postgres, Role, Store};
use crate::state::{ClusterState, Mode, Revision, STATE_FORMAT, Standing};
use crate::term::{Moment, NodeName};
use crate::timers::Timers;
use action::Step;
use pgproof_pg::SystemIdentifier;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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

/// What this node does next.
pub fn decide(settings: &Settings, memory: &Memory, seen: &Observation, now: Moment) -> Decision {
    decide_by(&TrueRules, settings, memory, seen, now)
}

/// [`decide`] by given rules. Only the model calls it with others than [`TrueRules`], to show that it notices.
#[doc(hidden)]
pub fn decide_by(
    rules: &impl Rules,
    settings: &Settings,
    memory: &Memory,
    seen: &Observation,
    now: Moment,
) -> Decision {
    let mut memory = memory.clone();
    memory.note(rules, settings, seen, now);
    let situation = Situation { rules, settings, memory: &memory, seen, now };
    let step = situation.step();
    let (authority, refusal) = (situation.authority(), situation.refusal());
    let (admission, clients, leader) =
        (situation.admission(), situation.clients(), situation.leader_contact());
    memory.authority = authority.filter(|_| situation.state_leader_is_me());
    memory.refuses_until = memory.refuses_until.max(refusal.unwrap_or_default());
    Decision {
        action: step.action,
        fence: memory.authority,
        memory,
        admission,
        clients,
        refusal,
        leader,
        blocked: step.blocked,
        again: now.plus(settings.timers.heartbeat),
    }
}

/// All that a decision is made from.
pub(crate) struct Situation<'a, R> {
    rules: &'a R,
    settings: &'a Settings,
    memory: &'a Memory,
    seen: &'a Observation,
    now: Moment,
}

impl<R: Rules> Situation<'_, R> {
    fn step(&self) -> Step {
        let Store::Known(reading) = &self.seen.store else { return self.without_store() };
        let Some(state) = &reading.state else { return self.unfounded() };
        if state.format > STATE_FORMAT {
            return Step::blocked(Blocked::NewerFormat { format: state.format });
        }
        if !state.members.contains_key(&self.settings.me) {
            return Step::blocked(Blocked::NotAMember);
        }
        if self.system().is_some_and(|system| system != state.system) {
            return Step::blocked(Blocked::OtherCluster);
        }
        if state.leader == self.settings.me { self.leader(state) } else { self.follower(state) }
    }

    fn system(&self) -> Option<SystemIdentifier> {
        match &self.seen.postgres {
            Postgres::Stopped(disk) | Postgres::Starting(disk) => Some(disk.system),
            Postgres::Standby(standby) => Some(standby.system),
            Postgres::Primary(primary) => Some(primary.system),
            Postgres::Absent | Postgres::Hung { .. } => None,
        }
    }

    /// No cluster yet: one node founds it.
    fn unfounded(&self) -> Step {
        match (self.settings.founding, &self.seen.postgres) {
            (Founding::Allowed, Postgres::Absent | Postgres::Primary(_)) => Step::act(Action::Found),
            (Founding::Allowed, Postgres::Stopped(disk)) if disk.role == Role::Primary => {
                Step::act(Action::Found)
            }
            _ => Step::blocked(Blocked::NothingToClone),
        }
    }

    /// The store does not answer: what runs goes on while it may; nothing new begins but what needs no authority.
    fn without_store(&self) -> Step {
        let unknown = Step::blocked(Blocked::StoreUnknown);
        let Some(state) = self.memory.state() else { return unknown };
        let leads = state.leader == self.settings.me;
        match &self.seen.postgres {
            Postgres::Primary(_) if !leads => Step::kill(KillReason::Superseded),
            Postgres::Primary(_) | Postgres::Starting(_) if leads && self.expired() => {
                Step::kill(KillReason::Expired)
            }
            Postgres::Hung { .. } if state.paused.is_none() => Step::kill(KillReason::Hung),
            Postgres::Stopped(disk) if disk.role == Role::Standby && state.paused.is_none() => {
                Step::act(Action::StartStandby { upstream: disk.upstream.clone() })
            }
            _ => unknown,
        }
    }

    /// A change of the state as read, for no other revision.
    fn write(&self, change: Change, state: ClusterState) -> Step {
        let expected = self.memory.last.as_ref().map_or(Revision(0), |reading| reading.revision);
        Step::act(Action::Write { change, expected, state: Arc::new(state) })
    }

    fn state_leader_is_me(&self) -> bool {
        self.memory.state().is_some_and(|state| state.leader == self.settings.me)
    }

    /// Who may connect to this node's primary: clients once what crash recovery brought back cannot be lost any more.
    fn admission(&self) -> Admission {
        let (Postgres::Primary(primary), Some(state)) = (&self.seen.postgres, self.memory.state()) else {
            return Admission::AgentAndReplication;
        };
        let mine = self.state_leader_is_me() && state.term_of(primary.timeline) == Some(state.term);
        let waits = matches!(state.mode, Mode::Quorum { .. }) && state.quorum.k > 0;
        let confirmed = primary.admission == Admission::Clients
            || !waits
            || self.rules.recovery_confirmed(primary, state);
        if mine && confirmed { Admission::Clients } else { Admission::AgentAndReplication }
    }

    fn clients(&self) -> Clients {
        match &self.seen.postgres {
            Postgres::Primary(_) if self.admission() == Admission::Clients && self.authorised() => {
                Clients::Primary
            }
            Postgres::Standby(_) => Clients::Replica,
            _ => Clients::Nobody,
        }
    }
}

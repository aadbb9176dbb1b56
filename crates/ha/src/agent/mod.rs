//! The agent of one node: observes, decides, acts, over and over, and never two steps at once.
//!
//! What waits for others runs beside the loop and leaves its news on a board: one thread reads the store and keeps the session
//! ([`store`]), one for each other agent asks it ([`peers`]), one asks PostgreSQL, HTTP answers. The loop ([`run`]) takes what the board has,
//! brings the levels of its decision about (fence, admission, what clients are told), then takes the one step. Nothing is remembered on disk:
//! an agent that restarts finds its server, its fence and the store as they are.

mod board;
mod change;
mod look;
mod peers;
mod run;
mod step;
mod store;

pub use board::{Board, PeerAnswer};
pub use change::change_state;
pub use peers::ask_members;
pub use run::{Event, run};
pub use store::{LEADER_KEY, STATE_KEY, TOKEN_KEY, parse_state, read_state};

use crate::{Founding, HaError, Mode, Timers, act::Node};
use std::{path::PathBuf, time::Duration};

/// What an agent is told by its configuration.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Its node.
    pub node: Node,
    /// Where HTTP is answered, as it is bound: `0.0.0.0:8008`.
    pub listen: String,
    /// Where other agents reach it: `host:port`.
    pub agent_address: String,
    /// Where PostgreSQL's clients and standbys reach its server.
    pub host: String,
    /// How commits are protected.
    pub mode: Mode,
    /// The outage that is declared tolerable.
    pub rto: Duration,
    /// Whether it may make a cluster where the store holds none.
    pub founding: Founding,
    /// This program, which the fence is started from.
    pub program: PathBuf,
}

/// Nodes that an RTO is derived for: with fewer, no commit is safe from the loss of one, and more make nothing slower.
const NODES: usize = 3;

/// The timers that follow from a declared RTO.
///
/// # Errors
/// [`HaError::Refused`] with the arithmetic when it cannot be kept.
pub fn timers(rto: Duration, mode: Mode) -> Result<Timers, HaError> {
    Timers::derive(rto, NODES, mode).map_err(|error| HaError::Refused {
        why: error.to_string(),
        hint: "set cluster.rto to what can be kept".to_owned(),
    })
}

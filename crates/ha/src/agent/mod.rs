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
mod timing;

pub use board::{Board, PeerAnswer};
pub use change::change_state;
pub use peers::ask_members;
pub use run::{Event, run};
pub use store::{LEADER_KEY, STATE_KEY, TOKEN_KEY, parse_state, read_state};
pub use timing::timers;

use crate::{Founding, Mode, act::Node};
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

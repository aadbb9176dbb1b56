//! What agent and fencing process say to each other: one line of JSON each way, over a Unix socket.

use super::{BootTime, Killed};
use serde::{Deserialize, Serialize};

/// What the agent asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub(super) enum Ask {
    /// The server may run as long as this instant has not passed. Never earlier than what was said before.
    Arm {
        /// The deadline.
        until: BootTime,
    },
    /// The server is none that acknowledges writes: no deadline holds.
    Release,
    /// How do you do?
    Look,
}

/// What the fencing process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FenceState {
    /// It has no deadline.
    Released,
    /// It kills the server at its deadline.
    Armed,
    /// Its deadline passed: it has killed the server, and kills any other until it is armed or released again.
    Fired,
}

/// What the fencing process answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceStatus {
    /// What it is doing.
    pub state: FenceState,
    /// Its deadline, the passed one after it fired.
    pub until: Option<BootTime>,
    /// What its last kill came to.
    pub killed: Option<Killed>,
}

//! The board: what the agent's threads leave for each other, and the bell that wakes the loop.

use crate::{
    Clients, ClusterState, HaError, Moment, NodeName, Reading, Report, Term, act::Node, dcs::Dcs,
    fence::BootTime,
};
use pgproof_pg::{Lsn, TimelineId};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What an agent answers to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerAnswer {
    /// Who answers.
    pub node: NodeName,
    /// What it says of itself.
    pub report: Report,
    /// The timeline of a primary.
    pub timeline: Option<TimelineId>,
    /// The timelines it descends from, and where each was left.
    pub history: Vec<(TimelineId, Lsn)>,
    /// The oldest WAL that it has.
    pub oldest_wal: Option<Lsn>,
    /// Who it is to clients, in words of the endpoints.
    pub clients: String,
    /// Why nothing goes on, if so.
    pub blocked: Option<String>,
    /// A standby's distance from the last WAL that it knows of.
    pub lag_bytes: Option<u64>,
}

/// What the loop last decided, for HTTP and for the threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    pub(crate) answer: Option<PeerAnswer>,
    pub(crate) clients: Option<Clients>,
    /// Until when this node refuses, and the term it was asked in.
    pub(crate) refusal: Option<(Term, Moment)>,
    /// When the loop last came round.
    pub(crate) at: Moment,
}

#[derive(Default)]
pub(crate) struct Notes {
    /// The last reading, and whether the last attempt to read succeeded.
    pub(crate) reading: Option<Reading>,
    pub(crate) store_answers: bool,
    pub(crate) state: Option<Arc<ClusterState>>,
    pub(crate) token: Option<String>,
    pub(crate) peers: BTreeMap<NodeName, (Moment, PeerAnswer)>,
    pub(crate) refusals: BTreeMap<NodeName, Moment>,
    pub(crate) asked_to_refuse: Option<(Term, Moment)>,
    pub(crate) said: Said,
    /// Whether this node leads and serves, so that it holds the leader's lease.
    pub(crate) leads: bool,
    bell: bool,
}

/// What all threads of an agent share.
pub struct Board {
    pub(crate) me: NodeName,
    pub(crate) node: Node,
    pub(crate) heartbeat: Duration,
    pub(crate) dcs: Arc<dyn Dcs>,
    notes: Mutex<Notes>,
    rung: Condvar,
}

/// Now, on the clock of deadlines.
pub(crate) fn now() -> Moment {
    Moment(BootTime::now().0)
}

impl Board {
    pub(crate) fn new(node: Node, heartbeat: Duration, dcs: Arc<dyn Dcs>) -> Arc<Self> {
        let me = node.name.clone();
        Arc::new(Self { me, node, heartbeat, dcs, notes: Mutex::default(), rung: Condvar::new() })
    }

    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the loop.
    pub(crate) fn ring(&self) {
        self.notes().bell = true;
        self.rung.notify_all();
    }

    /// Sleeps until somebody rings, or so long.
    pub(crate) fn wait(&self, limit: Duration) {
        let mut notes = self.notes();
        if !notes.bell {
            notes = self.rung.wait_timeout(notes, limit).unwrap_or_else(PoisonError::into_inner).0;
        }
        notes.bell = false;
    }

    /// Waits for what another thread notes.
    pub(crate) fn wait_for<T>(
        &self,
        limit: Duration,
        mut look: impl FnMut(&Notes) -> Option<T>,
    ) -> Option<T> {
        let deadline = std::time::Instant::now() + limit;
        let mut notes = self.notes();
        loop {
            if let Some(found) = look(&notes) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return None;
            }
            notes = self.rung.wait_timeout(notes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Tells the threads that wait for news, without waking the loop.
    pub(crate) fn tell(&self) {
        self.rung.notify_all();
    }

    /// What this node answers to other agents.
    #[must_use]
    pub fn answer(&self) -> Option<PeerAnswer> {
        self.notes().said.answer.clone()
    }

    /// Who this node is to clients now, as long as its loop comes round.
    #[must_use]
    pub fn clients(&self) -> Clients {
        let notes = self.notes();
        // A loop that hangs must not go on sending clients here.
        let fresh = now().since(notes.said.at) < self.heartbeat * 8;
        notes.said.clients.filter(|_| fresh).unwrap_or(Clients::Nobody)
    }

    /// Asks the loop to refuse promises in this term: for how long it does.
    #[must_use]
    pub fn refuse(&self, term: Term, token: &str) -> Option<Duration> {
        let asked = now();
        {
            let mut notes = self.notes();
            if notes.token.as_deref() != Some(token) {
                return None;
            }
            notes.asked_to_refuse = Some((term, asked));
        }
        self.ring();
        self.wait_for(self.heartbeat * 2, |notes| {
            let (of, until) = notes.said.refusal?;
            (of == term && notes.said.at >= asked).then(|| until.since(now()))
        })
    }
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(
    operation: &'static str,
    bytes: &[u8],
) -> Result<T, HaError> {
    serde_json::from_slice(bytes).map_err(|error| HaError::NotSeen { operation, why: error.to_string() })
}

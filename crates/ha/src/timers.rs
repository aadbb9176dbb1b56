//! The timers that a declared RTO leaves room for, and the arithmetic when it leaves none.
//!
//! Derived, never set one by one: timers that contradict each other are how clusters lose their primary for nothing, or for too long.

use crate::state::{Mode, Strictness};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A stall that must not cost a primary its place: both cores saturated, a page of memory swapped, a slow disk.
const STALL_MS: u64 = 800;

/// etcd elects a new leader of its own in one to two election timeouts of 1 s; nothing can be written meanwhile.
const STORE_ELECTION_MS: u64 = 2_000;

/// The shortest lease that etcd grants with its default timing: 1.5 election timeouts, in whole seconds.
const LEASE_MS_MIN: u64 = 2_000;

/// What a lease can outlast its time by: etcd looks twice a second.
const LEASE_LATE_MS: u64 = 500;

/// `pg_promote` until the first write, and the standbys' reconnection.
const PROMOTION_MS: u64 = 300;

/// Writes to the store one after another in an election: open, promise, win, lead.
const STORE_WRITES: u64 = 4;

/// What is measured or assumed of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RoundTrips {
    /// A write to the store, at its 99th percentile.
    pub store_ms: u64,
    /// A request to another agent.
    pub peer_ms: u64,
}

impl RoundTrips {
    /// Hosts of one site: etcd syncs its log in a few milliseconds.
    pub const ONE_SITE: Self = Self { store_ms: 20, peer_ms: 5 };
}

/// How long each thing may take.
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

/// Objectives that cannot be met, with the arithmetic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmeetable {
    /// Not enough nodes for a failover without loss.
    #[error("rpo = \"0s\" with k = {k} needs {} nodes to survive the loss of one, and there are {nodes}: {k} must hold each commit besides the primary", k + 2)]
    TooFewNodes {
        /// The nodes.
        nodes: usize,
        /// How many voters must hold a commit.
        k: usize,
    },
    /// One node: there is nobody to fail over to.
    #[error("a failover needs 2 nodes or more, and there is {nodes}")]
    NobodyElse {
        /// The nodes.
        nodes: usize,
    },
    /// The worst case is longer than the RTO.
    #[error("rto = \"{}\" cannot be met: {budget}", seconds(*rto))]
    RtoTooShort {
        /// What was declared.
        rto: Duration,
        /// What the worst case consists of.
        budget: Budget,
    },
}

/// The worst case of a host's loss, by its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// Each part and how long it takes, in order.
    pub parts: Vec<(String, Duration)>,
}

impl Budget {
    /// The sum.
    pub fn total(&self) -> Duration {
        self.parts.iter().map(|(_, span)| *span).sum()
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (what, span)) in self.parts.iter().enumerate() {
            let plus = if index == 0 { "" } else { " + " };
            write!(f, "{plus}{} {what}", seconds(*span))?;
        }
        write!(f, " = {}", seconds(self.total()))
    }
}

fn seconds(span: Duration) -> String {
    format!("{}s", (span.as_millis() as f64) / 1000.0)
}

impl Timers {
    /// The timers for an RTO, within one site.
    ///
    /// # Errors
    /// [`Unmeetable`], see [`Timers::derive_over`].
    pub fn derive(rto: Duration, nodes: usize, mode: Mode) -> Result<Self, Unmeetable> {
        Self::derive_over(rto, nodes, mode, RoundTrips::ONE_SITE)
    }

    /// The timers for an RTO over this network: detection takes about a quarter of it, bounded by what a stall may last.
    ///
    /// # Errors
    /// [`Unmeetable`] when nodes are missing, or the worst case of losing a host, the store's leader with it, takes longer.
    pub fn derive_over(
        rto: Duration,
        nodes: usize,
        mode: Mode,
        trips: RoundTrips,
    ) -> Result<Self, Unmeetable> {
        match mode {
            _ if nodes < 2 => return Err(Unmeetable::NobodyElse { nodes }),
            Mode::Quorum { k, .. } if nodes < k + 2 => return Err(Unmeetable::TooFewNodes { nodes, k }),
            _ => {}
        }
        let timers = Self::for_rto(rto, trips);
        let budget = timers.budget(mode);
        if budget.total() > rto {
            return Err(Unmeetable::RtoTooShort { rto, budget });
        }
        Ok(timers)
    }

    fn for_rto(rto: Duration, trips: RoundTrips) -> Self {
        let rto_ms = u64::try_from(rto.as_millis()).unwrap_or(u64::MAX);
        let ms = Duration::from_millis;
        let heartbeat = (rto_ms / 20).clamp(100, 1_000) + trips.peer_ms;
        let suspect_after = (rto_ms * 24 / 100).clamp(STALL_MS + heartbeat, 10_000);
        let fence = (suspect_after + heartbeat).min(10_000) + trips.store_ms;
        let failover = STORE_WRITES * trips.store_ms + 2 * trips.peer_ms + PROMOTION_MS;
        Self {
            heartbeat: ms(heartbeat),
            suspect_after: ms(suspect_after),
            lease: ms((rto_ms * 2 / 5).clamp(LEASE_MS_MIN, 30_000)),
            fence: ms(fence),
            fence_margin: ms(100 + fence / 20),
            refusal: ms(fence),
            patience: ms(failover),
            blocked_after: rto,
            probe: ms(suspect_after),
            election: rto,
            remove_voter_after: ms(suspect_after * 2),
            add_voter_after: ms(suspect_after),
            failover: ms(failover),
            switchover_stop: ms((rto_ms / 2).clamp(1_000, 10_000)),
            crash_window: rto.max(ms(10_000)) * 12,
            crashes_max: 3,
        }
    }

    /// The worst case of losing the primary's host: how it adds up.
    pub fn budget(&self, mode: Mode) -> Budget {
        let part = |what: &str, span| (what.to_owned(), span);
        let fence = part("until the old primary is surely fenced", self.fence + self.fence_margin);
        let mut parts = vec![part("between heartbeats", self.heartbeat)];
        match mode {
            Mode::Quorum { strictness, .. } => {
                parts.push(part("without an answer", self.suspect_after));
                parts.push(part(
                    "for etcd to elect a leader, if it was on that host",
                    Duration::from_millis(STORE_ELECTION_MS),
                ));
                parts.extend((strictness == Strictness::Strict).then_some(fence));
            }
            Mode::Asynchronous { .. } => {
                parts.push(part(
                    "for the lease to run out",
                    self.lease + Duration::from_millis(LEASE_LATE_MS),
                ));
                parts.push(fence);
            }
        }
        parts.push(part("for election and promotion", self.failover));
        Budget { parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::LossBound;
    use expect_test::{Expect, expect};

    const QUORUM: Mode = Mode::Quorum { k: 1, strictness: Strictness::Prompt };
    const STRICT: Mode = Mode::Quorum { k: 1, strictness: Strictness::Strict };
    const ASYNC: Mode = Mode::Asynchronous { loss: LossBound { bytes: None, time_ms: Some(10_000) } };

    fn check(rto_ms: u64, nodes: usize, mode: Mode, expected: Expect) {
        let said = match Timers::derive(Duration::from_millis(rto_ms), nodes, mode) {
            Ok(timers) => format!("{}", timers.budget(mode)),
            Err(refused) => refused.to_string(),
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn five_seconds_are_met_by_three_nodes_in_each_mode() {
        check(
            5_000,
            3,
            QUORUM,
            expect![
                "0.255s between heartbeats + 1.2s without an answer + 2s for etcd to elect a leader, if it was on that host + 0.39s for election and promotion = 3.845s"
            ],
        );
        check(
            5_000,
            3,
            ASYNC,
            expect![
                "0.255s between heartbeats + 2.5s for the lease to run out + 1.648s until the old primary is surely fenced + 0.39s for election and promotion = 4.793s"
            ],
        );
    }

    #[test]
    fn what_cannot_be_met_is_refused_with_the_arithmetic() {
        check(
            5_000,
            3,
            STRICT,
            expect![[
                r#"rto = "5s" cannot be met: 0.255s between heartbeats + 1.2s without an answer + 2s for etcd to elect a leader, if it was on that host + 1.648s until the old primary is surely fenced + 0.39s for election and promotion = 5.493s"#
            ]],
        );
        check(
            2_000,
            3,
            QUORUM,
            expect![[
                r#"rto = "2s" cannot be met: 0.105s between heartbeats + 0.905s without an answer + 2s for etcd to elect a leader, if it was on that host + 0.39s for election and promotion = 3.4s"#
            ]],
        );
        check(
            5_000,
            2,
            QUORUM,
            expect![[
                r#"rpo = "0s" with k = 1 needs 3 nodes to survive the loss of one, and there are 2: 1 must hold each commit besides the primary"#
            ]],
        );
        check(5_000, 1, ASYNC, expect!["a failover needs 2 nodes or more, and there is 1"]);
    }

    #[test]
    fn a_stall_of_800_ms_never_makes_a_leader_missed() {
        for rto_ms in [4_000, 5_000, 30_000, 300_000] {
            let timers = Timers::derive(Duration::from_millis(rto_ms), 3, QUORUM).unwrap();
            assert!(timers.suspect_after >= Duration::from_millis(STALL_MS) + timers.heartbeat, "{rto_ms}");
            assert!(timers.fence > timers.suspect_after && timers.refusal <= timers.fence, "{rto_ms}");
        }
    }
}

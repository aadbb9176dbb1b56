//! What `decide` asks for: levels to hold and one step to take.
//!
//! Levels ([`Decision::fence`], `admission`, `clients`, `refusal`) say how things have to be from now on; the agent brings them about at
//! each decision, whatever the step is. The step is exactly one [`Action`]; after it the agent observes anew. A step that failed or
//! whose outcome is unknown needs no undoing: the next observation tells what became of it.

use crate::decide::Memory;
use crate::observation::{Admission, LeaderContact, Upstream};
use crate::position::Position;
use crate::quorum::SyncNames;
use crate::state::{ClusterState, Revision};
use crate::term::{Moment, NodeName, Term};
use pgproof_pg::TimelineId;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The outcome of one `decide`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The one step to take now.
    pub action: Action,
    /// What to remember until the next decision, whatever becomes of the step.
    pub memory: Memory,
    /// Until when this node's PostgreSQL may run as primary, on this host's clock: what the fencing process must hold from now on, before
    /// the step is taken. `None`: nothing is known that would extend it; the deadline that the fencing process has stands.
    pub fence: Option<Moment>,
    /// Who may connect to this node's primary.
    pub admission: Admission,
    /// Who this node is to load balancers and to `libpq`.
    pub clients: Clients,
    /// The answer to [`crate::Observation::asked_to_refuse`]: this node will promise nobody until then. Answer with the *span* from the decision to
    /// then; the leader counts it from when it sent its request. `None`: it does not refuse.
    pub refusal: Option<Moment>,
    /// Whether this node hears its leader: for [`crate::Report::leader`].
    pub leader: LeaderContact,
    /// Why nothing goes on, if so.
    pub blocked: Option<Blocked>,
    /// When to look again at the latest, though nothing was seen to change.
    pub again: Moment,
}

/// What this node is to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clients {
    /// `/primary` answers 200.
    Primary,
    /// `/replica` answers 200, subject to its lag.
    Replica,
    /// Neither.
    Nobody,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing to do until [`Decision::again`].
    Wait,
    /// Compare-and-set the cluster's state. No reply means unknown: the next reading tells. Never retried as it is.
    Write {
        /// What it does, for the log and the ledger.
        change: Change,
        /// Only if the revision is still this; 0: only if there is no state.
        expected: Revision,
        /// The new state.
        state: Arc<ClusterState>,
    },
    /// Stop receiving, so that it cannot begin again: empty `primary_conninfo` on disk, fsync, reload, SIGTERM to the walreceiver's
    /// process, see it gone. Reported as [`crate::Receiver::Stopped`] once nothing brings it back. The standby goes on serving reads.
    StopReceiving,
    /// Learn the end of valid WAL of a stopped-receiving standby: start it if it is down, replay all of `pg_wal`.
    FindPosition,
    /// Fetch WAL that a witness promised, through its agent, into `pg_wal`, fsynced; then replay it.
    FetchWal {
        /// From whom.
        from: NodeName,
        /// Up to where.
        up_to: Position,
    },
    /// Receive from this leader under this term's name, with its slot. Also changes a running receiver over.
    Follow(Upstream),
    /// Set `synchronous_standby_names` of the primary and reload.
    SetNames(SyncNames),
    /// Before a promotion: `restore_command` off, names set and reloaded, history files placed so that the promotion takes `timeline`.
    PreparePromotion {
        /// The term's names.
        names: SyncNames,
        /// The term's timeline.
        timeline: TimelineId,
    },
    /// `pg_promote`, without waiting.
    Promote,
    /// Start as primary, after writing these names: restart in place. Clients are admitted only when [`Decision::admission`] says so.
    StartPrimary {
        /// What `synchronous_standby_names` must be before the first connection.
        names: SyncNames,
    },
    /// Start as standby (`standby.signal`), receiving from this leader or from nobody.
    StartStandby {
        /// From whom.
        upstream: Option<Upstream>,
    },
    /// SIGKILL to the postmaster and all its children, at once, and reap them. Never a smart, fast or immediate stop.
    Kill {
        /// Why.
        why: KillReason,
    },
    /// Switchover: no new connections, end client sessions, fast stop: walsenders send everything first. Bounded by the
    /// switchover limit of the timers; then `Kill`.
    StopForSwitchover,
    /// Become a standby of this leader though WAL diverged or is missing here: keep it aside, then `pg_rewind`, else delta restore, else clone.
    /// Each with a time limit. Never deletes the only copy of a commit.
    Rejoin {
        /// Whom to follow.
        upstream: Upstream,
        /// What to try.
        way: Way,
    },
    /// Become the first primary: `initdb`, or adopt the primary that runs here; then write [`ClusterState::founded`] at revision 0.
    Found,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait => f.write_str("wait"),
            Self::Write { change, .. } => write!(f, "write to the store: {change}"),
            Self::StopReceiving => f.write_str("stop receiving"),
            Self::FindPosition => f.write_str("replay all WAL to learn its end"),
            Self::FetchWal { from, up_to } => write!(f, "fetch WAL from {from} up to {up_to}"),
            Self::Follow(upstream) => write!(f, "follow {upstream}"),
            Self::SetNames(names) => write!(f, "set synchronous_standby_names to `{names}`"),
            Self::PreparePromotion { names, timeline } => {
                write!(f, "prepare the promotion to timeline {timeline} with `{names}`")
            }
            Self::Promote => f.write_str("promote"),
            Self::StartPrimary { names } => write!(f, "start as primary with `{names}`"),
            Self::StartStandby { upstream: Some(upstream) } => write!(f, "start as standby of {upstream}"),
            Self::StartStandby { upstream: None } => f.write_str("start as standby of nobody"),
            Self::Kill { why } => write!(f, "kill PostgreSQL: {}", why.as_str()),
            Self::StopForSwitchover => f.write_str("stop for the switchover"),
            Self::Rejoin { upstream, way } => write!(f, "rejoin {upstream} by {}", way.as_str()),
            Self::Found => f.write_str("found the cluster"),
        }
    }
}

impl Way {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rewind => "pg_rewind",
            Self::Restore => "a delta restore",
            Self::Clone => "a clone",
        }
    }
}

impl KillReason {
    /// The reason in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Superseded => "another node leads",
            Self::Expired => "its authority ran out",
            Self::Hung => "it does not answer",
            Self::Stray => "its timeline was never allotted",
            Self::Switchover => "it did not stop in time for the switchover",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenElection => "open an election",
            Self::Promise => "promise",
            Self::Win => "win the election",
            Self::CancelElection => "cancel the election",
            Self::Lead => "lead",
            Self::Widen => "make elections harder",
            Self::Intend => "intend to make elections easier",
            Self::Narrow => "make elections easier",
            Self::DropSwitchover => "drop the switchover",
        })
    }
}

/// How a data directory is brought to the leader's history, in the order they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// `pg_rewind` against the leader.
    Rewind,
    /// Delta restore from the repository, then streaming.
    Restore,
    /// `pg_basebackup`, or a restore into an empty directory; the old one is kept aside.
    Clone,
}

/// Why a server is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KillReason {
    /// Another term has begun.
    Superseded,
    /// Its authority ran out.
    Expired,
    /// It does not answer.
    Hung,
    /// It has a timeline, or names, that the store never allotted.
    Stray,
    /// The switchover's stop took too long.
    Switchover,
}

/// What a write to the store does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Opens an election.
    OpenElection,
    /// Adds this node's promise, or raises its position.
    Promise,
    /// Ends the election with this node as leader of the next term.
    Win,
    /// The leader is alive after all, or nobody could win: ends the election, and all its promises are void.
    CancelElection,
    /// The leader's PostgreSQL is primary: the others can follow.
    Lead,
    /// Elections get harder: a voter more, or k less.
    Widen,
    /// Elections shall get easier: PostgreSQL's names will be narrowed first.
    Intend,
    /// They are narrowed, in effect; the floor is raised.
    Narrow,
    /// A switchover request is dropped: it cannot be done, or is done.
    DropSwitchover,
}

/// Why a failover does not go on. Said within [`crate::Timers::blocked_after`] of its beginning, and by `cluster explain`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Blocked {
    /// Not enough voters promised.
    PromisesMissing {
        /// How many did.
        have: usize,
        /// How many must.
        need: usize,
        /// Voters that did not.
        missing: Vec<NodeName>,
    },
    /// Everyone that promised and can win is below the floor: acknowledged commits may be on other nodes only.
    BelowFloor {
        /// The best of them.
        best: Option<Position>,
        /// Where it would have to be.
        floor: Position,
    },
    /// Whoever is most advanced cannot win, and its WAL cannot be fetched.
    OnlyWitness {
        /// The witness.
        node: NodeName,
        /// How far it is.
        position: Position,
    },
    /// Asynchronous: every candidate would lose more than was declared.
    LossTooGreat {
        /// Bytes behind the last published position.
        bytes: u64,
        /// What was declared.
        bound: u64,
    },
    /// Asynchronous: every candidate lacks more time than was declared; `None`: longer than the published trail reaches back.
    LossTooOld {
        /// How much.
        lost: Option<Duration>,
        /// What was declared.
        bound: Duration,
    },
    /// Asynchronous: the primary never published a position, so the loss cannot be known.
    LossUnknown,
    /// Fewer than k voters exist yet: a commit may be on the leader only.
    NotProtectedYet {
        /// How many voters there are.
        voters: usize,
        /// How many a commit needs.
        k: usize,
    },
    /// An asynchronous or strict promotion waits until the old primary is surely fenced.
    AwaitingFence {
        /// Until then.
        until: Moment,
    },
    /// This node's position is unknown until all its WAL is replayed.
    PositionUnknown,
    /// The winner has less WAL than it promised: its disk lost what it had flushed.
    WalLost {
        /// What it promised.
        promised: Position,
        /// What it has.
        position: Option<Position>,
    },
    /// A more advanced node promised; this one waits for it.
    Outranked {
        /// By whom.
        by: NodeName,
        /// How far that one is.
        position: Position,
    },
    /// Servers crash soon after they start, wherever they run: no more restarts until an operator looks.
    CrashLoop {
        /// How often within the window.
        crashes: usize,
    },
    /// Automation is paused.
    Paused,
    /// The store has not answered for longer than this node may act without it.
    StoreUnknown,
    /// This node's data directory belongs to another cluster.
    OtherCluster,
    /// PostgreSQL runs on a timeline that the store never allotted.
    StrayTimeline {
        /// The timeline.
        timeline: TimelineId,
    },
    /// No data directory, and no leader to clone from.
    NothingToClone,
    /// The leader was elected but cannot be followed yet, or cannot be asked how its WAL relates to this node's.
    AwaitingLeader {
        /// The leader.
        leader: NodeName,
    },
    /// This node hears the leader, so it does not promise.
    LeaderHeard {
        /// The leader.
        leader: NodeName,
    },
    /// This node misses the leader, but not enough voters do, and the leader has its lease.
    MissedAlone {
        /// The leader.
        leader: NodeName,
    },
    /// This node cannot be elected: the operator excluded it.
    NoCandidate,
    /// The switchover waits for the standby to catch up.
    CatchingUp {
        /// Bytes behind.
        bytes: u64,
    },
    /// A voter refuses until then, because the leader could not reach the store but serves.
    Refused {
        /// Until then.
        until: Moment,
    },
    /// The store's value was written by a newer pgproof.
    NewerFormat {
        /// Its format.
        format: u16,
    },
    /// This node is no member.
    NotAMember,
    /// A term's names are not in effect because a walsender does not answer.
    NamesNotInEffect,
    /// Clients wait for k voters to flush what crash recovery brought back.
    RecoveryNotConfirmed {
        /// The term.
        term: Term,
    },
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::explain::blocked(self))
    }
}

/// A step, and why it is not a better one.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) action: Action,
    pub(super) blocked: Option<Blocked>,
}

impl Step {
    pub(super) fn wait() -> Self {
        Self { action: Action::Wait, blocked: None }
    }

    pub(super) fn act(action: Action) -> Self {
        Self { action, blocked: None }
    }

    pub(super) fn blocked(reason: Blocked) -> Self {
        Self { action: Action::Wait, blocked: Some(reason) }
    }

    pub(super) fn kill(why: KillReason) -> Self {
        Self::act(Action::Kill { why })
    }
}

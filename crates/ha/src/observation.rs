//! What a node knows at one instant: the store, its own PostgreSQL, what the other agents say. Plain data, gathered by the agent.
//!
//! Every field says how it must be gathered, because `decide` believes it. Where the agent cannot tell, it says so (`Unknown`,
//! `None`): a missing fact delays, a wrong one loses commits.

use crate::position::Position;
use crate::quorum::SyncNames;
use crate::state::{ClusterState, Published, Revision};
use crate::term::{Moment, NodeName, Term};
use pgproof_pg::{Lsn, SystemIdentifier, TimelineId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Everything that [`crate::decide`] looks at, besides its own memory and the time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Observation {
    /// This node.
    pub me: NodeName,
    /// The cluster's state in the store, read linearizably.
    pub store: Store,
    /// This node's PostgreSQL.
    pub postgres: Postgres,
    /// The other agents, by direct contact.
    pub peers: BTreeMap<NodeName, Peer>,
    /// Leader only: until when each voter refuses to promise. On this host's clock, counted from when the request was *sent*.
    pub refusals: BTreeMap<NodeName, Moment>,
    /// The leader of this term asks this node, now, to refuse promises. The answer is [`crate::Decision::refusal`].
    pub asked_to_refuse: Option<Term>,
    /// Wall clock in seconds since 1970; used for nothing but the time that a switchover was asked for.
    pub wall_s: u64,
}

/// The store as last read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// It answered.
    Known(Reading),
    /// It did not, or the answer to a write was lost. Unknown is not lost: nothing follows from it but time passing.
    Unknown,
}

/// One linearizable read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reading {
    /// When the request was sent, on this host's clock. Authority counts from here: what the store said was true at that time or later.
    pub asked: Moment,
    /// The state's revision; 0 when there is none.
    pub revision: Revision,
    /// The state; `None` when the cluster was not founded.
    #[serde(with = "shared")]
    pub state: Option<Arc<ClusterState>>,
    /// Who holds the leader's lease. A hint: it may be dropped early or stretched.
    pub lease: Option<NodeName>,
    /// The last position that an asynchronous primary published.
    pub published: Option<Published>,
}

/// Another agent, by direct contact (HTTP), never through the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Peer {
    /// When its last answer arrived.
    pub heard: Moment,
    /// What it said.
    pub report: Report,
}

/// What an agent tells others about itself; from its last decision.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Report {
    /// The term that it last read from the store.
    pub term: Term,
    /// What its PostgreSQL does.
    pub serving: Serving,
    /// Whether it, too, misses the leader of `term`.
    pub leader: LeaderContact,
    /// Its position, where known.
    pub position: Option<Position>,
}

/// What a PostgreSQL does for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Serving {
    /// Nothing: down, starting, hung.
    Nothing,
    /// Reads.
    Standby,
    /// Writes.
    Primary,
}

/// Whether a node hears its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaderContact {
    /// Its agent answered lately and serves, or WAL arrives from its PostgreSQL.
    Heard,
    /// Not for longer than `suspect_after`.
    Missed,
}

/// This node's PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Postgres {
    /// There is no data directory (or one of another cluster that must not be touched: then with the reason).
    Absent,
    /// A data directory, and surely no process of its server: the postmaster and all its children are reaped.
    Stopped(OnDisk),
    /// Started and not yet accepting connections. Also a standby before consistency and a primary in crash recovery.
    Starting(OnDisk),
    /// A standby that answers.
    Standby(Standby),
    /// A primary that answers, within the probe's limit, on a fresh connection.
    Primary(Primary),
    /// Processes exist, but a fresh connection or the write probe did not answer in time.
    Hung {
        /// The first failed probe.
        since: Moment,
        /// Whether it was primary.
        role: Role,
    },
}

/// Which of the two a data directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// No `standby.signal`: it would start as primary.
    Primary,
    /// It would start as standby.
    Standby,
}

/// Whom a standby receives from, as written in its configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Upstream {
    /// The primary.
    pub leader: NodeName,
    /// The term in the `application_name`.
    pub term: Term,
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in term {}", self.leader, self.term)
    }
}

/// How a node's WAL relates to that of the present leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ancestry {
    /// Not known yet: the leader's history file could not be read.
    Unknown,
    /// All of its WAL is on the leader's history: it can follow by streaming.
    Shared,
    /// It has WAL past where the leader's history left its timeline: that has to be kept aside and undone.
    Diverged,
    /// The leader (and its archive) no longer has the WAL that this node needs.
    TooOld,
}

/// A data directory without a server that answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OnDisk {
    /// From `pg_control`.
    pub system: SystemIdentifier,
    /// What it would start as.
    pub role: Role,
    /// The timeline of the end of its WAL.
    pub timeline: TimelineId,
    /// The end of valid WAL in `pg_wal`; `None` when only replaying to the end can tell.
    pub position: Option<Lsn>,
    /// `synchronous_standby_names` in the configuration on disk.
    pub names: SyncNames,
    /// Whom it would receive from.
    pub upstream: Option<Upstream>,
    /// How its WAL relates to the leader's.
    pub ancestry: Ancestry,
    /// WAL from the redo position of the last checkpoint to the end: what crash recovery has to read.
    pub redo_bytes: u64,
}

/// A standby that answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Standby {
    /// From `pg_control`.
    pub system: SystemIdentifier,
    /// The timeline of the end of its WAL.
    pub timeline: TimelineId,
    /// The end of valid, flushed WAL. Not `pg_last_wal_receive_lsn()` alone, which is NULL after a restart: then `None` until all of
    /// `pg_wal` is replayed. While a receiver runs: its flushed position.
    pub position: Option<Lsn>,
    /// Whom the configuration on disk names, fsynced; `None`: emptied.
    pub upstream: Option<Upstream>,
    /// The walreceiver.
    pub receiver: Receiver,
    /// How its WAL relates to the leader's.
    pub ancestry: Ancestry,
    /// Whether everything that must precede a promotion has been done, and for which term.
    pub prepared: Option<Prepared>,
    /// Whether `pg_promote` was called and recovery has not ended yet.
    pub promoting: Promoting,
}

/// The walreceiver of a standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receiver {
    /// It runs, or may come back: `primary_conninfo` is not provably empty in the startup process.
    Possible {
        /// When WAL or a keepalive last arrived; `None` when it does not stream now.
        heard: Option<Moment>,
    },
    /// `primary_conninfo` is empty on disk (fsynced), the startup process has read it, the receiver's process was ended by
    /// SIGTERM and seen gone, and none came back. Only this permits a promise.
    Stopped,
}

/// What precedes `pg_promote`, verified by a session opened after the reload.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Prepared {
    /// `synchronous_standby_names` in effect.
    pub names: SyncNames,
    /// `restore_command` empty and history files placed so that the promotion takes this timeline.
    pub timeline: TimelineId,
}

/// Whether a promotion is under way in PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promoting {
    /// No.
    No,
    /// Yes; there is no way back.
    Yes,
}

/// A primary that answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Primary {
    /// From `pg_control`.
    pub system: SystemIdentifier,
    /// Its timeline.
    pub timeline: TimelineId,
    /// Where recovery ended when it last started or was promoted: before it, WAL may hold commits that nobody was told of.
    pub end_of_recovery: Lsn,
    /// The flushed position.
    pub position: Lsn,
    /// `synchronous_standby_names` on disk.
    pub names: SyncNames,
    /// What is surely in effect: shown by a session opened after the reload, and every walsender that existed at the reload has
    /// replied twice since or is gone. `None` while that is not so.
    pub names_in_effect: Option<SyncNames>,
    /// Connected standbys that use a name of this cluster.
    pub standbys: BTreeMap<NodeName, WalSender>,
    /// Who can connect now.
    pub admission: Admission,
}

/// A walsender of the primary.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WalSender {
    /// The term in its `application_name`.
    pub term: Term,
    /// What the standby has flushed.
    pub flush: Lsn,
    /// Since when it streams (not catching up, no `backup` connection); `None`: it does not, or has not replied lately.
    pub streaming_since: Option<Moment>,
}

/// Who can connect to a primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// The agent and replication: WAL may hold commits that nobody was told of, and nobody may see them yet.
    AgentAndReplication,
    /// Everyone.
    Clients,
}

/// An `Arc` on disk and on the wire is what it points to; `serde`'s own feature for that would apply to every crate.
mod shared {
    use super::{Arc, ClusterState};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        state: &Option<Arc<ClusterState>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        state.as_deref().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Arc<ClusterState>>, D::Error> {
        Ok(Option::deserialize(from)?.map(Arc::new))
    }
}

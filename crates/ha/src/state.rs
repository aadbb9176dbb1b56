//! What the store holds: one value, changed only by compare-and-set on its revision.
//!
//! Promises that authority is never inferred from anything else. Everything that decides who may acknowledge (term, leader, voters,
//! floor, open election, promises) is in one [`ClusterState`] under one key, so that each step of an election is one atomic change and
//! a delayed write of an earlier revision can never apply. Leases and the published position live beside it and are hints: an etcd
//! that drops or stretches leases costs time, never a commit.

use crate::position::{Lineage, Position, TimelineOfTerm};
use crate::quorum::{Quorum, SyncNames};
use crate::term::{NodeName, StandbyName, Term};
use pgproof_pg::{Lsn, SystemIdentifier, TimelineId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the value's layout that this program writes.
pub const STATE_FORMAT: u16 = 1;

/// The revision of the store at which the value was last changed (`mod_revision` of etcd); 0: the key does not exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// How commits are protected, from the declared RPO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// `rpo = "0s"`: a commit is acknowledged when k voters flushed it.
    Quorum {
        /// How many.
        k: usize,
        /// Whether a promotion waits until the old primary is surely fenced, too.
        strictness: Strictness,
    },
    /// Commits wait for nobody; a promotion may lose at most `loss`.
    Asynchronous {
        /// What a promotion may lose.
        loss: LossBound,
    },
}

/// Whether, in quorum mode, a promotion waits for the deadline of the old primary's fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strictness {
    /// No: the old primary can acknowledge nothing that waits for voters. It may for a while serve reads, and commits with
    /// `synchronous_commit` `local` or `off`.
    Prompt,
    /// Yes: not even those.
    Strict,
}

/// The most that an asynchronous promotion may lose; what is `None` is not bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LossBound {
    /// Bytes of WAL behind the last published position.
    pub bytes: Option<u64>,
    /// How old the last published position may be that a candidate has reached.
    pub time_ms: Option<u64>,
}

/// Whether a member can become primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// A standby that can be promoted.
    Candidate,
    /// It keeps WAL and votes but cannot win: a WAL receiver, or a standby that the operator excluded. The winner fetches its WAL.
    Witness,
}

/// One of the nodes of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Whether it can become primary.
    pub standing: Standing,
    /// Where its agent answers (`host:port`).
    pub agent_address: String,
    /// Where its PostgreSQL answers: host and port.
    pub host: String,
    /// The port of its PostgreSQL.
    pub port: u16,
}

/// What the store holds of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterState {
    /// [`STATE_FORMAT`].
    pub format: u16,
    /// The cluster's identity: a member with another one is refused.
    pub system: SystemIdentifier,
    /// How commits are protected.
    pub mode: Mode,
    /// All nodes, by name.
    pub members: BTreeMap<NodeName, Member>,
    /// The term of `leader`.
    pub term: Term,
    /// Who alone may acknowledge in `term`.
    pub leader: NodeName,
    /// How far `leader` has come with taking over.
    pub reign: Reign,
    /// The timeline of `term`.
    pub timeline: TimelineId,
    /// Every timeline that was allotted and the term it belongs to, oldest first; the last is `timeline`. Numbers are allotted here because two
    /// interrupted promotions would otherwise both take the next one, and `pg_rewind` would see one history.
    pub timelines: Vec<TimelineOfTerm>,
    /// Who must promise before somebody else can be elected, and so the widest that PostgreSQL's names may be.
    pub quorum: Quorum,
    /// A change of `quorum` under way that makes elections easier; PostgreSQL's names are being narrowed to it.
    pub narrowing: Option<Quorum>,
    /// Nobody below it is promoted.
    pub floor: Position,
    /// The election in progress.
    pub election: Option<Election>,
    /// How many elections were ever opened; the next one's number. A promise or a wait for one is none for another.
    pub elections: u64,
    /// Set while automation is paused: nobody opens elections, restarts or rejoins.
    pub paused: Option<Pause>,
    /// A switchover that an operator asked for and the leader has not begun.
    pub switchover: Option<SwitchoverRequest>,
}

/// How far the leader of a term has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reign {
    /// Elected: it has not yet told that PostgreSQL was promoted. Nobody can follow it.
    Elected,
    /// Its PostgreSQL is primary on the term's timeline: the others follow it.
    Leading,
}

/// An election: open from one compare-and-set until the one that names the winner, or cancels it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Election {
    /// Unique for ever; see [`ClusterState::elections`].
    pub number: u64,
    /// Who opened it.
    pub opened_by: NodeName,
    /// Why.
    pub reason: ElectionReason,
    /// Who has stopped receiving for good and how far it came. Not only voters: others can win, only voters count.
    pub promises: BTreeMap<NodeName, Promise>,
    /// The loss that the operator accepted: replaces floor and quorum for this election.
    pub accepted_loss: Option<AcceptedLoss>,
}

/// Why an election was opened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum ElectionReason {
    /// Nothing was heard from the leader, directly and by enough voters.
    LeaderSilent,
    /// The leader's agent answers and says that its PostgreSQL serves nobody.
    LeaderFailed,
    /// The leader itself gave up: its PostgreSQL is surely down and stays so until the election ends.
    Resigned,
    /// The leader stopped its PostgreSQL for a switchover to this node; surely down like `Resigned`.
    Switchover {
        /// Who shall win, if it can.
        to: Option<NodeName>,
        /// The end of the stopped primary's WAL: nobody below it wins this election.
        stopped_at: Position,
    },
    /// An operator asked for a failover.
    Operator,
}

impl ElectionReason {
    /// Whether the leader itself said so, with its PostgreSQL surely down: nothing needs to be waited for.
    pub fn is_of_the_leader(&self) -> bool {
        matches!(self, Self::Resigned | Self::Switchover { .. })
    }
}

/// A promise not to receive, and so not to acknowledge, anything of the current term any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Promise {
    /// The end of its valid WAL, read after it stopped receiving, on its own timeline.
    pub end: Position,
    /// How much of the present term's history that is: what promises are compared by.
    pub position: Position,
    /// Whether it can win.
    pub standing: Standing,
}

/// What `cluster failover --accept-loss` writes, after it showed exactly this.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AcceptedLoss {
    /// Who shall win.
    pub winner: NodeName,
    /// How far it was when the operator agreed; it must not be less when it wins.
    pub position: Position,
}

/// Why automation is paused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pause {
    /// Who asked, and why, in the operator's words.
    pub by: String,
}

/// A switchover asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SwitchoverRequest {
    /// To whom; `None`: to the most advanced.
    pub to: Option<NodeName>,
    /// Not before this time, in seconds since 1970 by the leader's wall clock; `None`: now.
    pub at_unix_s: Option<u64>,
}

impl ClusterState {
    /// The first value: a primary alone, whose commits nothing protects yet.
    ///
    /// Voters come one by one as standbys begin to stream, then k rises to what the mode wants; until then nobody can be elected.
    pub fn founded(
        system: SystemIdentifier,
        mode: Mode,
        leader: NodeName,
        members: BTreeMap<NodeName, Member>,
        timeline: TimelineId,
        position: Position,
    ) -> Self {
        let term = Term(1);
        Self {
            format: STATE_FORMAT,
            system,
            mode,
            members,
            term,
            leader,
            reign: Reign::Leading,
            timeline,
            timelines: vec![TimelineOfTerm { timeline, term, begins: None }],
            quorum: Quorum::default(),
            narrowing: None,
            floor: position,
            election: None,
            elections: 0,
            paused: None,
            switchover: None,
        }
    }

    /// The term that `timeline` was allotted for; `None` for one that the store never allotted: its WAL cannot be compared.
    ///
    /// Timelines older than the founding belong to the founding term: every member descends from it.
    pub fn term_of(&self, timeline: TimelineId) -> Option<Term> {
        let first = self.timelines.first()?;
        if timeline <= first.timeline {
            return Some(first.term);
        }
        self.timelines.iter().find(|t| t.timeline == timeline).map(|t| t.term)
    }

    /// How much of the present history a node holds whose WAL ends here; `None` on a timeline that the store never allotted.
    pub fn shared(&self, end: Position) -> Option<Position> {
        Lineage::new(&self.timelines).shared(end)
    }

    /// The number that the next term's timeline gets: above every one allotted before, used or not.
    pub fn next_timeline(&self) -> TimelineId {
        let highest = self.timelines.iter().map(|t| t.timeline.0).max().unwrap_or(0);
        TimelineId(highest + 1)
    }

    /// The rule that PostgreSQL's names have to follow: the stricter one while a change is under way.
    pub fn acknowledging(&self) -> &Quorum {
        self.narrowing.as_ref().unwrap_or(&self.quorum)
    }

    /// The value of `synchronous_standby_names` that the leader has to have now.
    pub fn names(&self) -> SyncNames {
        match self.mode {
            Mode::Quorum { .. } => self.acknowledging().names(self.term),
            Mode::Asynchronous { .. } => SyncNames::None,
        }
    }

    /// The name under which `node` acknowledges in this term.
    pub fn standby_name(&self, node: &NodeName) -> StandbyName {
        node.in_term(self.term)
    }

    /// Whether `node` can become primary at all.
    pub fn standing(&self, node: &NodeName) -> Option<Standing> {
        self.members.get(node).map(|member| member.standing)
    }
}

/// What an asynchronous primary published of itself, at least every quarter of the RPO: loss is known only against it.
/// Under a key of its own, so that it does not disturb compare-and-sets of the state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Published {
    /// The term of the primary.
    pub term: Term,
    /// Its flushed positions and when they were read, oldest first, reaching back further than the RPO. Never empty.
    pub trail: Vec<PublishedPosition>,
    /// Until when after the last of them the primary can have written more: it stops, or holds commits, when it cannot publish for
    /// this long.
    pub valid_ms: u64,
}

/// One position that a primary published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublishedPosition {
    /// The end of its flushed WAL.
    pub lsn: Lsn,
    /// When, in milliseconds of the primary's own clock. Only differences are used.
    pub at_ms: u64,
}

//! The world in which `decide` is tried: three nodes with PostgreSQL, its walsenders and walreceivers, and a store.
//!
//! PostgreSQL is reduced to what failover can get wrong: WAL as a sequence of commits; commits that wait until a walsender, by its
//! own copy of `synchronous_standby_names`, finds them flushed by enough standbys; walsenders that reload late; receivers
//! that go on after a reload and come back by a startup process that has not read it; replies that arrive after their sender is
//! gone; restarts that bring unacknowledged commits back. There is no time: whatever may be slow is simply not scheduled.

use pgproof_ha::{
    Admission, ClusterState, Member, Memory, Mode, Moment, NodeName, Position, Prepared, Quorum, Reading,
    Revision, Role, Standing, Strictness, SyncNames, Term, Timers, Upstream,
};
use pgproof_pg::{Lsn, SystemIdentifier, TimelineId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const NODES: usize = 3;
pub(crate) const SYSTEM: SystemIdentifier = SystemIdentifier(7);

/// Now, for whom no time has passed.
pub(crate) const EARLY: Moment = Moment(10_000_000);
/// Now, for whom every timer has run out.
pub(crate) const LATE: Moment = Moment(20_000_000);

/// One record: a commit, or the end of recovery that begins a timeline (commit 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) timeline: u32,
    pub(crate) commit: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) memory: Memory,
    /// The store as this agent last read it; stale until it reads again.
    pub(crate) view: Option<Reading>,
    pub(crate) log: Vec<Record>,
    pub(crate) role: Role,
    pub(crate) names: SyncNames,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) server: Option<Server>,
}

/// A running PostgreSQL. All of it is lost with the process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    /// `primary_conninfo` as the startup process has read it.
    pub(crate) loaded: Option<Upstream>,
    /// The walreceiver and whom it receives from.
    pub(crate) receiver: Option<Upstream>,
    /// SIGTERM is on its way to the walreceiver.
    pub(crate) ending: bool,
    pub(crate) prepared: Option<Prepared>,
    pub(crate) promoting: bool,
    /// Whether all of `pg_wal` is replayed, so that the position is known.
    pub(crate) replayed: bool,
    pub(crate) end_of_recovery: usize,
    pub(crate) admission: Admission,
    /// Commits whose clients wait.
    pub(crate) waiting: u32,
    pub(crate) senders: [Option<Sender>; NODES],
}

/// A walsender, as long as its process exists: longer than its receiver.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sender {
    pub(crate) term: Term,
    /// `synchronous_standby_names` as this process has read it.
    pub(crate) names: SyncNames,
    /// What the standby's replies said so far.
    pub(crate) flush: usize,
    /// What replies on their way say.
    pub(crate) mail: usize,
}

/// How much may go wrong, and how far the search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) crashes: u8,
    pub(crate) delays: u8,
    pub(crate) commits: u8,
    pub(crate) elections: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) revision: Revision,
    pub(crate) state: Arc<ClusterState>,
    /// A write that the network keeps back: applied later, if its revision still holds.
    pub(crate) delayed: Option<(Revision, Arc<ClusterState>)>,
    pub(crate) nodes: Vec<Node>,
    /// Commits that a client was told of, or a reader saw.
    pub(crate) acknowledged: u32,
    /// Who acknowledged last.
    pub(crate) writer: Option<(Term, usize)>,
    pub(crate) commits: u8,
    pub(crate) left: Budget,
    /// A rule of the world that was broken on the way here.
    pub(crate) broken: Option<&'static str>,
}

pub(crate) fn name(node: usize) -> NodeName {
    NodeName::new(["a", "b", "c"][node]).unwrap()
}

pub(crate) fn index(node: &NodeName) -> usize {
    usize::from(node.as_str().as_bytes()[0] - b'a')
}

pub(crate) fn timers() -> Timers {
    Timers::derive(Duration::from_secs(5), NODES, mode()).unwrap()
}

pub(crate) fn mode() -> Mode {
    Mode::Quorum { k: 1, strictness: Strictness::Prompt }
}

impl World {
    /// Term 1: `a` leads, `b` and `c` stream from it, `ANY 1 (b.t1, c.t1)` everywhere.
    pub(crate) fn settled(budget: Budget) -> Self {
        let member = Member {
            standing: Standing::Candidate,
            agent_address: String::new(),
            host: String::new(),
            port: 0,
        };
        let members: BTreeMap<_, _> = (0..NODES).map(|n| (name(n), member.clone())).collect();
        let floor = Position::new(Term(1), Lsn(1));
        let mut state = ClusterState::founded(SYSTEM, mode(), name(0), members, TimelineId(1), floor);
        state.quorum = Quorum::new([name(1), name(2)], 1);
        let state = Arc::new(state);
        let mut world = Self {
            revision: Revision(1),
            state: state.clone(),
            delayed: None,
            nodes: (0..NODES).map(|n| Node::settled(n, &state)).collect(),
            acknowledged: 0,
            writer: None,
            commits: 0,
            left: budget,
            broken: None,
        };
        for standby in 1..NODES {
            world.connect(standby);
        }
        world
    }

    pub(crate) fn end(&self, node: usize) -> Lsn {
        Lsn(self.nodes[node].log.len() as u64)
    }

    pub(crate) fn is_primary(&self, node: usize) -> bool {
        self.nodes[node].server.is_some() && self.nodes[node].role == Role::Primary
    }

    /// Whether `node` has nothing that `of` has not.
    pub(crate) fn is_prefix(&self, node: usize, of: usize) -> bool {
        self.nodes[of].log.starts_with(&self.nodes[node].log)
    }

    /// A client commits; it waits, unless nothing makes it.
    pub(crate) fn commit(&mut self, node: usize) {
        self.commits += 1;
        let (commit, timeline) = (self.commits, self.nodes[node].timeline());
        let server = self.nodes[node].server.as_mut().unwrap();
        server.waiting |= 1 << commit;
        self.nodes[node].log.push(Record { timeline, commit });
        if self.nodes[node].names == SyncNames::None {
            self.tell(node, 1 << commit);
        }
    }

    /// Clients on `node` are told of these commits.
    fn tell(&mut self, node: usize, commits: u32) {
        if commits == 0 {
            return;
        }
        let term = self.state.term_of(TimelineId(self.nodes[node].timeline())).unwrap_or_default();
        if let Some((last, who)) = self.writer {
            if last == term && who != node {
                self.broken = Some("two servers acknowledged in one term");
            } else if last > term {
                self.broken = Some("an old primary acknowledged after a new one");
            }
        }
        self.writer = self.writer.max(Some((term, node)));
        self.acknowledged |= commits;
        self.nodes[node].server.as_mut().unwrap().waiting &= !commits;
    }

    /// Clients may connect: they see all that is there.
    pub(crate) fn admit(&mut self, node: usize, admission: Admission) {
        let commits = self.nodes[node].commits();
        let server = self.nodes[node].server.as_mut().unwrap();
        let opened = server.admission != admission && admission == Admission::Clients;
        server.admission = admission;
        if opened {
            self.acknowledged |= commits & !server.waiting;
        }
    }

    /// The next record reaches `standby`, which flushes it and replies.
    pub(crate) fn stream(&mut self, standby: usize) {
        let leader = index(&self.receiver(standby).unwrap().leader);
        let next = self.nodes[leader].log[self.nodes[standby].log.len()];
        self.nodes[standby].log.push(next);
        let end = self.nodes[standby].log.len();
        if let Some(sender) = self.sender(leader, standby) {
            sender.mail = end;
        }
    }

    pub(crate) fn can_stream(&self, standby: usize) -> bool {
        let Some(upstream) = self.receiver(standby) else { return false };
        let leader = index(&upstream.leader);
        self.is_primary(leader)
            && self.nodes[leader].log.len() > self.nodes[standby].log.len()
            && self.is_prefix(standby, leader)
            && self.nodes[leader].server.as_ref().unwrap().senders[standby].is_some()
    }

    pub(crate) fn receiver(&self, standby: usize) -> Option<&Upstream> {
        self.nodes[standby].server.as_ref()?.receiver.as_ref()
    }

    pub(crate) fn sender(&mut self, leader: usize, standby: usize) -> Option<&mut Sender> {
        self.nodes[leader].server.as_mut()?.senders[standby].as_mut()
    }

    /// A reply arrives: the walsender releases what its own copy of the names allows (`SyncRepReleaseWaiters`).
    pub(crate) fn reply(&mut self, leader: usize, standby: usize) {
        let sender = self.sender(leader, standby).unwrap();
        sender.flush = sender.mail;
        let (term, names) = (sender.term, sender.names.clone());
        let SyncNames::Any { k, names } = names else { return };
        if !names.contains(&name(standby).in_term(term)) {
            return;
        }
        let server = self.nodes[leader].server.as_ref().unwrap();
        let listed = server.senders.iter().enumerate().filter_map(|(n, sender)| Some((n, sender.as_ref()?)));
        let mut flushed: Vec<usize> =
            listed.filter(|(n, s)| names.contains(&name(*n).in_term(s.term))).map(|(_, s)| s.flush).collect();
        flushed.sort_unstable_by(|a, b| b.cmp(a));
        let Some(&released) = flushed.get(k - 1) else { return };
        let commits = mask(&self.nodes[leader].log[..released.min(self.nodes[leader].log.len())]);
        self.tell(leader, commits & server.waiting);
    }

    pub(crate) fn can_connect(&self, standby: usize) -> bool {
        let Some(server) = &self.nodes[standby].server else { return false };
        let Some(upstream) = &server.loaded else { return false };
        let leader = index(&upstream.leader);
        self.nodes[standby].role == Role::Standby
            && server.receiver.is_none()
            && !server.promoting
            && self.is_primary(leader)
            && self.is_prefix(standby, leader)
    }

    /// The startup process starts a walreceiver by what it has read of the configuration.
    pub(crate) fn connect(&mut self, standby: usize) {
        let mail = self.nodes[standby].log.len();
        let server = self.nodes[standby].server.as_mut().unwrap();
        let upstream = server.loaded.clone().unwrap();
        server.receiver = Some(upstream.clone());
        let leader = index(&upstream.leader);
        let names = self.nodes[leader].names.clone();
        let sender = Sender { term: upstream.term, names, flush: 0, mail };
        self.nodes[leader].server.as_mut().unwrap().senders[standby] = Some(sender);
    }

    pub(crate) fn crash(&mut self, node: usize) {
        self.nodes[node].server = None;
        for standby in 0..NODES {
            if self.receiver(standby).is_some_and(|upstream| index(&upstream.leader) == node) {
                let server = self.nodes[standby].server.as_mut().unwrap();
                (server.receiver, server.ending) = (None, false);
            }
        }
    }

    /// A write arrives at the store.
    pub(crate) fn apply(&mut self, expected: Revision, state: Arc<ClusterState>) {
        if expected == self.revision {
            self.revision = Revision(self.revision.0 + 1);
            self.state = state;
        }
    }

    pub(crate) fn reading(&self) -> Reading {
        Reading {
            asked: EARLY,
            revision: self.revision,
            state: Some(self.state.clone()),
            lease: Some(self.state.leader.clone()),
            published: None,
        }
    }
}

impl Node {
    fn settled(node: usize, state: &ClusterState) -> Self {
        let leads = node == 0;
        let upstream = (!leads).then(|| Upstream { leader: name(0), term: Term(1) });
        let names = if leads { state.names() } else { SyncNames::None };
        let mut server = Server::standby(upstream.clone());
        server.replayed = true;
        if leads {
            (server.admission, server.end_of_recovery) = (Admission::Clients, 1);
        }
        Self {
            memory: Memory::fresh(EARLY, &timers()),
            view: None,
            log: vec![Record { timeline: 1, commit: 0 }],
            role: if leads { Role::Primary } else { Role::Standby },
            names,
            upstream,
            server: Some(server),
        }
    }

    pub(crate) fn timeline(&self) -> u32 {
        self.log.last().map_or(1, |record| record.timeline)
    }

    pub(crate) fn commits(&self) -> u32 {
        mask(&self.log)
    }
}

impl Server {
    pub(crate) fn standby(upstream: Option<Upstream>) -> Self {
        Self {
            loaded: upstream,
            receiver: None,
            ending: false,
            prepared: None,
            promoting: false,
            replayed: false,
            end_of_recovery: 0,
            admission: Admission::AgentAndReplication,
            waiting: 0,
            senders: [const { None }; NODES],
        }
    }
}

fn mask(log: &[Record]) -> u32 {
    log.iter().filter(|record| record.commit > 0).fold(0, |mask, record| mask | 1 << record.commit)
}

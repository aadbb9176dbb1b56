//! From what threads and files tell to one [`Observation`].

use super::board::{Board, PeerAnswer, now};
use crate::{
    Admission, Ancestry, ClusterState, HaError, Moment, NodeName, Observation, OnDisk, Peer, Postgres,
    Prepared, Primary, Promoting, Receiver, Role, Standby, StandbyName, Store, SyncNames, Upstream,
    WalSender,
    act::{next_timeline, receivers},
    fence::{kill_server, server_processes},
    observe::{Answer, Effect, EndOfWal, Probed, Prober, end_of_wal, slot_of},
    supervise::Postmaster,
};
use pgproof_pg::{ControlFile, Lsn, TimelineHistory, TimelineId};
use pgproof_server::find;
use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long a standby's reply may be missing before it counts as not streaming.
const REPLY_LIMIT_MS: u64 = 3000;

/// How long what a crashed server left may take to die.
const CLEAR_LIMIT: Duration = Duration::from_secs(5);

/// What looking needs to remember from one time to the next.
pub(super) struct Looker {
    prober: Prober,
    pub(super) probe: Duration,
    effect: Effect,
    pub(super) postmaster: Option<Postmaster>,
    /// The end of WAL of a server that does not run.
    pub(super) end: Option<EndOfWal>,
    /// Set by a promotion that was asked for.
    pub(super) promoting: bool,
    streaming: BTreeMap<NodeName, Moment>,
    end_of_recovery: Option<Lsn>,
    /// When this server was last seen to answer, by its postmaster.
    answered: Option<u32>,
}

impl Looker {
    pub(super) fn new(board: &Board, probe: Duration) -> Self {
        Self {
            prober: Prober::new(board.node.connect()),
            probe,
            effect: Effect::default(),
            postmaster: None,
            end: None,
            promoting: false,
            streaming: BTreeMap::new(),
            end_of_recovery: None,
            answered: None,
        }
    }

    /// Forgets what was known of a server that is started anew.
    pub(super) fn forget(&mut self) {
        (self.end, self.promoting, self.end_of_recovery, self.answered) = (None, false, None, None);
        self.streaming.clear();
        self.effect = Effect::default();
    }

    pub(super) fn look(&mut self, board: &Board) -> Result<Observation, HaError> {
        let postgres = self.postgres(board)?;
        let notes = board.notes();
        let store = match &notes.reading {
            Some(reading) if notes.store_answers => Store::Known(reading.clone()),
            _ => Store::Unknown,
        };
        let peers = notes.peers.iter();
        let peers = peers.map(|(name, (heard, answer))| {
            (name.clone(), Peer { heard: *heard, report: answer.report.clone() })
        });
        let recent = |asked: Moment| now().since(asked) < board.heartbeat * 2;
        Ok(Observation {
            me: board.me.clone(),
            store,
            postgres,
            peers: peers.collect(),
            refusals: notes.refusals.clone(),
            asked_to_refuse: notes.asked_to_refuse.filter(|(_, asked)| recent(*asked)).map(|(term, _)| term),
            wall_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()),
        })
    }

    fn postgres(&mut self, board: &Board) -> Result<Postgres, HaError> {
        let node = &board.node;
        if !node.exists() {
            return Ok(Postgres::Absent);
        }
        if self.postmaster.as_mut().is_some_and(Postmaster::has_ended) {
            self.postmaster = None;
            self.forget();
        }
        if self.postmaster.is_none() {
            self.postmaster = Postmaster::adopt(&node.data)?;
        }
        let Some(postmaster) = &self.postmaster else {
            if !server_processes(&node.data)?.is_empty() {
                // Orphans of a postmaster that is gone: they can still commit.
                kill_server(&node.data, CLEAR_LIMIT)?;
            }
            return self.on_disk(board).map(Postgres::Stopped);
        };
        let pid = postmaster.pid();
        let state = board.notes().state.clone();
        let others = state.iter().flat_map(|state| state.members.keys()).filter(|name| **name != board.me);
        let slots = others.map(slot_of).collect();
        let accepts = node.control()?.accepts_connections().map_err(HaError::server("look at the server"))?;
        let probed = if accepts { self.prober.ask(slots, self.probe) } else { Probed::Failed(String::new()) };
        match probed {
            Probed::Answered(answer) => {
                self.answered = Some(pid);
                self.answer(board, &answer)
            }
            Probed::Silent(since) => {
                let role = if node.is_standby() { Role::Standby } else { Role::Primary };
                Ok(Postgres::Hung { since, role })
            }
            Probed::Failed(_) => self.on_disk(board).map(Postgres::Starting),
        }
    }

    fn on_disk(&mut self, board: &Board) -> Result<OnDisk, HaError> {
        let node = &board.node;
        let control = control_file(board)?;
        if self.end.is_none() && self.postmaster.is_none() {
            self.end = end_of_wal(&node.data, control.wal_segment_size, control.checkpoint).ok();
        }
        let end = self.end;
        Ok(OnDisk {
            system: control.system_identifier,
            role: if node.is_standby() { Role::Standby } else { Role::Primary },
            timeline: end.map_or(control.timeline, |end| end.timeline),
            position: end.map(|end| end.lsn),
            names: node.names()?,
            upstream: upstream(board)?,
            ancestry: end.map_or(Ancestry::Unknown, |end| ancestry(board, end)),
            redo_bytes: end.map_or(0, |end| end.lsn.0.saturating_sub(control.redo.0)),
        })
    }

    fn answer(&mut self, board: &Board, answer: &Answer) -> Result<Postgres, HaError> {
        if answer.in_recovery {
            return self.standby(board, answer).map(Postgres::Standby);
        }
        self.promoting = false;
        self.primary(board, answer).map(Postgres::Primary)
    }

    fn standby(&mut self, board: &Board, answer: &Answer) -> Result<Standby, HaError> {
        let node = &board.node;
        let control = control_file(board)?;
        let stopped = answer.conninfo.is_empty() && receivers(&node.data)?.is_empty();
        let end = match answer.receiver.filter(|_| !stopped) {
            Some((timeline, lsn, _)) => Some(EndOfWal { timeline, lsn }),
            None => {
                let replayed = answer.position.unwrap_or(control.checkpoint);
                end_of_wal(&node.data, control.wal_segment_size, replayed).ok()
            }
        };
        let heard = answer.receiver.map(|(_, _, silent_ms)| Moment(now().0.saturating_sub(silent_ms)));
        let timeline = end.map_or(control.timeline, |end| end.timeline);
        let ready = answer.restore_command.is_empty();
        let names = SyncNames::parse(&answer.names);
        let prepared = Prepared { names, timeline: next_timeline(&node.data, timeline) };
        Ok(Standby {
            system: control.system_identifier,
            timeline,
            position: end.map(|end| end.lsn),
            upstream: upstream(board)?,
            receiver: if stopped { Receiver::Stopped } else { Receiver::Possible { heard } },
            ancestry: end.map_or(Ancestry::Unknown, |end| ancestry(board, end)),
            prepared: ready.then_some(prepared),
            promoting: if self.promoting { Promoting::Yes } else { Promoting::No },
        })
    }

    fn primary(&mut self, board: &Board, answer: &Answer) -> Result<Primary, HaError> {
        let node = &board.node;
        let control = control_file(board)?;
        let position = answer.position.unwrap_or(control.checkpoint);
        let timeline = answer.timeline.unwrap_or(control.timeline);
        let in_effect = self.effect.note(&answer.names, &answer.senders);
        let shown = SyncNames::parse(&answer.names);
        let own_file = answer.hba_file.ends_with("pgproof_hba.conf");
        let end_of_recovery = match self.end_of_recovery {
            Some(known) => known,
            // A promotion ends where its history left the timeline before; a restart nowhere later than what is flushed now.
            None if node.admission() == Admission::Clients => {
                history(board, timeline).last().map_or(position, |(_, switch)| *switch)
            }
            None => position,
        };
        self.end_of_recovery = Some(end_of_recovery);
        Ok(Primary {
            system: control.system_identifier,
            timeline,
            end_of_recovery,
            position,
            names: node.names()?,
            names_in_effect: in_effect.then_some(shown),
            standbys: self.standbys(answer),
            admission: if own_file { node.admission() } else { Admission::Clients },
        })
    }

    fn standbys(&mut self, answer: &Answer) -> BTreeMap<NodeName, WalSender> {
        let mut found: BTreeMap<NodeName, WalSender> = BTreeMap::new();
        for sender in &answer.senders {
            let Ok(StandbyName { node, term }) = sender.name.parse() else { continue };
            let streams = sender.streams && sender.silent_ms < REPLY_LIMIT_MS;
            let since = streams.then(|| *self.streaming.entry(node.clone()).or_insert_with(now));
            let flush = sender.flush.unwrap_or(Lsn::INVALID);
            // A walsender of an older connection may still be dying.
            if found.get(&node).is_none_or(|other| other.term < term || other.streaming_since.is_none()) {
                found.insert(node, WalSender { term, flush, streaming_since: since });
            }
        }
        self.streaming
            .retain(|node, _| found.get(node).is_some_and(|sender| sender.streaming_since.is_some()));
        found
    }
}

fn control_file(board: &Board) -> Result<ControlFile, HaError> {
    find::control_file(&board.node.data).map_err(HaError::server("read the control file"))
}

fn upstream(board: &Board) -> Result<Option<Upstream>, HaError> {
    let state = board.notes().state.clone();
    let leader_at = |host: &str, port: u16| {
        let members = &state.as_ref()?.members;
        members
            .iter()
            .find(|(_, member)| member.host == host && member.port == port)
            .map(|(name, _)| name.clone())
    };
    board.node.upstream(leader_at)
}

/// The timelines that this node's timeline descends from, and where each was left.
pub(super) fn history(board: &Board, timeline: TimelineId) -> Vec<(TimelineId, Lsn)> {
    let path = board.node.data.join("pg_wal").join(timeline.history_file_name());
    let read = fs::read(path).ok().and_then(|content| TimelineHistory::parse(timeline, &content).ok());
    let ancestors = read.map(|history| history.ancestors().to_vec()).unwrap_or_default();
    ancestors.into_iter().map(|ancestor| (ancestor.timeline, ancestor.switch)).collect()
}

/// How what this node has relates to the leader's history, as the leader's agent told it.
fn ancestry(board: &Board, end: EndOfWal) -> Ancestry {
    let notes = board.notes();
    let leader = notes.state.as_deref().filter(|state| state.leader != board.me);
    leader.map_or(Ancestry::Unknown, |state| {
        relation(state, notes.peers.get(&state.leader).map(|(_, peer)| peer), end)
    })
}

fn relation(state: &ClusterState, leader: Option<&PeerAnswer>, end: EndOfWal) -> Ancestry {
    let Some(leader) = leader.filter(|leader| leader.timeline == Some(state.timeline)) else {
        return Ancestry::Unknown;
    };
    let shared = end.timeline == state.timeline
        || leader.history.iter().any(|(timeline, switch)| *timeline == end.timeline && end.lsn <= *switch);
    match leader.oldest_wal {
        _ if !shared => Ancestry::Diverged,
        Some(oldest) if end.lsn < oldest => Ancestry::TooOld,
        _ => Ancestry::Shared,
    }
}

//! One step of a decision, carried out. What failed is told and not repeated here: the next observation says what became of it.

use super::AgentConfig;
use super::board::{Board, now};
use super::look::Looker;
use super::store::{STATE_KEY, TOKEN_KEY, refresh};
use crate::{
    Action, ClusterState, HaError, Member, Position, Revision, Standing, SyncNames, Term, Upstream, Way,
    act::{allot_timeline, stop_receiving},
    dcs::{Before, Keep, Swapped, Write},
    fence::kill_server,
    observe::end_of_wal,
    supervise::Postmaster,
};
use pgproof_pg::TimelineId;
use pgproof_server::{Control, Session, find};
use std::{
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How long a receiver may take to end.
const STOP_RECEIVING_LIMIT: Duration = Duration::from_secs(5);

/// How long killed processes may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// How long a new cluster may take to accept connections.
const FOUND_LIMIT: Duration = Duration::from_secs(60);

/// Takes steps.
pub(super) struct Hands<'a> {
    pub(super) board: &'a Arc<Board>,
    pub(super) config: &'a AgentConfig,
    pub(super) looker: &'a mut Looker,
    pub(super) switchover_stop: Duration,
}

impl Hands<'_> {
    /// Takes the step; what it was, in words, when it changed something.
    pub(super) fn take(&mut self, action: &Action) -> Result<(), HaError> {
        match action {
            Action::Wait | Action::FindPosition => Ok(()),
            Action::Write { expected, state, .. } => self.write(*expected, state),
            Action::StopReceiving => stop_receiving(&self.control()?, STOP_RECEIVING_LIMIT),
            Action::FetchWal { from, .. } => Err(HaError::NotSeen {
                operation: "fetch WAL of a witness",
                why: format!("{from} hands none out: witnesses are not supported yet"),
            }),
            Action::Follow(upstream) => {
                self.with_address(upstream, |node, host, port| node.follow(Some((upstream, host, port))))?;
                self.reload()
            }
            Action::SetNames(names) => {
                self.board.node.set_names(names)?;
                self.reload()
            }
            Action::PreparePromotion { names, timeline } => self.prepare_promotion(names, *timeline),
            Action::Promote => self.promote(),
            Action::StartPrimary { names } => {
                self.board.node.prepare_primary(names)?;
                self.start()
            }
            Action::StartStandby { upstream } => self.start_standby(upstream.as_ref()),
            Action::Kill { .. } => self.kill(),
            Action::StopForSwitchover => self.stop_for_switchover(),
            Action::Rejoin { upstream, way } => self.rejoin(upstream, *way),
            Action::Found => self.found(),
        }
    }

    fn control(&self) -> Result<Control, HaError> {
        self.board.node.control()
    }

    fn reload(&self) -> Result<(), HaError> {
        self.control()?.reload().map_err(HaError::server("reload the server"))
    }

    fn write(&self, expected: Revision, state: &ClusterState) -> Result<(), HaError> {
        let revision = i64::try_from(expected.0).unwrap_or(i64::MAX);
        let before =
            if revision == 0 { Before::Absent } else { Before::Revision(crate::dcs::Revision(revision)) };
        let written = self.board.dcs.swap(&[keep(STATE_KEY, before, json(state)?)]);
        // Done, changed by somebody else, or unknown: reading tells.
        refresh(self.board);
        written.map(drop).map_err(HaError::store("write the cluster's state"))
    }

    /// Does something with the address of the node that is to be followed.
    fn with_address(
        &self,
        upstream: &Upstream,
        act: impl FnOnce(&crate::act::Node, &str, u16) -> Result<(), HaError>,
    ) -> Result<(), HaError> {
        let state = self.board.notes().state.clone();
        let member = state.as_ref().and_then(|state| state.members.get(&upstream.leader));
        let member = member.ok_or_else(|| HaError::NotSeen {
            operation: "follow the leader",
            why: format!("{} is no member", upstream.leader),
        })?;
        act(&self.board.node, &member.host, member.port)
    }

    fn prepare_promotion(&self, names: &SyncNames, timeline: TimelineId) -> Result<(), HaError> {
        let data = &self.board.node.data;
        self.board.node.set_names(names)?;
        let control = find::control_file(data).map_err(HaError::server("read the control file"))?;
        let end = end_of_wal(data, control.wal_segment_size, control.checkpoint)?;
        allot_timeline(data, end.timeline, timeline)?;
        self.reload()
    }

    fn promote(&mut self) -> Result<(), HaError> {
        let failed = || HaError::server("promote");
        let mut session = Session::open(&self.board.node.connect()).map_err(failed())?;
        session.query("promote", "SELECT pg_promote(false)", &[]).map_err(failed())?;
        self.looker.promoting = true;
        // Its end is awaited here: the next observation is wanted the moment it has come, not a heartbeat later.
        let deadline = Instant::now() + self.looker.probe;
        while Instant::now() < deadline {
            let row = session
                .query_one("await the promotion", "SELECT pg_is_in_recovery()", &[])
                .map_err(failed())?;
            if !row.get::<_, bool>(0) {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), HaError> {
        self.looker.forget();
        let postmaster = Postmaster::start(&self.control()?)?;
        let board = Arc::clone(self.board);
        postmaster.watch(move || board.ring())?;
        self.looker.postmaster = Some(postmaster);
        // Usually it answers within a tenth of a second; longer is seen by looking.
        let control = self.control()?;
        let deadline = Instant::now() + Duration::from_secs(1);
        while Instant::now() < deadline && !control.accepts_connections().unwrap_or(false) {
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn start_standby(&mut self, upstream: Option<&Upstream>) -> Result<(), HaError> {
        match upstream {
            Some(upstream) => self.with_address(upstream, |node, host, port| {
                node.prepare_standby(Some((upstream, host, port)))
            })?,
            None => self.board.node.prepare_standby(None)?,
        }
        self.start()
    }

    fn kill(&mut self) -> Result<(), HaError> {
        kill_server(&self.board.node.data, KILL_LIMIT)?;
        if let Some(mut postmaster) = self.looker.postmaster.take() {
            postmaster.has_ended();
        }
        self.looker.forget();
        Ok(())
    }

    fn stop_for_switchover(&mut self) -> Result<(), HaError> {
        let control = self.control()?;
        let limit = self.switchover_stop;
        let stopped = self.looker.postmaster.as_mut().map(|postmaster| postmaster.shut_down(&control, limit));
        match stopped {
            Some(Err(error)) => {
                self.kill()?;
                Err(error)
            }
            _ => {
                self.looker.postmaster = None;
                self.looker.forget();
                Ok(())
            }
        }
    }

    fn rejoin(&mut self, upstream: &Upstream, way: Way) -> Result<(), HaError> {
        self.kill()?;
        let data = &self.board.node.data;
        match way {
            Way::Rewind => {
                let control = find::control_file(data).map_err(HaError::server("read the control file"))?;
                let from = Some((control.redo, control.wal_segment_size));
                self.with_address(upstream, |node, host, port| node.rewind(host, port, from))?;
            }
            Way::Restore => {
                return Err(HaError::NotSeen {
                    operation: "restore from the repository",
                    why: "rejoining that way is not supported yet; a clone follows".to_owned(),
                });
            }
            Way::Clone => self.with_address(upstream, |node, host, port| node.clone_from(host, port))?,
        }
        self.start_standby(Some(upstream))
    }

    /// Makes the cluster: `initdb` where there is nothing, else what is here becomes its first primary.
    fn found(&mut self) -> Result<(), HaError> {
        let node = &self.board.node;
        if !node.exists() {
            node.init()?;
        }
        if self.looker.postmaster.is_none() {
            node.prepare_primary(&SyncNames::None)?;
            node.admit(crate::Admission::Clients)?;
            self.start()?;
        }
        let deadline = Instant::now() + FOUND_LIMIT;
        let control = self.control()?;
        while !control.accepts_connections().map_err(HaError::server("look at the server"))? {
            if Instant::now() >= deadline {
                let why = "it does not accept connections".to_owned();
                return Err(HaError::NotSeen { operation: "start the first primary", why });
            }
            thread::sleep(Duration::from_millis(20));
        }
        let file = find::control_file(&node.data).map_err(HaError::server("read the control file"))?;
        let position = Position::new(Term(1), file.checkpoint);
        let members = BTreeMap::from([(self.board.me.clone(), self.member())]);
        let (mode, me) = (self.config.mode, self.board.me.clone());
        let state = ClusterState::founded(file.system_identifier, mode, me, members, file.timeline, position);
        let token: u128 = rand::random();
        let writes = [
            keep(STATE_KEY, Before::Absent, json(&state)?),
            keep(TOKEN_KEY, Before::Absent, format!("{token:032x}").into_bytes()),
        ];
        let written = self.board.dcs.swap(&writes).map_err(HaError::store("found the cluster"))?;
        refresh(self.board);
        match written {
            Swapped::Done => Ok(()),
            Swapped::Changed => {
                Err(HaError::NotSeen { operation: "found the cluster", why: "another node has".to_owned() })
            }
        }
    }

    /// This node as a member.
    pub(super) fn member(&self) -> Member {
        Member {
            standing: Standing::Candidate,
            agent_address: self.config.agent_address.clone(),
            host: self.config.host.clone(),
            port: self.config.node.port,
        }
    }

    /// Joins the members, or corrects this node's addresses: neither changes who votes.
    pub(super) fn join(&self) -> Result<(), HaError> {
        let (state, revision) = {
            let notes = self.board.notes();
            let Some(reading) = notes.reading.as_ref().filter(|_| notes.store_answers) else { return Ok(()) };
            let Some(state) = &reading.state else { return Ok(()) };
            (ClusterState::clone(state), reading.revision)
        };
        let present = state.members.get(&self.board.me);
        let is_same = |member: &Member| {
            let wanted = self.member();
            (&member.agent_address, &member.host, member.port)
                == (&wanted.agent_address, &wanted.host, wanted.port)
        };
        if present.is_some_and(is_same) || state.format > crate::STATE_FORMAT {
            return Ok(());
        }
        self.refuse_a_namesake(present)?;
        let mut next = state;
        next.members.insert(self.board.me.clone(), self.member());
        self.write(revision, &next)
    }

    /// Two agents under one name would take turns in changing the address.
    fn refuse_a_namesake(&self, present: Option<&Member>) -> Result<(), HaError> {
        let notes = self.board.notes();
        let heard = notes.peers.get(&self.board.me).map(|(heard, _)| now().since(*heard));
        match present {
            Some(member) if heard.is_some_and(|ago| ago < self.board.heartbeat * 8) => {
                Err(HaError::Refused {
                    why: format!("another agent at {} has the name {}", member.agent_address, self.board.me),
                    hint: "give each node a name of its own: cluster.node".to_owned(),
                })
            }
            _ => Ok(()),
        }
    }
}

fn keep(key: &str, before: Before, value: Vec<u8>) -> Write {
    Write { key: key.to_owned(), before, value: Some(value), keep: Keep::Always }
}

fn json(state: &ClusterState) -> Result<Vec<u8>, HaError> {
    serde_json::to_vec(state)
        .map_err(|error| HaError::NotSeen { operation: "write the cluster's state", why: error.to_string() })
}

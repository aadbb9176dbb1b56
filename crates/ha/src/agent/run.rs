//! The loop.

use super::board::{Board, PeerAnswer, Said, now};
use super::look::{Looker, history};
use super::step::Hands;
use super::{AgentConfig, peers, store, timers};
use crate::{
    Action, Admission, Clients, Decision, HaError, Memory, Moment, Observation, Postgres, Report, Role,
    Serving, Settings, Standing, Term,
    dcs::Dcs,
    decide, explain,
    fence::{BootTime, Fence, FencePlace},
    http,
};
use pgproof_pg::{Lsn, SegmentName};
use pgproof_server::find;
use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// What the agent tells whoever runs it.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step is taken.
    Step(&'a Action),
    /// A step, or looking, failed.
    Failed(&'a HaError),
    /// Nothing goes on, for this reason; told when it changes.
    Blocked(String),
}

/// Crash recovery on a slow disk; what is faster than this only makes a restart in place the better choice sooner.
const REPLAY_BYTES_S: u64 = 50 << 20;

struct Agent<'a> {
    config: &'a AgentConfig,
    board: Arc<Board>,
    looker: Looker,
    settings: Settings,
    memory: Memory,
    place: FencePlace,
    fence: Option<Fence>,
    known: BTreeSet<crate::NodeName>,
    tell: &'a dyn Fn(Event<'_>),
}

/// Runs the agent of a node until `stop`; PostgreSQL goes on, guarded by the fence as long as that was told to wait.
///
/// # Errors
/// What cannot be begun: [`HaError::Refused`] for an RTO, [`HaError::Host`] for an address that is taken.
pub fn run(
    config: &AgentConfig,
    dcs: Arc<dyn Dcs>,
    stop: &AtomicBool,
    tell: &dyn Fn(Event<'_>),
) -> Result<(), HaError> {
    let timers = timers(config.rto, config.mode)?;
    let board = Board::new(config.node.clone(), timers.heartbeat, dcs);
    let listener = TcpListener::bind(&config.listen).map_err(HaError::host("listen on", &config.listen))?;
    http::serve(&board, listener)?;
    store::start(&board);
    let settings = Settings {
        me: config.node.name.clone(),
        mode: config.mode,
        standing: Standing::Candidate,
        timers: timers.clone(),
        replay_bytes_s: REPLAY_BYTES_S,
        founding: config.founding,
    };
    let memory = Memory::fresh(now(), &timers);
    let looker = Looker::new(&board, timers.probe);
    let place = FencePlace { directory: config.node.directory.clone() };
    let mut agent =
        Agent { config, board, looker, settings, memory, place, fence: None, known: BTreeSet::new(), tell };
    let mut blocked = None;
    while !stop.load(Ordering::Relaxed) {
        let pause = agent.turn(&mut blocked);
        agent.board.wait(pause);
    }
    Ok(())
}

impl Agent<'_> {
    /// Looks, decides, acts; how long to wait before the next time.
    fn turn(&mut self, blocked: &mut Option<String>) -> Duration {
        let heartbeat = self.settings.timers.heartbeat;
        peers::start(&self.board, &mut self.known);
        let observed = self.looker.look(&self.board);
        let seen = match observed {
            Ok(seen) => seen,
            Err(error) => {
                (self.tell)(Event::Failed(&error));
                return heartbeat;
            }
        };
        let decision = decide(&self.settings, &self.memory, &seen, now());
        self.memory = decision.memory.clone();
        self.publish(&seen, &decision);
        let why = decision.blocked.as_ref().map(explain::blocked);
        if *blocked != why {
            if let Some(why) = &why {
                (self.tell)(Event::Blocked(why.clone()));
            }
            *blocked = why;
        }
        let taken = self.levels(&seen, &decision).and_then(|()| self.step(&decision));
        match taken {
            Err(error) => {
                (self.tell)(Event::Failed(&error));
                heartbeat
            }
            Ok(()) if decision.action == Action::Wait => {
                Duration::from_millis(decision.again.0.saturating_sub(now().0))
            }
            // What a step changed is looked at without delay.
            Ok(()) => Duration::ZERO,
        }
    }

    /// Brings about how things have to be, whatever the step is: the fence first.
    fn levels(&mut self, seen: &Observation, decision: &Decision) -> Result<(), HaError> {
        let runs_primary = match &seen.postgres {
            Postgres::Primary(_) | Postgres::Hung { role: Role::Primary, .. } => true,
            Postgres::Starting(disk) => disk.role == Role::Primary,
            Postgres::Standby(standby) => standby.promoting == crate::Promoting::Yes,
            _ => false,
        };
        let becomes_primary = matches!(decision.action, Action::Promote | Action::StartPrimary { .. });
        if runs_primary || becomes_primary {
            if let Some(until) = decision.fence {
                self.arm(until)?;
            }
        } else {
            self.release()?;
        }
        if let Postgres::Primary(primary) = &seen.postgres
            && primary.admission != decision.admission
            && decision.admission == Admission::Clients
            && self.board.node.admit(decision.admission)?
        {
            self.board.node.control()?.reload().map_err(HaError::server("reload the server"))?;
        }
        self.board.notes().leads = decision.clients == Clients::Primary;
        Ok(())
    }

    fn arm(&mut self, until: Moment) -> Result<(), HaError> {
        self.with_fence(|fence| fence.arm(BootTime(until.0)).map(drop))
    }

    fn release(&mut self) -> Result<(), HaError> {
        self.with_fence(|fence| fence.release().map(drop))
    }

    /// A fencing process that is gone is replaced at once: a primary must not run unguarded.
    fn with_fence(&mut self, ask: impl Fn(&mut Fence) -> Result<(), HaError>) -> Result<(), HaError> {
        if let Some(fence) = &mut self.fence
            && ask(fence).is_ok()
        {
            return Ok(());
        }
        if let Some(mut gone) = self.fence.take() {
            gone.reap();
        }
        let mut fence = Fence::find_or_start(&self.config.program, &self.place, &self.board.node.data)?;
        ask(&mut fence)?;
        self.fence = Some(fence);
        Ok(())
    }

    fn step(&mut self, decision: &Decision) -> Result<(), HaError> {
        if decision.action != Action::Wait {
            (self.tell)(Event::Step(&decision.action));
        }
        let switchover_stop = self.settings.timers.switchover_stop;
        let mut hands =
            Hands { board: &self.board, config: self.config, looker: &mut self.looker, switchover_stop };
        hands.join()?;
        let taken = hands.take(&decision.action);
        if let (Err(_), Action::Rejoin { way, .. }) = (&taken, &decision.action) {
            self.memory.rejoin_failed(*way);
        }
        taken
    }

    /// Tells HTTP and the other agents.
    fn publish(&self, seen: &Observation, decision: &Decision) {
        let state = self.memory.state();
        let term = state.map_or(Term(0), |state| state.term);
        let (serving, timeline, position) = match &seen.postgres {
            Postgres::Primary(primary) => (Serving::Primary, Some(primary.timeline), Some(primary.position)),
            Postgres::Standby(standby) => (Serving::Standby, Some(standby.timeline), standby.position),
            _ => (Serving::Nothing, None, None),
        };
        let of_term = timeline.and_then(|timeline| state?.term_of(timeline));
        let is_primary = serving == Serving::Primary;
        let answer = PeerAnswer {
            node: self.board.me.clone(),
            report: Report {
                term,
                serving,
                leader: decision.leader,
                position: of_term.zip(position).map(|(term, lsn)| crate::Position::new(term, lsn)),
            },
            timeline: timeline.filter(|_| is_primary),
            history: timeline
                .filter(|_| is_primary)
                .map(|timeline| history(&self.board, timeline))
                .unwrap_or_default(),
            oldest_wal: if is_primary { self.oldest_wal() } else { None },
            clients: match decision.clients {
                Clients::Primary => "primary",
                Clients::Replica => "replica",
                Clients::Nobody => "nobody",
            }
            .to_owned(),
            blocked: decision.blocked.as_ref().map(explain::blocked),
            lag_bytes: self.lag(seen, position),
        };
        let refusal = decision.refusal.map(|until| (term, until));
        let clients = Some(decision.clients);
        let said = Said { answer: Some(answer), clients, refusal, at: now() };
        self.board.notes().said = said;
        self.board.tell();
    }

    /// A standby's distance from what the leader's agent last told.
    fn lag(&self, seen: &Observation, position: Option<Lsn>) -> Option<u64> {
        let Postgres::Standby(_) = &seen.postgres else { return None };
        let leader = &self.memory.state()?.leader;
        let theirs = seen.peers.get(leader)?.report.position?;
        Some(theirs.lsn.0.saturating_sub(position?.0))
    }

    fn oldest_wal(&self) -> Option<Lsn> {
        let data = &self.board.node.data;
        let size = find::control_file(data).ok()?.wal_segment_size;
        let names = fs::read_dir(data.join("pg_wal")).ok()?.flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| SegmentName::parse(&name, size).ok()).map(|segment| segment.start(size)).min()
    }
}

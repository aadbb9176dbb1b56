//! What a server says of itself on a fresh connection, and whether it can still write.
//!
//! Connections are fresh because a frozen postmaster is not seen through an old one. Everything is asked on a thread of its own
//! ([`Prober`]): a server that hangs holds that thread and nobody else, and what is told of it is that it does not answer.

use crate::{HaError, Moment, NodeName, fence::BootTime};
use pgproof_pg::{Lsn, TimelineId};
use pgproof_server::{ConnectOptions, Session};
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

/// A walsender, as `pg_stat_replication` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sender {
    /// Its process.
    pub pid: i32,
    /// The standby's `application_name`.
    pub name: String,
    /// Whether it streams, and does not catch up or copy.
    pub streams: bool,
    /// What the standby has flushed.
    pub flush: Option<Lsn>,
    /// When the standby last replied, as the server prints it; only differences matter.
    pub replied: String,
    /// How long ago that is.
    pub silent_ms: u64,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Whether it recovers, that is, is a standby.
    pub in_recovery: bool,
    /// Standby: replayed up to here. Primary: flushed up to here.
    pub position: Option<Lsn>,
    /// A primary's timeline.
    pub timeline: Option<TimelineId>,
    /// `synchronous_standby_names` in effect for a new session.
    pub names: String,
    /// `primary_conninfo` in effect for a new session.
    pub conninfo: String,
    /// `restore_command` in effect for a new session.
    pub restore_command: String,
    /// `hba_file` in use.
    pub hba_file: String,
    /// A standby that streams: timeline, flushed position, and how long ago it last heard of its primary.
    pub receiver: Option<(TimelineId, Lsn, u64)>,
    /// A primary's walsenders.
    pub senders: Vec<Sender>,
}

const STATE: &str = "SELECT r.yes, \
    CASE WHEN r.yes THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END::text, \
    CASE WHEN NOT r.yes THEN ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END, \
    current_setting('synchronous_standby_names'), current_setting('primary_conninfo'), \
    current_setting('restore_command'), current_setting('hba_file') \
    FROM (SELECT pg_is_in_recovery() AS yes) r";

const RECEIVER: &str = "SELECT received_tli, flushed_lsn::text, \
    greatest(extract(epoch FROM clock_timestamp() - last_msg_receipt_time) * 1000, 0)::int8 \
    FROM pg_stat_wal_receiver WHERE status = 'streaming' AND flushed_lsn IS NOT NULL";

const SENDERS: &str = "SELECT pid, application_name, state = 'streaming', flush_lsn::text, coalesce(reply_time::text, ''), \
    coalesce(greatest(extract(epoch FROM clock_timestamp() - reply_time) * 1000, 0), 3600000)::int8 \
    FROM pg_stat_replication";

/// Commits a record without waiting for a standby: a wait for one is no hang. It also makes every standby reply.
const WRITE: &str = "SELECT pg_logical_emit_message(true, 'pgproof', '')";

fn lsn(text: Option<String>) -> Option<Lsn> {
    text.and_then(|text| text.parse().ok())
}

/// Asks once.
fn ask(connect: &ConnectOptions, slots: &[String]) -> Result<Answer, HaError> {
    let failed = || HaError::server("observe the server");
    let mut session = Session::open(connect).map_err(failed())?;
    let row = session.query_one("ask for its state", STATE, &[]).map_err(failed())?;
    let mut answer = Answer {
        in_recovery: row.get(0),
        position: lsn(row.get(1)),
        timeline: row.get::<_, Option<i32>>(2).map(|timeline| TimelineId(timeline.cast_unsigned())),
        names: row.get(3),
        conninfo: row.get(4),
        restore_command: row.get(5),
        hba_file: row.get(6),
        receiver: None,
        senders: Vec::new(),
    };
    if answer.in_recovery {
        let rows = session.query("ask for its receiver", RECEIVER, &[]).map_err(failed())?;
        answer.receiver = rows.first().and_then(|row| {
            let timeline = TimelineId(row.get::<_, i32>(0).cast_unsigned());
            Some((timeline, lsn(row.get(1))?, row.get::<_, i64>(2).cast_unsigned()))
        });
    } else {
        session.execute("write", WRITE).map_err(failed())?;
        let rows = session.query("ask for its walsenders", SENDERS, &[]).map_err(failed())?;
        answer.senders = rows.iter().map(sender).collect();
        for slot in slots {
            let make = "SELECT pg_create_physical_replication_slot($1, true) \
                WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)";
            session.query("make a replication slot", make, &[slot]).map_err(failed())?;
        }
    }
    Ok(answer)
}

fn sender(row: &postgres::Row) -> Sender {
    Sender {
        pid: row.get(0),
        name: row.get(1),
        streams: row.get(2),
        flush: lsn(row.get(3)),
        replied: row.get(4),
        silent_ms: row.get::<_, i64>(5).cast_unsigned(),
    }
}

/// The replication slot of a node, on every other.
#[must_use]
pub fn slot_of(node: &NodeName) -> String {
    format!("pgproof_{}", node.as_str().replace('-', "_"))
}

#[derive(Default)]
struct Board {
    /// When the probe that is under way began.
    began: Option<Moment>,
    done: Option<(Moment, Result<Answer, String>)>,
}

/// What is known of a server that is asked over and over.
#[derive(Debug, Clone, PartialEq)]
pub enum Probed {
    /// It answered a question that was asked after this one.
    Answered(Answer),
    /// It refused or failed to answer: it starts, or stops.
    Failed(String),
    /// It has not answered since then.
    Silent(Moment),
}

/// Asks one server on a thread of its own.
pub struct Prober {
    wanted: mpsc::Sender<Vec<String>>,
    board: Arc<(Mutex<Board>, Condvar)>,
}

fn now() -> Moment {
    Moment(BootTime::now().0)
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Prober {
    /// Begins with nothing asked.
    #[must_use]
    pub fn new(connect: ConnectOptions) -> Self {
        let (wanted, asked) = mpsc::channel::<Vec<String>>();
        let board: Arc<(Mutex<Board>, Condvar)> = Arc::default();
        let shown = Arc::clone(&board);
        thread::spawn(move || {
            while let Ok(mut slots) = asked.recv() {
                // Whoever asked several times while one question hung wants one answer.
                while let Ok(later) = asked.try_recv() {
                    slots = later;
                }
                let began = now();
                lock(&shown.0).began = Some(began);
                let answer = ask(&connect, &slots).map_err(|error| describe(&error));
                let mut board = lock(&shown.0);
                (board.began, board.done) = (None, Some((began, answer)));
                shown.1.notify_all();
            }
        });
        Self { wanted, board }
    }

    /// Asks, and waits so long for the answer. `slots` are the replication slots that a primary makes if they are missing.
    #[must_use]
    pub fn ask(&self, slots: Vec<String>, limit: Duration) -> Probed {
        let asked = now();
        // The thread lives as long as this does.
        let _ = self.wanted.send(slots);
        let deadline = Instant::now() + limit;
        let mut board = lock(&self.board.0);
        loop {
            if let Some((began, answer)) = board.done.as_ref().filter(|(began, _)| *began >= asked) {
                let _ = began;
                return match answer {
                    Ok(answer) => Probed::Answered(answer.clone()),
                    Err(why) => Probed::Failed(why.clone()),
                };
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Probed::Silent(board.began.unwrap_or(asked));
            }
            board = self.board.1.wait_timeout(board, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// An error with its causes, in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

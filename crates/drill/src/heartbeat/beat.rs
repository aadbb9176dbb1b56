//! Writes the heartbeat: once, or until told to stop.

use super::sql::{ROLE, creation};
use jiff::Timestamp;
use pgproof_server::{ConnectOptions, ServerError, Session};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longest pause between two attempts to reach a server that is away.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How often a pause looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Durability is what the server's settings say: a heartbeat that is acknowledged earlier than other commits measures nothing. A statement
/// that waits for a synchronous standby waits as the applications do.
const PREPARE: &str = "SET synchronous_commit TO DEFAULT";

const BEAT: &str = "UPDATE pgproof.heartbeat SET beat = clock_timestamp(), beats = beats + 1 \
    RETURNING (extract(epoch FROM beat) * 1000000)::int8, beats";

/// Why there was no beat.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeartbeatError {
    /// There is no table, or it has no row.
    #[error("there is no heartbeat in database {database} of {server}")]
    Absent {
        /// Where it was looked for.
        database: String,
        /// The server.
        server: String,
    },
    /// The server takes no writes.
    #[error("{server} is a standby, which takes no heartbeat")]
    Standby {
        /// The server.
        server: String,
    },
    /// The server did not do it.
    #[error("could not {operation}")]
    Server {
        /// What was being done.
        operation: &'static str,
        /// Why not.
        source: Box<ServerError>,
    },
}

impl HeartbeatError {
    fn server(operation: &'static str) -> impl FnOnce(ServerError) -> Self {
        move |source| Self::Server { operation, source: Box::new(source) }
    }

    /// The stable code of this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "heartbeat-absent",
            Self::Standby { .. } => "heartbeat-standby",
            Self::Server { source, .. } => source.code(),
        }
    }

    /// What an operator can do, as a command or a question.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Absent { .. } => "make it: pgproof heartbeat --create".to_owned(),
            Self::Standby { .. } => "beat on the primary; the row comes here with the WAL".to_owned(),
            Self::Server { source, .. } => source.hint(),
        })
    }
}

/// A beat that is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BeatReport {
    /// What was written, by the server's clock.
    pub beat: Timestamp,
    /// How many there have been.
    pub beats: i64,
}

/// Makes table and role where they are missing, as a role that may.
///
/// # Errors
/// [`HeartbeatError::Server`].
pub fn create(connect: &ConnectOptions) -> Result<(), HeartbeatError> {
    const CREATE: &str = "make the heartbeat's table";
    let mut session = Session::open(connect).map_err(HeartbeatError::server(CREATE))?;
    refuse_standby(&mut session)?;
    session.execute(CREATE, &creation()).map_err(HeartbeatError::server(CREATE))
}

/// Beats once. When this returns the beat is committed.
///
/// # Errors
/// [`HeartbeatError`].
pub fn beat(connect: &ConnectOptions) -> Result<BeatReport, HeartbeatError> {
    once(&mut open_session(connect)?, connect)
}

/// Beats at this interval until told to stop, whatever happens to the server meanwhile; `tell` hears of each failure once. Returns the
/// last beat.
///
/// # Errors
/// [`HeartbeatError::Absent`] when the first look finds no table: that does not mend itself.
pub fn beat_until(
    connect: &ConnectOptions,
    every: Duration,
    stop: &AtomicBool,
    tell: &dyn Fn(&HeartbeatError),
) -> Result<Option<BeatReport>, HeartbeatError> {
    let mut session = None;
    let (mut last, mut failures) = (None, 0);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        match again(&mut session, connect) {
            Ok(beat) => (last, failures) = (Some(beat), 0),
            Err(error @ HeartbeatError::Absent { .. }) if last.is_none() => return Err(error),
            Err(error) => {
                session = None;
                if failures == 0 {
                    tell(&error);
                }
                failures += 1;
            }
        }
        let pause = match failures {
            0 => every.saturating_sub(began.elapsed()),
            _ => every.max(Duration::from_secs(1)).saturating_mul(failures).min(RETRY_MAX.max(every)),
        };
        rest(pause, stop);
    }
    Ok(last)
}

fn again(session: &mut Option<Session>, connect: &ConnectOptions) -> Result<BeatReport, HeartbeatError> {
    let mut open = match session.take() {
        Some(open) => open,
        None => open_session(connect)?,
    };
    let beat = once(&mut open, connect)?;
    *session = Some(open);
    Ok(beat)
}

fn rest(pause: Duration, stop: &AtomicBool) {
    let until = Instant::now() + pause;
    while !stop.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(LOOK_EVERY));
    }
}

fn open_session(connect: &ConnectOptions) -> Result<Session, HeartbeatError> {
    const OPEN: &str = "prepare the heartbeat";
    let mut session = Session::open(connect).map_err(HeartbeatError::server(OPEN))?;
    session.execute(OPEN, PREPARE).map_err(HeartbeatError::server(OPEN))?;
    let may = "SELECT 1 FROM pg_roles WHERE rolname = $1 AND pg_has_role(oid, 'MEMBER')";
    if !session.query(OPEN, may, &[&ROLE]).map_err(HeartbeatError::server(OPEN))?.is_empty() {
        // Whatever else the session's own role may do is of no use here.
        session.execute(OPEN, &format!("SET ROLE {ROLE}")).map_err(HeartbeatError::server(OPEN))?;
    }
    Ok(session)
}

fn once(session: &mut Session, connect: &ConnectOptions) -> Result<BeatReport, HeartbeatError> {
    const WRITE: &str = "write the heartbeat";
    refuse_standby(session)?;
    let absent = |session: &Session| HeartbeatError::Absent {
        database: connect.database.clone().unwrap_or_default(),
        server: session.server().to_owned(),
    };
    let there = session.query_one(WRITE, super::IS_THERE, &[]).map_err(HeartbeatError::server(WRITE))?;
    if !there.get::<_, bool>(0) {
        return Err(absent(session));
    }
    let rows = session.query(WRITE, BEAT, &[]).map_err(HeartbeatError::server(WRITE))?;
    let beat = rows.first().and_then(|row| Some((Timestamp::from_microsecond(row.get(0)).ok()?, row.get(1))));
    let (beat, beats) = beat.ok_or_else(|| absent(session))?;
    Ok(BeatReport { beat, beats })
}

fn refuse_standby(session: &mut Session) -> Result<(), HeartbeatError> {
    const ASK: &str = "ask whether it is a primary";
    let row =
        session.query_one(ASK, "SELECT pg_is_in_recovery()", &[]).map_err(HeartbeatError::server(ASK))?;
    match row.get(0) {
        true => Err(HeartbeatError::Standby { server: session.server().to_owned() }),
        false => Ok(()),
    }
}

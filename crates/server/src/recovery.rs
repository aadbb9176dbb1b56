//! Watching a server recover until it has reached its target, or says why it cannot.

use crate::{
    control::Control,
    error::ServerError,
    find,
    session::{ConnectOptions, Session},
};
use pgproof_pg::{Lsn, TimelineId};
use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// How a recovery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryEnd {
    /// The server is a primary, on this timeline.
    Promoted {
        /// The new timeline.
        timeline: TimelineId,
        /// Where the new timeline begins or has come to since.
        at: Lsn,
    },
    /// It stands at its target and waits (`recovery_target_action = pause`).
    Paused {
        /// The last position replayed.
        at: Lsn,
    },
    /// It reached its target and shut down (`recovery_target_action = shutdown`).
    ShutDown,
}

/// How far a recovery has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryProgress {
    /// The segment being replayed, from the startup process's title.
    pub segment: Option<String>,
    /// The last position replayed; not known before the server accepts connections.
    pub replayed: Option<Lsn>,
    /// Commit time of the last transaction replayed, as PostgreSQL prints it.
    pub last_commit: Option<String>,
}

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

impl Control {
    /// Waits until the recovery of a server that was started ends. It may take any time as long as it comes forward;
    /// `stall_limit` bounds how long it may not. `show` is called whenever it has come forward.
    ///
    /// # Errors
    /// [`ServerError::Control`] with the end of the log when the server ends before its target, which is how PostgreSQL says
    /// that the target cannot be reached; [`ServerError::Timeout`] when it stalls.
    pub fn wait_for_recovery(
        &self,
        connect: &ConnectOptions,
        stall_limit: Duration,
        show: &mut dyn FnMut(&RecoveryProgress),
    ) -> Result<RecoveryEnd, ServerError> {
        let mut session = None;
        let mut progress = RecoveryProgress::default();
        let mut moved = Instant::now();
        loop {
            let Some(postmaster) = self.postmaster()? else { return self.ended() };
            let look = look(&mut session, connect);
            let seen = RecoveryProgress { segment: segment_in_title(postmaster.pid), ..look.progress };
            if seen != progress {
                moved = Instant::now();
                progress = seen;
                show(&progress);
            }
            // After the last look was shown: a short recovery gives no other.
            if let Some(end) = look.end {
                return Ok(end);
            }
            if moved.elapsed() >= stall_limit {
                return Err(self.timed_out("recovery to come forward", stall_limit, 0));
            }
            thread::sleep(PAUSE);
        }
    }

    /// The server is gone: as asked if it shut down cleanly, and the log tells it from a target that was missed.
    fn ended(&self) -> Result<RecoveryEnd, ServerError> {
        if find::was_shut_down(self.data_directory())? {
            return Ok(RecoveryEnd::ShutDown);
        }
        Err(self.failed("recover", "it ended before it reached its target".to_owned(), 0))
    }
}

struct Look {
    end: Option<RecoveryEnd>,
    progress: RecoveryProgress,
}

/// Asks the server. That it accepts no connection, or ends one, says nothing: it does so until its data is consistent, and
/// it cancels queries that stand in the way of replay.
fn look(session: &mut Option<Session>, connect: &ConnectOptions) -> Look {
    let nothing = Look { end: None, progress: RecoveryProgress::default() };
    if session.is_none() {
        *session = Session::open(connect).ok();
    }
    let Some(open) = session.as_mut() else { return nothing };
    match ask(open) {
        Ok(look) => look,
        Err(_) => {
            *session = None;
            nothing
        }
    }
}

const STATE: &str = "SELECT r.in_recovery, \
    CASE WHEN r.in_recovery THEN pg_get_wal_replay_pause_state() ELSE '' END, \
    CASE WHEN r.in_recovery THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text, \
    pg_last_xact_replay_timestamp()::text, \
    CASE WHEN r.in_recovery THEN 0 \
         ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END \
    FROM (SELECT pg_is_in_recovery() AS in_recovery) r";

fn ask(session: &mut Session) -> Result<Look, ServerError> {
    let row = session.query_one("ask how far recovery has come", STATE, &[])?;
    let (in_recovery, pause_state): (bool, String) = (row.get(0), row.get(1));
    let replayed: Option<Lsn> = row.get::<_, Option<String>>(2).and_then(|text| text.parse().ok());
    let at = replayed.unwrap_or(Lsn::INVALID);
    let timeline = TimelineId(row.get::<_, i32>(4).cast_unsigned());
    let end = match (in_recovery, pause_state.as_str()) {
        (false, _) => Some(RecoveryEnd::Promoted { timeline, at }),
        (true, "paused") => Some(RecoveryEnd::Paused { at }),
        (true, _) => None,
    };
    Ok(Look { end, progress: RecoveryProgress { segment: None, replayed, last_commit: row.get(3) } })
}

/// The startup process shows its segment in its title, `postgres: startup recovering 00000001000000000000000A`, also while
/// nobody may connect (`src/backend/access/transam/xlogrecovery.c`). It is a child of the postmaster.
fn segment_in_title(postmaster: u32) -> Option<String> {
    let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).ok()?;
    children.split_whitespace().find_map(|child| {
        let title = fs::read(format!("/proc/{child}/cmdline")).ok()?;
        let title = String::from_utf8_lossy(&title);
        let (_, segment) = title.split_once("startup recovering ")?;
        Some(segment.trim_end_matches(['\0', ' ']).to_owned())
    })
}

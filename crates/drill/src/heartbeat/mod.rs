//! The heartbeat: one row of the primary that says when it was last written, so that data loss is measured and not guessed.
//!
//! Whatever was committed before the newest heartbeat that came back, came back; what the primary had beyond it is lost. The row is one
//! for ever, in a page of its own with room for HOT updates, so that a beat writes about a hundred bytes of WAL, no index entry, and
//! needs no vacuum. It is written by a role that may do nothing else ([`sql`]).

mod beat;
mod sql;

pub use beat::{BeatReport, HeartbeatError, beat, beat_until, create};
pub use sql::{ROLE, creation};

use crate::recover::Recovered;
use crate::report::DataLoss;
use jiff::Timestamp;
use pgproof_pg::SystemIdentifier;
use pgproof_server::{ConnectOptions, ServerError, Session};

/// What the primary knew of its heartbeat at one moment, both by its own clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryBeat {
    /// The cluster.
    pub system: SystemIdentifier,
    /// The last heartbeat.
    pub beat: Timestamp,
    /// When it was asked.
    pub asked: Timestamp,
}

const IS_THERE: &str = "SELECT to_regclass('pgproof.heartbeat') IS NOT NULL";

/// Microseconds since 1970: the one form of an instant that needs no parsing.
const BEAT: &str = "SELECT (extract(epoch FROM beat) * 1000000)::int8, (extract(epoch FROM clock_timestamp()) * 1000000)::int8 \
    FROM pgproof.heartbeat";

/// Asks a server for its heartbeat; none where there is no table.
///
/// # Errors
/// [`ServerError`] when it cannot be asked.
pub fn look(connect: &ConnectOptions) -> Result<Option<PrimaryBeat>, ServerError> {
    let mut session = Session::open(connect)?;
    let Some((beat, asked)) = read(&mut session)? else { return Ok(None) };
    let sql = "SELECT system_identifier FROM pg_control_system()";
    let row = session.query_one("ask for the system identifier", sql, &[])?;
    // SQL has no unsigned numbers: half of all identifiers look negative there.
    let system = SystemIdentifier(row.get::<_, i64>(0).cast_unsigned());
    Ok(Some(PrimaryBeat { system, beat, asked }))
}

/// The newest heartbeat of a recovered server. A table that cannot be read is as none: the data loss is unknown then, and that is said.
pub(crate) fn recovered_beat(recovered: &Recovered, database: &str) -> Option<Timestamp> {
    let mut session = recovered.open(database).ok()?;
    read(&mut session).ok()?.map(|(beat, _)| beat)
}

/// The heartbeat, and the server's clock.
fn read(session: &mut Session) -> Result<Option<(Timestamp, Timestamp)>, ServerError> {
    const READ: &str = "read the heartbeat";
    if !session.query_one(READ, IS_THERE, &[])?.get::<_, bool>(0) {
        return Ok(None);
    }
    let instant = |micros: i64| Timestamp::from_microsecond(micros).ok();
    let rows = session.query(READ, BEAT, &[])?;
    Ok(rows.first().and_then(|row| Some((instant(row.get(0))?, instant(row.get(1))?))))
}

/// What would have been lost. `began` is when the drill began by this host's clock, which counts where the primary could not be asked: then
/// the clocks' difference is in the result.
pub(crate) fn loss(recovered: Timestamp, primary: Option<&PrimaryBeat>, began: Timestamp) -> DataLoss {
    // What was archived while the drill ran may be newer than what the primary said at its begin: nothing is lost then.
    let since = |at: Timestamp| at.duration_since(recovered).as_secs_f64().max(0.0);
    DataLoss {
        recovered_beat: recovered,
        last_beat: primary.map(|primary| primary.beat),
        lost_s: primary.map(|primary| since(primary.beat)),
        at_most_s: since(primary.map_or(began, |primary| primary.asked)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_between_the_beats_and_never_negative() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let primary =
            |beat, asked| PrimaryBeat { system: SystemIdentifier(7), beat: at(beat), asked: at(asked) };
        let found = loss(at(100), Some(&primary(107, 110)), at(500));
        assert_eq!((found.lost_s, found.at_most_s), (Some(7.0), 10.0));
        let found = loss(at(120), Some(&primary(107, 110)), at(500));
        assert_eq!((found.lost_s, found.at_most_s), (Some(0.0), 0.0));
        let found = loss(at(100), None, at(160));
        assert_eq!((found.lost_s, found.at_most_s), (None, 60.0));
    }
}

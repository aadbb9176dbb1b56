//! The stream itself: WAL comes, acknowledgements go, and at its end the server says which timeline goes on.

use super::wire::{Incoming, Wire, unexpected};
use super::{COMMAND_TIMEOUT, Replication};
use crate::error::{Cause, ServerError};
use bytes::{Buf, BufMut, Bytes};
use fallible_iterator::FallibleIterator;
use pgproof_pg::{Lsn, TimelineId};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend::{self, CopyData};
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds from 1970 to 2000, where PostgreSQL's clock begins (`POSTGRES_EPOCH_JDATE` in `src/include/datatype/timestamp.h`).
const POSTGRES_EPOCH_S: u64 = 946_684_800;

/// What came through the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// WAL, with the position of its first byte.
    Wal {
        /// Where it begins.
        start: Lsn,
        /// The bytes.
        data: Bytes,
    },
    /// The server is there.
    Keepalive {
        /// How far its WAL goes.
        end: Lsn,
        /// It wants an acknowledgement now.
        reply_requested: bool,
    },
    /// Nothing within the time.
    Nothing,
    /// The stream has ended; [`Stream::finish`] gives the connection back.
    Ended,
}

/// WAL that flows. Dropping it ends the connection.
#[derive(Debug)]
pub struct Stream {
    connection: Replication,
    state: State,
}

/// How far a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Both sides send.
    Open,
    /// The server has sent its last: the timeline ended, and the next one begins there.
    Ended,
}

/// What the server makes of `START_REPLICATION`: a stream, or at once the end of a timeline that has nothing from that position on.
pub(super) fn begin(wire: &mut Wire) -> Result<State, Cause> {
    let deadline = Instant::now() + COMMAND_TIMEOUT;
    loop {
        match wire.next(deadline.saturating_duration_since(Instant::now()))? {
            Incoming::CopyBoth => return Ok(State::Open),
            Incoming::Message(Message::RowDescription(_)) => return Ok(State::Ended),
            Incoming::Message(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
            Incoming::Message(_) => return Err(unexpected("no stream")),
            Incoming::Nothing => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer").into());
            }
        }
    }
}

impl Stream {
    pub(super) fn new(connection: Replication, state: State) -> Self {
        Self { connection, state }
    }

    /// Where it comes from, for messages.
    pub fn server(&self) -> &str {
        self.connection.server()
    }

    /// The next piece, waiting for it at most so long; with no time to wait only what has already come.
    ///
    /// # Errors
    /// [`ServerError::Statement`] when the server or the connection failed.
    pub fn receive(&mut self, wait: Duration) -> Result<Received, ServerError> {
        if self.state == State::Ended {
            return Ok(Received::Ended);
        }
        let received = self.next(wait);
        received.map_err(|source| self.connection.failed("receive WAL", source))
    }

    fn next(&mut self, wait: Duration) -> Result<Received, Cause> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.connection.wire.next(left)? {
                Incoming::Message(Message::CopyData(body)) => return decode(body.into_bytes()),
                Incoming::Message(Message::CopyDone) => {
                    self.connection.wire.send(|out| {
                        frontend::copy_done(out);
                        Ok(())
                    })?;
                    self.state = State::Ended;
                    return Ok(Received::Ended);
                }
                // A server that stops says so and hangs up (`WalSndDone` in walsender.c).
                Incoming::Message(Message::CommandComplete(_)) => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server stops").into());
                }
                Incoming::Message(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                Incoming::Nothing => return Ok(Received::Nothing),
                Incoming::Message(_) | Incoming::CopyBoth => {
                    return Err(unexpected("a message that does not belong into a stream"));
                }
            }
        }
    }

    /// Tells the server what is written and what is durable here. A synchronous commit waits for the latter.
    ///
    /// # Errors
    /// [`ServerError::Statement`].
    pub fn acknowledge(&mut self, written: Lsn, durable: Lsn) -> Result<(), ServerError> {
        let status = standby_status(written, durable, SystemTime::now());
        let sent = self.connection.wire.send(|out| {
            CopyData::new(status)?.write(out);
            Ok(())
        });
        sent.map_err(|source| self.connection.failed("acknowledge WAL", source))
    }

    /// After the end: the connection, for commands again, and the timeline that goes on with the position where it begins; none when
    /// the server gave none.
    ///
    /// # Errors
    /// [`ServerError::Statement`], [`ServerError::Answer`].
    pub fn finish(mut self) -> Result<(Replication, Option<(TimelineId, Lsn)>), ServerError> {
        let next =
            self.read_next_timeline().map_err(|source| self.connection.failed("end the stream", source))?;
        let Some((timeline, begin)) = next else { return Ok((self.connection, None)) };
        match (timeline.parse(), begin.parse()) {
            (Ok(timeline), Ok(begin)) => Ok((self.connection, Some((TimelineId(timeline), begin)))),
            _ => Err(self.connection.odd("the next timeline", format!("{timeline} at {begin}"))),
        }
    }

    fn read_next_timeline(&mut self) -> Result<Option<(String, String)>, Cause> {
        let deadline = Instant::now() + COMMAND_TIMEOUT;
        let mut next = None;
        loop {
            match self.connection.wire.expect(deadline)? {
                Message::DataRow(body) => {
                    let text = |range: Option<std::ops::Range<usize>>| {
                        range.map(|range| String::from_utf8_lossy(&body.buffer()[range]).into_owned())
                    };
                    let row: Vec<Option<String>> = body.ranges().map(|range| Ok(text(range))).collect()?;
                    if let [Some(timeline), Some(begin)] = row.as_slice() {
                        next = Some((timeline.clone(), begin.clone()));
                    }
                }
                Message::ReadyForQuery(_) => return Ok(next),
                // What was on its way when the stream ended, and the frame of the answer.
                _ => {}
            }
        }
    }
}

/// `XLogData` and `Primary keepalive message` (manual, "Streaming Replication Protocol").
fn decode(mut body: Bytes) -> Result<Received, Cause> {
    let kind = body.first().copied();
    let needed = match kind {
        Some(b'w') => 1 + 8 + 8 + 8,
        Some(b'k') => 1 + 8 + 8 + 1,
        _ => return Err(unexpected("copy data of an unknown kind")),
    };
    if body.len() < needed {
        return Err(unexpected("copy data that is too short"));
    }
    body.advance(1);
    let first = Lsn(body.get_u64());
    if kind == Some(b'w') {
        body.advance(16);
        return Ok(Received::Wal { start: first, data: body });
    }
    body.advance(8);
    Ok(Received::Keepalive { end: first, reply_requested: body.get_u8() != 0 })
}

/// `Standby status update`. Nothing is applied here, so nothing is said of that: `synchronous_commit = remote_apply` waits in vain.
fn standby_status(written: Lsn, durable: Lsn, now: SystemTime) -> bytes::BytesMut {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = since.saturating_sub(Duration::from_secs(POSTGRES_EPOCH_S));
    let mut status = bytes::BytesMut::with_capacity(34);
    status.put_u8(b'r');
    status.put_u64(written.0);
    status.put_u64(durable.0);
    status.put_u64(Lsn::INVALID.0);
    status.put_u64(u64::try_from(since.as_micros()).unwrap_or(u64::MAX));
    status.put_u8(0);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wal_and_keepalives_are_told_apart() {
        let wal = [&b"w"[..], &7_u64.to_be_bytes(), &9_u64.to_be_bytes(), &[0; 8], b"xy"].concat();
        let received = decode(Bytes::from(wal)).unwrap();
        assert_eq!(received, Received::Wal { start: Lsn(7), data: Bytes::from_static(b"xy") });
        let alive = [&b"k"[..], &9_u64.to_be_bytes(), &[0; 8], &[1]].concat();
        assert_eq!(
            decode(Bytes::from(alive)).unwrap(),
            Received::Keepalive { end: Lsn(9), reply_requested: true }
        );
    }

    #[test]
    fn what_is_too_short_or_unknown_is_refused() {
        for bytes in [&b""[..], b"x", b"w1234567", b"k12345678"] {
            decode(Bytes::copy_from_slice(bytes)).unwrap_err();
        }
    }

    #[test]
    fn a_status_counts_microseconds_from_2000() {
        let now = UNIX_EPOCH + Duration::from_secs(POSTGRES_EPOCH_S + 1);
        let status = standby_status(Lsn(2), Lsn(1), now);
        let expected = [
            &b"r"[..],
            &2_u64.to_be_bytes(),
            &1_u64.to_be_bytes(),
            &[0; 8],
            &1_000_000_u64.to_be_bytes(),
            &[0],
        ];
        assert_eq!(&status[..], expected.concat());
    }
}

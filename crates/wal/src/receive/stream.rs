//! Fills segments from the stream, syncs, acknowledges.

use super::place::{OpenSegment, Place, Spare};
use super::plan::begin;
use super::{Begin, Handed, ReceiveEvent, ReceiveRequest, Source};
use crate::error::WalError;
use pgproof_pg::{Lsn, SegmentName, TimelineId, WalSegmentSize};
use pgproof_server::ServerError;
use pgproof_server::replication::{Received, Stream};
use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::time::{Duration, Instant};

/// Written at most before it is synced and acknowledged, though more has come: commits wait for the acknowledgement.
const UNACKNOWLEDGED_MAX: u64 = 1 << 20;

/// How long a silent stream is listened to before the server is told that somebody is there. It gives up after `wal_sender_timeout`, 60 s
/// unless set otherwise; `pg_receivewal` reports as often.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// How soon a request to end is noticed.
const LISTEN: Duration = Duration::from_millis(200);

pub(super) struct Flow<'a> {
    place: &'a Place,
    size: WalSegmentSize,
    queue: &'a Sender<Handed>,
    spares: Receiver<io::Result<Spare>>,
    segment: Option<OpenSegment>,
    timeline: TimelineId,
    /// Behind the last byte that was written.
    written: Lsn,
    /// Behind the last byte that was synced.
    durable: Lsn,
    bytes_received: u64,
}

impl<'a> Flow<'a> {
    pub(super) fn new(
        place: &'a Place,
        size: WalSegmentSize,
        queue: &'a Sender<Handed>,
        spares: Receiver<io::Result<Spare>>,
    ) -> Self {
        Self {
            place,
            size,
            queue,
            spares,
            segment: None,
            timeline: TimelineId::FIRST,
            written: Lsn::INVALID,
            durable: Lsn::INVALID,
            bytes_received: 0,
        }
    }

    /// Timeline, durable position, bytes received.
    pub(super) fn position(&self) -> (TimelineId, Lsn, u64) {
        (self.timeline, self.durable, self.bytes_received)
    }

    /// What an earlier receiver left is handed over first.
    pub(super) fn hand_over_held(&self) -> Result<(), WalError> {
        let held = self.place.holdings().map_err(|error| self.spool("look into", error))?;
        for timeline in held.histories {
            self.hand_over(Handed::History(timeline));
        }
        for name in &held.complete {
            self.hand_over(Handed::Segment(*name));
        }
        // The newest partial segment is received on; the others are ends of timelines.
        let newest = held.partial.iter().max().copied();
        for name in held.partial.iter().filter(|name| Some(**name) != newest) {
            self.hand_over(Handed::Partial(*name));
        }
        Ok(())
    }

    fn hand_over(&self, file: Handed) {
        // A taker that is gone has failed, and says so itself.
        let _ = self.queue.send(file);
    }

    /// Receives until the connection fails or `goes_on` says no.
    pub(super) fn receive(
        &mut self,
        source: Source,
        request: &ReceiveRequest,
        goes_on: &dyn Fn() -> bool,
        tell: &dyn Fn(ReceiveEvent<'_>),
    ) -> Result<(), WalError> {
        let held = self.place.holdings().map_err(|error| self.spool("look into", error))?;
        let handed_over = self.place.handed_over();
        let mut at = self.resume(begin(&held, handed_over, &source.position, self.size));
        let mut replication = source.replication;
        loop {
            if at.timeline != TimelineId::FIRST && !self.place.history_path(at.timeline).exists() {
                let history = replication.timeline_history(at.timeline).map_err(failed)?;
                self.place
                    .keep_history(at.timeline, &history.content)
                    .map_err(|error| self.spool("keep a timeline history in", error))?;
                self.hand_over(Handed::History(at.timeline));
            }
            self.turn_to(at);
            let mut stream =
                replication.start_physical(request.slot.as_deref(), at.lsn, at.timeline).map_err(failed)?;
            tell(ReceiveEvent::Receiving { server: stream.server(), begin: at });
            if !self.follow(&mut stream, goes_on)? {
                return Ok(());
            }
            let (connection, next) = stream.finish().map_err(failed)?;
            replication = connection;
            let Some((timeline, lsn)) = next else { return Err(ended(replication.server())) };
            tell(ReceiveEvent::Timeline { timeline, begin: lsn });
            if let Some(rest) = self.segment.take() {
                self.inherit(rest.name, timeline, lsn)?;
                self.hand_over(Handed::Partial(rest.name));
            }
            // From the begin of the segment: the new timeline's file repeats what the old one's has before the switch.
            at = Begin { timeline, lsn: lsn.segment(self.size).start(self.size) };
        }
    }

    /// The new timeline's segment holds what the old one's has before it can be taken for the whole.
    fn inherit(&self, old: SegmentName, timeline: TimelineId, switch: Lsn) -> Result<(), WalError> {
        let new = SegmentName { timeline, ..old };
        if switch.segment(self.size) != old.number || self.place.partial_path(new).exists() {
            return Ok(());
        }
        self.place
            .inherit(old, new, switch, || self.spare())
            .map_err(|error| self.spool("begin a timeline in", error))
    }

    /// A file that was handed over is no longer held, but what follows it is what is wanted.
    fn resume(&self, begin: Begin) -> Begin {
        let known = Begin { timeline: self.timeline, lsn: self.durable.segment(self.size).start(self.size) };
        match self.durable.is_valid() && (known.lsn, known.timeline) > (begin.lsn, begin.timeline) {
            true => known,
            false => begin,
        }
    }

    fn turn_to(&mut self, at: Begin) {
        self.segment = None;
        self.timeline = at.timeline;
        (self.written, self.durable) = (at.lsn, at.lsn);
    }

    /// Follows one timeline; true when it ended, false when receiving is to end.
    fn follow(&mut self, stream: &mut Stream, goes_on: &dyn Fn() -> bool) -> Result<bool, WalError> {
        let (mut told, mut acknowledged) = (Instant::now(), self.durable);
        loop {
            let news = self.written.bytes_since(acknowledged);
            // While more has come it is written too: one sync then serves all commits in it.
            let wait = if news == 0 { LISTEN } else { Duration::ZERO };
            let received = match news < UNACKNOWLEDGED_MAX {
                true => stream.receive(wait).map_err(failed)?,
                false => Received::Nothing,
            };
            let (mut tells, mut ends) = (news > 0 || told.elapsed() >= STATUS_EVERY, false);
            match received {
                Received::Wal { start, data } => {
                    self.write(stream.server(), start, &data)?;
                    continue;
                }
                Received::Keepalive { reply_requested, .. } => tells |= reply_requested,
                Received::Ended => (tells, ends) = (false, true),
                Received::Nothing => {}
            }
            self.sync()?;
            if tells {
                stream.acknowledge(self.written, self.durable).map_err(failed)?;
                (told, acknowledged) = (Instant::now(), self.durable);
            }
            if ends {
                return Ok(true);
            }
            if !goes_on() {
                return Ok(false);
            }
        }
    }

    fn write(&mut self, server: &str, start: Lsn, mut data: &[u8]) -> Result<(), WalError> {
        if start != self.written {
            return Err(WalError::Server {
                operation: "receive WAL",
                source: ServerError::Answer {
                    server: server.to_owned(),
                    what: "the next position of WAL",
                    found: format!("{start} instead of {}", self.written),
                },
            });
        }
        self.bytes_received += data.len() as u64;
        while !data.is_empty() {
            let mut segment = match self.segment.take() {
                Some(segment) => segment,
                None => {
                    let name = SegmentName::new(self.timeline, self.written.segment(self.size));
                    self.place
                        .open(name, || self.spare())
                        .map_err(|error| self.spool("begin a segment in", error))?
                }
            };
            let taken = segment.write(self.written, data).map_err(|error| self.spool("write to", error))?;
            data = &data[taken..];
            self.written = self.written.plus(taken as u64);
            if segment.ends_at(self.written) {
                let name = self
                    .place
                    .complete(segment)
                    .map_err(|error| self.spool("complete a segment in", error))?;
                self.durable = self.written;
                self.hand_over(Handed::Segment(name));
            } else {
                self.segment = Some(segment);
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), WalError> {
        if let Some(segment) = &mut self.segment
            && let Err(error) = segment.sync()
        {
            return Err(self.spool("sync", error));
        }
        self.durable = self.written;
        Ok(())
    }

    fn spare(&self) -> io::Result<Spare> {
        match self.spares.recv() {
            Ok(Ok(spare)) => Ok(spare),
            // It failed when it was made; there may be room now.
            _ => self.place.make_spare(),
        }
    }

    fn spool(&self, operation: &'static str, source: io::Error) -> WalError {
        WalError::Spool { operation, path: self.place.folder().to_owned(), source }
    }
}

/// Keeps one segment of zeroes ready until nobody takes them: to fill one takes longer than commits should wait.
pub(super) fn make_spares(place: &Place, ready: &SyncSender<io::Result<Spare>>) {
    while ready.send(place.make_spare()).is_ok() {}
}

fn failed(source: ServerError) -> WalError {
    WalError::Server { operation: "receive WAL", source }
}

fn ended(server: &str) -> WalError {
    failed(ServerError::Answer {
        server: server.to_owned(),
        what: "the timeline that goes on",
        found: "nothing".to_owned(),
    })
}

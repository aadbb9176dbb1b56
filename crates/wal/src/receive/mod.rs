//! `archive receive`: takes WAL from the server as it is written, record by record, like a standby.
//!
//! Promises that nothing is acknowledged that is not synced in the [`place`], so that a server that waits for it
//! (`synchronous_standby_names`) loses no acknowledged commit as long as the place or the server survives; and that nothing leaves
//! the place before every repository that is required holds it. Where receiving begins is decided in [`plan`]; [`stream`] fills segments; [`handover`] brings
//! them to the repository, and [`deliver`] to a recovery that comes first.

pub(crate) mod deliver;
mod handover;
mod place;
mod plan;
#[cfg(test)]
mod powercut;
mod stream;
mod sync;

pub use plan::Begin;

use crate::error::{WalError, with_causes};
use crate::repositories::{NamedRepository, Rests};
use handover::{Epochs, Handover};
use pgproof_pg::{Lsn, SegmentName, SystemIdentifier, TimelineId, WalSegmentSize};
use pgproof_repo::Lineage;
use pgproof_repo::walobject::StoreOptions;
use pgproof_server::replication::Replication;
use pgproof_server::{ConnectOptions, ServerError};
use place::Place;
use plan::ServerPosition;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use sync::Syncs;

/// What is received, and where it goes.
#[derive(Debug, Clone)]
pub struct ReceiveRequest {
    /// The directory of the places; it must exist.
    pub spool: PathBuf,
    /// The name that `synchronous_standby_names` knows.
    pub name: String,
    /// The replication slot that keeps what is not received yet; it is made where there is none. Without a slot the server may
    /// remove WAL before it was received.
    pub slot: Option<String>,
    /// How segments are stored in the repository.
    pub options: StoreOptions,
}

/// What happens meanwhile, for whoever watches.
#[derive(Debug)]
pub enum ReceiveEvent<'a> {
    /// WAL flows.
    Receiving {
        /// From where.
        server: &'a str,
        /// The first position.
        begin: Begin,
    },
    /// The connection was lost; another attempt follows.
    Lost {
        /// Why.
        why: String,
        /// When it follows.
        again_in: Duration,
    },
    /// The server goes on with another timeline.
    Timeline {
        /// Which.
        timeline: TimelineId,
        /// Where it begins.
        begin: Lsn,
    },
    /// Every repository that is required holds a file.
    Stored {
        /// Its name.
        name: &'a str,
    },
    /// A repository that is not required did not take a file, and rests.
    Behind {
        /// The repository.
        repository: &'a str,
        /// The file.
        name: &'a str,
        /// Why not.
        why: String,
        /// When it is tried again.
        again_in: Duration,
    },
    /// A repository that is required did not take a file; another attempt follows.
    NotStored {
        /// Its name.
        name: &'a str,
        /// Why not.
        why: String,
        /// When it follows.
        again_in: Duration,
    },
}

/// What came of it, until it was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReceiveReport {
    /// The cluster.
    pub system_identifier: SystemIdentifier,
    /// The timeline received last.
    pub timeline: TimelineId,
    /// Up to where WAL is durable in the place.
    pub durable: Lsn,
    /// Bytes received.
    pub bytes_received: u64,
    /// Files that the repository took.
    pub stored: u64,
    /// Files that wait in the place for the repository; the next receiver hands them over.
    pub waiting: u64,
}

/// Between two attempts to connect: short, because commits may wait.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);

/// Receives until `stop` is set. The first connection must succeed; later ones are tried again and again.
///
/// # Errors
/// See [`WalError`]. Whatever was acknowledged lies in the place or in the repository.
pub fn receive(
    repositories: &[NamedRepository],
    connect: &ConnectOptions,
    request: &ReceiveRequest,
    stop: &AtomicBool,
    tell: &(dyn Fn(ReceiveEvent<'_>) + Sync),
) -> Result<ReceiveReport, WalError> {
    receive_with(repositories, connect, request, stop, tell, Syncs::default())
}

fn receive_with(
    repositories: &[NamedRepository],
    connect: &ConnectOptions,
    request: &ReceiveRequest,
    stop: &AtomicBool,
    tell: &(dyn Fn(ReceiveEvent<'_>) + Sync),
    syncs: Syncs,
) -> Result<ReceiveReport, WalError> {
    let mut source = Source::open(connect, request)?;
    let (system, size) = (source.system, source.size);
    let spool_error = |source| WalError::Spool { operation: "use", path: request.spool.clone(), source };
    let place = Place::take(&request.spool, system, size, syncs).map_err(spool_error)?;
    let place = place.ok_or_else(|| WalError::SpoolTaken { path: request.spool.clone() })?;
    let epochs = Arc::new(Epochs::observe(Lineage::new(system), repositories)?);
    let rests = Rests::default();
    let handover = Handover { repositories, epochs, rests, place: &place, request, size, tell };
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        let (queue, files) = std::sync::mpsc::channel();
        let taker = scope.spawn(|| {
            let taken = handover.run(files);
            failed.fetch_or(taken.is_err(), Ordering::Relaxed);
            taken
        });
        // Without room: one is ready while the next is not begun.
        let (ready, spares) = std::sync::mpsc::sync_channel(0);
        let making = &place;
        scope.spawn(move || stream::make_spares(making, &ready));
        let mut flow = stream::Flow::new(&place, size, &queue, spares);
        let goes_on = || !stop.load(Ordering::Relaxed) && !failed.load(Ordering::Relaxed);
        let received = (|| {
            flow.hand_over_held()?;
            loop {
                match flow.receive(source, request, &goes_on, tell) {
                    Ok(()) => return Ok(()),
                    Err(error) if !is_passing(&error) => return Err(error),
                    Err(error) => {
                        tell(ReceiveEvent::Lost { why: with_causes(&error), again_in: CONNECT_AGAIN })
                    }
                }
                source = loop {
                    thread::sleep(CONNECT_AGAIN);
                    if !goes_on() {
                        return Ok(());
                    }
                    match Source::open(connect, request) {
                        Ok(found) if found.system == system => break found,
                        Ok(found) => {
                            return Err(WalError::OtherServer { found: found.system, expected: system });
                        }
                        Err(error) => {
                            tell(ReceiveEvent::Lost { why: with_causes(&error), again_in: CONNECT_AGAIN })
                        }
                    }
                };
            }
        })();
        let (timeline, durable, bytes_received) = flow.position();
        drop(flow);
        drop(queue);
        let taken = taker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        received?;
        let taken = taken?;
        Ok(ReceiveReport {
            system_identifier: system,
            timeline,
            durable,
            bytes_received,
            stored: taken.stored,
            waiting: taken.waiting,
        })
    })
}

/// Does trying again help? The server that stops, restarts or is promoted comes back; WAL that it has removed does not.
fn is_passing(error: &WalError) -> bool {
    match error {
        // `undefined_file`: "requested WAL segment ... has already been removed".
        WalError::Server { source: ServerError::Statement { source, .. }, .. } => {
            source.code().is_none_or(|code| code.code() != "58P01")
        }
        WalError::Server { .. } => true,
        _ => false,
    }
}

/// A connection, and what the server said of itself.
struct Source {
    replication: Replication,
    system: SystemIdentifier,
    size: WalSegmentSize,
    position: ServerPosition,
}

impl Source {
    fn open(connect: &ConnectOptions, request: &ReceiveRequest) -> Result<Self, WalError> {
        let fail = |source| WalError::Server { operation: "receive WAL", source };
        let mut replication = Replication::open(connect, &request.name).map_err(fail)?;
        let identity = replication.identify_system().map_err(fail)?;
        let size = replication.wal_segment_size().map_err(fail)?;
        let slot = match &request.slot {
            Some(name) => {
                replication.create_physical_slot(name).map_err(fail)?;
                let position = replication.read_slot(name).map_err(fail)?;
                position.map(|position| (position.timeline, position.restart))
            }
            None => None,
        };
        let position = ServerPosition { timeline: identity.timeline, flushed: identity.flushed, slot };
        Ok(Self { replication, system: identity.system_identifier, size, position })
    }
}

/// A file for the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handed {
    Segment(SegmentName),
    /// The last of a timeline that ended.
    Partial(SegmentName),
    History(TimelineId),
}

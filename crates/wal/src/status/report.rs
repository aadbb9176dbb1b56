//! What `archive status` says.

use super::observation::{Room, Waiting};
use pgproof_base::Finding;
use pgproof_pg::{Lsn, SystemIdentifier, TimelineId};
use pgproof_server::ArchiverFacts;
use serde::Serialize;

/// The comparison.
#[derive(Debug, Clone, Serialize)]
pub struct StatusReport {
    /// The cluster.
    pub system: SystemIdentifier,
    /// Where the server is.
    pub position: Position,
    /// Where the repository is; none when it could not be reached.
    pub repository: Option<String>,
    /// The last archived segment of the server's timeline.
    pub last_archived: Option<String>,
    /// The position after it.
    pub archived_to: Option<Lsn>,
    /// Bytes of WAL that the server has and the archive has not, gaps apart.
    pub lag_bytes: Option<u64>,
    /// Seconds since the oldest of them was complete, or since the last segment was stored while the next one is filling.
    pub lag_s: Option<u64>,
    /// Files that wait for the archiver.
    pub waiting: u64,
    /// The one that has waited longest.
    pub oldest_waiting: Option<Waiting>,
    /// Space for `pg_wal`.
    pub wal_room: Option<Room>,
    /// Seconds until that is used up, if WAL goes on to pile up as fast as it did since the oldest waiting file was complete; none
    /// where too little waits to tell.
    pub wal_full_in_s: Option<u64>,
    /// What the archiver says; none when the server could not be asked.
    pub archiver: Option<ArchiverFacts>,
    /// Who receives WAL as it is written; none where nobody does, or the server could not be asked.
    pub receiver: Option<Receiver>,
    /// Segments that are missing in the archive, and that nobody is about to bring.
    pub gaps: Vec<Gap>,
    /// What is wrong, and what mends it.
    pub findings: Vec<Finding>,
}

/// Where a server is in its WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Its timeline.
    pub timeline: TimelineId,
    /// What it has flushed or replayed.
    pub lsn: Lsn,
    /// Who said it.
    pub source: PositionSource,
}

/// Who said a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionSource {
    /// A primary: what it has flushed.
    Primary,
    /// A standby: what it has replayed.
    Standby,
    /// The control file of a server that could not be asked: its last checkpoint.
    ControlFile,
}

/// A receiver of WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Receiver {
    /// Whether it streams now.
    pub active: bool,
    /// Whether commits wait for it.
    pub synchronous: bool,
    /// Up to where WAL is durable in its spool or the repository, as the server knows it.
    pub durable: Option<Lsn>,
    /// Bytes of WAL that the server has flushed and the receiver has not: what is lost with the server's disk.
    pub lag_bytes: Option<u64>,
}

/// Consecutive segments that are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The first one.
    pub first: String,
    /// The last one; the same when there is but one.
    pub last: String,
    /// How many.
    pub count: u64,
    /// What can be done about it.
    pub state: GapState,
    /// Those that are still in `pg_wal`.
    pub in_pg_wal: Vec<String>,
    /// Other repositories that hold all of them.
    pub held_by: Vec<String>,
}

/// What can be done about a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapState {
    /// All its segments are still in `pg_wal`, or another repository holds them.
    Mendable,
    /// Only a new backup lets recovery go on behind it.
    Open,
    /// A backup from behind it is there.
    Passed,
}

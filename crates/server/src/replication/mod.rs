//! A connection that streams WAL: what a standby is to its primary.
//!
//! Speaks the commands of the manual's chapter "Streaming Replication Protocol". The client library of ordinary sessions does not know
//! them, and crates that do know no Unix-domain sockets, through which alone a server lets its own account in without a password
//! (`docs/decisions`, 2026-11-23). Everything is blocking, and every wait has a limit.

mod basebackup;
mod stream;
mod wire;

pub use basebackup::{BaseBackup, BaseBackupOptions, SentPiece, SentTablespace};
pub use stream::{Received, Stream};

use crate::error::{Cause, ServerError};
use crate::session::{ConnectOptions, describe};
use fallible_iterator::FallibleIterator;
use pgproof_pg::{Lsn, SystemIdentifier, TimelineId, WalSegmentSize};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use std::time::{Duration, Instant};
use wire::{Wire, unexpected};

/// Commands answer at once, but for a slot that waits for a transaction; so does a server that does not hang.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Who the server is, and how far it has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemIdentity {
    /// The cluster.
    pub system_identifier: SystemIdentifier,
    /// The timeline it writes, or replays.
    pub timeline: TimelineId,
    /// How far its WAL is flushed.
    pub flushed: Lsn,
}

/// Where a physical replication slot holds WAL from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotPosition {
    /// WAL from here on is kept.
    pub restart: Lsn,
    /// The timeline of that position.
    pub timeline: TimelineId,
}

/// A timeline history file as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryFile {
    /// Its name.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// An open replication connection that runs commands.
pub struct Replication {
    wire: Wire,
    server: String,
}

impl std::fmt::Debug for Replication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Replication({})", self.server)
    }
}

type Row = Vec<Option<Vec<u8>>>;

impl Replication {
    /// Connects as a standby named `application_name`, the name that `synchronous_standby_names` knows it by.
    ///
    /// # Errors
    /// [`ServerError::Connect`], [`ServerError::Parameters`].
    pub fn open(options: &ConnectOptions, application_name: &str) -> Result<Self, ServerError> {
        let (mut config, tls) = options.config()?;
        config.application_name(application_name);
        let server = describe(&config);
        let limit = config.get_connect_timeout().copied().unwrap_or(COMMAND_TIMEOUT);
        let wire = tls.connect(&config, |security| Wire::open(&config, security, limit))?;
        Ok(Self { wire, server })
    }

    /// Where it leads, for messages.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Who the server is (`IDENTIFY_SYSTEM`).
    ///
    /// # Errors
    /// [`ServerError::Statement`], [`ServerError::Answer`].
    pub fn identify_system(&mut self) -> Result<SystemIdentity, ServerError> {
        let row = self.row("ask who the server is", "IDENTIFY_SYSTEM")?;
        Ok(SystemIdentity {
            system_identifier: self.field(&row, 0, "systemid")?,
            timeline: TimelineId(self.field(&row, 1, "timeline")?),
            flushed: self.field(&row, 2, "xlogpos")?,
        })
    }

    /// The size of WAL segments.
    ///
    /// # Errors
    /// [`ServerError::Statement`], [`ServerError::Answer`].
    pub fn wal_segment_size(&mut self) -> Result<WalSegmentSize, ServerError> {
        let row = self.row("ask for the size of WAL segments", "SHOW wal_segment_size")?;
        let text: String = self.field(&row, 0, "wal_segment_size")?;
        // Always given in the largest unit that divides it; segments have 1 MB to 1 GB.
        let bytes = match (text.strip_suffix("MB"), text.strip_suffix("GB")) {
            (Some(number), _) => number.parse().ok().map(|number: u64| number << 20),
            (_, Some(number)) => number.parse().ok().map(|number: u64| number << 30),
            _ => None,
        };
        let size = bytes.and_then(|bytes| WalSegmentSize::new(bytes).ok());
        size.ok_or_else(|| self.odd("wal_segment_size", text))
    }

    /// Creates a physical slot that keeps WAL from the last checkpoint on; false when there is one of this name.
    ///
    /// # Errors
    /// [`ServerError::Statement`].
    pub fn create_physical_slot(&mut self, name: &str) -> Result<bool, ServerError> {
        // Versions from 15 on know another form too; all know this one.
        let command = format!("CREATE_REPLICATION_SLOT {} PHYSICAL RESERVE_WAL", quoted(name));
        match self.rows("create the replication slot", &command) {
            Ok(_) => Ok(true),
            Err(ServerError::Statement { source, .. }) if source.is_duplicate_object() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Where a slot keeps WAL from; none for one that was never used, and on servers before version 15, which do not tell.
    ///
    /// # Errors
    /// [`ServerError::Statement`], [`ServerError::Answer`].
    pub fn read_slot(&mut self, name: &str) -> Result<Option<SlotPosition>, ServerError> {
        let rows = match self
            .rows("read the replication slot", &format!("READ_REPLICATION_SLOT {}", quoted(name)))
        {
            Err(ServerError::Statement { source, .. }) if source.is_syntax_error() => return Ok(None),
            rows => rows?,
        };
        match rows.first().map(Vec::as_slice) {
            Some([_, Some(_), Some(_)]) => {
                let row = &rows[0];
                let restart = self.field(row, 1, "restart_lsn")?;
                Ok(Some(SlotPosition { restart, timeline: TimelineId(self.field(row, 2, "restart_tli")?) }))
            }
            _ => Ok(None),
        }
    }

    /// Removes a slot.
    ///
    /// # Errors
    /// [`ServerError::Statement`], also when a stream uses it.
    pub fn drop_slot(&mut self, name: &str) -> Result<(), ServerError> {
        self.rows("drop the replication slot", &format!("DROP_REPLICATION_SLOT {}", quoted(name))).map(drop)
    }

    /// The history file of a timeline.
    ///
    /// # Errors
    /// [`ServerError::Statement`], [`ServerError::Answer`].
    pub fn timeline_history(&mut self, timeline: TimelineId) -> Result<HistoryFile, ServerError> {
        let row = self.row("fetch a timeline history", &format!("TIMELINE_HISTORY {}", timeline.0))?;
        let name = self.field(&row, 0, "filename")?;
        match row.into_iter().nth(1).flatten() {
            Some(content) => Ok(HistoryFile { name, content }),
            None => Err(self.odd("the content of a timeline history", "nothing")),
        }
    }

    /// Begins to stream a timeline's WAL from a position on, through a slot where one is named.
    ///
    /// # Errors
    /// [`ServerError::Statement`]: among others the server no longer has this WAL.
    pub fn start_physical(
        mut self,
        slot: Option<&str>,
        from: Lsn,
        timeline: TimelineId,
    ) -> Result<Stream, ServerError> {
        let slot = slot.map(|name| format!("SLOT {} ", quoted(name))).unwrap_or_default();
        let command = format!("START_REPLICATION {slot}PHYSICAL {from} TIMELINE {}", timeline.0);
        let begun =
            self.wire.send(|out| frontend::query(&command, out)).and_then(|()| stream::begin(&mut self.wire));
        match begun {
            Ok(state) => Ok(Stream::new(self, state)),
            Err(source) => Err(self.failed("stream WAL", source)),
        }
    }

    fn row(&mut self, operation: &'static str, command: &str) -> Result<Row, ServerError> {
        let mut rows = self.rows(operation, command)?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(self.odd(operation, "not one row")),
        }
    }

    fn rows(&mut self, operation: &'static str, command: &str) -> Result<Vec<Row>, ServerError> {
        let result = self.run(command);
        result.map_err(|source| self.failed(operation, source))
    }

    fn run(&mut self, command: &str) -> Result<Vec<Row>, Cause> {
        self.wire.send(|out| frontend::query(command, out))?;
        let deadline = Instant::now() + COMMAND_TIMEOUT;
        let (mut rows, mut failure) = (Vec::new(), None);
        loop {
            // After an error the server still says that it is ready.
            match self.wire.expect(deadline) {
                Ok(Message::DataRow(body)) => {
                    let row = body.ranges().map(|range| Ok(range.map(|range| body.buffer()[range].to_vec())));
                    rows.push(row.collect()?);
                }
                Ok(Message::ReadyForQuery(_)) => return failure.map_or(Ok(rows), Err),
                Ok(
                    Message::RowDescription(_)
                    | Message::CommandComplete(_)
                    | Message::NoticeResponse(_)
                    | Message::ParameterStatus(_),
                ) => {}
                Ok(_) => return Err(unexpected("a message that answers no command")),
                Err(said) if said.code().is_some() && !said.is_fatal() => failure = Some(said),
                Err(error) => return Err(failure.unwrap_or(error)),
            }
        }
    }

    fn field<T: std::str::FromStr>(
        &self,
        row: &Row,
        at: usize,
        what: &'static str,
    ) -> Result<T, ServerError> {
        let text = row.get(at).and_then(Option::as_deref).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let parsed = text.and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| self.odd(what, text.unwrap_or("nothing")))
    }

    fn failed(&self, operation: &'static str, source: Cause) -> ServerError {
        ServerError::Statement { operation, server: self.server.clone(), source }
    }

    fn odd(&self, what: &'static str, found: impl Into<String>) -> ServerError {
        ServerError::Answer { server: self.server.clone(), what, found: found.into() }
    }
}

/// A name in double quotes, as the replication grammar takes it (`src/backend/replication/repl_scanner.l`).
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

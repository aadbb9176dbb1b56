//! A base backup that the server sends: `BASE_BACKUP` of the manual's chapter "Streaming Replication Protocol".
//!
//! Promises the same pieces from every version: an archive begins, its bytes, the end. Version 15 changed both sides of it: options in
//! parentheses, and one stream in which a byte before each piece tells what it is, where before each archive was a stream of its own
//! (`src/backend/backup/basebackup_copy.c`). What the bytes of an archive mean is for the reader of tar (`crates/backup/src/remote`).

use super::wire::{Incoming, unexpected};
use super::{COMMAND_TIMEOUT, Replication, Row};
use crate::error::{Cause, ServerError};
use bytes::{Buf, Bytes};
use fallible_iterator::FallibleIterator;
use pgproof_pg::{Lsn, TimelineId};
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How a base backup is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseBackupOptions<'a> {
    /// `server_version_num`.
    pub version_num: u32,
    /// Appears in `backup_label`.
    pub label: &'a str,
    /// An immediate checkpoint instead of a spread one.
    pub fast_checkpoint: bool,
    /// What the server sends in a second at most, in kilobytes; it takes 32 to 1,048,576.
    pub max_rate_kb: Option<u32>,
}

/// A tablespace outside the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentTablespace {
    /// Its OID.
    pub oid: u32,
    /// Where it lies on the server's host.
    pub location: PathBuf,
}

/// What comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SentPiece {
    /// The archive of this tablespace begins; without one it is that of the data directory, which comes last.
    Archive(Option<u32>),
    /// Bytes of the archive.
    Data(Bytes),
    /// All archives were sent.
    End,
}

/// A base backup on its way. Dropping it ends the connection, which ends the backup in the server.
#[derive(Debug)]
pub struct BaseBackup {
    connection: Replication,
    /// Redo position of its checkpoint.
    pub start: Lsn,
    /// The timeline it began on.
    pub timeline: TimelineId,
    /// Tablespaces outside the data directory.
    pub tablespaces: Vec<SentTablespace>,
    /// About how many bytes will come.
    pub bytes: u64,
    archives: Archives,
    /// How many archives have begun.
    begun: usize,
    ended: bool,
}

/// How archives are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Archives {
    /// Each is a stream of its own, in the order of the tablespaces.
    Streams,
    /// A byte before each piece tells.
    Marked,
}

/// The first version with options in parentheses and marked pieces.
const MARKED: u32 = 150_000;

/// A spread checkpoint takes up to `checkpoint_timeout`, which is a day at most.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// A server that sends nothing for so long is hung: it sends at a rate, but never stops for a reason of its own.
const SILENCE: Duration = Duration::from_secs(300);

impl Replication {
    /// The value of a setting.
    ///
    /// # Errors
    /// [`ServerError::Statement`], [`ServerError::Answer`].
    pub fn show(&mut self, name: &'static str) -> Result<String, ServerError> {
        let row = self.row(name, &format!("SHOW {name}"))?;
        self.field(&row, 0, name)
    }

    /// Begins a base backup; waits for its checkpoint. The server neither waits for the archive nor verifies checksums: whoever stores the
    /// pages does both.
    ///
    /// # Errors
    /// [`ServerError::Statement`], [`ServerError::Answer`].
    pub fn base_backup(mut self, options: &BaseBackupOptions<'_>) -> Result<BaseBackup, ServerError> {
        let begun = self.begin_base_backup(&command(options));
        let (position, spaces) = begun.map_err(|source| self.failed("start the backup", source))?;
        let start = self.field(&position, 0, "the start of the backup")?;
        let timeline = TimelineId(self.field(&position, 1, "the timeline of the backup")?);
        let (mut tablespaces, mut bytes) = (Vec::new(), 0);
        for row in &spaces {
            // In kilobytes, and an estimate; absent for a server that was not asked.
            bytes += self.field::<u64>(row, 2, "the size of a tablespace").unwrap_or(0) << 10;
            if row.first().is_some_and(Option::is_some) {
                let location: String = self.field(row, 1, "the place of a tablespace")?;
                let oid = self.field(row, 0, "the number of a tablespace")?;
                tablespaces.push(SentTablespace { oid, location: location.into() });
            }
        }
        let archives = if options.version_num >= MARKED { Archives::Marked } else { Archives::Streams };
        let (begun, ended) = (0, false);
        Ok(BaseBackup { connection: self, start, timeline, tablespaces, bytes, archives, begun, ended })
    }

    /// Where it starts, and the tablespaces: two results before the stream.
    fn begin_base_backup(&mut self, command: &str) -> Result<(Row, Vec<Row>), Cause> {
        self.wire.send(|out| frontend::query(command, out))?;
        let deadline = Instant::now() + CHECKPOINT_TIMEOUT;
        let mut results: Vec<Vec<Row>> = Vec::new();
        loop {
            match self.wire.expect(deadline)? {
                Message::RowDescription(_) => results.push(Vec::new()),
                Message::DataRow(body) => {
                    results.last_mut().ok_or_else(|| unexpected("a row of nothing"))?.push(row_of(&body)?);
                }
                Message::CopyOutResponse(_) => break,
                Message::CommandComplete(_) | Message::NoticeResponse(_) | Message::ParameterStatus(_) => {}
                _ => return Err(unexpected("a message that does not begin a base backup")),
            }
        }
        let mut results = results.into_iter();
        match (results.next().and_then(|rows| rows.into_iter().next()), results.next()) {
            (Some(position), Some(tablespaces)) => Ok((position, tablespaces)),
            _ => Err(unexpected("a base backup without a beginning")),
        }
    }
}

impl BaseBackup {
    /// Where it comes from, for messages.
    pub fn server(&self) -> &str {
        self.connection.server()
    }

    /// The next piece.
    ///
    /// # Errors
    /// [`ServerError::Statement`] when the server or the connection failed.
    pub fn receive(&mut self) -> Result<SentPiece, ServerError> {
        let piece = match self.archives {
            Archives::Marked => self.marked(),
            Archives::Streams => self.streamed(),
        };
        piece.map_err(|source| self.connection.failed("receive the backup", source))
    }

    fn marked(&mut self) -> Result<SentPiece, Cause> {
        loop {
            match self.message()? {
                Message::CopyData(body) => {
                    if let Some(piece) = marked_piece(body.into_bytes(), &self.tablespaces)? {
                        return Ok(piece);
                    }
                }
                Message::CopyDone => return self.end(),
                _ => return Err(unexpected("a message that does not belong into a base backup")),
            }
        }
    }

    /// The first stream has begun with the backup, each further one begins with a message.
    fn streamed(&mut self) -> Result<SentPiece, Cause> {
        if self.begun == 0 {
            return Ok(self.begin_stream());
        }
        loop {
            match self.message()? {
                Message::CopyData(body) => return Ok(SentPiece::Data(body.into_bytes())),
                Message::CopyDone if self.begun > self.tablespaces.len() => return self.end(),
                Message::CopyDone => {}
                Message::CopyOutResponse(_) => return Ok(self.begin_stream()),
                _ => return Err(unexpected("a message that does not belong into a base backup")),
            }
        }
    }

    fn begin_stream(&mut self) -> SentPiece {
        let tablespace = self.tablespaces.get(self.begun).map(|tablespace| tablespace.oid);
        self.begun += 1;
        SentPiece::Archive(tablespace)
    }

    fn end(&mut self) -> Result<SentPiece, Cause> {
        self.ended = true;
        Ok(SentPiece::End)
    }

    fn message(&mut self) -> Result<Message, Cause> {
        loop {
            match self.connection.wire.next(SILENCE)? {
                Incoming::Message(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                Incoming::Message(message) => return Ok(message),
                Incoming::CopyBoth => return Err(unexpected("a stream that was not asked for")),
                Incoming::Nothing => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "it sends nothing").into());
                }
            }
        }
    }

    /// After the end: from where on the copy is consistent, and its timeline.
    ///
    /// # Errors
    /// [`ServerError::Statement`], among others when a standby was promoted meanwhile; [`ServerError::Answer`].
    pub fn finish(mut self) -> Result<(Lsn, TimelineId), ServerError> {
        debug_assert!(self.ended);
        let last = self.last_row().map_err(|source| self.connection.failed("stop the backup", source))?;
        let stop = self.connection.field(&last, 0, "the end of the backup")?;
        Ok((stop, TimelineId(self.connection.field(&last, 1, "the timeline of the backup's end")?)))
    }

    fn last_row(&mut self) -> Result<Row, Cause> {
        let deadline = Instant::now() + COMMAND_TIMEOUT;
        let mut last = None;
        loop {
            match self.connection.wire.expect(deadline)? {
                Message::DataRow(body) => last = Some(row_of(&body)?),
                Message::ReadyForQuery(_) => {
                    return last.ok_or_else(|| unexpected("a base backup without an end"));
                }
                _ => {}
            }
        }
    }
}

fn row_of(body: &DataRowBody) -> Result<Row, Cause> {
    let row = body.ranges().map(|range| Ok(range.map(|range| body.buffer()[range].to_vec())));
    Ok(row.collect()?)
}

/// Since version 15: `n` and two texts begin an archive, `d` and bytes are its content, `p` tells how much was sent.
fn marked_piece(mut body: Bytes, tablespaces: &[SentTablespace]) -> Result<Option<SentPiece>, Cause> {
    let kind = body.first().copied();
    body.advance(usize::from(kind.is_some()));
    match kind {
        Some(b'd') => Ok(Some(SentPiece::Data(body))),
        Some(b'p') => Ok(None),
        Some(b'n') => {
            let mut texts = body.split(|byte| *byte == 0).map(String::from_utf8_lossy);
            let (_, place) = (texts.next(), texts.next().unwrap_or_default());
            if place.is_empty() {
                return Ok(Some(SentPiece::Archive(None)));
            }
            let found = tablespaces.iter().find(|known| known.location.as_os_str() == place.as_ref());
            match found {
                Some(tablespace) => Ok(Some(SentPiece::Archive(Some(tablespace.oid)))),
                None => Err(unexpected("an archive of a tablespace that it had not named")),
            }
        }
        _ => Err(unexpected("a piece of a base backup of an unknown kind")),
    }
}

fn command(options: &BaseBackupOptions<'_>) -> String {
    let label = options.label.replace('\'', "''");
    let rate = |between: &str| {
        options.max_rate_kb.map(|rate| format!("{between}MAX_RATE {rate}")).unwrap_or_default()
    };
    if options.version_num >= MARKED {
        let checkpoint = if options.fast_checkpoint { "fast" } else { "spread" };
        return format!(
            "BASE_BACKUP (LABEL '{label}', PROGRESS, CHECKPOINT '{checkpoint}', WAIT 0{}, TABLESPACE_MAP, \
             VERIFY_CHECKSUMS 0, MANIFEST 'no')",
            rate(", ")
        );
    }
    let checkpoint = if options.fast_checkpoint { " FAST" } else { "" };
    format!(
        "BASE_BACKUP LABEL '{label}' PROGRESS{checkpoint} NOWAIT{} TABLESPACE_MAP NOVERIFY_CHECKSUMS MANIFEST 'no'",
        rate(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_asked_in_its_own_grammar() {
        let options = |version_num| BaseBackupOptions {
            version_num,
            label: "it's",
            fast_checkpoint: true,
            max_rate_kb: Some(64),
        };
        assert_eq!(
            command(&options(140_010)),
            "BASE_BACKUP LABEL 'it''s' PROGRESS FAST NOWAIT MAX_RATE 64 TABLESPACE_MAP NOVERIFY_CHECKSUMS MANIFEST 'no'"
        );
        assert_eq!(
            command(&options(150_000)),
            "BASE_BACKUP (LABEL 'it''s', PROGRESS, CHECKPOINT 'fast', WAIT 0, MAX_RATE 64, TABLESPACE_MAP, VERIFY_CHECKSUMS 0, MANIFEST 'no')"
        );
    }

    #[test]
    fn pieces_are_told_by_their_first_byte() {
        let spaces = [SentTablespace { oid: 16400, location: "/space".into() }];
        let piece = |bytes: &'static [u8]| marked_piece(Bytes::from_static(bytes), &spaces);
        assert_eq!(piece(b"dxy").unwrap(), Some(SentPiece::Data(Bytes::from_static(b"xy"))));
        assert_eq!(piece(b"n16400.tar\0/space\0").unwrap(), Some(SentPiece::Archive(Some(16400))));
        assert_eq!(piece(b"nbase.tar\0\0").unwrap(), Some(SentPiece::Archive(None)));
        assert_eq!(piece(b"p12345678").unwrap(), None);
        for hostile in [&b""[..], b"x", b"n16400.tar\0/elsewhere\0", b"m"] {
            piece(hostile).unwrap_err();
        }
    }
}

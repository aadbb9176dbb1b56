//! Takes the archives of a base backup apart as they come.
//!
//! Names in them are the server's word: what would lie outside of the data directory is refused. What a backup never holds is left out by the
//! same rules as in a scan (`scan.rs`, `exclude.rs`); temporary and unlogged relations the server has left out itself.

use super::spool::Spool;
use crate::error::BackupError;
use crate::exclude::{self, Verdict};
use crate::scan::{Entry, EntryKind};
use bytes::{Buf, Bytes};
use pgproof_pg::RelPath;
use pgproof_pg::copy::EMPTIED_DIRECTORIES;
use pgproof_pg::relfile::BLOCK_SIZE;
use pgproof_server::ServerError;
use pgproof_server::replication::{BaseBackup, SentPiece};
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tar::EntryType;

const CONTROL: &str = "global/pg_control";

/// `backup_label`, `tablespace_map` and `pg_control` are small; what is larger is something else.
const SMALL_MAX: u64 = 16 << 20;

/// What was taken out of the archives beside the files in the spool.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    /// Content of `backup_label`.
    pub(crate) label: String,
    /// Content of `tablespace_map`.
    pub(crate) tablespace_map: String,
    /// Number and content of the control file.
    pub(crate) control: Option<(usize, Vec<u8>)>,
    /// Permission bits of the data directory, which are those of its directories.
    pub(crate) mode: Option<u32>,
    /// Devices and the like, which no backup can hold.
    pub(crate) skipped: Vec<String>,
}

/// Receives everything into the spool. None when a worker failed, who tells why.
pub(crate) fn unpack(
    backup: &mut BaseBackup,
    spool: &Spool,
    failed: &AtomicBool,
) -> Result<Option<Unpacked>, BackupError> {
    let mut pieces = Pieces { backup, data: Bytes::new(), next: None, failure: None };
    let mut unpacked = Unpacked::default();
    let outcome = unpack_all(&mut pieces, spool, failed, &mut unpacked);
    match (outcome, pieces.failure) {
        (_, Some(source)) => Err(BackupError::Server { operation: "receive the backup", source }),
        (Err(error), None) => Err(error),
        (Ok(false), None) => Ok(None),
        (Ok(true), None) => Ok(Some(unpacked)),
    }
}

/// False when a worker failed.
fn unpack_all(
    pieces: &mut Pieces<'_>,
    spool: &Spool,
    failed: &AtomicBool,
    unpacked: &mut Unpacked,
) -> Result<bool, BackupError> {
    while let Some(space) = pieces.next_archive().map_err(damaged)? {
        let mut archive = tar::Archive::new(&mut *pieces);
        for item in archive.entries().map_err(damaged)? {
            let item = item.map_err(damaged)?;
            if failed.load(Ordering::Relaxed) || !take(item, space, spool, failed, unpacked)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn damaged(source: io::Error) -> BackupError {
    BackupError::Archive { source }
}

/// One item of an archive; false when a worker failed.
fn take(
    mut item: tar::Entry<'_, &mut Pieces<'_>>,
    space: Option<u32>,
    spool: &Spool,
    failed: &AtomicBool,
    unpacked: &mut Unpacked,
) -> Result<bool, BackupError> {
    let Some(name) = name_of(&item)? else { return Ok(true) };
    let header = item.header();
    let mode = header.mode().map_err(damaged)? & 0o7777;
    let modified = i64::try_from(header.mtime().map_err(damaged)?).unwrap_or(i64::MAX);
    let (kind, size) = (header.entry_type(), item.size());
    if space.is_none() && name == "backup_label" {
        unpacked.label = text(&mut item)?;
        return Ok(true);
    }
    if space.is_none() && name == "tablespace_map" {
        unpacked.tablespace_map = text(&mut item)?;
        return Ok(true);
    }
    let path = match space {
        Some(oid) => format!("pg_tblspc/{oid}/{name}"),
        None => name,
    };
    let relation = RelPath::parse(&path);
    if is_left_out(&path) || relation.is_some_and(|relation| relation.temporary.is_some()) {
        return Ok(true);
    }
    let mut entry = Entry { path, kind: EntryKind::Directory, mode, modified, length: 0, relation: None };
    match kind {
        EntryType::Directory => {
            unpacked.mode.get_or_insert(mode);
            spool.note(entry);
        }
        EntryType::Symlink => {
            let target = item.link_name_bytes().unwrap_or_default();
            entry.kind = EntryKind::Link(String::from_utf8_lossy(&target).into_owned());
            spool.note(entry);
        }
        EntryType::Regular => {
            entry.kind = EntryKind::File;
            entry.length = if relation.is_some() { size & !(BLOCK_SIZE as u64 - 1) } else { size };
            entry.relation = relation;
            if entry.path == CONTROL {
                let content = small(&mut item)?;
                unpacked.control = Some((spool.note(entry), content));
            } else {
                return receive(&mut item, entry, size, spool, failed);
            }
        }
        _ => unpacked.skipped.push(entry.path),
    }
    Ok(true)
}

fn receive(
    item: &mut impl Read,
    entry: Entry,
    size: u64,
    spool: &Spool,
    failed: &AtomicBool,
) -> Result<bool, BackupError> {
    if !spool.wait_for_room(size, failed) {
        return Ok(false);
    }
    let unwritable = |source| BackupError::Spool { directory: std::env::temp_dir(), source };
    let mut content = tempfile::tempfile().map_err(unwritable)?;
    // Which side failed is told by `Pieces`, that keeps the connection's failure.
    let received = io::copy(item, &mut content).map_err(unwritable)?;
    if received != size {
        return Err(damaged(io::ErrorKind::UnexpectedEof.into()));
    }
    spool.add(entry, content, size);
    Ok(true)
}

/// The path in the archive; none for the root itself.
fn name_of(item: &tar::Entry<'_, &mut Pieces<'_>>) -> Result<Option<String>, BackupError> {
    let bytes = item.path_bytes().into_owned();
    let name = String::from_utf8(bytes).map_err(|error| BackupError::NameNotText {
        directory: PathBuf::from("the data directory"),
        name: OsString::from_vec(error.into_bytes()),
    })?;
    let name = name.strip_prefix("./").unwrap_or(&name).trim_end_matches('/');
    if name.is_empty() || name == "." {
        return Ok(None);
    }
    if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
        let why = format!("it names {name:?}, which lies outside of the data directory");
        return Err(damaged(io::Error::new(io::ErrorKind::InvalidData, why)));
    }
    Ok(Some(name.to_owned()))
}

/// What no backup holds, what lies in directories that are emptied, and the links of tablespaces, which come by archives of their own.
fn is_left_out(path: &str) -> bool {
    let is_below = |directory: &str| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
    let link = path.strip_prefix("pg_tblspc/").is_some_and(|rest| !rest.contains('/'));
    link || exclude::judge(path) == Verdict::Skip || EMPTIED_DIRECTORIES.into_iter().any(is_below)
}

fn text(item: &mut impl Read) -> Result<String, BackupError> {
    let content = small(item)?;
    String::from_utf8(content)
        .map_err(|error| damaged(io::Error::new(io::ErrorKind::InvalidData, error.utf8_error())))
}

fn small(item: &mut impl Read) -> Result<Vec<u8>, BackupError> {
    let mut content = Vec::new();
    item.take(SMALL_MAX).read_to_end(&mut content).map_err(damaged)?;
    Ok(content)
}

/// The bytes of one archive after the other; each ends as a file does.
struct Pieces<'a> {
    backup: &'a mut BaseBackup,
    data: Bytes,
    /// What came after the archive that was read last.
    next: Option<SentPiece>,
    /// Why the connection failed.
    failure: Option<ServerError>,
}

impl Pieces<'_> {
    /// Passes over what is left of the archive, which is padding; the tablespace of the next one, or none at the end.
    fn next_archive(&mut self) -> io::Result<Option<Option<u32>>> {
        loop {
            self.data.clear();
            match self.next.take() {
                Some(SentPiece::Archive(space)) => return Ok(Some(space)),
                Some(SentPiece::End) => return Ok(None),
                Some(SentPiece::Data(_)) | None => {
                    let piece = self.receive()?;
                    self.next = Some(piece);
                }
            }
        }
    }

    fn receive(&mut self) -> io::Result<SentPiece> {
        self.backup.receive().map_err(|error| {
            let text = error.to_string();
            self.failure = Some(error);
            io::Error::other(text)
        })
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.data.is_empty() {
            if self.next.is_some() {
                return Ok(0);
            }
            match self.receive()? {
                SentPiece::Data(data) => self.data = data,
                other => self.next = Some(other),
            }
        }
        let length = buffer.len().min(self.data.len());
        self.data.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_scan_leaves_out_is_left_out_of_archives_too() {
        for path in ["pg_wal/archive_status", "pg_tblspc/16400", "postmaster.pid", "base/pgsql_tmp"] {
            assert!(is_left_out(path), "{path}");
        }
        for path in ["pg_wal", "pg_tblspc", "pg_tblspc/16400/PG_15_202209061/5/1", "base/5/16384"] {
            assert!(!is_left_out(path), "{path}");
        }
    }
}

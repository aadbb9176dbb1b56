//! `archive push`: stores one file that PostgreSQL offers, and says success only when it is durable.
//!
//! Refuses what does not belong: WAL of another cluster, a name whose content differs from what the archive holds, a server whose place
//! another one took. PostgreSQL keeps the file and asks again, so a refusal loses nothing.

use crate::cluster::read_control;
use crate::error::WalError;
use crate::prefetch::is_recovering;
use crate::spool;
use jiff::Timestamp;
use pgproof_pg::wal::{LONG_HEADER, SegmentHeader};
use pgproof_pg::{ArchiveName, SystemIdentifier};
use pgproof_repo::walobject::{self, PushSource, PushedBy, StoreOptions, Stored};
use pgproof_repo::{Lineage, Repository, writer};
use serde::Serialize;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What PostgreSQL asks `archive_command` to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushRequest {
    /// The data directory: the command's working directory.
    pub pgdata: PathBuf,
    /// The file, relative to the data directory or absolute: `%p`.
    pub path: PathBuf,
}

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PushReport {
    /// The file's name.
    pub name: String,
    /// Bytes stored; 0 when the archive held the same content already.
    pub bytes_stored: u64,
    /// The archive held the same content already.
    pub was_there: bool,
}

/// Archives one file.
///
/// # Errors
/// See [`WalError`]; the archive is then as it was.
pub fn push(
    repository: &Repository,
    request: &PushRequest,
    options: StoreOptions,
) -> Result<PushReport, WalError> {
    let path = request.pgdata.join(&request.path);
    let text = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name =
        ArchiveName::parse(&text).map_err(|source| WalError::NotAWalFile { path: path.clone(), source })?;
    let control = read_control(&request.pgdata)?;
    let lineage = Lineage::new(control.system_identifier);
    let epoch = writer::read_epoch(&request.pgdata).map_err(repo("tell which server this is"))?;
    writer::check_epoch(repository, lineage, epoch).map_err(repo("archive from this server"))?;
    if let ArchiveName::Segment(_) | ArchiveName::Partial(_) = &name {
        check_owner(&path, control.system_identifier)?;
    }
    let source = PushSource { path: &path, name: &name, segment_size: control.wal_segment_size };
    let stored = store(repository, lineage, source, &request.pgdata, epoch, options);
    let stored = stored.map_err(repo("archive the file"))?;
    if !is_recovering(&request.pgdata, &control) {
        spool::clear_abandoned(&request.pgdata);
    }
    let (bytes_stored, was_there) = match stored {
        Stored::New { stored_bytes } => (stored_bytes, false),
        Stored::SameContent => (0, true),
    };
    Ok(PushReport { name: text, bytes_stored, was_there })
}

/// Stores a file of any kind that is archived. `place` is the directory that it comes from.
pub(crate) fn store(
    repository: &Repository,
    lineage: Lineage,
    source: PushSource<'_>,
    place: &Path,
    epoch: u64,
    options: StoreOptions,
) -> pgproof_repo::Result<Stored> {
    let pushed = PushedBy {
        at: Timestamp::now(),
        host: pgproof_repo::lease::Holder::this_process().host,
        pgdata: place.display().to_string(),
        epoch,
    };
    match source.name {
        ArchiveName::Segment(_) | ArchiveName::Partial(_) => {
            walobject::store_segment(repository, lineage, source, pushed, options)
        }
        ArchiveName::History(_) | ArchiveName::Backup { .. } => {
            walobject::history::store(repository, lineage, source.path, source.name, pushed)
        }
    }
}

/// Looks into the segment's own header for the cluster it belongs to.
fn check_owner(path: &Path, expected: SystemIdentifier) -> Result<(), WalError> {
    let mut header = [0; LONG_HEADER];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut header))
        .map_err(|source| WalError::Unreadable { path: path.to_owned(), source })?;
    let header = SegmentHeader::read(&header)
        .map_err(|defect| WalError::NotASegment { path: path.to_owned(), reason: defect.to_string() })?;
    if header.system_identifier != expected {
        return Err(WalError::OtherSystem {
            path: path.to_owned(),
            found: header.system_identifier,
            expected,
        });
    }
    Ok(())
}

fn repo(operation: &'static str) -> impl FnOnce(pgproof_repo::Error) -> WalError {
    move |source| WalError::Repo { operation, source }
}

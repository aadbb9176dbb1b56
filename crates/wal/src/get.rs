//! `archive get`: delivers one file that replay asks for.
//!
//! Tells three answers apart, because PostgreSQL does: delivered; proven absent, which ends the archive; and everything else, which
//! must never look like the end of the archive (see [`GetOutcome::exit_code`]).

use crate::cluster::read_control;
use crate::error::WalError;
use pgproof_pg::ArchiveName;
use pgproof_repo::walobject::{self, Fetched};
use pgproof_repo::{Lineage, Repository};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What PostgreSQL asks `restore_command` to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetRequest {
    /// The data directory: the command's working directory.
    pub pgdata: PathBuf,
    /// The wanted file: `%f`.
    pub name: String,
    /// Where it goes, relative to the data directory or absolute: `%p`.
    pub destination: PathBuf,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GetOutcome {
    /// The file lies at its destination.
    Delivered,
    /// The repository answered, and has no such file.
    Absent,
}

/// Exit code of `archive get` for anything that is neither delivery nor proven absence. PostgreSQL takes 1 to 125 as "the archive ends
/// here" and promotes; above 125 it stops (`RestoreArchivedFile` in `src/backend/access/transam/xlogarchive.c`, `wait_result_is_any_signal`).
pub const EXIT_UNKNOWN: u8 = 126;

impl GetOutcome {
    /// The exit code of `archive get`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Delivered => 0,
            Self::Absent => 1,
        }
    }
}

/// Delivers a file, or proves that there is none.
///
/// # Errors
/// See [`WalError`]; nothing lies at the destination then.
pub fn get(repository: &Repository, request: &GetRequest, threads: usize) -> Result<GetOutcome, WalError> {
    let name = ArchiveName::parse(&request.name)
        .map_err(|source| WalError::NotAWalFile { path: Path::new(&request.name).to_owned(), source })?;
    let control = read_control(&request.pgdata)?;
    let lineage = Lineage::new(control.system_identifier);
    let destination = request.pgdata.join(&request.destination);
    let fetched = match &name {
        ArchiveName::Segment(_) | ArchiveName::Partial(_) => walobject::fetch_segment(
            repository,
            lineage,
            &name,
            control.wal_segment_size,
            &destination,
            threads,
        ),
        ArchiveName::History(_) | ArchiveName::Backup { .. } => {
            walobject::history::fetch(repository, lineage, &name, &destination)
        }
    };
    match fetched {
        Ok(Fetched::Absent) => Ok(GetOutcome::Absent),
        Ok(_) => Ok(GetOutcome::Delivered),
        Err(source) => Err(WalError::Repo { operation: "fetch the file", source }),
    }
}

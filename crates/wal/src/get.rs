//! `archive get`: delivers one file that replay asks for, from the spool if it was fetched ahead, else from the first repository that has it.
//!
//! Tells three answers apart, because PostgreSQL does: delivered; proven absent, which ends the archive; and everything else, which
//! must never look like the end of the archive (see [`GetOutcome::exit_code`]).

use crate::cluster::read_control;
use crate::error::WalError;
use crate::prefetch::is_recovering;
use crate::receive::deliver::deliver;
use crate::repositories::NamedRepository;
use crate::sources::Sources;
use crate::spool::Spool;
use pgproof_pg::{ArchiveName, ControlFile, SegmentName};
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
    /// Where `archive receive` holds WAL that the repository may not have yet.
    pub received: Option<PathBuf>,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GetOutcome {
    /// The file lies at its destination.
    Delivered,
    /// Every repository answered, and none has such a file.
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

/// Whether segments are fetched ahead of the wanted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// The spool is used, and the caller is told when somebody should fill it.
    Used,
    /// The spool is neither read nor written.
    Unused,
}

/// Delivers a file from the first repository that has it, or proves that none has. `fill` is called after a delivery when nobody fills the
/// spool; `warn` hears of each repository that others stood in for.
///
/// # Errors
/// See [`WalError`]; nothing lies at the destination then.
pub fn get(
    repositories: &[NamedRepository],
    request: &GetRequest,
    threads: usize,
    ahead: Ahead,
    fill: &mut dyn FnMut(),
    warn: &mut dyn FnMut(&str, &WalError),
) -> Result<GetOutcome, WalError> {
    let name = ArchiveName::parse(&request.name)
        .map_err(|source| WalError::NotAWalFile { path: Path::new(&request.name).to_owned(), source })?;
    let control = read_control(&request.pgdata)?;
    let segment = wanted_ahead(request, &name, &control, ahead);
    let mut sources = Sources::new(repositories, segment.map(|_| request.pgdata.as_path()));
    // Before anything is delivered from the spool one repository has answered: a spool proves nothing of itself.
    let spooled = segment.and_then(|segment| {
        let repository = sources.first()?;
        Some((Spool::of(&request.pgdata, &control, repository)?, segment))
    });
    // A spool that cannot be used is as good as an empty one.
    if let Some((spool, segment)) = &spooled
        && spool.deliver(*segment, &request.pgdata.join(&request.destination)).unwrap_or(false)
    {
        ask_for_more(spool, *segment, fill);
        return Ok(GetOutcome::Delivered);
    }
    let mut outcome = fetch_from_any(&mut sources, request, &name, &control, threads, warn)?;
    if let (GetOutcome::Absent, Some(received)) = (outcome, &request.received) {
        let destination = request.pgdata.join(&request.destination);
        let delivered = deliver(received, &control, &name, &destination);
        let delivered = delivered.map_err(|source| WalError::Spool {
            operation: "fetch received WAL from",
            path: received.clone(),
            source,
        })?;
        outcome = if delivered { GetOutcome::Delivered } else { GetOutcome::Absent };
    }
    if let (GetOutcome::Delivered, Some((spool, segment))) = (outcome, &spooled) {
        ask_for_more(spool, *segment, fill);
    }
    Ok(outcome)
}

/// The first repository that has the file decides. That there is none is said only when all of them proved it: whoever could not answer
/// may be the one that has it.
fn fetch_from_any(
    sources: &mut Sources<'_>,
    request: &GetRequest,
    name: &ArchiveName,
    control: &ControlFile,
    threads: usize,
    warn: &mut dyn FnMut(&str, &WalError),
) -> Result<GetOutcome, WalError> {
    let mut failures: Vec<(String, WalError)> = Vec::new();
    for at in 0..sources.len() {
        let named = sources.name(at).to_owned();
        let fetched =
            sources.open(at).and_then(|repository| fetch(&repository, request, name, control, threads));
        match fetched {
            Ok(GetOutcome::Absent) => {}
            Err(error) => failures.push((named, error)),
            Ok(GetOutcome::Delivered) => {
                for (repository, error) in &failures {
                    warn(repository, error);
                }
                return Ok(GetOutcome::Delivered);
            }
        }
    }
    let several = sources.len() > 1;
    for (repository, error) in failures.iter().skip(1) {
        warn(repository, error);
    }
    match failures.into_iter().next() {
        None => Ok(GetOutcome::Absent),
        Some((_, error)) if !several => Err(error),
        Some((repository, source)) => {
            Err(WalError::Nowhere { name: request.name.clone(), repository, source: Box::new(source) })
        }
    }
}

/// The segment, for what can lie in a spool: segments, while a server replays.
fn wanted_ahead(
    request: &GetRequest,
    name: &ArchiveName,
    control: &ControlFile,
    ahead: Ahead,
) -> Option<SegmentName> {
    let ArchiveName::Segment(text) = name else { return None };
    if ahead == Ahead::Unused || !is_recovering(&request.pgdata, control) {
        return None;
    }
    SegmentName::parse(text, control.wal_segment_size).ok()
}

fn ask_for_more(spool: &Spool, delivered: SegmentName, fill: &mut dyn FnMut()) {
    if spool.note_request(delivered).is_ok() && !spool.is_being_filled() {
        fill();
    }
}

fn fetch(
    repository: &Repository,
    request: &GetRequest,
    name: &ArchiveName,
    control: &ControlFile,
    threads: usize,
) -> Result<GetOutcome, WalError> {
    let lineage = Lineage::new(control.system_identifier);
    let destination = request.pgdata.join(&request.destination);
    let fetched = match name {
        ArchiveName::Segment(_) | ArchiveName::Partial(_) => walobject::fetch_segment(
            repository,
            lineage,
            name,
            control.wal_segment_size,
            &destination,
            threads,
        ),
        ArchiveName::History(_) | ArchiveName::Backup { .. } => {
            walobject::history::fetch(repository, lineage, name, &destination)
        }
    };
    match fetched {
        Ok(Fetched::Absent) => Ok(GetOutcome::Absent),
        Ok(_) => Ok(GetOutcome::Delivered),
        Err(source) => Err(WalError::Repo { operation: "fetch the file", source }),
    }
}

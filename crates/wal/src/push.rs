//! `archive push`: stores one file that PostgreSQL offers, and says success only when it is durable in every repository that is required.
//!
//! Refuses what does not belong: WAL of another cluster, a name whose content differs from what the archive holds, a server whose place
//! another one took. PostgreSQL keeps the file and asks again, so a refusal loses nothing.

use crate::cluster::read_control;
use crate::error::{WalError, with_causes};
use crate::prefetch::is_recovering;
use crate::repositories::{NamedRepository, Withdrawn, in_each};
use crate::spool;
use jiff::Timestamp;
use pgproof_pg::wal::{LONG_HEADER, SegmentHeader};
use pgproof_pg::{ArchiveName, ControlFile, SystemIdentifier};
use pgproof_repo::walobject::{self, PushSource, PushedBy, StoreOptions, Stored};
use pgproof_repo::{Lineage, Repository, writer};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

/// A file in all repositories that are to hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    /// The file's name.
    pub name: String,
    /// What became of it in each.
    pub repositories: Vec<PushedTo>,
}

/// A file in one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushedTo {
    /// The repository's name.
    pub repository: String,
    /// What became of it.
    pub outcome: PushOutcome,
}

/// What became of a file in one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PushOutcome {
    /// It is durable there.
    Stored {
        /// Bytes stored; 0 when the archive held the same content already.
        bytes_stored: u64,
        /// The archive held the same content already.
        was_there: bool,
    },
    /// It is not, and need not be.
    Behind {
        /// Why not.
        why: String,
    },
}

impl Pushed {
    /// Bytes that it takes in all repositories together.
    pub fn bytes_stored(&self) -> u64 {
        let bytes = |to: &PushedTo| match to.outcome {
            PushOutcome::Stored { bytes_stored, .. } => bytes_stored,
            PushOutcome::Behind { .. } => 0,
        };
        self.repositories.iter().map(bytes).sum()
    }

    /// No repository took it just now.
    pub fn was_there(&self) -> bool {
        !self.repositories.iter().any(|to| matches!(to.outcome, PushOutcome::Stored { was_there: false, .. }))
    }

    /// The repositories that do not hold it, and why.
    pub fn behind(&self) -> impl Iterator<Item = (&str, &str)> {
        self.repositories.iter().filter_map(|to| match &to.outcome {
            PushOutcome::Stored { .. } => None,
            PushOutcome::Behind { why } => Some((to.repository.as_str(), why.as_str())),
        })
    }
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
    let offer = Offer::observe(request)?;
    let report = offer.push(repository, options, &Withdrawn::new(false))?;
    offer.clear_spool();
    Ok(report)
}

/// Archives one file into each repository at once. `Ok` when all that are required hold it; one that fails keeps no other from getting it.
///
/// # Errors
/// See [`WalError`]; which repositories hold the file is part of [`WalError::NotEverywhere`].
pub fn push_to_each(
    repositories: &[NamedRepository],
    request: &PushRequest,
    options: StoreOptions,
) -> Result<Pushed, WalError> {
    let all: Vec<_> = repositories.iter().collect();
    let offer = Offer::observe(request)?;
    let results = push_offer(&all, offer.clone(), options, Confirm::No);
    judge(&offer.text, &all, results).inspect(|_| offer.clear_spool())
}

/// Whether a repository that was opened long ago is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirm {
    /// It was opened just now.
    No,
    /// Before and after: in one that was made anew in the same place nothing must be stored with the old keys, and what was in that very
    /// moment does not count.
    BothTimes,
}

pub(crate) fn push_offer(
    repositories: &[&NamedRepository],
    offer: Offer,
    options: StoreOptions,
    confirm: Confirm,
) -> Vec<Result<PushReport, WalError>> {
    in_each(
        repositories,
        Arc::new(move |named, withdrawn| {
            let repository = named.open()?;
            let look = || match confirm {
                Confirm::No => Ok(()),
                Confirm::BothTimes => repository.confirm().map_err(repo("archive the file")),
            };
            look()?;
            let report = offer.push(&repository, options, withdrawn)?;
            look()?;
            Ok(report)
        }),
    )
}

/// What the results in single repositories mean for the file.
pub(crate) fn judge(
    name: &str,
    repositories: &[&NamedRepository],
    results: Vec<Result<PushReport, WalError>>,
) -> Result<Pushed, WalError> {
    let name = name.to_owned();
    let held: Vec<String> = repositories
        .iter()
        .zip(&results)
        .filter(|(_, result)| result.is_ok())
        .map(|(repository, _)| repository.name.clone())
        .collect();
    let mut all = Vec::with_capacity(results.len());
    for (repository, result) in repositories.iter().zip(results) {
        let outcome = match result {
            Ok(PushReport { bytes_stored, was_there, .. }) => PushOutcome::Stored { bytes_stored, was_there },
            Err(error) if !repository.required => PushOutcome::Behind { why: with_causes(&error) },
            Err(error) if repositories.len() == 1 => return Err(error),
            Err(source) => {
                let (repository, source) = (repository.name.clone(), Box::new(source));
                return Err(WalError::NotEverywhere { name, repository, held, source });
            }
        };
        all.push(PushedTo { repository: repository.name.clone(), outcome });
    }
    Ok(Pushed { name, repositories: all })
}

/// A file as PostgreSQL offers it, with what is known of its cluster.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pgdata: PathBuf,
    path: PathBuf,
    pub(crate) text: String,
    name: ArchiveName,
    control: ControlFile,
    epoch: u64,
}

impl Offer {
    pub(crate) fn observe(request: &PushRequest) -> Result<Self, WalError> {
        let path = request.pgdata.join(&request.path);
        let text = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = ArchiveName::parse(&text)
            .map_err(|source| WalError::NotAWalFile { path: path.clone(), source })?;
        let control = read_control(&request.pgdata)?;
        let epoch = writer::read_epoch(&request.pgdata).map_err(repo("tell which server this is"))?;
        Ok(Self { pgdata: request.pgdata.clone(), path, text, name, control, epoch })
    }

    fn push(
        &self,
        repository: &Repository,
        options: StoreOptions,
        withdrawn: &Withdrawn,
    ) -> Result<PushReport, WalError> {
        let lineage = Lineage::new(self.control.system_identifier);
        writer::admit(repository, lineage, self.epoch, &self.pgdata)
            .map_err(repo("archive from this server"))?;
        if let ArchiveName::Segment(_) | ArchiveName::Partial(_) = &self.name {
            check_owner(&self.path, self.control.system_identifier)?;
        }
        let source =
            PushSource { path: &self.path, name: &self.name, segment_size: self.control.wal_segment_size };
        let stored = store(repository, lineage, source, &self.pgdata, self.epoch, options, withdrawn);
        let (bytes_stored, was_there) = match stored.map_err(repo("archive the file"))? {
            Stored::New { stored_bytes } => (stored_bytes, false),
            Stored::SameContent => (0, true),
        };
        Ok(PushReport { name: self.text.clone(), bytes_stored, was_there })
    }

    pub(crate) fn clear_spool(&self) {
        if !is_recovering(&self.pgdata, &self.control) {
            spool::clear_abandoned(&self.pgdata);
        }
    }
}

/// Stores a file of any kind that is archived. `place` is the directory that it comes from.
pub(crate) fn store(
    repository: &Repository,
    lineage: Lineage,
    source: PushSource<'_>,
    place: &Path,
    epoch: u64,
    options: StoreOptions,
    withdrawn: &Withdrawn,
) -> pgproof_repo::Result<Stored> {
    let pushed = PushedBy {
        at: Timestamp::now(),
        host: pgproof_repo::lease::Holder::this_process().host,
        pgdata: place.display().to_string(),
        epoch,
    };
    match source.name {
        ArchiveName::Segment(_) | ArchiveName::Partial(_) => {
            walobject::store_segment_unless(repository, lineage, source, pushed, options, withdrawn)
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

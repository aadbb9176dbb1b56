//! Which server may archive into a lineage: section 8 of `docs/formats/repository.md`.
//!
//! A restored copy of a cluster has the same system identifier as the original, and would archive into the same place. So a copy
//! that takes over raises the epoch in the repository, and whoever still archives with a lower one is refused by name. The
//! epoch of a server lies in its data directory; backups leave it out, so that a copy starts without one.

use crate::lease::Holder;
use crate::record::{self, Stored};
use crate::repository::Repository;
use crate::{Error, Lineage, Result};
use jiff::Timestamp;
use pgproof_store::PutMode;
use serde::{Deserialize, Serialize};
use std::{fs, io, io::Write as _, path::Path};

/// Name of the file in the data directory that holds the server's epoch.
pub const EPOCH_FILE: &str = "pgproof.writer";

/// How often a take-over that meets another one is tried again.
const ATTEMPTS_MAX: usize = 8;

/// The record `writer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveWriter {
    /// Rises with every take-over; 0 is the server for which the repository was made.
    pub epoch: u64,
    /// When it took over, by its host's clock.
    pub since: Timestamp,
    /// Its host.
    pub host: String,
    /// Its data directory.
    pub pgdata: String,
    /// Why, as a person or `restore` said it.
    pub reason: String,
}

/// The server that may archive; `None` while nobody ever took over.
///
/// # Errors
/// [`Error::Store`], [`Error::Damaged`].
pub fn current(repository: &Repository, lineage: Lineage) -> Result<Option<Stored<ArchiveWriter>>> {
    record::read(repository, &lineage.writer())
}

/// Refuses a server whose epoch is lower than the repository's.
///
/// # Errors
/// [`Error::WriterSuperseded`] names the server that took over.
pub fn check_epoch(repository: &Repository, lineage: Lineage, epoch: u64) -> Result<()> {
    match current(repository, lineage)? {
        Some(writer) if writer.value.epoch > epoch => {
            Err(Error::WriterSuperseded { epoch, writer: Box::new(writer.value) })
        }
        _ => Ok(()),
    }
}

/// The same for one of several repositories: where a server took over in another one of them, this one learns it now, so that whoever
/// archived before is refused here too.
///
/// # Errors
/// As for [`check_epoch`], and [`Error::Store`].
pub fn admit(repository: &Repository, lineage: Lineage, epoch: u64, pgdata: &Path) -> Result<()> {
    match current(repository, lineage)?.map_or(0, |writer| writer.value.epoch) == epoch {
        true => Ok(()),
        false => {
            let reason = "it took over in another repository";
            raise(repository, lineage, pgdata, reason, |known| (known < epoch).then_some(epoch))?;
            check_epoch(repository, lineage, epoch)
        }
    }
}

/// Makes the server with this data directory the one that archives, and returns its epoch. [`write_epoch`] is to follow.
///
/// # Errors
/// [`Error::Store`]; a conflict when others take over again and again at the same moment.
pub fn take_over(repository: &Repository, lineage: Lineage, pgdata: &Path, reason: &str) -> Result<u64> {
    take_over_from(repository, lineage, pgdata, reason, 0)
}

/// The same with an epoch of at least so much: what other repositories of the cluster demand.
///
/// # Errors
/// As for [`take_over`].
pub fn take_over_from(
    repository: &Repository,
    lineage: Lineage,
    pgdata: &Path,
    reason: &str,
    least: u64,
) -> Result<u64> {
    raise(repository, lineage, pgdata, reason, |known| Some((known + 1).max(least)))
}

/// Raises the epoch to what `choose` makes of the present one, or leaves it.
fn raise(
    repository: &Repository,
    lineage: Lineage,
    pgdata: &Path,
    reason: &str,
    choose: impl Fn(u64) -> Option<u64>,
) -> Result<u64> {
    let mut attempt = 0;
    loop {
        let present = current(repository, lineage)?;
        let known = present.as_ref().map_or(0, |writer| writer.value.epoch);
        let Some(epoch) = choose(known) else { return Ok(known) };
        let mode = present.map_or(PutMode::IfAbsent, |writer| PutMode::IfMatch(writer.meta.version));
        let writer = ArchiveWriter {
            epoch,
            since: Timestamp::now(),
            host: Holder::this_process().host,
            pgdata: pgdata.display().to_string(),
            reason: reason.to_owned(),
        };
        attempt += 1;
        match record::write(repository, &lineage.writer(), &writer, mode) {
            Ok(_) => return Ok(epoch),
            Err(error) if error.is_conflict() && attempt < ATTEMPTS_MAX => {}
            Err(error) => return Err(error),
        }
    }
}

/// The epoch of the server with this data directory: 0 where it has no epoch file.
///
/// # Errors
/// [`Error::EpochFile`] when the file is there but cannot be read or is no number: guessing 0 could stop a server that took over.
pub fn read_epoch(pgdata: &Path) -> Result<u64> {
    let path = pgdata.join(EPOCH_FILE);
    let fail = |source| Error::EpochFile { path: path.display().to_string(), source };
    match fs::read_to_string(&path) {
        Ok(text) => {
            text.trim().parse().map_err(|error| fail(io::Error::new(io::ErrorKind::InvalidData, error)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(fail(error)),
    }
}

/// Stores the epoch of the server with this data directory, durably.
///
/// # Errors
/// [`Error::EpochFile`].
pub fn write_epoch(pgdata: &Path, epoch: u64) -> Result<()> {
    let path = pgdata.join(EPOCH_FILE);
    let write = || {
        let temporary = pgdata.join(format!("{EPOCH_FILE}.tmp"));
        let mut file = fs::File::create(&temporary)?;
        writeln!(file, "{epoch}")?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        fs::File::open(pgdata)?.sync_all()
    };
    write().map_err(|source| Error::EpochFile { path: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn an_old_server_is_refused_by_name_after_a_take_over() {
        let repository = testing::memory();
        let lineage = testing::lineage();
        check_epoch(&repository, lineage, 0).unwrap();
        let epoch = take_over(&repository, lineage, Path::new("/new/data"), "restored after a fire").unwrap();
        assert_eq!(epoch, 1);
        check_epoch(&repository, lineage, 1).unwrap();
        let error = check_epoch(&repository, lineage, 0).unwrap_err();
        assert_eq!(error.code(), "writer-superseded");
        let text = error.to_string();
        assert!(text.contains("/new/data") && text.contains("restored after a fire"), "{text}");
        assert_eq!(take_over(&repository, lineage, Path::new("/newer"), "again").unwrap(), 2);
    }

    #[test]
    fn a_take_over_in_one_repository_reaches_the_others_with_the_first_push() {
        let (first, second) = (testing::memory(), testing::memory());
        let (lineage, data) = (testing::lineage(), Path::new("/new/data"));
        take_over(&second, lineage, data, "a fire").unwrap();
        assert_eq!(take_over_from(&first, lineage, data, "another", 5).unwrap(), 5);
        admit(&second, lineage, 5, data).unwrap();
        for repository in [&first, &second] {
            assert_eq!(check_epoch(repository, lineage, 1).unwrap_err().code(), "writer-superseded");
            assert_eq!(admit(repository, lineage, 4, data).unwrap_err().code(), "writer-superseded");
        }
    }

    #[test]
    fn the_epoch_lies_in_the_data_directory() {
        let pgdata = tempfile::tempdir().unwrap();
        assert_eq!(read_epoch(pgdata.path()).unwrap(), 0);
        write_epoch(pgdata.path(), 7).unwrap();
        assert_eq!(read_epoch(pgdata.path()).unwrap(), 7);
        fs::write(pgdata.path().join(EPOCH_FILE), "seven").unwrap();
        assert_eq!(read_epoch(pgdata.path()).unwrap_err().code(), "writer-epoch-file");
    }
}

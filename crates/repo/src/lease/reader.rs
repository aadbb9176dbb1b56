//! The lease of a restore, verification or anything else that reads for long.

use super::beat::{Beat, Renewable};
use super::writer::check_usable;
use super::{Holder, LeaseTimes, WalNeeded};
use crate::repository::Repository;
use crate::seal::random_bytes;
use crate::{BackupId, ContentId, Error, Lineage, Result};
use jiff::Timestamp;
use pgproof_store::{ObjectPath, PutMode};
use serde::{Deserialize, Serialize};

/// The record `reader/<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderRecord {
    /// Who reads.
    pub holder: Holder,
    /// Random; part of the record's name.
    pub token: ContentId,
    /// `restore` or `verify`, for people.
    pub kind: String,
    /// When reading began, by the host's clock, for people.
    pub began: Timestamp,
    /// The backups being read.
    pub backups: Vec<BackupId>,
    /// WAL that must stay.
    pub wal: Option<WalNeeded>,
}

/// What a reader needs others to leave alone.
#[derive(Debug, Clone, Default)]
pub struct ReaderClaim {
    /// `restore` or `verify`, for people.
    pub kind: String,
    /// The backups to be read.
    pub backups: Vec<BackupId>,
    /// WAL that must stay.
    pub wal: Option<WalNeeded>,
}

/// While it lives, nothing that it names is removed. Dropping it lets go.
#[derive(Debug)]
pub struct ReaderLease {
    repository: Repository,
    beat: Beat<ReaderRecord>,
}

impl Renewable for ReaderRecord {
    fn same_lease(&self, other: &Self) -> bool {
        self.token == other.token
    }
}

impl ReaderLease {
    /// Announces reading. What is named here is complete when this returns `Ok`, and stays so.
    ///
    /// # Errors
    /// [`Error::BackupGone`] when a backup was marked for removal or is gone.
    pub fn take(
        repository: &Repository,
        lineage: Lineage,
        claim: ReaderClaim,
        times: LeaseTimes,
    ) -> Result<Self> {
        let backups = claim.backups.clone();
        let lease = Self::announce(repository, lineage, claim, times)?;
        backups.iter().try_for_each(|&backup| check_usable(repository, lineage.backup(backup)))?;
        Ok(lease)
    }

    /// Announces reading of backups that may be damaged: that they are there is not looked at. For repair.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) fn announce(
        repository: &Repository,
        lineage: Lineage,
        claim: ReaderClaim,
        times: LeaseTimes,
    ) -> Result<Self> {
        let token = ContentId(random_bytes());
        let path = lineage.reader(&token.to_string())?;
        let record = ReaderRecord {
            holder: Holder::this_process(),
            token,
            kind: claim.kind,
            began: Timestamp::now(),
            backups: claim.backups,
            wal: claim.wal,
        };
        let beat = Beat::start(repository, path, record, PutMode::IfAbsent, times.renew_every)?;
        Ok(Self { repository: repository.clone(), beat })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &ObjectPath {
        self.beat.path()
    }

    /// Whether the lease is still this reader's, as far as is known. A reader that finds it lost may meet missing objects.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    pub fn check(&self) -> Result<()> {
        match self.beat.is_lost() {
            true => Err(Error::LeaseLost { object: self.beat.path().to_string() }),
            false => Ok(()),
        }
    }
}

impl Drop for ReaderLease {
    fn drop(&mut self) {
        self.beat.stop();
        // A lease that cannot be removed dies by itself.
        drop(self.repository.store().delete(self.beat.path()));
    }
}

//! The lease of a running backup, from its first object to its publication.

use super::beat::{Beat, Renewable};
use super::holder::Seen;
use super::{ExpiredMark, Holder, LeaseTimes, Outcome, WalNeeded, WriterRecord};
use crate::record;
use crate::repository::Repository;
use crate::seal::random_bytes;
use crate::{BackupId, BackupObjects, ContentId, Error, Result};
use jiff::Timestamp;
use pgproof_store::{PutMode, Version};

/// What a backup needs others to leave alone.
#[derive(Debug, Clone, Default)]
pub struct WriterClaim {
    /// `full` or `incremental`, for people.
    pub kind: String,
    /// Published backups that it builds on.
    pub bases: Vec<BackupId>,
    /// WAL that must stay.
    pub wal: Option<WalNeeded>,
}

/// The right to write and publish one backup.
#[derive(Debug)]
pub struct WriterLease {
    repository: Repository,
    objects: BackupObjects,
    beat: Beat<WriterRecord>,
    /// The revocation that publishing replaces.
    over: Option<Version>,
}

/// What a copy finds where it is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// Nothing of this copy.
    Fresh,
    /// What an interrupted copy wrote; its lease has protected it up to now.
    Resumed,
}

impl Renewable for WriterRecord {
    fn same_lease(&self, other: &Self) -> bool {
        self.token == other.token
    }
}

impl WriterLease {
    /// Begins a backup.
    ///
    /// # Errors
    /// [`Error::BackupGone`] when a base was marked for removal or is gone: choose another. [`Error::Store`] when the store fails;
    /// [`Error::is_conflict`] then means that the name is taken.
    pub fn take(
        repository: &Repository,
        objects: BackupObjects,
        claim: WriterClaim,
        times: LeaseTimes,
    ) -> Result<Self> {
        Self::begin(repository, objects, claim, PutMode::IfAbsent, times)
    }

    /// Goes on with a backup whose writer is dead: by its lease's age, or because its process is gone from this host.
    ///
    /// # Errors
    /// [`Error::LeaseHeld`] while the writer may live, [`Error::BackupGone`] when there is nothing to go on with: it was revoked or
    /// published, or its manifest was written already.
    pub fn resume(
        repository: &Repository,
        objects: BackupObjects,
        claim: WriterClaim,
        times: LeaseTimes,
    ) -> Result<Self> {
        let gone = |why: &str| Error::BackupGone { backup: objects.id(), why: why.to_owned() };
        let lease = record::read::<WriterRecord>(repository, &objects.lease())?;
        let lease = lease.ok_or_else(|| gone("it has no lease"))?;
        let store = repository.store();
        let now = store.now().map_err(Error::store("ask for the time"))?;
        let dead =
            !times.is_live(lease.meta.modified, now) || lease.value.holder.seen_from_here() == Seen::Dead;
        if !dead {
            return Err(Error::LeaseHeld { backup: objects.id(), holder: lease.value.holder });
        }
        let mode = PutMode::IfMatch(lease.meta.version);
        let resumed = Self::begin(repository, objects, claim, mode, times)?;
        for decided in [objects.outcome(), objects.manifest()] {
            if store.head(&decided).map_err(Error::store("look for the outcome"))?.is_some() {
                return Err(gone("it came to its end meanwhile"));
            }
        }
        Ok(resumed)
    }

    /// Puts the lease first and looks for marks then, while expiry marks first and looks for leases then: one of them sees the other.
    fn begin(
        repository: &Repository,
        objects: BackupObjects,
        claim: WriterClaim,
        mode: PutMode,
        times: LeaseTimes,
    ) -> Result<Self> {
        let record = new_record(claim);
        let bases = record.bases.clone();
        let beat = Beat::start(repository, objects.lease(), record, mode, times.renew_every)?;
        let lease = Self { repository: repository.clone(), objects, beat, over: None };
        if let Err(error) = lease.check_bases(&bases) {
            lease.abandon("a backup that it was to build on is gone")?;
            return Err(error);
        }
        Ok(lease)
    }

    /// Begins to copy a published backup of another repository under its own name, or goes on with an interrupted copy of it.
    ///
    /// A name that was revoked here, as that of an interrupted copy is in the end, can be used again once nothing else is left of it.
    /// The revocation stays until publication replaces exactly it: so whoever was stopped for hours finds another version, and fails.
    ///
    /// # Errors
    /// [`Error::LeaseHeld`] while somebody else may be copying it; [`Error::BackupGone`] when it came to an end here, when what is left
    /// of it was not removed yet, and when a base is gone.
    pub(crate) fn copy(
        repository: &Repository,
        objects: BackupObjects,
        claim: WriterClaim,
        copied_from: String,
        times: LeaseTimes,
    ) -> Result<(Self, Ground)> {
        let gone = |why: &str| Error::BackupGone { backup: objects.id(), why: why.to_owned() };
        let over = revocation(repository, objects)?;
        let found = record::read::<WriterRecord>(repository, &objects.lease())?;
        let mode = match &found {
            None => PutMode::IfAbsent,
            Some(lease) => {
                let now = repository.store().now().map_err(Error::store("ask for the time"))?;
                let live = times.is_live(lease.meta.modified, now);
                if live && lease.value.holder.seen_from_here() != Seen::Dead {
                    return Err(Error::LeaseHeld {
                        backup: objects.id(),
                        holder: lease.value.holder.clone(),
                    });
                }
                let is_this = lease.value.copied_from.as_ref() == Some(&copied_from)
                    && lease.value.over.as_deref() == over.as_ref().map(Version::as_str);
                if !is_this {
                    return Err(gone(LEFT));
                }
                PutMode::IfMatch(lease.meta.version.clone())
            }
        };
        let ground = if found.is_some() { Ground::Resumed } else { Ground::Fresh };
        let record = WriterRecord {
            copied_from: Some(copied_from),
            over: over.as_ref().map(|version| version.as_str().to_owned()),
            ..new_record(claim)
        };
        let bases = record.bases.clone();
        let beat = Beat::start(repository, objects.lease(), record, mode, times.renew_every)?;
        let lease = Self { repository: repository.clone(), objects, beat, over };
        match lease.stands_on(ground, &bases) {
            Ok(()) => Ok((lease, ground)),
            Err(error) => {
                lease.withdraw(ground);
                Err(error)
            }
        }
    }

    /// What a copy looks at after its lease was put, while expiry looks at leases before it removes anything.
    fn stands_on(&self, ground: Ground, bases: &[BackupId]) -> Result<()> {
        let gone = |why: &str| Error::BackupGone { backup: self.objects.id(), why: why.to_owned() };
        if revocation(&self.repository, self.objects)? != self.over {
            return Err(gone("it came to its end meanwhile"));
        }
        if ground == Ground::Fresh && self.over.is_some() {
            let left = self.repository.store().list(Some(&self.objects.dir()), None);
            let left = left.map_err(Error::store("look for what is left of a revoked backup"))?;
            let known = [self.objects.lease(), self.objects.outcome()];
            if left.iter().any(|object| !known.contains(&object.path)) {
                return Err(gone(LEFT));
            }
        }
        self.check_bases(bases)
    }

    /// Leaves everything as it was found.
    fn withdraw(mut self, ground: Ground) {
        self.beat.stop();
        if ground == Ground::Fresh {
            self.let_go();
        }
    }

    /// The backup.
    pub fn objects(&self) -> BackupObjects {
        self.objects
    }

    /// What the lease says.
    pub fn record(&self) -> WriterRecord {
        self.beat.record()
    }

    /// Builds on these backups instead, and says from where WAL must stay.
    ///
    /// # Errors
    /// [`Error::BackupGone`] when one was marked for removal or is gone; the lease then names none. [`Error::Store`],
    /// [`Error::LeaseLost`].
    pub fn build_on(&self, kind: &str, bases: Vec<BackupId>, wal: WalNeeded) -> Result<()> {
        let wanted = bases.clone();
        self.beat.change(|record| {
            record.bases = bases;
            record.wal = Some(wal);
            kind.clone_into(&mut record.kind);
        })?;
        self.check_bases(&wanted).inspect_err(|_| {
            // Naming a backup that goes away would only delay its removal, so a failure here may be passed over.
            drop(self.beat.change(|record| record.bases.clear()));
        })
    }

    /// Says early that the backup cannot be published any more: the lease is someone else's, or the backup was revoked.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], [`Error::Revoked`].
    pub fn check(&self) -> Result<()> {
        match record::read::<Outcome>(&self.repository, &self.objects.outcome())? {
            Some(found) if self.over.as_ref() != Some(&found.meta.version) => Err(self.decided(found.value)),
            _ if self.beat.is_lost() => Err(Error::LeaseLost { object: self.beat.path().to_string() }),
            _ => Ok(()),
        }
    }

    /// Makes the backup exist. Its packs and manifest are durable already; `manifest` is the manifest's bytes' size and identity.
    ///
    /// # Errors
    /// [`Error::Revoked`] when expiry was first, [`Error::LeaseLost`] when another process took the backup over.
    pub fn publish(mut self, manifest_bytes: u64, manifest_identity: ContentId) -> Result<()> {
        if let Err(error) = self.beat.renew() {
            // Whoever revoked the backup may have removed its lease too: that is the better answer.
            self.check()?;
            return Err(error);
        }
        self.beat.stop();
        let outcome = Outcome::Published { manifest_bytes, manifest_identity, at: Timestamp::now() };
        self.decide(&outcome)?;
        self.let_go();
        Ok(())
    }

    /// Says that the backup will never exist, so that expiry removes what it wrote without waiting for the lease to die.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn abandon(mut self, why: &str) -> Result<()> {
        self.beat.stop();
        let revoked =
            Outcome::Revoked { at: Timestamp::now(), by: Holder::this_process(), why: why.to_owned() };
        match self.decide(&revoked) {
            Ok(()) | Err(Error::Revoked { .. }) => {}
            Err(error) => return Err(error),
        }
        self.let_go();
        Ok(())
    }

    /// Ends the work but leaves the backup as it is, to be resumed. The lease stays and dies by itself.
    pub fn interrupt(mut self) {
        self.beat.stop();
    }

    fn decide(&self, outcome: &Outcome) -> Result<()> {
        let mode = self.over.clone().map_or(PutMode::IfAbsent, PutMode::IfMatch);
        match record::write(&self.repository, &self.objects.outcome(), outcome, mode) {
            Ok(_) => Ok(()),
            Err(error) if error.is_conflict() => {
                let found = record::read::<Outcome>(&self.repository, &self.objects.outcome())?;
                match found {
                    // Our own write, whose answer was lost.
                    Some(found) if found.value == *outcome => Ok(()),
                    Some(found) => Err(self.decided(found.value)),
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn decided(&self, outcome: Outcome) -> Error {
        let backup = self.objects.id();
        match outcome {
            Outcome::Revoked { by, why, .. } => Error::Revoked { backup, host: by.host, why },
            Outcome::Published { .. } => Error::LeaseLost { object: self.beat.path().to_string() },
        }
    }

    /// A lease without work behind it says nothing any more; when it cannot be removed, expiry does.
    fn let_go(&self) {
        drop(self.repository.store().delete(self.beat.path()));
    }

    fn check_bases(&self, bases: &[BackupId]) -> Result<()> {
        bases.iter().try_for_each(|&base| check_usable(&self.repository, self.objects.lineage().backup(base)))
    }
}

/// Why a name cannot be copied to yet.
const LEFT: &str = "it was given up here before, and what it left is still to be removed by `pgproof expire`";

fn new_record(claim: WriterClaim) -> WriterRecord {
    WriterRecord {
        holder: Holder::this_process(),
        token: ContentId(random_bytes()),
        kind: claim.kind,
        began: Timestamp::now(),
        bases: claim.bases,
        wal: claim.wal,
        copied_from: None,
        over: None,
    }
}

/// The version of a backup's revocation; `None` while nothing is decided about it.
fn revocation(repository: &Repository, objects: BackupObjects) -> Result<Option<Version>> {
    match record::read::<Outcome>(repository, &objects.outcome())? {
        None => Ok(None),
        Some(found) if matches!(found.value, Outcome::Revoked { .. }) => Ok(Some(found.meta.version)),
        Some(_) => {
            let why = "it is published already".to_owned();
            Err(Error::BackupGone { backup: objects.id(), why })
        }
    }
}

/// Whether a backup is published and not marked for removal.
pub(super) fn check_usable(repository: &Repository, backup: BackupObjects) -> Result<()> {
    let gone = |why: &str| Error::BackupGone { backup: backup.id(), why: why.to_owned() };
    if record::read::<ExpiredMark>(repository, &backup.expired())?.is_some() {
        return Err(gone("it was marked for removal"));
    }
    match record::read::<Outcome>(repository, &backup.outcome())?.map(|found| found.value) {
        Some(Outcome::Published { .. }) => Ok(()),
        Some(Outcome::Revoked { .. }) => Err(gone("it was revoked")),
        None => Err(gone("it was not published")),
    }
}

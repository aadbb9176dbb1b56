//! Pins: a backup that somebody wants kept whatever the retention says.

use crate::layout::BackupObjects;
use crate::lease::{ExpiredMark, Holder, PinRecord};
use crate::record;
use crate::repository::Repository;
use crate::{Error, Result};
use jiff::Timestamp;
use pgproof_store::PutMode;

/// Pins a backup; pinning it again changes the reason.
///
/// # Errors
/// [`Error::BackupGone`] when it is marked for removal already, which may be going on.
pub fn pin(repository: &Repository, backup: BackupObjects, why: &str) -> Result<()> {
    let pin = PinRecord { by: Holder::this_process(), why: why.to_owned(), at: Timestamp::now() };
    record::write(repository, &backup.pin(), &pin, PutMode::Overwrite)?;
    // The pin is put before this look, and expiry looks for pins after it marked: one of the two sees the other.
    if record::read::<ExpiredMark>(repository, &backup.expired())?.is_some() {
        unpin(repository, backup)?;
        let why = "it is marked for removal".to_owned();
        return Err(Error::BackupGone { backup: backup.id(), why });
    }
    Ok(())
}

/// Removes the pin of a backup, if it has one.
///
/// # Errors
/// [`Error::Store`].
pub fn unpin(repository: &Repository, backup: BackupObjects) -> Result<()> {
    repository.store().delete(&backup.pin()).map_err(Error::store("remove a pin"))
}

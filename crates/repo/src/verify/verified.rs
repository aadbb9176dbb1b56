//! What verifications read, and when.

use crate::layout::Lineage;
use crate::record;
use crate::repository::Repository;
use crate::seal::random_bytes;
use crate::{ContentId, Error, Result};
use jiff::{SignedDuration, Timestamp};
use pgproof_store::PutMode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// An object that was read in full and was what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedObject {
    /// Its path below the lineage.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was stored, by the store's clock.
    pub stored: Timestamp,
}

/// The record `verified/<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedRecord {
    /// When reading began, by the store's clock.
    pub at: Timestamp,
    /// What was read and found whole.
    pub objects: Vec<VerifiedObject>,
    /// How many findings there were, other than remarks.
    pub findings: u64,
}

/// Objects by their paths below the lineage, with what was last known of each and when it was read.
pub(super) type Known = BTreeMap<String, (VerifiedObject, Timestamp)>;

/// The records of all verifications of a lineage, oldest first. Those that cannot be read are passed over: they are found by verifying.
///
/// # Errors
/// [`Error::Store`].
pub fn read_verified(repository: &Repository, lineage: Lineage) -> Result<Vec<VerifiedRecord>> {
    let objects = repository.store().list(Some(&lineage.verified_dir()), None);
    let objects = objects.map_err(Error::store("list the verifications"))?;
    let mut records = Vec::new();
    for object in objects {
        match record::read::<VerifiedRecord>(repository, &object.path) {
            Ok(found) => records.extend(found.map(|found| found.value)),
            Err(error) if error.is_unreadable() => {}
            Err(error) => return Err(error),
        }
    }
    records.sort_by_key(|record| record.at);
    Ok(records)
}

/// The last time each object was read.
pub(super) fn known(records: Vec<VerifiedRecord>) -> Known {
    let mut known = Known::new();
    for record in records {
        let at = record.at;
        known.extend(record.objects.into_iter().map(|object| (object.path.clone(), (object, at))));
    }
    known
}

/// Whether an object is still the one that was read within `since` before `now`.
pub(super) fn is_recent(
    known: &Known,
    object: &VerifiedObject,
    since: Option<Duration>,
    now: Timestamp,
) -> bool {
    let Some(since) = since.and_then(|since| SignedDuration::try_from(since).ok()) else { return false };
    let last = known.get(&object.path);
    last.is_some_and(|(last, at)| last == object && now.duration_since(*at) <= since)
}

/// Leaves a record of what was read.
pub(super) fn write(repository: &Repository, lineage: Lineage, record: &VerifiedRecord) -> Result<()> {
    let path = lineage.verified(&ContentId(random_bytes()).to_string())?;
    record::write(repository, &path, record, PutMode::IfAbsent).map(drop)
}

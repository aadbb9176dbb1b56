//! Removes objects that only repeat what the last one of their page holds.

use super::judge::complete_pages;
use super::read::{Listing, read_page};
use crate::expire::ExpireOptions;
use crate::layout::Lineage;
use crate::repository::Repository;
use crate::{Error, Result};
use jiff::{SignedDuration, Timestamp};
use pgproof_store::ObjectPath;

/// Objects of complete pages that are old enough, and whose page has a whole last object. Says how many were removed.
///
/// # Errors
/// [`Error::Store`].
pub(crate) fn trim(repository: &Repository, lineage: Lineage, options: &ExpireOptions) -> Result<u64> {
    let listing = Listing::read(repository, lineage)?;
    let now = repository.store().now().map_err(Error::store("ask for the time"))?;
    let mut removed = 0;
    for objects in listing.chains.values() {
        for (last, others) in complete_pages(objects) {
            let old: Vec<ObjectPath> = others
                .iter()
                .filter(|object| is_old(object.modified, now, options))
                .map(|object| object.path.clone())
                .collect();
            if old.is_empty() || !repeats_all(repository, lineage, last)? {
                continue;
            }
            repository.store().delete_all(&old).map_err(Error::store("trim the ledger"))?;
            removed += old.len() as u64;
        }
    }
    Ok(removed)
}

fn is_old(modified: Timestamp, now: Timestamp, options: &ExpireOptions) -> bool {
    let wait = options.sweep_after.max(options.locked_for.unwrap_or_default());
    now.duration_since(modified) >= SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX)
}

/// Whether an object is whole. What only others of its page hold would be lost with them.
fn repeats_all(repository: &Repository, lineage: Lineage, last: &super::read::Listed) -> Result<bool> {
    let Ok(page) = read_page(repository, last)? else { return Ok(false) };
    let hashed = page.numbered().all(|(number, link)| link.holds(&last.chain, lineage, number));
    let linked = page.entries.windows(2).all(|pair| pair[0].hash == pair[1].previous);
    Ok(hashed && linked && page.is_signed(repository))
}

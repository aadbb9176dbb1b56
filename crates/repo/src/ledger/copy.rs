//! Takes chains along to another repository, under their origin.

use super::chain::Page;
use super::read::{Listed, Listing, read_page};
use crate::layout::Lineage;
use crate::repository::Repository;
use crate::{Result, record};
use pgproof_store::PutMode;
use std::collections::BTreeSet;

/// Copies what the target lacks of the chains of a lineage, and says how many objects. What cannot be read is left for verification of the
/// source to name; what the target holds is never changed.
///
/// # Errors
/// [`Error::Store`].
pub(crate) fn copy(source: &Repository, target: &Repository, lineage: Lineage) -> Result<u64> {
    let (here, there) = (Listing::read(source, lineage)?, Listing::read(target, lineage)?);
    let own = target.id().to_string();
    let mut copied = 0;
    for (chain, objects) in here.chains.iter().filter(|(chain, _)| chain.origin != own) {
        let present: BTreeSet<u64> =
            there.chains.get(chain).into_iter().flatten().map(|object| object.number).collect();
        for listed in wanted(objects).filter(|listed| !present.contains(&listed.number)) {
            copied += u64::from(copy_object(source, target, listed)?);
        }
    }
    Ok(copied)
}

/// The newest object of each page: the others repeat.
fn wanted(objects: &[Listed]) -> impl Iterator<Item = &Listed> {
    let pages = objects.chunk_by(|a, b| super::chain::page_of(a.number) == super::chain::page_of(b.number));
    pages.filter_map(|page| page.last())
}

fn copy_object(source: &Repository, target: &Repository, listed: &Listed) -> Result<bool> {
    let Ok(page) = read_page(source, listed)? else { return Ok(false) };
    // A signature of the target must not vouch for what that of the source does not.
    if !page.is_signed(source) {
        return Ok(false);
    }
    let signed = Page::sign(target, page.first, page.entries);
    match record::write(target, &listed.path, &signed, PutMode::IfAbsent) {
        Ok(_) => Ok(true),
        Err(error) if error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

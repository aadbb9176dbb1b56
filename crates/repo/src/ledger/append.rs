//! Appends a record to this host's chain.

use super::chain::{ChainId, Digest, Entry, Head, Link, Page, next_page, page_of};
use super::read::{Listing, read_page};
use super::record::Record;
use crate::layout::Lineage;
use crate::repository::Repository;
use crate::seal::random_bytes;
use crate::{Error, Result, record};
use pgproof_store::PutMode;
use std::thread;
use std::time::Duration;

/// Tries before an append gives up: in each of them another writer of the same host was faster.
const TRIES: u64 = 40;

/// Longest pause after the first lost try. Pauses are random and grow, so that many writers come apart.
const PAUSE: Duration = Duration::from_millis(10);

/// Appends a record and gives the chain's new head. It is durable when this returns `Ok`.
///
/// # Errors
/// [`Error::Store`] when the repository cannot be written; whoever did what the record says warns then and goes on.
pub fn append(repository: &Repository, lineage: Lineage, what: &Record) -> Result<Head> {
    append_as(repository, lineage, &ChainId::here(repository), what)
}

pub(super) fn append_as(
    repository: &Repository,
    lineage: Lineage,
    chain: &ChainId,
    what: &Record,
) -> Result<Head> {
    for lost in 0..TRIES {
        let listing = Listing::read(repository, lineage)?;
        let ground = ground(repository, &listing, chain)?;
        let at = repository.store().now().map_err(Error::store("ask for the time"))?;
        let heads = listing.other_heads(repository, chain)?;
        let entry = Entry::encode(at, heads, what.clone())?;
        if let Some(head) = put(repository, lineage, chain, ground, entry)? {
            return Ok(head);
        }
        let share = u32::from(random_bytes::<1>()[0]);
        thread::sleep(PAUSE * (lost as u32 + 1) * share / 256);
    }
    let reason = format!("other writers of {chain} were faster {TRIES} times");
    Err(Error::Refused { operation: "append to the ledger", reason })
}

/// Where the next entry goes, and what its object repeats.
struct Ground {
    number: u64,
    first: u64,
    repeated: Vec<Link>,
    previous: Digest,
}

fn ground(repository: &Repository, listing: &Listing, chain: &ChainId) -> Result<Ground> {
    let Some(newest) = listing.newest(chain) else {
        return Ok(Ground { number: 0, first: 0, repeated: Vec::new(), previous: Digest::ZERO });
    };
    let Some(page) = read_page(repository, newest)?.ok() else {
        // What cannot be read cannot be built upon. The break stays visible, and evidence goes on.
        let number = next_page(newest.number);
        return Ok(Ground { number, first: number, repeated: Vec::new(), previous: Digest::ZERO });
    };
    let previous = page.entries.last().map_or(Digest::ZERO, |link| link.hash);
    let number = newest.number + 1;
    Ok(match page_of(number) == page_of(newest.number) {
        true => Ground { number, first: page.first, repeated: page.entries, previous },
        false => Ground { number, first: number, repeated: Vec::new(), previous },
    })
}

/// Puts the object; `None` when another writer took the number.
fn put(
    repository: &Repository,
    lineage: Lineage,
    chain: &ChainId,
    ground: Ground,
    entry: String,
) -> Result<Option<Head>> {
    let Ground { number, first, mut repeated, previous } = ground;
    let link = Link::new(chain, lineage, number, previous, entry);
    let head = Head { chain: chain.clone(), number, hash: link.hash };
    repeated.push(link);
    let path = chain.object(lineage, number)?;
    match record::write(repository, &path, &Page::sign(repository, first, repeated), PutMode::IfAbsent) {
        Ok(_) => Ok(Some(head)),
        Err(error) if error.is_conflict() => {
            // A write whose answer was lost may have been tried again by the store: then what is there is this one.
            let found = record::read::<Page>(repository, &path);
            let own = |page: &Page| page.entries.last().is_some_and(|link| link.hash == head.hash);
            Ok(found.ok().flatten().filter(|found| own(&found.value)).map(|_| head))
        }
        Err(error) => Err(error),
    }
}

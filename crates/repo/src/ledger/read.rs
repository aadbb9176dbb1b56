//! Gathers the ledger: one listing, and the newest object of each page.

use super::chain::{ChainId, Entry, HEADS_MAX, Head, Page, page_of};
use super::judge::{self, Flaw, FlawKind, SeenObject};
use crate::layout::Lineage;
use crate::repository::Repository;
use crate::{Error, Result, parallel, record};
use jiff::Timestamp;
use pgproof_store::ObjectPath;
use std::collections::BTreeMap;

/// Requests at a time: each waits for the store, not for a core.
const THREADS: usize = 8;

/// An object of a chain as the listing shows it.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) chain: ChainId,
    pub(super) number: u64,
    pub(super) path: ObjectPath,
    pub(super) modified: Timestamp,
}

/// The names of all objects of a lineage's ledger.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// By chain, in order of number.
    pub(super) chains: BTreeMap<ChainId, Vec<Listed>>,
    /// Names that no version of the format gives.
    pub(super) strays: Vec<ObjectPath>,
}

/// The entries of one writer.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// Whose.
    pub id: ChainId,
    /// Its newest entry that could be read.
    pub head: Option<Head>,
    /// What was read, oldest first, with the numbers. Entries of newer programs are not among them.
    pub entries: Vec<(u64, Entry)>,
}

/// A lineage's ledger, as far as it was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger {
    /// By writer.
    pub chains: Vec<Chain>,
    /// What does not fit.
    pub flaws: Vec<Flaw>,
}

impl Ledger {
    /// All entries, oldest first by the store's clock.
    pub fn entries(&self) -> Vec<&Entry> {
        let all = self.chains.iter().flat_map(|chain| &chain.entries);
        let mut entries: Vec<&Entry> = all.map(|(_, entry)| entry).collect();
        entries.sort_by_key(|entry| entry.at);
        entries
    }
}

/// Reads the ledger of a lineage; with `since` only pages that were written to after that instant, by the store's clock, and always the
/// newest of each chain.
///
/// # Errors
/// [`Error::Store`]; what does not fit is part of the answer.
pub fn read(repository: &Repository, lineage: Lineage, since: Option<Timestamp>) -> Result<Ledger> {
    settled(|| {
        let listing = Listing::read(repository, lineage)?;
        let pages: Vec<Vec<Listed>> = listing.pages(since);
        let seen = parallel::try_map(&pages, THREADS, |page| newest_readable(repository, page))?;
        Ok(judge::judge(lineage, &listing, seen.into_iter().flatten().collect(), since.is_some()))
    })
}

/// Reads every object of the ledger of a lineage, those too that only repeat.
///
/// # Errors
/// As [`read`].
pub fn verify(repository: &Repository, lineage: Lineage, threads: usize) -> Result<Ledger> {
    settled(|| {
        let listing = Listing::read(repository, lineage)?;
        let all: Vec<&Listed> = listing.chains.values().flatten().collect();
        let seen = parallel::try_map(&all, threads, |listed| see(repository, listed))?;
        Ok(judge::judge(lineage, &listing, seen.into_iter().flatten().collect(), false))
    })
}

/// A listing that passed one chain before an entry came and another one after it makes the first look cut; a second look tells.
fn settled(mut look: impl FnMut() -> Result<Ledger>) -> Result<Ledger> {
    let first = look()?;
    let looks_cut = |flaw: &Flaw| matches!(flaw.kind, FlawKind::Cut | FlawKind::Missing);
    if first.flaws.iter().any(looks_cut) { look() } else { Ok(first) }
}

impl Listing {
    pub(super) fn read(repository: &Repository, lineage: Lineage) -> Result<Self> {
        let objects = repository.store().list(Some(&lineage.ledger_dir()), None);
        let mut listing = Self::default();
        for object in objects.map_err(Error::store("list the ledger"))? {
            match ChainId::of_path(lineage, &object.path) {
                Some((chain, number)) => {
                    let (path, modified) = (object.path, object.modified);
                    let listed = Listed { chain: chain.clone(), number, path, modified };
                    listing.chains.entry(chain).or_default().push(listed);
                }
                None => listing.strays.push(object.path),
            }
        }
        // Byte order is the numbers' order up to eight digits only.
        listing.chains.values_mut().for_each(|objects| objects.sort_by_key(|object| object.number));
        Ok(listing)
    }

    pub(super) fn newest(&self, chain: &ChainId) -> Option<&Listed> {
        self.chains.get(chain).and_then(|objects| objects.last())
    }

    /// The heads of chains other than this one, those written to last.
    pub(super) fn other_heads(&self, repository: &Repository, own: &ChainId) -> Result<Vec<Head>> {
        let others = self.chains.iter().filter(|(chain, _)| *chain != own);
        let mut newest: Vec<&Listed> = others.filter_map(|(_, objects)| objects.last()).collect();
        newest.sort_by_key(|listed| std::cmp::Reverse(listed.modified));
        newest.truncate(HEADS_MAX);
        let mut heads = Vec::new();
        for listed in newest {
            // One that cannot be read is for verification to name.
            let Ok(page) = read_page(repository, listed)? else { continue };
            let last = page.entries.last();
            heads.extend(last.map(|link| Head {
                chain: listed.chain.clone(),
                number: listed.number,
                hash: link.hash,
            }));
        }
        Ok(heads)
    }

    /// The objects of each page, newest first. A page is wanted when its newest object is, and the newest page of a chain always is.
    fn pages(&self, since: Option<Timestamp>) -> Vec<Vec<Listed>> {
        let mut pages = Vec::new();
        for objects in self.chains.values() {
            let newest = objects.last().map(|last| page_of(last.number));
            for page in objects.chunk_by(|a, b| page_of(a.number) == page_of(b.number)) {
                let Some(last) = page.last() else { continue };
                let wanted = since.is_none_or(|since| last.modified >= since);
                if wanted || Some(page_of(last.number)) == newest {
                    pages.push(page.iter().rev().cloned().collect());
                }
            }
        }
        pages
    }
}

/// The newest object of a page that can be read, and those that cannot before it.
fn newest_readable(repository: &Repository, page: &Vec<Listed>) -> Result<Vec<SeenObject>> {
    let mut seen = Vec::new();
    for listed in page {
        let found = see(repository, listed)?;
        let whole = found.as_ref().is_some_and(|found| found.content.is_ok());
        seen.extend(found);
        if whole {
            break;
        }
    }
    Ok(seen)
}

/// Reads one object; `None` when it was removed since the listing.
fn see(repository: &Repository, listed: &Listed) -> Result<Option<SeenObject>> {
    let content = match read_page(repository, listed)? {
        Err(_) if repository.store().head(&listed.path).is_ok_and(|found| found.is_none()) => {
            return Ok(None);
        }
        content => content,
    };
    let signed = content.as_ref().is_ok_and(|page| page.is_signed(repository));
    Ok(Some(SeenObject { listed: listed.clone(), content, signed }))
}

/// The page of an object, or what is wrong with it. A store that fails is an error.
pub(super) fn read_page(repository: &Repository, listed: &Listed) -> Result<Result<Page, String>> {
    match record::read::<Page>(repository, &listed.path) {
        Ok(Some(found)) if found.value.fits(listed.number) => Ok(Ok(found.value)),
        Ok(Some(_)) => Ok(Err("it is no page of this number".to_owned())),
        Ok(None) => Ok(Err("it is missing".to_owned())),
        Err(Error::Damaged { what, .. }) => Ok(Err(what)),
        Err(error) if error.is_unreadable() => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

//! What does not fit in a ledger: pure, from objects as they were read.
//!
//! An object that cannot be read is damage. An entry whose hash is not that of its content, a link that does not meet, a missing signature
//! and two objects of one page that tell differently are changes by somebody who had the key, or defects; what another chain saw and is not
//! there any more was removed.

use super::chain::{ChainId, Digest, Entry, Head, Link, Page, page_of};
use super::read::{Chain, Ledger, Listed, Listing};
use crate::layout::Lineage;
use pgproof_store::ObjectPath;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// An object as it was read.
#[derive(Debug, Clone)]
pub(super) struct SeenObject {
    pub(super) listed: Listed,
    /// What it holds, or what is wrong with it.
    pub(super) content: Result<Page, String>,
    pub(super) signed: bool,
}

/// In which way something does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlawKind {
    /// No object of the ledger has such a name.
    Stray,
    /// An object cannot be read.
    Damaged,
    /// Entries are not there, and those around them are.
    Missing,
    /// What an entry says is not what was hashed, or two objects tell it differently.
    Altered,
    /// An entry does not follow from the one before.
    Broken,
    /// The newest entry of an object is not signed by the repository's key.
    Unsigned,
    /// Another chain saw entries at the end that are not there any more.
    Cut,
    /// Another chain saw another entry of this number.
    Replaced,
}

/// Something in a ledger that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Flaw {
    /// In which way.
    pub kind: FlawKind,
    /// The object that it is about.
    pub object: String,
    /// What was seen, as a sentence.
    pub seen: String,
}

/// Judges what was read. `partly`: older pages were left out on purpose.
pub(super) fn judge(lineage: Lineage, listing: &Listing, seen: Vec<SeenObject>, partly: bool) -> Ledger {
    let mut by_chain: BTreeMap<&ChainId, Vec<SeenObject>> = BTreeMap::new();
    for object in seen {
        if let Some((chain, _)) = listing.chains.get_key_value(&object.listed.chain) {
            by_chain.entry(chain).or_default().push(object);
        }
    }
    let mut judging = Judging { lineage, partly, flaws: Vec::new(), links: BTreeMap::new() };
    for stray in &listing.strays {
        judging.flaw(FlawKind::Stray, stray, format!("{stray} is no object of a ledger"));
    }
    let chains: Vec<Chain> =
        by_chain.into_iter().map(|(chain, objects)| judging.chain(chain, objects)).collect();
    chains.iter().for_each(|chain| judging.mentions(chain));
    let mut flaws = judging.flaws;
    flaws.sort();
    flaws.dedup();
    Ledger { chains, flaws }
}

struct Judging {
    lineage: Lineage,
    partly: bool,
    flaws: Vec<Flaw>,
    /// The hash of every entry that was read.
    links: BTreeMap<ChainId, BTreeMap<u64, Digest>>,
}

impl Judging {
    fn flaw(&mut self, kind: FlawKind, object: &ObjectPath, seen: String) {
        self.flaws.push(Flaw { kind, object: object.to_string(), seen });
    }

    fn flaw_at(&mut self, kind: FlawKind, chain: &ChainId, number: u64, seen: String) {
        if let Ok(path) = chain.object(self.lineage, number) {
            self.flaw(kind, &path, seen);
        }
    }

    fn chain(&mut self, id: &ChainId, mut objects: Vec<SeenObject>) -> Chain {
        objects.sort_by_key(|object| object.listed.number);
        let newest_listed = objects.last().map(|object| object.listed.number);
        let mut links: BTreeMap<u64, Link> = BTreeMap::new();
        for SeenObject { listed, content, signed } in objects {
            match content {
                Err(what) => {
                    let seen = format!("{} cannot be read: {what}", listed.path);
                    self.flaw(FlawKind::Damaged, &listed.path, seen);
                }
                Ok(page) => {
                    if !signed {
                        let seen = format!("{} is not signed with the repository's key", listed.path);
                        self.flaw(FlawKind::Unsigned, &listed.path, seen);
                    }
                    self.gather(id, &listed.path, page, &mut links);
                }
            }
        }
        self.order(id, &links, newest_listed);
        let head =
            links.last_key_value().map(|(&number, link)| Head { chain: id.clone(), number, hash: link.hash });
        let hashes = links.iter().map(|(&number, link)| (number, link.hash)).collect();
        self.links.insert(id.clone(), hashes);
        let decoded = links.iter().filter_map(|(&number, link)| Some((number, Entry::decode(&link.entry)?)));
        Chain { id: id.clone(), head, entries: decoded.collect() }
    }

    fn gather(&mut self, id: &ChainId, path: &ObjectPath, page: Page, links: &mut BTreeMap<u64, Link>) {
        for (number, link) in page.numbered() {
            if !link.holds(id, self.lineage, number) {
                let seen = format!("entry {number} in {path} is not what was hashed");
                self.flaw(FlawKind::Altered, path, seen);
            }
            match links.get(&number) {
                Some(other) if other != link => {
                    let seen =
                        format!("{path} tells entry {number} of {id} differently than others of its page");
                    self.flaw(FlawKind::Altered, path, seen);
                }
                Some(_) => {}
                None => {
                    links.insert(number, link.clone());
                }
            }
        }
    }

    /// Whether entries follow each other without a gap.
    fn order(&mut self, id: &ChainId, links: &BTreeMap<u64, Link>, newest_listed: Option<u64>) {
        let mut expected: Option<(u64, Digest)> = (!self.partly).then_some((0, Digest::ZERO));
        for (&number, link) in links {
            if let Some((next, previous)) = expected {
                // Pages between two of which nothing is wanted are left out by a partial reading.
                if number > next && !self.partly {
                    self.missing(id, next, number - 1);
                } else if number == next && link.previous != previous {
                    let seen = format!(
                        "entry {number} of {id} does not follow from entry {}",
                        number.wrapping_sub(1)
                    );
                    self.flaw_at(FlawKind::Broken, id, number, seen);
                }
            }
            expected = Some((number + 1, link.hash));
        }
        let last = links.last_key_value().map(|(&number, _)| number);
        if let Some(listed) = newest_listed.filter(|&listed| last.is_none_or(|last| last < listed)) {
            self.missing(id, last.map_or(0, |last| last + 1), listed);
        }
    }

    fn missing(&mut self, id: &ChainId, first: u64, last: u64) {
        let seen = match first == last {
            true => format!("entry {first} of {id} is missing"),
            false => format!("entries {first} to {last} of {id} are missing"),
        };
        self.flaw_at(FlawKind::Missing, id, last, seen);
    }

    /// Whether what a chain saw of the others is still there.
    fn mentions(&mut self, chain: &Chain) {
        let mut cut: BTreeSet<ChainId> = BTreeSet::new();
        for (number, entry) in chain.entries.iter().rev() {
            for head in &entry.heads {
                let known = self.links.get(&head.chain);
                let newest = known.and_then(|links| links.last_key_value()).map(|(&number, _)| number);
                match known.and_then(|links| links.get(&head.number)) {
                    Some(hash) if *hash == head.hash => {}
                    Some(_) => {
                        let seen = format!(
                            "entry {} of {} is another one than entry {number} of {} saw",
                            head.number, head.chain, chain.id
                        );
                        self.flaw_at(FlawKind::Replaced, &head.chain, head.number, seen);
                    }
                    None if newest.is_none_or(|newest| newest < head.number)
                        && cut.insert(head.chain.clone()) =>
                    {
                        let ends =
                            newest.map_or("is gone".to_owned(), |newest| format!("ends with entry {newest}"));
                        let seen = format!(
                            "{} {ends}, and entry {number} of {} saw its entry {}",
                            head.chain, chain.id, head.number
                        );
                        self.flaw_at(FlawKind::Cut, &head.chain, head.number, seen);
                    }
                    // In a gap that is named already, or in a page that was left out.
                    None => {}
                }
            }
        }
    }
}

/// The last object of each page that is complete, with the others of its page.
pub(super) fn complete_pages(objects: &[Listed]) -> Vec<(&Listed, &[Listed])> {
    let pages = objects.chunk_by(|a, b| page_of(a.number) == page_of(b.number));
    let complete = pages.filter_map(|page| {
        let (last, others) = page.split_last()?;
        (page_of(last.number + 1) != page_of(last.number)).then_some((last, others))
    });
    complete.collect()
}

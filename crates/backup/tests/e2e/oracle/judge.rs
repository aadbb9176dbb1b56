//! What WAL must name, told by two copies of a cluster.
//!
//! Stricter than reuse of pages needs where that costs nothing: a relation that came or went must be named as a whole, though new
//! files are read anyway, because its number may belong to another relation by the time of the next backup.

use super::copy::Copy;
use pgproof_backup::Kinds;
use pgproof_pg::page::pages;
use pgproof_pg::wal::{Change, JoinedChanges};
use pgproof_pg::{Fork, RelFork, Relation};
use std::collections::BTreeSet;
use std::fmt;

/// One thing that changed.
#[derive(Debug)]
pub(crate) struct Fact {
    pub(crate) fork: RelFork,
    /// The block, or all of the fork.
    pub(crate) block: Option<u32>,
    what: &'static str,
    /// Path and access method.
    place: String,
}

impl Fact {
    pub(crate) fn whole(fork: RelFork, what: &'static str) -> Self {
        Self { fork, block: None, what, place: String::new() }
    }

    pub(crate) fn is_named(&self, changes: &JoinedChanges) -> bool {
        match (changes.of(&self.fork), self.block) {
            (Change::Whole, _) => true,
            (change, Some(block)) => change.names(block),
            (_, None) => false,
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let block = self.block.map_or_else(|| "all of it".to_owned(), |block| format!("block {block}"));
        write!(f, "{}: {}, {block}: {}", self.place, self.fork, self.what)
    }
}

/// Everything that changed from the first copy to the second and that WAL must name. `all` tells which relations WAL refers to: the
/// free space map of any other is a hint of no consequence.
pub(crate) fn facts(first: &Copy, second: &Copy, kinds: &Kinds, all: &JoinedChanges) -> Vec<Fact> {
    let unlogged = unlogged(first, second);
    let mut facts = Vec::new();
    for (path, (file, old)) in &first.files {
        let relation = file.file.relation();
        // Init forks are always read, other forks of unlogged relations never.
        if unlogged.contains(&relation) {
            continue;
        }
        if file.file.fork == Fork::Fsm && all.of(&relation.fork(Fork::Main)) == Change::None {
            continue;
        }
        let place = format!("{path} ({})", kinds.of(relation));
        let fact = |block, what| Fact { fork: file.file, block, what, place: place.clone() };
        match second.files.get(path) {
            None => facts.push(fact(None, "it is gone")),
            Some((_, new)) => {
                let (old, new) = (pages(old).unwrap(), pages(new).unwrap());
                for (at, page) in (0..).zip(old) {
                    let block = Some(file.first_block() + at);
                    match new.get(at as usize) {
                        None => facts.push(fact(block, "it was cut off")),
                        Some(now) if kinds.same_page(file, at, page, now) => {}
                        Some(_) => facts.push(fact(block, "it differs")),
                    }
                }
            }
        }
    }
    let is_new = |path: &String| !first.files.contains_key(path);
    for (path, (file, _)) in second.files.iter().filter(|(path, _)| is_new(path)) {
        // Maps are created without WAL.
        if file.file.fork == Fork::Main && file.segment == 0 && !unlogged.contains(&file.file.relation()) {
            facts.push(Fact { fork: file.file, block: None, what: "it is new", place: path.clone() });
        }
    }
    facts
}

fn unlogged(first: &Copy, second: &Copy) -> BTreeSet<Relation> {
    let files = first.files.values().chain(second.files.values()).map(|(path, _)| path.file);
    files.filter(|file| file.fork == Fork::Init).map(RelFork::relation).collect()
}

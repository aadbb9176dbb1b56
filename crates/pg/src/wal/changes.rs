//! Which blocks of which files WAL can have changed.
//!
//! Promises a superset: what is not named was not changed by the WAL that was read. Changes of several segments are united without regard
//! to order, so a truncation keeps its lowest block even when the relation grew again.

use super::block_set::BlockSet;
use crate::relfile::{DatabaseDir, Fork, RelFork, Relation};
use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasherDefault, Hasher},
};

/// What may have changed in one fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// Nothing that WAL names.
    None,
    /// Any block, and the file may be another one by the same name.
    Whole,
    /// Some blocks.
    Blocks {
        /// The blocks, all below `limit`.
        blocks: &'a BlockSet,
        /// Every block from this one on may have changed too: the fork was truncated to this length, and may have grown since.
        limit: Option<u32>,
    },
}

impl Change<'_> {
    /// Whether a block may have changed.
    pub fn names(&self, block: u32) -> bool {
        match self {
            Self::None => false,
            Self::Whole => true,
            Self::Blocks { blocks, limit } => {
                limit.is_some_and(|limit| block >= limit) || blocks.contains(block)
            }
        }
    }
}

/// The change of one fork, while it is gathered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ForkChange {
    pub(crate) blocks: BlockSet,
    pub(crate) limit: Option<u32>,
}

impl ForkChange {
    fn is_none(&self) -> bool {
        self.blocks.is_empty() && self.limit.is_none()
    }

    pub(crate) fn insert(&mut self, block: u32) {
        if self.limit.is_none_or(|limit| block < limit) {
            self.blocks.insert(block);
        }
    }

    /// Everything from `limit` on may have changed.
    pub(crate) fn limit_to(&mut self, limit: u32) {
        if self.limit.is_none_or(|before| limit < before) {
            self.limit = Some(limit);
            self.blocks.truncate(limit);
        }
    }

    fn union(&mut self, other: &Self) {
        self.blocks.union(&other.blocks);
        if let Some(limit) = self.limit {
            self.blocks.truncate(limit);
        }
        if let Some(limit) = other.limit {
            self.limit_to(limit);
        }
    }

    fn as_change(&self) -> Change<'_> {
        match self.limit {
            Some(0) => Change::Whole,
            limit if limit.is_some() || !self.blocks.is_empty() => {
                Change::Blocks { blocks: &self.blocks, limit }
            }
            _ => Change::None,
        }
    }
}

/// Changes of a relation's forks, in [`Fork`]'s order.
pub(crate) type RelationChange = [ForkChange; 4];

/// What a stretch of WAL can have changed.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    index: HashMap<Relation, u32, BuildHasherDefault<RelationHasher>>,
    relations: Vec<(Relation, RelationChange)>,
    databases: BTreeSet<DatabaseDir>,
}

impl Changes {
    /// What may have changed in a fork.
    pub fn of(&self, fork: &RelFork) -> Change<'_> {
        if self.databases.contains(&fork.directory()) {
            return Change::Whole;
        }
        match self.index.get(&fork.relation()) {
            Some(&at) => self.relations[at as usize].1[usize::from(fork.fork.number())].as_change(),
            None => Change::None,
        }
    }

    /// Whether every file of a database in a tablespace may be another: it was created, copied or dropped by files.
    pub fn database_rewritten(&self, tablespace: u32, database: u32) -> bool {
        self.databases.contains(&DatabaseDir { tablespace, database })
    }

    /// The databases of which [`Self::database_rewritten`] is true, ordered.
    pub fn rewritten_databases(&self) -> impl Iterator<Item = DatabaseDir> + '_ {
        self.databases.iter().copied()
    }

    /// Every fork that may have changed, ordered, with its change. Forks in rewritten databases are told by
    /// [`Self::rewritten_databases`] and appear here only if WAL names them too.
    pub fn forks(&self) -> Vec<(RelFork, Change<'_>)> {
        let mut relations: Vec<_> = self.relations.iter().collect();
        relations.sort_unstable_by_key(|(relation, _)| *relation);
        let all = relations.into_iter().flat_map(|(relation, forks)| {
            Fork::ALL.into_iter().zip(forks).map(|(fork, change)| (relation.fork(fork), change.as_change()))
        });
        all.filter(|(_, change)| *change != Change::None).collect()
    }

    /// Whether nothing may have changed.
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty()
            && self.relations.iter().all(|(_, forks)| forks.iter().all(ForkChange::is_none))
    }

    /// Number of blocks named one by one.
    pub fn block_count(&self) -> u64 {
        self.relations.iter().flat_map(|(_, forks)| forks).map(|change| change.blocks.len()).sum()
    }

    /// Adds what another stretch changed.
    pub fn union(&mut self, other: &Self) {
        for (relation, theirs) in &other.relations {
            let at = self.slot(*relation);
            for (ours, theirs) in self.relations[at].1.iter_mut().zip(theirs) {
                ours.union(theirs);
            }
        }
        self.databases.extend(&other.databases);
    }

    pub(crate) fn rewrite_database(&mut self, directory: DatabaseDir) {
        self.databases.insert(directory);
    }

    /// Where a relation's changes are kept; a number that stays valid.
    pub(crate) fn slot(&mut self, relation: Relation) -> usize {
        let next = self.relations.len() as u32;
        let at = *self.index.entry(relation).or_insert(next);
        if at == next {
            self.relations.push((relation, RelationChange::default()));
        }
        at as usize
    }

    pub(crate) fn fork_mut(&mut self, slot: usize, fork: Fork) -> &mut ForkChange {
        &mut self.relations[slot].1[usize::from(fork.number())]
    }

    pub(crate) fn whole_relation(&mut self, relation: Relation) {
        let slot = self.slot(relation);
        for fork in Fork::ALL {
            self.fork_mut(slot, fork).limit_to(0);
        }
    }

    /// Relations with their changes, in the order of encoding.
    pub(crate) fn sorted(&self) -> Vec<&(Relation, RelationChange)> {
        let mut relations: Vec<_> = self.relations.iter().collect();
        relations.sort_unstable_by_key(|(relation, _)| *relation);
        relations
    }
}

impl PartialEq for Changes {
    fn eq(&self, other: &Self) -> bool {
        self.databases == other.databases && self.forks() == other.forks()
    }
}

impl Eq for Changes {}

/// Mixes the three words of a [`Relation`]. Block references are looked up millions of times a second, and whoever can choose
/// relation numbers to collide can write any WAL at all.
#[derive(Default)]
pub(crate) struct RelationHasher(u64);

impl Hasher for RelationHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32((*byte).into());
        }
    }

    fn write_u32(&mut self, word: u32) {
        // The multiplier of rustc's FxHasher; the rotation brings its good upper bits to where the table looks.
        self.0 = (self.0.rotate_left(26) ^ u64::from(word)).wrapping_mul(0x517C_C1B7_2722_0A95);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELATION: Relation = Relation { tablespace: 1663, database: 5, relnumber: 16384 };

    fn changes(limit: Option<u32>, blocks: &[u32]) -> Changes {
        let mut changes = Changes::default();
        let slot = changes.slot(RELATION);
        let main = changes.fork_mut(slot, Fork::Main);
        blocks.iter().for_each(|block| main.insert(*block));
        limit.into_iter().for_each(|limit| main.limit_to(limit));
        changes
    }

    #[test]
    fn lowest_truncation_counts_whatever_the_order() {
        let (early, late) = (changes(Some(10), &[3, 40]), changes(Some(7), &[5, 8]));
        for (first, second) in [(&early, &late), (&late, &early)] {
            let mut joined = first.clone();
            joined.union(second);
            let expected: BlockSet = [3, 5].into_iter().collect();
            let main = RELATION.fork(Fork::Main);
            assert_eq!(joined.of(&main), Change::Blocks { blocks: &expected, limit: Some(7) });
            assert!(
                joined.of(&main).names(5) && joined.of(&main).names(4_000_000) && !joined.of(&main).names(6)
            );
            assert_eq!(joined.of(&RELATION.fork(Fork::Vm)), Change::None);
        }
    }

    #[test]
    fn rewritten_databases_change_every_file_in_them() {
        let mut changes = Changes::default();
        assert!(changes.is_empty());
        changes.rewrite_database(DatabaseDir { tablespace: 1663, database: 5 });
        assert_eq!(changes.of(&RELATION.fork(Fork::Init)), Change::Whole);
        assert!(changes.database_rewritten(1663, 5) && !changes.database_rewritten(16400, 5));
        assert!(!changes.is_empty());
    }
}

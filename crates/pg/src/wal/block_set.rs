//! Sets of block numbers of one fork.
//!
//! Promises memory in proportion to what is named, whether the blocks are few and scattered or many and dense: blocks are kept in
//! chunks of 4096, each a short sorted list, a bitmap, or just the word "all". A bitmap per fork would cost 16 MB for the first block
//! of a 1 TB table; a list of numbers as much for a bulk load.

use std::{collections::BTreeMap, fmt, ops::Range};

const CHUNK_BLOCKS: u32 = 4096;
const CHUNK_WORDS: usize = CHUNK_BLOCKS as usize / 64;
/// Beyond this many entries a list (2 bytes each) is replaced by a bitmap (512 bytes); lists stay cheap to insert into.
const LIST_MAX: usize = 64;

#[derive(Clone, PartialEq, Eq)]
enum Chunk {
    List(Vec<u16>),
    Bits(Box<Bits>),
    All,
}

#[derive(Clone, PartialEq, Eq)]
struct Bits {
    count: u32,
    words: [u64; CHUNK_WORDS],
}

/// A set of block numbers, iterated in rising order.
#[derive(Clone, Default)]
pub struct BlockSet {
    chunks: BTreeMap<u32, Chunk>,
    len: u64,
}

impl BlockSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of blocks.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no block is named.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a block; whether it was new.
    pub fn insert(&mut self, block: u32) -> bool {
        let chunk = self.chunks.entry(block / CHUNK_BLOCKS).or_insert_with(|| Chunk::List(Vec::new()));
        let added = chunk.insert((block % CHUNK_BLOCKS) as u16);
        self.len += u64::from(added);
        added
    }

    /// Adds all blocks of a range.
    pub fn insert_range(&mut self, range: Range<u32>) {
        let mut start = range.start;
        while start < range.end {
            let key = start / CHUNK_BLOCKS;
            let end = (u64::from(key + 1) * u64::from(CHUNK_BLOCKS)).min(range.end.into()) as u32;
            let chunk = self.chunks.entry(key).or_insert_with(|| Chunk::List(Vec::new()));
            let before = chunk.len();
            chunk.insert_range(start % CHUNK_BLOCKS, end - start);
            self.len += u64::from(chunk.len() - before);
            start = end;
        }
    }

    /// Whether a block is in the set.
    pub fn contains(&self, block: u32) -> bool {
        let chunk = self.chunks.get(&(block / CHUNK_BLOCKS));
        chunk.is_some_and(|chunk| chunk.contains((block % CHUNK_BLOCKS) as u16))
    }

    /// Whether any block of a range is in the set.
    pub fn intersects(&self, range: Range<u32>) -> bool {
        self.ranges_from(range.start).next().is_some_and(|found| found.start < range.end)
    }

    /// Adds all blocks of another set.
    pub fn union(&mut self, other: &Self) {
        for (key, theirs) in &other.chunks {
            let ours = self.chunks.entry(*key).or_insert_with(|| Chunk::List(Vec::new()));
            let before = ours.len();
            ours.union(theirs);
            self.len += u64::from(ours.len() - before);
        }
    }

    /// Removes every block from `limit` on.
    pub fn truncate(&mut self, limit: u32) {
        let key = limit / CHUNK_BLOCKS;
        let removed = self.chunks.split_off(&key);
        self.len -= removed.values().map(|chunk| u64::from(chunk.len())).sum::<u64>();
        if let Some(chunk) = removed.get(&key) {
            for low in chunk.iter().take_while(|&low| low < limit % CHUNK_BLOCKS) {
                self.insert(key * CHUNK_BLOCKS + low);
            }
        }
    }

    /// The blocks, rising.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.chunks.iter().flat_map(|(key, chunk)| chunk.iter().map(move |low| key * CHUNK_BLOCKS + low))
    }

    /// The longest runs of neighbouring blocks, rising.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        self.ranges_from(0)
    }

    /// The runs of blocks from `start` on; a run that contains `start` begins there.
    pub fn ranges_from(&self, start: u32) -> impl Iterator<Item = Range<u32>> + '_ {
        let mut pieces = self
            .chunks
            .range(start / CHUNK_BLOCKS..)
            .flat_map(|(key, chunk)| {
                chunk.ranges().map(move |(from, to)| (key * CHUNK_BLOCKS + from, key, to))
            })
            // Blocks end at u32::MAX - 1 (`InvalidBlockNumber`), so the end of a run fits.
            .map(|(from, key, to)| {
                from..(u64::from(*key) * u64::from(CHUNK_BLOCKS) + u64::from(to)).min(u32::MAX.into()) as u32
            })
            .filter(move |range| range.end > start)
            .map(move |range| range.start.max(start)..range.end)
            .peekable();
        std::iter::from_fn(move || {
            let mut range = pieces.next()?;
            while let Some(next) = pieces.next_if(|next| next.start == range.end) {
                range.end = next.end;
            }
            Some(range)
        })
    }
}

impl PartialEq for BlockSet {
    /// Equal when they name the same blocks, however they are kept.
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.ranges().eq(other.ranges())
    }
}

impl Eq for BlockSet {}

impl fmt::Debug for BlockSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.ranges()).finish()
    }
}

impl FromIterator<u32> for BlockSet {
    fn from_iter<I: IntoIterator<Item = u32>>(blocks: I) -> Self {
        let mut set = Self::new();
        for block in blocks {
            set.insert(block);
        }
        set
    }
}

impl Chunk {
    fn len(&self) -> u32 {
        match self {
            Self::List(list) => list.len() as u32,
            Self::Bits(bits) => bits.count,
            Self::All => CHUNK_BLOCKS,
        }
    }

    fn contains(&self, low: u16) -> bool {
        match self {
            Self::List(list) => list.binary_search(&low).is_ok(),
            Self::Bits(bits) => bits.words[usize::from(low) / 64] >> (low % 64) & 1 == 1,
            Self::All => true,
        }
    }

    fn insert(&mut self, low: u16) -> bool {
        match self {
            Self::List(list) => {
                let Err(at) = list.binary_search(&low) else { return false };
                list.insert(at, low);
                if list.len() > LIST_MAX {
                    *self = Self::Bits(Box::new(Bits::of(list)));
                }
                true
            }
            Self::Bits(bits) => {
                let added = bits.insert(low);
                self.settle();
                added
            }
            Self::All => false,
        }
    }

    fn insert_range(&mut self, from: u32, count: u32) {
        if count == CHUNK_BLOCKS {
            *self = Self::All;
            return;
        }
        for low in from..from + count {
            self.insert(low as u16);
        }
    }

    fn union(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::All, _) => {}
            (_, Self::All) => *self = Self::All,
            (Self::Bits(ours), Self::Bits(theirs)) => {
                for (our, their) in ours.words.iter_mut().zip(&theirs.words) {
                    *our |= their;
                }
                ours.count = ours.words.iter().map(|word| word.count_ones()).sum();
                self.settle();
            }
            (Self::List(list), Self::Bits(theirs)) => {
                let mut bits = theirs.clone();
                for low in list {
                    bits.insert(*low);
                }
                *self = Self::Bits(bits);
                self.settle();
            }
            (_, Self::List(theirs)) => {
                for low in theirs {
                    self.insert(*low);
                }
            }
        }
    }

    /// A full bitmap becomes the word "all".
    fn settle(&mut self) {
        if self.len() == CHUNK_BLOCKS {
            *self = Self::All;
        }
    }

    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges().flat_map(|(from, to)| from..to)
    }

    /// Runs of neighbours within the chunk, each as start and end (exclusive).
    fn ranges(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut next = 0;
        std::iter::from_fn(move || {
            let from = self.first_set(next)?;
            let to = self.first_clear(from);
            next = to;
            Some((from, to))
        })
    }

    fn first_set(&self, from: u32) -> Option<u32> {
        if from >= CHUNK_BLOCKS {
            return None;
        }
        match self {
            Self::List(list) => {
                let at = list.partition_point(|&low| u32::from(low) < from);
                list.get(at).map(|&low| low.into())
            }
            Self::Bits(bits) => bits.first(from, false),
            Self::All => Some(from),
        }
    }

    fn first_clear(&self, from: u32) -> u32 {
        match self {
            Self::List(list) => {
                let at = list.partition_point(|&low| u32::from(low) < from);
                let run = list[at..]
                    .iter()
                    .zip(from..)
                    .take_while(|&(&low, wanted)| u32::from(low) == wanted)
                    .count();
                from + run as u32
            }
            Self::Bits(bits) => bits.first(from, true).unwrap_or(CHUNK_BLOCKS),
            Self::All => CHUNK_BLOCKS,
        }
    }
}

impl Bits {
    fn of(list: &[u16]) -> Self {
        let mut bits = Self { count: 0, words: [0; CHUNK_WORDS] };
        for low in list {
            bits.insert(*low);
        }
        bits
    }

    fn insert(&mut self, low: u16) -> bool {
        let word = &mut self.words[usize::from(low) / 64];
        let mask = 1 << (low % 64);
        let added = *word & mask == 0;
        *word |= mask;
        self.count += u32::from(added);
        added
    }

    /// The first position from `from` on that is set, or clear when `inverted`.
    fn first(&self, from: u32, inverted: bool) -> Option<u32> {
        let flip = if inverted { u64::MAX } else { 0 };
        let mut index = from as usize / 64;
        let mut word = (self.words.get(index)? ^ flip) & (u64::MAX << (from % 64));
        while word == 0 {
            index += 1;
            word = self.words.get(index)? ^ flip;
        }
        Some(index as u32 * 64 + word.trailing_zeros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Blocks near chunk borders and ends, where mistakes live, and some anywhere.
    fn block() -> impl Strategy<Value = u32> {
        prop_oneof![
            0..300_u32,
            4000..4200_u32,
            12_280..12_300_u32,
            (u32::MAX - 5000)..u32::MAX,
            any::<u32>().prop_map(|b| b.min(u32::MAX - 1))
        ]
    }

    fn range() -> impl Strategy<Value = Range<u32>> {
        (block(), 0..9000_u32).prop_map(|(start, len)| start..start.saturating_add(len))
    }

    fn runs_of(model: &BTreeSet<u32>) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        for &block in model {
            match runs.last_mut() {
                Some(run) if run.end == block => run.end += 1,
                _ => runs.push(block..block + 1),
            }
        }
        runs
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn behaves_as_a_set_of_numbers(
            singles in prop::collection::vec(block(), 0..400), ranges in prop::collection::vec(range(), 0..4),
            limit in block(), probe in range(),
        ) {
            let mut set: BlockSet = singles.iter().copied().collect();
            let mut model: BTreeSet<u32> = singles.into_iter().collect();
            for range in ranges {
                set.insert_range(range.clone());
                model.extend(range);
            }
            prop_assert_eq!(set.len(), model.len() as u64);
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert_eq!(set.ranges().collect::<Vec<_>>(), runs_of(&model));
            prop_assert_eq!(set.intersects(probe.clone()), !probe.is_empty() && model.range(probe).next().is_some());
            set.truncate(limit);
            model.split_off(&limit);
            prop_assert_eq!(set.len(), model.len() as u64);
            prop_assert!(set.iter().eq(model.iter().copied()));
        }

        #[test]
        fn union_names_what_either_names(a in prop::collection::vec(range(), 0..6), b in prop::collection::vec(range(), 0..6)) {
            let of = |ranges: &[Range<u32>]| {
                let mut set = BlockSet::new();
                ranges.iter().for_each(|range| set.insert_range(range.clone()));
                set
            };
            let mut joined = of(&a);
            joined.union(&of(&b));
            prop_assert_eq!(joined, of(&[a, b].concat()));
        }
    }

    #[test]
    fn dense_sets_cost_next_to_nothing() {
        let mut set = BlockSet::new();
        set.insert_range(0..CHUNK_BLOCKS * 10);
        assert!(set.chunks.values().all(|chunk| matches!(chunk, Chunk::All)));
        assert_eq!(set.ranges().collect::<Vec<_>>(), [0..CHUNK_BLOCKS * 10]);
    }
}

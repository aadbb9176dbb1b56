//! A set of page numbers.

use std::ops::Range;

/// Pages by number; grows as they come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    count: u64,
}

impl Bits {
    /// Those of these ranges.
    pub(crate) fn of(ranges: &[Range<u64>]) -> Self {
        let mut bits = Self::default();
        for range in ranges {
            bits.insert(range.clone());
        }
        bits
    }

    pub(crate) fn contains(&self, page: u64) -> bool {
        self.words.get((page / 64) as usize).is_some_and(|word| word & (1 << (page % 64)) != 0)
    }

    /// Adds pages; says how many are new.
    pub(crate) fn insert(&mut self, pages: Range<u64>) -> u64 {
        if pages.is_empty() {
            return 0;
        }
        let words = (pages.end.div_ceil(64)) as usize;
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
        let before = self.count;
        for page in pages {
            let word = &mut self.words[(page / 64) as usize];
            let bit = 1 << (page % 64);
            self.count += u64::from(*word & bit == 0);
            *word |= bit;
        }
        self.count - before
    }

    /// Forgets the pages from `end` on.
    pub(crate) fn cut(&mut self, end: u64) {
        self.words.truncate(end.div_ceil(64) as usize);
        if let Some(word) = self.words.get_mut((end / 64) as usize) {
            *word &= (1 << (end % 64)) - 1;
        }
        self.count = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// In order, neighbours together.
    pub(crate) fn ranges(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for page in 0..self.words.len() as u64 * 64 {
            if !self.contains(page) {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if last.end == page => last.end += 1,
                _ => ranges.push(page..page + 1),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn pages_are_those_inserted_and_not_cut(
            steps in prop::collection::vec((any::<bool>(), 0_u64..300, 0_u64..20), 0..40)
        ) {
            let (mut bits, mut model) = (Bits::default(), BTreeSet::new());
            for (insert, page, pages) in steps {
                if insert {
                    let new = (page..page + pages).filter(|page| model.insert(*page)).count();
                    prop_assert_eq!(bits.insert(page..page + pages), new as u64);
                } else {
                    bits.cut(page);
                    model.retain(|known| *known < page);
                }
            }
            prop_assert_eq!(bits.count(), model.len() as u64);
            let listed: Vec<u64> = bits.ranges().into_iter().flatten().collect();
            prop_assert_eq!(listed, model.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(Bits::of(&bits.ranges()).ranges(), bits.ranges());
        }
    }
}

//! Decides, file by file, what an incremental backup must read. Pure.
//!
//! The invariant (design, section 10.1): an earlier page image may be used again only if no WAL from the earlier backup's start to
//! this one's can have changed it and the file is still the same file. So a decision rests on three facts: the file as
//! it lies there now, its length in the earlier backup, and what the WAL in between touched. All that is read is read after
//! `pg_backup_start` returned; what changes later, replay repairs.

use crate::options::EXTENT_PAGES;
use crate::scan::{Entry, EntryKind};
use pgproof_pg::Fork;
pub use pgproof_repo::manifest::summary::ReadReason as Reason;
use std::ops::Range;

/// What to read of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// Nothing: the earlier image stands.
    Nothing,
    /// All of it; extents whose content the earlier backup holds at the same place are not stored again.
    Whole,
    /// These blocks, in order and not overlapping, counted from the file's own begin.
    Blocks(Vec<Range<u32>>),
    /// All of it, as [`Read::Whole`]; and no page but these may differ from the earlier backup's.
    Checked(Vec<Range<u32>>),
}

/// What the WAL between two backups did to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// Not known: some of that WAL is missing or could not be read.
    Unknown,
    /// Nothing that WAL tells of.
    Nothing,
    /// The file may be another one under the same name.
    Everything,
    /// These blocks of the file.
    Blocks {
        /// Sorted, counted from the file's own begin.
        blocks: Vec<u32>,
        /// All blocks from here on: the lowest truncation.
        from: Option<u32>,
    },
}

/// The decision about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Why.
    pub reason: Reason,
    /// What.
    pub read: Read,
}

/// Decides about `entry`. `prior` is the file's length in blocks in the backup that this one builds on; `None` where it has no
/// such file.
pub fn decide(entry: &Entry, prior: Option<u32>, touched: &Touched) -> Decision {
    let whole = |reason| Decision { reason, read: Read::Whole };
    if entry.kind != EntryKind::File {
        return Decision { reason: Reason::Always, read: Read::Nothing };
    }
    let Some(relation) = &entry.relation else { return whole(Reason::Always) };
    if relation.file.fork == Fork::Init {
        return whole(Reason::Always);
    }
    let Some(prior) = prior else { return whole(Reason::New) };
    let now = blocks_of(entry.length);
    match touched {
        Touched::Unknown => whole(Reason::Gap),
        Touched::Everything => whole(Reason::Wal),
        // The free space map is logged only in part; whatever touched the relation may have changed any page of it.
        Touched::Blocks { .. } if relation.file.fork == Fork::Fsm => whole(Reason::Wal),
        Touched::Nothing if relation.file.fork == Fork::Fsm && now != prior => whole(Reason::Wal),
        Touched::Nothing => changed_blocks(&[], None, prior, now),
        Touched::Blocks { blocks, from } => changed_blocks(blocks, *from, prior, now),
    }
}

/// As [`decide`], for a backup that reads everything: what WAL would have let it pass over is compared.
pub fn decide_checking(entry: &Entry, prior: Option<u32>, touched: &Touched) -> Decision {
    let checked = |named| Decision { reason: Reason::Check, read: Read::Checked(named) };
    match decide(entry, prior, touched) {
        Decision { reason: Reason::Reused, .. } => checked(Vec::new()),
        Decision { read: Read::Blocks(ranges), .. } => checked(ranges),
        decision => decision,
    }
}

/// Blocks that WAL names, those beyond the earlier length (growing by zeroes is not logged) and those at or above a truncation.
fn changed_blocks(named: &[u32], from: Option<u32>, prior: u32, now: u32) -> Decision {
    let tail = from.unwrap_or(u32::MAX).min(prior).min(now);
    let mut ranges: Vec<Range<u32>> = Vec::new();
    for &block in named.iter().take_while(|&&block| block < tail) {
        match ranges.last_mut() {
            Some(last) if last.end == block => last.end += 1,
            _ => ranges.push(block..block + 1),
        }
    }
    if tail < now {
        match ranges.last_mut() {
            Some(last) if last.end == tail => last.end = now,
            _ => ranges.push(tail..now),
        }
    }
    if ranges.is_empty() && prior <= now {
        return Decision { reason: Reason::Reused, read: Read::Nothing };
    }
    Decision { reason: Reason::Wal, read: Read::Blocks(ranges) }
}

/// Widens `ranges` to whole regions of [`EXTENT_PAGES`] blocks where the pages of a region would otherwise come from more than
/// `fragments_max` extents. `fragments` counts the extents that hold a region in the earlier backup.
pub fn widen(
    ranges: Vec<Range<u32>>,
    now: u32,
    fragments_max: usize,
    mut fragments: impl FnMut(Range<u32>) -> usize,
) -> Vec<Range<u32>> {
    let size = EXTENT_PAGES as u32;
    let mut widened: Vec<Range<u32>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        let first = range.start / size;
        let last = range.end.saturating_sub(1) / size;
        let mut start = range.start;
        let mut end = range.end;
        if fragments(region(first, now)) >= fragments_max {
            start = first * size;
        }
        if fragments(region(last, now)) >= fragments_max {
            end = region(last, now).end.max(end);
        }
        match widened.last_mut() {
            Some(before) if before.end >= start => before.end = before.end.max(end),
            _ => widened.push(start..end),
        }
    }
    widened
}

fn region(number: u32, now: u32) -> Range<u32> {
    let size = EXTENT_PAGES as u32;
    number * size..((number + 1) * size).min(now)
}

/// The number of blocks in a file of `length` bytes, a partial last one counted.
pub fn blocks_of(length: u64) -> u32 {
    u32::try_from(length.div_ceil(pgproof_pg::relfile::BLOCK_SIZE as u64)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgproof_pg::RelPath;

    fn file(path: &str, blocks: u64) -> Entry {
        Entry {
            path: path.to_owned(),
            kind: EntryKind::File,
            mode: 0o600,
            modified: 0,
            length: blocks * 8192,
            relation: RelPath::parse(path),
        }
    }

    fn blocks(blocks: &[u32], from: Option<u32>) -> Touched {
        Touched::Blocks { blocks: blocks.to_vec(), from }
    }

    fn read(entry: &Entry, prior: Option<u32>, touched: &Touched) -> (Reason, Read) {
        let decision = decide(entry, prior, touched);
        (decision.reason, decision.read)
    }

    #[test]
    fn an_untouched_relation_of_the_same_length_is_not_read() {
        assert_eq!(
            read(&file("base/5/16384", 10), Some(10), &Touched::Nothing),
            (Reason::Reused, Read::Nothing)
        );
    }

    #[test]
    fn blocks_beyond_the_earlier_length_are_read_though_no_wal_names_them() {
        let read = read(&file("base/5/16384", 12), Some(10), &Touched::Nothing);
        assert_eq!(read, (Reason::Wal, Read::Blocks(vec![Range { start: 10, end: 12 }])));
    }

    #[test]
    fn blocks_from_the_lowest_truncation_are_read() {
        let read = read(&file("base/5/16384", 10), Some(10), &blocks(&[1, 2, 9], Some(7)));
        assert_eq!(read, (Reason::Wal, Read::Blocks(vec![1..3, 7..10])));
    }

    #[test]
    fn a_named_block_beyond_the_present_end_is_not_read() {
        let read = read(&file("base/5/16384", 4), Some(10), &blocks(&[3, 8], None));
        assert_eq!(read, (Reason::Wal, Read::Blocks(vec![Range { start: 3, end: 4 }])));
    }

    #[test]
    fn a_shrunken_file_is_recorded_though_nothing_of_it_is_read() {
        assert_eq!(
            read(&file("base/5/16384", 4), Some(10), &Touched::Nothing),
            (Reason::Wal, Read::Blocks(vec![]))
        );
    }

    #[test]
    fn a_free_space_map_is_read_whole_when_its_relation_was_touched() {
        let map = file("base/5/16384_fsm", 3);
        assert_eq!(read(&map, Some(3), &blocks(&[], None)), (Reason::Wal, Read::Whole));
        assert_eq!(read(&map, Some(3), &Touched::Nothing), (Reason::Reused, Read::Nothing));
        assert_eq!(read(&map, Some(2), &Touched::Nothing), (Reason::Wal, Read::Whole));
    }

    #[test]
    fn files_that_wal_does_not_describe_are_always_read() {
        for path in
            ["pg_xact/0000", "global/pg_filenode.map", "pg_multixact/offsets/0000", "base/5/16384_init"]
        {
            assert_eq!(
                read(&file(path, 1), Some(1), &Touched::Nothing),
                (Reason::Always, Read::Whole),
                "{path}"
            );
        }
    }

    #[test]
    fn a_gap_makes_every_relation_be_compared() {
        assert_eq!(read(&file("base/5/1", 9), Some(9), &Touched::Unknown), (Reason::Gap, Read::Whole));
        assert_eq!(read(&file("base/5/1", 9), None, &Touched::Unknown), (Reason::New, Read::Whole));
    }

    #[test]
    fn a_backup_that_reads_everything_remembers_what_wal_named() {
        let checking = |path: &str, touched: &Touched| {
            let decision = decide_checking(&file(path, 10), Some(10), touched);
            (decision.reason, decision.read)
        };
        assert_eq!(checking("base/5/1", &Touched::Nothing), (Reason::Check, Read::Checked(vec![])));
        let named = blocks(&[1, 2], Some(7));
        assert_eq!(checking("base/5/1", &named), (Reason::Check, Read::Checked(vec![1..3, 7..10])));
        assert_eq!(checking("base/5/1", &Touched::Everything), (Reason::Wal, Read::Whole));
        assert_eq!(checking("base/5/1", &Touched::Unknown), (Reason::Gap, Read::Whole));
        assert_eq!(checking("pg_xact/0000", &Touched::Unknown), (Reason::Always, Read::Whole));
    }

    #[test]
    fn a_region_in_too_many_extents_is_read_whole() {
        let widened =
            widen(vec![3..4, 20..21, 40..41], 45, 8, |region| if region.start == 16 { 3 } else { 9 });
        assert_eq!(widened, vec![0..16, 20..21, 32..45]);
    }
}

//! Turns decisions into batches of work of like size, for any number of workers. Pure.

use crate::plan::{Decision, Read, blocks_of};
use crate::scan::Entry;
use crate::worker::{Compare, Task, whole};
use std::ops::Range;

/// Blocks of a big file that one task stores: 64 MiB, so that the last worker does not read the last gigabyte alone.
const TASK_BLOCKS: u32 = 8192;
/// A batch is closed at so many blocks, or so many files: taking a batch is cheap, but not free.
const BATCH_BLOCKS: u64 = 512;
const BATCH_FILES: usize = 256;

/// Batches in order of the files, so that what lies together in the cluster lies together in a pack. `compare` says that there is
/// an earlier backup whose content may be met again; `held` (sorted) are files whose content is at hand and needs no reading.
pub(crate) fn batches(
    entries: &[Entry],
    decisions: &[Decision],
    compare: bool,
    held: &[usize],
) -> Vec<Vec<Task>> {
    let mut batches = Vec::new();
    let mut batch: Vec<Task> = Vec::new();
    let mut blocks = 0;
    for (file, (entry, decision)) in entries.iter().zip(decisions).enumerate() {
        if held.binary_search(&file).is_ok() {
            continue;
        }
        for task in tasks_of(file, entry, decision, compare) {
            blocks += task.ranges.iter().map(|range| u64::from(range.end - range.start)).sum::<u64>();
            batch.push(task);
            if blocks >= BATCH_BLOCKS || batch.len() >= BATCH_FILES {
                batches.push(std::mem::take(&mut batch));
                blocks = 0;
            }
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

fn tasks_of(file: usize, entry: &Entry, decision: &Decision, compare: bool) -> Vec<Task> {
    match &decision.read {
        Read::Nothing => Vec::new(),
        // A file is compared as one: pieces of the earlier backup may lie anywhere in it.
        Read::Whole if compare => {
            vec![Task { file, ranges: whole(entry.length), compare: Compare::Content }]
        }
        Read::Checked(named) => {
            vec![Task { file, ranges: whole(entry.length), compare: Compare::Check(named.clone()) }]
        }
        Read::Whole => parts(file, &whole(entry.length)),
        Read::Blocks(ranges) => parts(file, ranges),
    }
}

fn parts(file: usize, ranges: &[Range<u32>]) -> Vec<Task> {
    split(ranges).into_iter().map(|ranges| Task { file, ranges, compare: Compare::Nothing }).collect()
}

/// Cuts ranges into groups of at most [`TASK_BLOCKS`] blocks each.
fn split(ranges: &[Range<u32>]) -> Vec<Vec<Range<u32>>> {
    let mut groups = Vec::new();
    let mut group: Vec<Range<u32>> = Vec::new();
    let mut room = TASK_BLOCKS;
    for range in ranges {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + room);
            group.push(start..end);
            room -= end - start;
            start = end;
            if room == 0 {
                groups.push(std::mem::take(&mut group));
                room = TASK_BLOCKS;
            }
        }
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

/// Bytes that the decisions ask to read.
pub(crate) fn bytes_planned(entry: &Entry, decision: &Decision) -> u64 {
    let blocks = match &decision.read {
        Read::Nothing => 0,
        Read::Whole | Read::Checked(_) => u64::from(blocks_of(entry.length)),
        Read::Blocks(ranges) => ranges.iter().map(|range| u64::from(range.end - range.start)).sum(),
    };
    blocks * pgproof_pg::relfile::BLOCK_SIZE as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_big_file_becomes_tasks_of_bounded_size() {
        let groups = split(&[Range { start: 0, end: 20_000 }]);
        assert_eq!(groups, vec![vec![0..8192], vec![8192..16384], vec![16384..20_000]]);
        let groups = split(&[0..8000, 9000..9400]);
        assert_eq!(groups, vec![vec![0..8000, 9000..9192], vec![9192..9400]]);
        assert!(split(&[]).is_empty());
    }
}

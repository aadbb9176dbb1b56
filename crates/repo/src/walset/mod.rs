//! The WAL that an archive holds of one lineage, reasoned about by names alone.
//!
//! Promises pure answers from a listing: which segments follow each other without a gap ([`WalSet::runs`], [`WalSet::gaps`]), how
//! far replay gets from a position along a timeline's history ([`WalSet::unbroken`]), and which instants can therefore be reached
//! ([`recovery_windows`]). No I/O: listing is the business of [`crate::catalog`]. Whether a target lies inside a window is
//! answered by [`locate_target`], which asks its caller for a few segment summaries.
//!
//! Positions are compared along histories, never by name: a restore to an older instant makes a newer timeline with lower positions.

mod locate;
mod windows;

pub use locate::{
    Choice, Located, Lookup, NearestInstant, SegmentInstants, Target, Unreachable, choose_backup,
    locate_target, reachable_times,
};
pub use windows::{BackupSpan, BrokenBackup, RecoveryWindow, RecoveryWindows, recovery_windows};

use pgproof_pg::{Lsn, SegmentName, SegmentNumber, TimelineHistory, TimelineId, WalSegmentSize};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Consecutive segments of one timeline, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The timeline whose files these are.
    pub timeline: TimelineId,
    /// The first segment.
    pub first: SegmentNumber,
    /// The last segment.
    pub last: SegmentNumber,
}

impl Run {
    /// How many segments it has.
    pub fn count(self) -> u64 {
        self.last.0 - self.first.0 + 1
    }

    /// Its segments in order.
    pub fn segments(self) -> impl DoubleEndedIterator<Item = SegmentName> {
        (self.first.0..=self.last.0).map(move |n| SegmentName::new(self.timeline, SegmentNumber(n)))
    }
}

/// How far WAL reaches without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Unbroken {
    /// The first position that is not there.
    pub end: Lsn,
    /// The segment that would have to follow.
    pub missing: SegmentName,
}

/// The archived WAL of one lineage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalSet {
    size: WalSegmentSize,
    runs: BTreeMap<TimelineId, Vec<Run>>,
    partials: BTreeSet<SegmentName>,
    histories: BTreeMap<TimelineId, TimelineHistory>,
}

impl WalSet {
    /// Sorts complete segments, given in any order and with repetitions, into runs.
    pub fn new(size: WalSegmentSize, segments: impl IntoIterator<Item = SegmentName>) -> Self {
        let mut by_timeline: BTreeMap<TimelineId, Vec<SegmentNumber>> = BTreeMap::new();
        for segment in segments {
            by_timeline.entry(segment.timeline).or_default().push(segment.number);
        }
        let runs = by_timeline
            .into_iter()
            .map(|(timeline, mut numbers)| {
                numbers.sort_unstable();
                numbers.dedup();
                (timeline, runs_of(timeline, &numbers))
            })
            .collect();
        Self { size, runs, partials: BTreeSet::new(), histories: BTreeMap::new() }
    }

    /// Adds partial segments. They extend no window: PostgreSQL never asks `restore_command` for one.
    #[must_use]
    pub fn with_partials(mut self, partials: impl IntoIterator<Item = SegmentName>) -> Self {
        self.partials.extend(partials);
        self
    }

    /// Adds the history files found.
    #[must_use]
    pub fn with_histories(mut self, histories: impl IntoIterator<Item = TimelineHistory>) -> Self {
        self.histories.extend(histories.into_iter().map(|history| (history.timeline(), history)));
        self
    }

    /// Adds complete segments, given in any order and with repetitions.
    #[must_use]
    pub fn with_segments(self, segments: impl IntoIterator<Item = SegmentName>) -> Self {
        let all: Vec<SegmentName> = self.runs().flat_map(Run::segments).chain(segments).collect();
        let Self { size, partials, histories, .. } = self;
        Self { partials, histories, ..Self::new(size, all) }
    }

    /// Bytes of one segment.
    pub fn segment_size(&self) -> WalSegmentSize {
        self.size
    }

    /// Whether it holds no complete segment.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many complete segments it holds.
    pub fn count(&self) -> u64 {
        self.runs().map(Run::count).sum()
    }

    /// Every run, by timeline and then position.
    pub fn runs(&self) -> impl DoubleEndedIterator<Item = Run> + '_ {
        self.runs.values().flatten().copied()
    }

    /// The runs of one timeline, in order.
    pub fn runs_of(&self, timeline: TimelineId) -> &[Run] {
        self.runs.get(&timeline).map_or(&[], Vec::as_slice)
    }

    /// Partial segments, in reading order.
    pub fn partials(&self) -> impl Iterator<Item = SegmentName> + '_ {
        self.partials.iter().copied()
    }

    /// Every timeline of which a segment or a history file exists.
    pub fn timelines(&self) -> BTreeSet<TimelineId> {
        self.runs.keys().chain(self.histories.keys()).copied().collect()
    }

    /// Whether the ancestors of `timeline` are known. Timeline 1 has none; any other without its history file may have some.
    pub fn knows_history(&self, timeline: TimelineId) -> bool {
        timeline == TimelineId::FIRST || self.histories.contains_key(&timeline)
    }

    /// The history of `timeline`; one without ancestors where no history file was found, as PostgreSQL assumes too.
    pub fn history(&self, timeline: TimelineId) -> TimelineHistory {
        self.histories.get(&timeline).cloned().unwrap_or_else(|| TimelineHistory::root(timeline))
    }

    /// Whether the complete segment is there.
    pub fn contains(&self, segment: SegmentName) -> bool {
        self.run_with(segment).is_some()
    }

    /// The last complete segment of a timeline.
    pub fn last_of(&self, timeline: TimelineId) -> Option<SegmentName> {
        self.runs_of(timeline).last().map(|run| SegmentName::new(timeline, run.last))
    }

    fn run_with(&self, segment: SegmentName) -> Option<Run> {
        let runs = self.runs_of(segment.timeline);
        let at = runs.partition_point(|run| run.last < segment.number);
        runs.get(at).filter(|run| run.first <= segment.number).copied()
    }

    /// The segment from which replay along `history` would read `number`: the newest timeline's copy that is there.
    pub fn find(&self, history: &TimelineHistory, number: SegmentNumber) -> Option<SegmentName> {
        let candidates = history.segment_candidates(number, self.size);
        candidates.into_iter().find(|&candidate| self.contains(candidate))
    }

    /// How far replay gets from `from` along `history`. The end is not after `from` when even its segment is missing.
    pub fn unbroken(&self, history: &TimelineHistory, from: Lsn) -> Unbroken {
        let mut number = from.segment(self.size);
        for (timeline, begin, end) in history.spans() {
            if end <= from {
                continue;
            }
            number = number.max(begin.segment(self.size));
            // The segment in which the switch lies is read from the next timeline, which holds a copy of what came before.
            let handed_over = if end == Lsn::MAX { SegmentNumber(u64::MAX) } else { end.segment(self.size) };
            if number >= handed_over {
                continue;
            }
            let missing = match self.run_with(SegmentName::new(timeline, number)) {
                Some(run) if run.last.next() >= handed_over => {
                    number = handed_over;
                    continue;
                }
                Some(run) => SegmentName::new(timeline, run.last.next()),
                None => SegmentName::new(timeline, number),
            };
            return Unbroken { end: self.end_before(history, missing), missing };
        }
        // Only a switch at the very end of all positions leads here.
        let missing = SegmentName::new(history.timeline(), number);
        Unbroken { end: number.start(self.size), missing }
    }

    /// Where replay ends when `missing` is not there. An ancestor's file of the same segment still leads up to the switch.
    fn end_before(&self, history: &TimelineHistory, missing: SegmentName) -> Lsn {
        let older = history.segment_candidates(missing.number, self.size);
        let older = older.into_iter().filter(|c| c.timeline < missing.timeline);
        let readable =
            older.filter(|&c| self.contains(c)).filter_map(|c| history.switch_of(c.timeline)).max();
        readable.unwrap_or_else(|| missing.number.start(self.size))
    }

    /// What is missing between archived segments: holes inside each timeline, and between a timeline and its parent.
    pub fn gaps(&self) -> Vec<Run> {
        let mut gaps = Vec::new();
        for (&timeline, runs) in &self.runs {
            gaps.extend(self.gap_to_parent(timeline, runs));
            for pair in runs.windows(2) {
                let last = SegmentNumber(pair[1].first.0 - 1);
                gaps.push(Run { timeline, first: pair[0].last.next(), last });
            }
        }
        gaps
    }

    /// Segments missing before the first one of a timeline, when its parent's WAL leads up to the switch.
    fn gap_to_parent(&self, timeline: TimelineId, runs: &[Run]) -> Option<Run> {
        let history = self.histories.get(&timeline)?;
        let parent = history.ancestors().last()?;
        let joint = parent.switch.segment(self.size);
        let first = runs.first()?.first;
        let before = SegmentName::new(parent.timeline, joint.previous()?);
        let leads_up = self.contains(before) || self.contains(SegmentName::new(parent.timeline, joint));
        (leads_up && first > joint).then(|| Run { timeline, first: joint, last: SegmentNumber(first.0 - 1) })
    }
}

fn runs_of(timeline: TimelineId, sorted: &[SegmentNumber]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for &number in sorted {
        match runs.last_mut() {
            Some(run) if run.last.next() == number => run.last = number,
            _ => runs.push(Run { timeline, first: number, last: number }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgproof_pg::Ancestor;

    const SIZE: WalSegmentSize = WalSegmentSize::DEFAULT;

    fn segments(timeline: u32, numbers: impl IntoIterator<Item = u64>) -> Vec<SegmentName> {
        let name = |n| SegmentName::new(TimelineId(timeline), SegmentNumber(n));
        numbers.into_iter().map(name).collect()
    }

    fn at(segment: u64, offset: u64) -> Lsn {
        SegmentNumber(segment).start(SIZE).plus(offset)
    }

    fn child(timeline: u32, parent: u32, switch: Lsn) -> TimelineHistory {
        let ancestor = Ancestor { timeline: TimelineId(parent), switch, reason: String::new() };
        TimelineHistory::new(TimelineId(timeline), vec![ancestor]).unwrap()
    }

    #[test]
    fn segments_in_any_order_become_runs_and_gaps() {
        let set = WalSet::new(SIZE, segments(1, [9, 3, 4, 4, 5, 8]));
        let runs: Vec<_> = set.runs().map(|run| (run.first.0, run.last.0)).collect();
        assert_eq!(runs, [(3, 5), (8, 9)]);
        let gaps: Vec<_> = set.gaps().into_iter().map(|run| (run.first.0, run.last.0)).collect();
        assert_eq!(gaps, [(6, 7)]);
        assert_eq!(set.count(), 5);
    }

    #[test]
    fn replay_ends_at_the_first_missing_segment() {
        let set = WalSet::new(SIZE, segments(1, [3, 4, 5, 8]));
        let unbroken = set.unbroken(&TimelineHistory::root(TimelineId(1)), at(3, 40));
        assert_eq!(unbroken.end, at(6, 0));
        assert_eq!(unbroken.missing, segments(1, [6])[0]);
        let nothing = set.unbroken(&TimelineHistory::root(TimelineId(1)), at(7, 40));
        assert_eq!(nothing.end, at(7, 0));
    }

    #[test]
    fn replay_follows_a_promotion_through_the_segment_both_timelines_hold() {
        let all = [segments(1, 3..=5), segments(2, 5..=7)].concat();
        let set = WalSet::new(SIZE, all).with_histories([child(2, 1, at(5, 100))]);
        assert_eq!(set.unbroken(&set.history(TimelineId(2)), at(3, 1)).end, at(8, 0));
        // Timeline 1 goes on being readable by itself.
        assert_eq!(set.unbroken(&set.history(TimelineId(1)), at(3, 1)).end, at(6, 0));
        // The file of timeline 1 is not needed once timeline 2 holds the segment.
        let set = WalSet::new(SIZE, [segments(1, 3..=4), segments(2, 5..=7)].concat())
            .with_histories([child(2, 1, at(5, 100))]);
        assert_eq!(set.unbroken(&set.history(TimelineId(2)), at(3, 1)).end, at(8, 0));
        assert!(set.gaps().is_empty());
    }

    #[test]
    fn replay_stops_at_the_switch_when_the_new_timeline_is_not_archived_yet() {
        let set = WalSet::new(SIZE, segments(1, 3..=5)).with_histories([child(2, 1, at(5, 100))]);
        let unbroken = set.unbroken(&set.history(TimelineId(2)), at(3, 1));
        assert_eq!(unbroken.end, at(5, 100));
        assert_eq!(unbroken.missing, segments(2, [5])[0]);
    }

    #[test]
    fn switch_on_a_segment_boundary_needs_nothing_of_the_old_timeline_beyond_it() {
        let set = WalSet::new(SIZE, [segments(1, 3..=4), segments(2, 5..=6)].concat())
            .with_histories([child(2, 1, at(5, 0))]);
        assert_eq!(set.unbroken(&set.history(TimelineId(2)), at(3, 1)).end, at(7, 0));
    }

    #[test]
    fn missing_start_of_a_timeline_is_a_gap() {
        let set = WalSet::new(SIZE, [segments(1, 3..=4), segments(2, [7])].concat()).with_histories([child(
            2,
            1,
            at(5, 100),
        )]);
        let gap = Run { timeline: TimelineId(2), first: SegmentNumber(5), last: SegmentNumber(6) };
        assert_eq!(set.gaps(), [gap]);
        assert_eq!(gap.count(), 2);
    }
}

//! What changed between two positions: summaries joined end to end along a history.
//!
//! Promises that [`JoinedChanges`] names every block that WAL from `from` to `to` can have changed, or says in [`JoinedChanges::gaps`]
//! where it cannot know. Segments are read from the newest timeline that has them; each must follow from the one before: same cluster, same
//! version, first record linked to the last, crossing records complete with their CRC. Does not judge whether a prior backup
//! may be used at all; that is the caller's (DESIGN.md, section 10).

use super::{
    changes::{Change, Changes},
    crossing::{Added, Crossing},
    marks::Marks,
    page::LONG_HEADER,
    problem::{Defect, Problem},
    rules::Rules,
    summary::{PROBLEMS_MAX, SegmentSummary, Taker},
    walker::{Ending, RawRecord, RecordSink, Walker},
};
use crate::{
    control::WalLevel,
    lsn::{Lsn, SegmentName, SegmentNumber, SystemIdentifier, TimelineHistory, WalSegmentSize},
    relfile::RelFork,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Gaps listed one by one; more are said as one up to the end.
const GAPS_MAX: usize = 256;

/// Where summaries come from.
pub trait SummarySource {
    /// The summary of a segment, or `None` when there is neither one nor the WAL to make it from.
    fn summary(&mut self, segment: SegmentName) -> Option<SegmentSummary>;

    /// Gives a segment's bytes to `take`, piece by piece; whether they were all there. Asked only for a record that crosses segments and
    /// names more relations than summaries keep.
    fn wal(&mut self, segment: SegmentName, take: &mut dyn FnMut(&[u8])) -> bool;
}

/// Why changes are unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// Nothing is known of a segment.
    Missing,
    /// A segment belongs to another cluster, or is of another version or size.
    Foreign,
    /// A segment ends before its end.
    EndsEarly,
    /// A segment does not follow from the one before it.
    Unlinked,
    /// Something cannot be read.
    Unreadable(Defect),
    /// WAL was written with `wal_level = minimal`: loads into new relations are not in it.
    Minimal,
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("WAL is missing"),
            Self::Foreign => f.write_str("WAL is of another cluster or version"),
            Self::EndsEarly => f.write_str("a segment ends early"),
            Self::Unlinked => f.write_str("a segment does not continue the one before"),
            Self::Unreadable(defect) => defect.fmt(f),
            Self::Minimal => f.write_str("wal_level was minimal"),
        }
    }
}

/// A stretch of WAL of which the changes are unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Its first position.
    pub from: Lsn,
    /// The position after it.
    pub to: Lsn,
    /// Why.
    pub reason: GapReason,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} to {}", self.reason, self.from, self.to)
    }
}

/// What WAL between two positions changed and told.
#[derive(Debug, Clone, Default)]
pub struct JoinedChanges {
    /// What it can have changed, as far as it is known.
    pub changes: Changes,
    /// What it told; lists are cut at 4096 entries.
    pub marks: Marks,
    /// Where it is not known, in order. Unless this is empty, a block that [`Self::changes`] does not name may have changed.
    pub gaps: Vec<Gap>,
}

impl JoinedChanges {
    /// Joins the summaries of all segments that hold WAL from `from` (a redo position) to `to` (a position between records).
    ///
    /// `history` is that of the timeline on which `to` lies. The segment of `to` may be a part
    /// ([`Summarizer::until`](super::Summarizer::until)).
    pub fn join(
        history: &TimelineHistory,
        segment_size: WalSegmentSize,
        from: Lsn,
        to: Lsn,
        source: &mut dyn SummarySource,
    ) -> Self {
        Self::join_with(history, segment_size, from, to, source, Rules::ALL)
    }

    /// Joins with other rules than all for records that cross segments.
    #[cfg(any(test, feature = "mutations"))]
    pub fn join_with_rules(
        history: &TimelineHistory,
        segment_size: WalSegmentSize,
        from: Lsn,
        to: Lsn,
        source: &mut dyn SummarySource,
        rules: Rules,
    ) -> Self {
        Self::join_with(history, segment_size, from, to, source, rules)
    }

    fn join_with(
        history: &TimelineHistory,
        segment_size: WalSegmentSize,
        from: Lsn,
        to: Lsn,
        source: &mut dyn SummarySource,
        rules: Rules,
    ) -> Self {
        // A position right behind a page header at the start of a segment needs nothing of that segment.
        let to = match to.offset_in_segment(segment_size) {
            offset if (offset as usize) <= LONG_HEADER => Lsn(to.0 - u64::from(offset)),
            _ => to,
        };
        let mut joiner = Joiner::new(segment_size, from, to, source, rules);
        if from < to {
            let (first, last) = (from.segment(segment_size), to.previous_segment(segment_size));
            for number in first.0..=last.0 {
                joiner.take_number(history, SegmentNumber(number));
            }
        }
        joiner.finish()
    }

    /// Whether every change is known.
    pub fn is_complete(&self) -> bool {
        self.gaps.is_empty()
    }

    /// What may have changed in a fork, as far as it is known.
    pub fn of(&self, fork: &RelFork) -> Change<'_> {
        self.changes.of(fork)
    }

    /// Whether every file of a database in a tablespace may be another.
    pub fn database_rewritten(&self, tablespace: u32, database: u32) -> bool {
        self.changes.database_rewritten(tablespace, database)
    }
}

/// What a record that crosses from `before` into `after` told: commits and restore points at the border are in neither summary. `None`
/// when no record crosses, it ends in neither, or does not hold together.
pub fn crossing_marks(before: &SegmentSummary, after: &SegmentSummary) -> Option<Marks> {
    let mut crossing = Crossing::begin(before, before.tail.as_ref()?, before.last_record)?;
    if crossing.add(after) != Added::Complete {
        return None;
    }
    let mut taker = Taker::new(Rules::ALL);
    crossing.give(after, &mut taker);
    Some(taker.applier.marks)
}

struct Joiner<'a> {
    segment_size: WalSegmentSize,
    from: Lsn,
    to: Lsn,
    source: &'a mut dyn SummarySource,
    joined: JoinedChanges,
    taker: Taker,
    /// Cluster and version, from the first segment.
    origin: Option<(Option<SystemIdentifier>, Option<crate::MajorVersion>)>,
    /// The record before whatever comes next; `None` at the start and behind a gap.
    last_record: Option<Lsn>,
    crossing: Option<Crossing>,
    /// Segments since the crossing record began.
    crossed: Vec<SegmentName>,
    /// Whether the next segment must follow from what came before.
    is_linked: bool,
    minimal_since: Option<Lsn>,
}

impl<'a> Joiner<'a> {
    fn new(
        segment_size: WalSegmentSize,
        from: Lsn,
        to: Lsn,
        source: &'a mut dyn SummarySource,
        rules: Rules,
    ) -> Self {
        Self {
            segment_size,
            from,
            to,
            source,
            joined: JoinedChanges::default(),
            taker: Taker::new(rules),
            origin: None,
            last_record: None,
            crossing: None,
            crossed: Vec::new(),
            is_linked: false,
            minimal_since: None,
        }
    }

    fn take_number(&mut self, history: &TimelineHistory, number: SegmentNumber) {
        let candidates = history.segment_candidates(number, self.segment_size);
        let newest = candidates.first().copied();
        let found = candidates.into_iter().find_map(|name| Some((name, self.source.summary(name)?)));
        let Some((name, summary)) = found else {
            self.break_off(
                number.start(self.segment_size),
                number.end(self.segment_size),
                GapReason::Missing,
            );
            return;
        };
        let origin = (summary.system_identifier, summary.version);
        if summary.name != name
            || summary.segment_size != self.segment_size
            || (summary.version.is_some() && *self.origin.get_or_insert(origin) != origin)
        {
            self.break_off(
                number.start(self.segment_size),
                number.end(self.segment_size),
                GapReason::Foreign,
            );
            return;
        }
        self.take(&summary);
        // An older timeline's file holds what that timeline wrote behind the switch, not what this history did.
        if newest != Some(name)
            && let Some(switch) = history.switch_of(name.timeline)
            && switch < summary.end()
        {
            self.break_off(switch, summary.end(), GapReason::Missing);
        }
    }

    fn take(&mut self, summary: &SegmentSummary) {
        self.take_head(summary);
        if let Some(first) = summary.first_record
            && self.is_linked
            && self.last_record.is_some_and(|last| last != first.previous)
        {
            self.gap(summary.start(), first.lsn, GapReason::Unlinked);
        }
        self.joined.changes.union(&summary.changes);
        self.take_problems(summary);
        self.take_levels(&summary.marks);
        self.joined.marks.union(&summary.marks);
        if let Some(last) = summary.last_record {
            self.last_record = Some(last);
        }
        self.is_linked = true;
        self.take_ending(summary);
    }

    /// What the segment begins with: the end of a record, or nothing.
    fn take_head(&mut self, summary: &SegmentSummary) {
        let Some(mut crossing) = self.crossing.take() else {
            // The end of a record from before `from`, or from inside a gap, is none of ours; elsewhere it must not be.
            if summary.head.is_some() && self.is_linked {
                self.gap(summary.start(), summary.valid_end, GapReason::Unlinked);
            }
            return;
        };
        self.crossed.push(summary.name);
        // The record was lost in a crash, and the server went on behind it: it never came to be.
        if summary.head_overwritten {
            return;
        }
        match crossing.add(summary) {
            Added::GoesOn => self.crossing = Some(crossing),
            Added::Complete => {
                self.give(&crossing, summary);
                self.last_record = Some(crossing.start);
            }
            Added::Broken(defect) => {
                self.gap(
                    crossing.start,
                    summary.valid_end.max(summary.start()),
                    GapReason::Unreadable(defect),
                );
            }
        }
    }

    fn give(&mut self, crossing: &Crossing, last: &SegmentSummary) {
        crossing.give(last, &mut self.taker);
        if self.taker.problems.iter().any(|problem| problem.defect == Defect::TooLong) {
            self.taker.problems.clear();
            self.read_again(crossing, last);
        }
        let problems = std::mem::take(&mut self.taker.problems);
        for problem in problems {
            self.gap(crossing.start, last.end(), GapReason::Unreadable(problem.defect));
        }
        let marks = std::mem::take(&mut self.taker.applier.marks);
        self.take_levels(&marks);
        self.joined.marks.union(&marks);
    }

    /// Reads the record from the WAL itself: its fragments do not hold what names relations.
    fn read_again(&mut self, crossing: &Crossing, last: &SegmentSummary) {
        let first = crossing.start.segment(self.segment_size);
        let stop = crossing.start.plus(1);
        let start = first.start(self.segment_size);
        let mut walker = Walker::new(start, self.segment_size, last.name.timeline, stop);
        let mut only = Only { start: crossing.start, taker: &mut self.taker, is_found: false };
        let whole = self
            .crossed
            .iter()
            .all(|name| self.source.wal(*name, &mut |bytes| walker.push(bytes, &mut only)));
        if !whole || !only.is_found {
            self.taker.problems.push(Problem { at: crossing.start, defect: Defect::TooLong });
        }
    }

    fn take_problems(&mut self, summary: &SegmentSummary) {
        for problem in &summary.problems {
            // A full list has lost some: the gap is then all of the segment.
            let from = if summary.problems.len() < PROBLEMS_MAX { problem.at } else { summary.start() };
            let is_ours = problem.at >= self.from || summary.problems.len() >= PROBLEMS_MAX;
            if is_ours {
                self.gap(from, summary.valid_end, GapReason::Unreadable(problem.defect));
            }
        }
    }

    fn take_levels(&mut self, marks: &Marks) {
        for mark in &marks.levels {
            match (mark.level, self.minimal_since) {
                (WalLevel::Minimal, None) => self.minimal_since = Some(mark.lsn),
                (WalLevel::Replica | WalLevel::Logical, Some(since)) => {
                    self.minimal_since = None;
                    self.gap(since, mark.lsn, GapReason::Minimal);
                }
                _ => {}
            }
        }
    }

    fn take_ending(&mut self, summary: &SegmentSummary) {
        if let Some(tail) = &summary.tail {
            self.crossing = Crossing::begin(summary, tail, self.last_record);
            self.crossed = vec![summary.name];
        }
        match summary.ending {
            Ending::Full | Ending::Switch => {}
            Ending::EndOfData | Ending::Stopped => {
                self.break_off(summary.valid_end, summary.end(), GapReason::EndsEarly);
            }
            Ending::Problem(problem) => {
                self.break_off(summary.valid_end, summary.end(), GapReason::Unreadable(problem.defect));
            }
        }
    }

    /// Nothing is known from `from` to `to`, and what comes next need not follow from what came before.
    fn break_off(&mut self, from: Lsn, to: Lsn, reason: GapReason) {
        let crossing = self.crossing.take();
        self.gap(crossing.map_or(from, |crossing| crossing.start.min(from)), to, reason);
        self.last_record = None;
        self.is_linked = false;
    }

    fn gap(&mut self, from: Lsn, to: Lsn, reason: GapReason) {
        let (from, to) = (from.max(self.from), to.min(self.to));
        if from >= to {
            return;
        }
        let gaps = &mut self.joined.gaps;
        let is_full = gaps.len() >= GAPS_MAX;
        match gaps.last_mut() {
            Some(last) if is_full || (last.reason == reason && last.to >= from) => last.to = last.to.max(to),
            _ => gaps.push(Gap { from, to, reason }),
        }
    }

    fn finish(mut self) -> JoinedChanges {
        if let Some(crossing) = self.crossing.take() {
            self.gap(crossing.start, self.to, GapReason::EndsEarly);
        }
        if let Some(since) = self.minimal_since {
            self.gap(since, self.to, GapReason::Minimal);
        }
        self.joined.changes.union(&self.taker.applier.changes);
        self.joined
    }
}

/// Takes one record of all.
struct Only<'a> {
    start: Lsn,
    taker: &'a mut Taker,
    is_found: bool,
}

impl RecordSink for Only<'_> {
    fn record(&mut self, raw: RawRecord<'_>) {
        if raw.lsn == self.start {
            self.is_found = true;
            self.taker.record(raw);
        }
    }
}

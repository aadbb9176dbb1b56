//! Whether a recovery target can be reached, answered before anything is restored.
//!
//! Names tell how far replay gets; what happened when is told by the summaries of a few segments, asked of the caller. Commit times
//! and transaction ids rise along a history (nearly: commits of one moment may swap), so a binary search finds the segment with
//! some twenty summaries whatever the archive's size. Restore points have no order and are looked for one segment after the other.
//!
//! What counts as reached is PostgreSQL's rule (`recoveryStopsBefore` and `recoveryStopsAfter` in
//! `src/backend/access/transam/xlogrecovery.c`): a time needs a commit or abort after it, or recovery fails with "recovery ended before
//! configured recovery target was reached".

use super::{BackupSpan, RecoveryWindow, WalSet};
use jiff::Timestamp;
use pgproof_pg::{Lsn, SegmentName, SegmentNumber, TimelineHistory, TimelineId};
use serde::{Deserialize, Serialize};

/// What one segment tells about instants; empty for a segment in which nothing of the kind happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SegmentInstants {
    /// The least time of a commit or abort in it.
    pub first_commit: Option<Timestamp>,
    /// The greatest time of a commit or abort in it.
    pub last_commit: Option<Timestamp>,
    /// The highest transaction id that appears in it.
    pub highest_xid: Option<u32>,
    /// Named restore points, with the position after each.
    pub restore_points: Vec<(String, Lsn)>,
    /// The position after the last record that begins in it, where known. Behind it lies only padding.
    pub records_end: Option<Lsn>,
}

/// Where recovery is to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// At the end of the archived WAL.
    Latest,
    /// As soon as the backup is consistent.
    Immediate,
    /// Before the first commit later than this.
    Time(Timestamp),
    /// At the first record that does not begin before this.
    Lsn(Lsn),
    /// At the commit or abort of this transaction.
    Xid(u32),
    /// At this named restore point.
    Name(String),
}

/// An instant that can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NearestInstant {
    /// Its position.
    pub lsn: Lsn,
    /// Its time, where known.
    pub time: Option<Timestamp>,
}

/// Why a target cannot be reached, and what can instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreachable {
    /// The reason, as a sentence without its full stop.
    pub why: String,
    /// The last reachable instant before the target.
    pub before: Option<NearestInstant>,
    /// The first reachable instant after the target.
    pub after: Option<NearestInstant>,
}

/// The answer to a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// The target is reached while replaying this segment. `None` when no WAL beyond the backup's own is needed.
    Reachable {
        /// The segment.
        segment: Option<SegmentName>,
    },
    /// It is reached, unless it happened before the backup was consistent: an older backup is the safer choice.
    Uncertain {
        /// The segment.
        segment: Option<SegmentName>,
    },
    /// It is not reached from this backup on this timeline.
    NotReachable(Unreachable),
}

/// The caller's way to a segment's summary; `Ok(None)` when the segment has none.
pub type Lookup<'a, E> = dyn FnMut(SegmentName) -> Result<Option<SegmentInstants>, E> + 'a;

/// Looks for `target` in the WAL that follows `backup` along the history of `timeline`.
///
/// # Errors
/// Those of `lookup`.
pub fn locate_target<E>(
    target: &Target,
    backup: &BackupSpan,
    timeline: TimelineId,
    wal: &WalSet,
    lookup: &mut Lookup<'_, E>,
) -> Result<Located, E> {
    let history = wal.history(timeline);
    if !history.contains(backup.timeline, backup.stop) {
        return Ok(refuse(
            format!(
                "backup {} on timeline {} is not part of the history of timeline {timeline}",
                backup.backup, backup.timeline
            ),
            None,
            None,
        ));
    }
    let reach = wal.unbroken(&history, backup.start);
    if reach.end < backup.stop {
        let missing = reach.missing.file_name(wal.segment_size());
        let why =
            format!("segment {missing}, which backup {} needs to be consistent, is missing", backup.backup);
        return Ok(refuse(why, None, None));
    }
    let consistent = NearestInstant { lsn: backup.stop, time: Some(backup.stopped) };
    let mut path = Path { history, wal, from: backup.stop, end: reach.end, lookup };
    match target {
        Target::Latest | Target::Immediate => Ok(Located::Reachable { segment: None }),
        Target::Lsn(lsn) => path.locate_lsn(*lsn, consistent),
        Target::Time(time) => path.locate_time(*time, consistent),
        Target::Xid(xid) => path.locate_xid(*xid, consistent),
        Target::Name(name) => path.locate_name(name),
    }
}

/// The backup to restore, and where in the WAL behind it the target lies; or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The newest backup from which the target is reached.
    Backup {
        /// Its place in the list given.
        index: usize,
        /// The segment in which the target is reached, when WAL beyond the backup's own is needed.
        segment: Option<SegmentName>,
    },
    /// No backup leads there.
    None(Unreachable),
}

/// Chooses the newest of `backups` from which `target` is reached along the history of `timeline`.
///
/// # Errors
/// Those of `lookup`.
pub fn choose_backup<E>(
    target: &Target,
    timeline: TimelineId,
    backups: &[BackupSpan],
    wal: &WalSet,
    lookup: &mut Lookup<'_, E>,
) -> Result<Choice, E> {
    let history = wal.history(timeline);
    let on_path = |backup: &BackupSpan| history.contains(backup.timeline, backup.stop);
    let mut order: Vec<usize> = (0..backups.len()).filter(|&at| on_path(&backups[at])).collect();
    order.sort_by_key(|&at| std::cmp::Reverse((backups[at].stop, backups[at].stopped)));
    let mut refusal: Option<Unreachable> = None;
    let mut uncertain = None;
    for index in order {
        match locate_target(target, &backups[index], timeline, wal, lookup)? {
            Located::Reachable { segment } => return Ok(Choice::Backup { index, segment }),
            Located::Uncertain { segment } => {
                uncertain.get_or_insert(Choice::Backup { index, segment });
            }
            Located::NotReachable(next) => refusal = Some(refusal.map_or(next.clone(), |r| r.or(next))),
        }
    }
    let nothing = || Unreachable {
        why: format!("no backup is part of the history of timeline {timeline}"),
        before: None,
        after: None,
    };
    Ok(uncertain.unwrap_or_else(|| Choice::None(refusal.unwrap_or_else(nothing))))
}

impl Unreachable {
    /// Joins the answers from a newer backup (`self`) and the next older one.
    fn or(self, older: Self) -> Self {
        // A newer backup is of no use for a target before it: then the older one has the reason. Where both say that the WAL ends
        // too early, the newer one has seen more of it.
        let newer_is_too_late = self.before.is_none() && self.after.is_some();
        let why = if newer_is_too_late { older.why } else { self.why };
        let before = self.before.into_iter().chain(older.before).max_by_key(|instant| instant.lsn);
        let after = self.after.into_iter().chain(older.after).min_by_key(|instant| instant.lsn);
        Self { why, before, after }
    }
}

/// Fills in the last commit of each window, asking for few summaries; `lookups_max` bounds them for each window.
///
/// # Errors
/// Those of `lookup`.
pub fn reachable_times<E>(
    windows: &mut [RecoveryWindow],
    wal: &WalSet,
    lookups_max: usize,
    lookup: &mut Lookup<'_, E>,
) -> Result<(), E> {
    for window in windows {
        let history = wal.history(window.timeline);
        let mut path = Path { history, wal, from: window.from, end: window.to, lookup: &mut *lookup };
        let (first, end) = path.numbers();
        let newest = (first..end).rev().take(lookups_max);
        for number in newest {
            if let Some(time) = path.instants(number)?.and_then(|instants| instants.last_commit) {
                window.last_time = window.last_time.max(Some(time));
                break;
            }
        }
    }
    Ok(())
}

fn refuse(why: String, before: Option<NearestInstant>, after: Option<NearestInstant>) -> Located {
    Located::NotReachable(Unreachable { why, before, after })
}

/// The unbroken WAL from where a backup is consistent to where replay ends.
struct Path<'a, 'l, E> {
    history: TimelineHistory,
    wal: &'a WalSet,
    from: Lsn,
    end: Lsn,
    lookup: &'a mut Lookup<'l, E>,
}

impl<E> Path<'_, '_, E> {
    /// Segment numbers of the path, first to end (exclusive).
    fn numbers(&self) -> (u64, u64) {
        let size = self.wal.segment_size();
        (self.from.segment(size).0, self.end.previous_segment(size).0 + 1)
    }

    fn segment(&self, number: u64) -> Option<SegmentName> {
        self.wal.find(&self.history, SegmentNumber(number))
    }

    fn instants(&mut self, number: u64) -> Result<Option<SegmentInstants>, E> {
        match self.segment(number) {
            Some(segment) => (self.lookup)(segment),
            None => Ok(None),
        }
    }

    /// The first segment number from `low` whose value satisfies `reached`, given that values rise; segments without a value are
    /// passed over. `None` when no segment does.
    fn first_where<T>(
        &mut self,
        value: impl Fn(&SegmentInstants) -> Option<T>,
        reached: impl Fn(&T) -> bool,
    ) -> Result<Option<u64>, E> {
        let (mut low, end) = self.numbers();
        let mut high = end;
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.next_value(middle, high, &value)? {
                Some((at, present)) if reached(&present) => {
                    found = Some(at);
                    high = middle;
                }
                Some((at, _)) => low = at + 1,
                None => high = middle,
            }
        }
        Ok(found)
    }

    /// The first segment in `from..end` that has a value.
    fn next_value<T>(
        &mut self,
        from: u64,
        end: u64,
        value: impl Fn(&SegmentInstants) -> Option<T>,
    ) -> Result<Option<(u64, T)>, E> {
        for number in from..end {
            if let Some(present) = self.instants(number)?.as_ref().and_then(&value) {
                return Ok(Some((number, present)));
            }
        }
        Ok(None)
    }

    /// The last instant of the path.
    fn last(&mut self) -> Result<NearestInstant, E> {
        let (first, end) = self.numbers();
        let mut lsn = self.end;
        for number in (first..end).rev() {
            let Some(instants) = self.instants(number)? else { continue };
            if number + 1 == end {
                lsn = instants.records_end.unwrap_or(lsn).min(lsn);
            }
            if instants.last_commit.is_some() {
                return Ok(NearestInstant { lsn, time: instants.last_commit });
            }
        }
        Ok(NearestInstant { lsn, time: None })
    }

    fn reachable(&self, number: u64) -> Located {
        Located::Reachable { segment: self.segment(number) }
    }

    /// Why the path ends, for a target that lies behind it.
    fn ends_before(&mut self, what: String) -> Result<Located, E> {
        let last = self.last()?;
        let missing = self.wal.unbroken(&self.history, self.from).missing;
        let missing = missing.file_name(self.wal.segment_size());
        Ok(refuse(format!("{what}; archived WAL ends before segment {missing}"), Some(last), None))
    }

    fn locate_lsn(&mut self, lsn: Lsn, consistent: NearestInstant) -> Result<Located, E> {
        if lsn < self.from {
            let why = format!("{lsn} is before {}, where the backup is consistent", self.from);
            return Ok(refuse(why, None, Some(consistent)));
        }
        let (_, end) = self.numbers();
        let records_end = match end.checked_sub(1) {
            Some(last) => self.instants(last)?.and_then(|instants| instants.records_end),
            None => None,
        };
        if lsn >= records_end.unwrap_or(self.end).min(self.end) {
            return self.ends_before(format!("no archived WAL record begins at or after {lsn}"));
        }
        Ok(self.reachable(lsn.segment(self.wal.segment_size()).0))
    }

    fn locate_time(&mut self, time: Timestamp, consistent: NearestInstant) -> Result<Located, E> {
        if time < consistent.time.unwrap_or(Timestamp::MIN) {
            let why = format!("{time} is before the backup was finished");
            return Ok(refuse(why, None, Some(consistent)));
        }
        match self.first_where(|instants| instants.last_commit, |&commit| commit > time)? {
            Some(number) => Ok(self.reachable(number)),
            None => self.ends_before(format!("no archived transaction ended after {time}")),
        }
    }

    fn locate_xid(&mut self, xid: u32, consistent: NearestInstant) -> Result<Located, E> {
        let not_before = |&highest: &u32| !xid_precedes(highest, xid);
        let Some(number) = self.first_where(|instants| instants.highest_xid, not_before)? else {
            return self.ends_before(format!("no archived WAL names transaction {xid}"));
        };
        let (first, _) = self.numbers();
        // No earlier segment names it or a later one: it began after the backup was consistent.
        if number > first {
            return Ok(self.reachable(number));
        }
        let highest = self.instants(number)?.and_then(|instants| instants.highest_xid);
        if highest.is_some_and(|highest| xid_distance(xid, highest) > XIDS_IN_FLIGHT_MAX) {
            let why = format!("transaction {xid} is far older than the backup");
            return Ok(refuse(why, None, Some(consistent)));
        }
        Ok(Located::Uncertain { segment: self.segment(number) })
    }

    fn locate_name(&mut self, name: &str) -> Result<Located, E> {
        let (first, end) = self.numbers();
        for number in first..end {
            let Some(instants) = self.instants(number)? else { continue };
            let from = self.from;
            if instants.restore_points.iter().any(|(point, lsn)| point == name && *lsn > from) {
                return Ok(self.reachable(number));
            }
        }
        let why = format!("no restore point `{name}` is in the WAL archived after the backup");
        let last = self.last()?;
        Ok(refuse(why, Some(last), None))
    }
}

/// A transaction that began this many transactions before a backup may still be running: the limit is far above any
/// `max_connections`, and far below what would make the answer useless.
const XIDS_IN_FLIGHT_MAX: u32 = 10_000_000;

/// `TransactionIdPrecedes`: ids wrap around, so "before" means less than half of them apart.
fn xid_precedes(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// How far `later` is ahead of `earlier`; 0 when it is not.
fn xid_distance(earlier: u32, later: u32) -> u32 {
    if xid_precedes(earlier, later) { later.wrapping_sub(earlier) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BackupId;
    use pgproof_pg::WalSegmentSize;
    use std::convert::Infallible;

    const SIZE: WalSegmentSize = WalSegmentSize::DEFAULT;

    fn at(segment: u64, offset: u64) -> Lsn {
        SegmentNumber(segment).start(SIZE).plus(offset)
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Segment n holds commits of the seconds 100n to 100n+50 and transactions up to 10n; every third one holds nothing.
    fn told(segment: SegmentName) -> SegmentInstants {
        let n = segment.number.0;
        let records_end = Some(at(n, 15 << 20));
        if n.is_multiple_of(3) {
            return SegmentInstants { records_end, ..SegmentInstants::default() };
        }
        SegmentInstants {
            first_commit: Some(second(100 * n as i64)),
            last_commit: Some(second(100 * n as i64 + 50)),
            highest_xid: Some(10 * n as u32),
            restore_points: if n == 7 { vec![("before".into(), at(7, 77))] } else { vec![] },
            records_end,
        }
    }

    fn backup(segment: u64) -> BackupSpan {
        BackupSpan {
            backup: BackupId::new(second(100 * segment as i64), [0, 0, segment as u8]),
            timeline: TimelineId(1),
            start: at(segment, 40),
            stop: at(segment, 4000),
            stopped: second(100 * segment as i64 + 20),
        }
    }

    fn wal(numbers: impl IntoIterator<Item = u64>) -> WalSet {
        let name = |n| SegmentName::new(TimelineId(1), SegmentNumber(n));
        WalSet::new(SIZE, numbers.into_iter().map(name))
    }

    fn choose(target: Target, backups: &[BackupSpan], wal: &WalSet) -> Choice {
        let mut lookup = |segment| Ok::<_, Infallible>(Some(told(segment)));
        choose_backup(&target, TimelineId(1), backups, wal, &mut lookup).unwrap()
    }

    fn chosen(target: Target) -> (usize, u64) {
        match choose(target, &[backup(2), backup(8)], &wal(2..=20)) {
            Choice::Backup { index, segment } => (index, segment.map_or(0, |segment| segment.number.0)),
            Choice::None(why) => panic!("{why:?}"),
        }
    }

    fn refused(target: Target) -> Unreachable {
        match choose(target, &[backup(2), backup(8)], &wal(2..=20)) {
            Choice::Backup { index, segment } => panic!("{index} {segment:?}"),
            Choice::None(why) => why,
        }
    }

    #[test]
    fn a_time_is_reached_at_the_first_commit_after_it() {
        assert_eq!(chosen(Target::Time(second(520))), (0, 5));
        // Segment 6 holds no commit.
        assert_eq!(chosen(Target::Time(second(550))), (0, 7));
        assert_eq!(chosen(Target::Time(second(1849))), (1, 19));
    }

    #[test]
    fn a_backup_finished_after_the_target_time_is_not_used() {
        assert_eq!(chosen(Target::Time(second(819))), (0, 8));
        assert_eq!(chosen(Target::Time(second(820))), (1, 8));
    }

    #[test]
    fn a_time_after_the_last_commit_is_refused_with_the_last_commit() {
        let refusal = refused(Target::Time(second(2050)));
        assert_eq!(refusal.before.unwrap().time, Some(second(2050)));
        assert_eq!(refusal.after, None);
        assert!(refusal.why.contains("000000010000000000000015"), "{}", refusal.why);
    }

    #[test]
    fn a_time_before_every_backup_is_refused_with_the_first_one() {
        let refusal = refused(Target::Time(second(100)));
        assert_eq!(refusal.after.unwrap(), NearestInstant { lsn: at(2, 4000), time: Some(second(220)) });
    }

    #[test]
    fn a_time_inside_a_gap_is_refused_with_both_sides() {
        let answer = choose(Target::Time(second(650)), &[backup(2), backup(8)], &wal((2..=5).chain(8..=20)));
        let Choice::None(refusal) = answer else { panic!("{answer:?}") };
        assert_eq!(refusal.before.unwrap().time, Some(second(550)));
        assert_eq!(refusal.after.unwrap().time, Some(second(820)));
        assert!(refusal.why.contains("000000010000000000000006"), "{}", refusal.why);
    }

    #[test]
    fn positions_are_reached_up_to_the_last_record() {
        assert_eq!(chosen(Target::Lsn(at(5, 5))), (0, 5));
        assert_eq!(chosen(Target::Lsn(at(9, 5))), (1, 9));
        assert_eq!(refused(Target::Lsn(at(20, 15 << 20))).before.unwrap().lsn, at(20, 15 << 20));
        assert_eq!(refused(Target::Lsn(at(1, 0))).after.unwrap().lsn, at(2, 4000));
    }

    #[test]
    fn transactions_are_found_by_their_order() {
        assert_eq!(chosen(Target::Xid(75)), (0, 8));
        assert_eq!(chosen(Target::Xid(195)), (1, 20));
        assert!(refused(Target::Xid(201)).why.contains("201"));
    }

    #[test]
    fn restore_points_are_found_by_name() {
        assert_eq!(chosen(Target::Name("before".into())), (0, 7));
        assert!(refused(Target::Name("after".into())).why.contains("`after`"));
    }

    #[test]
    fn latest_takes_the_newest_backup() {
        assert_eq!(chosen(Target::Latest), (1, 0));
        assert_eq!(chosen(Target::Immediate), (1, 0));
    }

    #[test]
    fn a_search_by_time_asks_for_few_summaries() {
        let mut asked = 0;
        let mut lookup = |segment| {
            asked += 1;
            Ok::<_, Infallible>(Some(told(segment)))
        };
        let wal = wal(2..=200_000);
        let target = Target::Time(second(12_345_678));
        let found = locate_target(&target, &backup(2), TimelineId(1), &wal, &mut lookup).unwrap();
        assert!(matches!(found, Located::Reachable { .. }));
        assert!(asked < 40, "{asked}");
    }
}

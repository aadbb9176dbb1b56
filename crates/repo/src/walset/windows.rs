//! Recovery windows: which positions can be reached, on which timeline, from which backups.
//!
//! A backup reaches everything from its stop position to the end of the WAL that follows it without a gap, along every timeline
//! whose history it is part of. Windows that meet are one. Times are not known here: see [`super::reachable_times`].

use super::{Unbroken, WalSet};
use crate::BackupId;
use jiff::Timestamp;
use pgproof_pg::{Lsn, TimelineHistory, TimelineId};
use serde::Serialize;
use std::collections::BTreeSet;

/// What windows need to know of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSpan {
    /// The backup.
    pub backup: BackupId,
    /// The timeline that it was taken on.
    pub timeline: TimelineId,
    /// Where replay of it starts.
    pub start: Lsn,
    /// Where it becomes consistent.
    pub stop: Lsn,
    /// When it was finished.
    pub stopped: Timestamp,
}

/// An interval of positions that can be reached on one timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveryWindow {
    /// The timeline to recover along.
    pub timeline: TimelineId,
    /// The first position that can be reached: where its first backup is consistent. May lie on an ancestor.
    pub from: Lsn,
    /// The position after the last one that can be reached.
    pub to: Lsn,
    /// The segment whose absence ends it. At the end of the archive it is simply the next one.
    pub ended_by: pgproof_pg::SegmentName,
    /// Whether WAL goes on after the end: it is a gap, and not the end of the archive.
    pub gap: bool,
    /// The backups from which it can be reached, in the order of their stop positions.
    pub backups: Vec<BackupId>,
    /// The first instant: when its first backup was finished.
    pub first_time: Option<Timestamp>,
    /// The last commit known in it, filled in by [`super::reachable_times`]; without it, when its last backup was finished.
    pub last_time: Option<Timestamp>,
}

/// A backup that cannot be made consistent on its own timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrokenBackup {
    /// The backup.
    pub backup: BackupId,
    /// The first segment that it needs and that is not there.
    pub missing: pgproof_pg::SegmentName,
}

/// What can be reached, and what cannot though a backup exists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RecoveryWindows {
    /// By timeline, then position.
    pub windows: Vec<RecoveryWindow>,
    /// In the order given.
    pub broken: Vec<BrokenBackup>,
}

/// Computes what `backups` reach with `wal`.
pub fn recovery_windows(backups: &[BackupSpan], wal: &WalSet) -> RecoveryWindows {
    let mut timelines: BTreeSet<TimelineId> = wal.timelines();
    timelines.extend(backups.iter().map(|backup| backup.timeline));
    let windows = timelines.into_iter().flat_map(|timeline| windows_of(timeline, backups, wal)).collect();
    let broken = backups
        .iter()
        .filter_map(|backup| {
            let reach = wal.unbroken(&wal.history(backup.timeline), backup.start);
            (reach.end < backup.stop)
                .then_some(BrokenBackup { backup: backup.backup, missing: reach.missing })
        })
        .collect();
    RecoveryWindows { windows, broken }
}

fn windows_of(timeline: TimelineId, backups: &[BackupSpan], wal: &WalSet) -> Vec<RecoveryWindow> {
    let history = wal.history(timeline);
    let mut on_path: Vec<&BackupSpan> =
        backups.iter().filter(|backup| history.contains(backup.timeline, backup.stop)).collect();
    on_path.sort_by_key(|backup| (backup.stop, backup.backup));
    let mut windows: Vec<RecoveryWindow> = Vec::new();
    for backup in on_path {
        let reach = wal.unbroken(&history, backup.start);
        if !adds_to(timeline, &history, backup, reach) {
            continue;
        }
        match windows.last_mut() {
            // The same path with the same gaps: two windows that overlap end at the same place.
            Some(window) if backup.stop <= window.to => {
                window.backups.push(backup.backup);
                window.last_time = window.last_time.max(Some(backup.stopped));
            }
            _ => windows.push(window(timeline, backup, reach, wal)),
        }
    }
    windows
}

/// Whether the backup becomes consistent, and reaches something that an ancestor's windows do not show already.
fn adds_to(timeline: TimelineId, history: &TimelineHistory, backup: &BackupSpan, reach: Unbroken) -> bool {
    let begin = history.begin_of(timeline).unwrap_or(Lsn::INVALID);
    reach.end >= backup.stop && (reach.end > begin || backup.timeline == timeline)
}

fn window(timeline: TimelineId, backup: &BackupSpan, reach: Unbroken, wal: &WalSet) -> RecoveryWindow {
    RecoveryWindow {
        timeline,
        from: backup.stop,
        to: reach.end,
        ended_by: reach.missing,
        gap: wal.runs_of(timeline).last().is_some_and(|run| run.last > reach.missing.number),
        backups: vec![backup.backup],
        first_time: Some(backup.stopped),
        last_time: Some(backup.stopped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgproof_pg::{Ancestor, SegmentName, SegmentNumber, WalSegmentSize};

    const SIZE: WalSegmentSize = WalSegmentSize::DEFAULT;

    fn at(segment: u64, offset: u64) -> Lsn {
        SegmentNumber(segment).start(SIZE).plus(offset)
    }

    fn backup(number: u8, timeline: u32, start: Lsn, stop: Lsn) -> BackupSpan {
        let stopped = Timestamp::from_second(1_000_000 + i64::from(number)).unwrap();
        BackupSpan {
            backup: BackupId::new(stopped, [0, 0, number]),
            timeline: TimelineId(timeline),
            start,
            stop,
            stopped,
        }
    }

    fn wal(runs: &[(u32, std::ops::RangeInclusive<u64>)]) -> WalSet {
        let names = runs.iter().flat_map(|(timeline, numbers)| {
            numbers.clone().map(|n| SegmentName::new(TimelineId(*timeline), SegmentNumber(n)))
        });
        WalSet::new(SIZE, names)
    }

    fn child(timeline: u32, parent: u32, switch: Lsn) -> TimelineHistory {
        let ancestor = Ancestor { timeline: TimelineId(parent), switch, reason: String::new() };
        TimelineHistory::new(TimelineId(timeline), vec![ancestor]).unwrap()
    }

    fn ranges(found: &RecoveryWindows) -> Vec<(u32, Lsn, Lsn, usize)> {
        let of = |w: &RecoveryWindow| (w.timeline.0, w.from, w.to, w.backups.len());
        found.windows.iter().map(of).collect()
    }

    #[test]
    fn backups_joined_by_unbroken_wal_share_one_window() {
        let backups = [backup(1, 1, at(3, 40), at(3, 900)), backup(2, 1, at(5, 40), at(6, 900))];
        let found = recovery_windows(&backups, &wal(&[(1, 3..=8)]));
        assert_eq!(ranges(&found), [(1, at(3, 900), at(9, 0), 2)]);
        assert!(!found.windows[0].gap);
        assert!(found.broken.is_empty());
    }

    #[test]
    fn a_gap_splits_the_window_and_is_named() {
        let backups = [backup(1, 1, at(3, 40), at(3, 900)), backup(2, 1, at(7, 40), at(7, 900))];
        let found = recovery_windows(&backups, &wal(&[(1, 3..=5), (1, 7..=9)]));
        assert_eq!(ranges(&found), [(1, at(3, 900), at(6, 0), 1), (1, at(7, 900), at(10, 0), 1)]);
        assert!(found.windows[0].gap);
        assert_eq!(found.windows[0].ended_by.number, SegmentNumber(6));
        assert!(!found.windows[1].gap);
    }

    #[test]
    fn a_backup_without_its_own_wal_is_broken_and_opens_no_window() {
        let found = recovery_windows(&[backup(1, 1, at(3, 40), at(5, 9))], &wal(&[(1, 3..=4), (1, 6..=9)]));
        assert!(found.windows.is_empty());
        assert_eq!(found.broken[0].missing.number, SegmentNumber(5));
    }

    #[test]
    fn every_timeline_that_a_backup_leads_to_has_a_window() {
        let backups = [
            backup(1, 1, at(3, 40), at(3, 900)),
            // After the switch, so on timeline 1 only.
            backup(2, 1, at(6, 40), at(6, 900)),
            backup(3, 2, at(7, 40), at(7, 900)),
        ];
        let wal = wal(&[(1, 3..=6), (2, 5..=8)]).with_histories([child(2, 1, at(5, 100))]);
        let found = recovery_windows(&backups, &wal);
        assert_eq!(ranges(&found), [(1, at(3, 900), at(7, 0), 2), (2, at(3, 900), at(9, 0), 2)]);
    }

    #[test]
    fn a_restore_to_the_past_makes_a_timeline_with_lower_positions() {
        let backups = [backup(1, 1, at(3, 40), at(3, 900)), backup(2, 1, at(90, 40), at(90, 900))];
        let wal = wal(&[(1, 3..=95), (2, 10..=12)]).with_histories([child(2, 1, at(10, 100))]);
        let found = recovery_windows(&backups, &wal);
        assert_eq!(ranges(&found), [(1, at(3, 900), at(96, 0), 2), (2, at(3, 900), at(13, 0), 1)]);
    }

    #[test]
    fn a_timeline_that_archived_nothing_yet_has_no_window_of_its_own() {
        let wal = wal(&[(1, 3..=5)]).with_histories([child(2, 1, at(5, 100))]);
        let found = recovery_windows(&[backup(1, 1, at(3, 40), at(3, 900))], &wal);
        assert_eq!(ranges(&found), [(1, at(3, 900), at(6, 0), 1)]);
    }
}

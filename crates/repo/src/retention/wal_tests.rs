use super::*;
use jiff::SignedDuration;
use pgproof_pg::{Ancestor, TimelineHistory, WalSegmentSize};

const SIZE: WalSegmentSize = WalSegmentSize::DEFAULT;

fn at(segment: u64, offset: u64) -> Lsn {
    SegmentNumber(segment).start(SIZE).plus(offset)
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

fn onward(timeline: u32, from: Lsn) -> WalNeed {
    WalNeed { timeline: TimelineId(timeline), from, keep: WalKeep::Onward, backup: None }
}

fn removed(needs: &[WalNeed], wal: &WalSet) -> Vec<(u32, u64, u64)> {
    let of = |run: &Run| (run.timeline.0, run.first.0, run.last.0);
    wal_plan(needs, wal).remove.iter().map(of).collect()
}

#[test]
fn expire_keeps_wal_needed_by_oldest_backup() {
    let needs = [onward(1, at(9, 40)), onward(1, at(5, 40))];
    assert_eq!(removed(&needs, &wal(&[(1, 2..=20)])), [(1, 2, 4)]);
}

#[test]
fn without_a_backup_all_wal_stays() {
    let plan = wal_plan(&[], &wal(&[(1, 2..=20)]));
    assert!(plan.remove.is_empty() && plan.note.is_some());
}

#[test]
fn wal_of_a_promoted_timeline_stays_for_a_backup_of_its_parent() {
    let wal = wal(&[(1, 2..=9), (2, 8..=12)]).with_histories([child(2, 1, at(8, 100))]);
    assert_eq!(removed(&[onward(1, at(5, 40))], &wal), [(1, 2, 4)]);
}

#[test]
fn wal_of_an_abandoned_timeline_goes_once_every_kept_backup_is_newer() {
    let wal = wal(&[(1, 2..=30), (2, 8..=12)]).with_histories([child(2, 1, at(8, 100))]);
    assert_eq!(removed(&[onward(2, at(9, 40))], &wal), [(1, 2, 30), (2, 8, 8)]);
    // One backup before the switch leads to both.
    assert_eq!(removed(&[onward(2, at(9, 40)), onward(1, at(6, 0))], &wal), [(1, 2, 5)]);
}

#[test]
fn a_timeline_without_history_file_may_be_the_present_one() {
    let wal = wal(&[(1, 2..=9), (2, 3..=12)]);
    assert_eq!(removed(&[onward(1, at(8, 40))], &wal), [(1, 2, 7), (2, 3, 7)]);
}

#[test]
fn the_newest_timeline_stays_although_no_kept_backup_leads_to_it() {
    // Restored from a backup that is gone by now.
    let wal = wal(&[(1, 2..=30), (2, 8..=12)]).with_histories([child(2, 1, at(8, 100))]);
    assert_eq!(removed(&[onward(1, at(7, 0)), onward(1, at(9, 0))], &wal), [(1, 2, 6)]);
    assert_eq!(removed(&[onward(1, at(9, 0))], &wal), [(1, 2, 8), (2, 8, 8)]);
}

fn facts(number: u8, segment: u64, days_ago: i64) -> BackupFacts {
    BackupFacts {
        backup: BackupId::new(Timestamp::UNIX_EPOCH, [0, 0, number]),
        timeline: TimelineId(1),
        start: at(segment, 40),
        stop: at(segment + 1, 40),
        stopped: now() - SignedDuration::from_hours(24 * days_ago),
        good: true,
        pinned: None,
        marked: false,
        base_of_running: false,
        being_read: false,
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

#[test]
fn old_backups_keep_only_what_makes_them_consistent_when_wal_within_is_set() {
    let backups = [facts(1, 5, 100), facts(2, 10, 50), facts(3, 20, 8), facts(4, 30, 2)];
    let staying: Vec<&BackupFacts> = backups.iter().collect();
    let within = |days: i64| RetentionPolicy {
        wal_within: Some(SignedDuration::from_hours(24 * days)),
        ..RetentionPolicy::default()
    };
    let wal = wal(&[(1, 2..=40)]);
    let removed_within = |days| removed(&wal_needs(&within(days), &staying, now()), &wal);
    // Every instant of the last 7 days is reached from the backup of 8 days ago.
    assert_eq!(removed_within(7), [(1, 2, 4), (1, 7, 9), (1, 12, 19)]);
    assert_eq!(removed_within(60), [(1, 2, 4)]);
    assert_eq!(removed(&wal_needs(&RetentionPolicy::default(), &staying, now()), &wal), [(1, 2, 4)]);
}

#[test]
fn the_plan_says_why_wal_stays() {
    let mut need = onward(1, at(5, 40));
    need.backup = Some(BackupId::new(Timestamp::UNIX_EPOCH, [0, 0, 1]));
    let plan = wal_plan(&[need], &wal(&[(1, 2..=9)]));
    assert_eq!(plan.kept_from[0].segment, "000000010000000000000005");
    assert!(plan.kept_from[0].why.contains("19700101T000000Z-000001 starts at 0/5000028"));
}

use super::*;
use jiff::{SignedDuration, civil::date};
use pgproof_pg::{Lsn, SystemIdentifier, TimelineId};
use proptest::prelude::*;

fn day(day: i8) -> Timestamp {
    date(2026, 11, day).at(12, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp()
}

fn backup(number: u8, timeline: u32, lsn: u64, stopped: Timestamp) -> BackupFacts {
    BackupFacts {
        // Names run against the order of time on purpose.
        backup: BackupId::new(day(1), [0, 0, 255 - number]),
        timeline: TimelineId(timeline),
        start: Lsn(lsn),
        stop: Lsn(lsn + 10),
        stopped,
        good: true,
        pinned: None,
        marked: false,
        base_of_running: false,
        being_read: false,
    }
}

fn number_of(backup: BackupId) -> u8 {
    255 - u8::from_str_radix(&backup.as_str()[21..], 16).unwrap()
}

fn lineage(backups: Vec<BackupFacts>) -> LineageFacts {
    LineageFacts { system: SystemIdentifier(1), backups, superseded: false }
}

/// One backup a day, at noon, from the first to the `days`th of November.
fn daily(days: i8) -> Vec<BackupFacts> {
    (1..=days).map(|d| backup(d as u8, 1, 100 * d as u64, day(d))).collect()
}

fn kept(policy: &RetentionPolicy, facts: &LineageFacts) -> Vec<u8> {
    let plan = plan_lineage(policy, facts, day(22));
    plan.keep.iter().map(|kept| number_of(kept.backup)).collect()
}

fn last(count: u32) -> RetentionPolicy {
    RetentionPolicy { keep_last: Some(count), ..RetentionPolicy::default() }
}

#[test]
fn without_a_rule_every_backup_is_kept_and_said_so() {
    let plan = plan_lineage(&RetentionPolicy::default(), &lineage(daily(5)), day(22));
    assert_eq!((plan.keep.len(), plan.remove.len()), (5, 0));
    assert!(plan.notes[0].contains("no retention rule"));
}

#[test]
fn the_last_backups_are_kept_by_position_not_by_name() {
    assert_eq!(kept(&last(2), &lineage(daily(5))), [4, 5]);
}

#[test]
fn backups_within_a_duration_are_kept() {
    let policy =
        RetentionPolicy { keep_within: Some(SignedDuration::from_hours(48)), ..RetentionPolicy::default() };
    assert_eq!(kept(&policy, &lineage(daily(22))), [20, 21, 22]);
}

#[test]
fn the_newest_good_backup_is_kept_even_if_no_rule_does() {
    let policy =
        RetentionPolicy { keep_within: Some(SignedDuration::from_hours(1)), ..RetentionPolicy::default() };
    assert_eq!(kept(&policy, &lineage(daily(9))), [9]);
}

#[test]
fn periods_keep_the_last_backup_of_each() {
    let policy = RetentionPolicy { daily: 2, weekly: 3, monthly: 1, yearly: 1, ..RetentionPolicy::default() };
    // 22 November 2026 is a Sunday; weeks end on the 8th, 15th and 22nd.
    assert_eq!(kept(&policy, &lineage(daily(22))), [8, 15, 21, 22]);
    let plan = plan_lineage(&policy, &lineage(daily(22)), day(22));
    let newest = &plan.keep.last().unwrap().reasons;
    assert!(newest.contains(&KeepReason::Weekly { week: "2026-W47".into() }));
    assert!(newest.contains(&KeepReason::Yearly { year: "2026".into() }));
}

#[test]
fn days_begin_where_the_zone_says() {
    let at = |hour| date(2026, 11, 5).at(hour, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp();
    let facts = lineage(vec![backup(1, 1, 100, at(20)), backup(2, 1, 200, at(23))]);
    let policy = |zone| RetentionPolicy { daily: 5, zone, ..RetentionPolicy::default() };
    assert_eq!(kept(&policy(TimeZone::UTC), &facts), [2]);
    let east = TimeZone::fixed(jiff::tz::offset(2));
    assert_eq!(kept(&policy(east), &facts), [1, 2]);
}

#[test]
fn a_pinned_backup_is_kept_with_its_reason() {
    let mut backups = daily(5);
    backups[0].pinned = Some("before the migration".into());
    let plan = plan_lineage(&last(1), &lineage(backups), day(22));
    assert_eq!(plan.keep[0].reasons, [KeepReason::Pinned { why: "before the migration".into() }]);
    assert_eq!(plan.keep.len(), 2);
}

#[test]
fn a_backup_that_failed_its_checks_never_replaces_a_good_one() {
    let mut backups = daily(5);
    backups[4].good = false;
    backups[2].good = false;
    let plan = plan_lineage(&last(1), &lineage(backups), day(22));
    let kept: Vec<u8> = plan.keep.iter().map(|kept| number_of(kept.backup)).collect();
    assert_eq!(kept, [4, 5]);
    assert_eq!(plan.keep[1].reasons, [KeepReason::NewerThanGood]);
    let reason =
        plan.remove.iter().find(|removed| number_of(removed.backup) == 3).map(|removed| removed.reason);
    assert_eq!(reason, Some(RemoveReason::FailedChecks));
}

#[test]
fn base_of_a_running_backup_and_backups_being_read_are_kept() {
    let mut backups = daily(5);
    backups[0].base_of_running = true;
    backups[1].being_read = true;
    assert_eq!(kept(&last(1), &lineage(backups)), [1, 2, 5]);
}

#[test]
fn a_mark_is_final_but_counts_for_no_rule_and_waits_for_readers() {
    let mut backups = daily(5);
    backups[4].marked = true;
    let facts = lineage(backups.clone());
    assert_eq!(kept(&last(1), &facts), [4]);
    backups[4].being_read = true;
    assert_eq!(kept(&last(1), &lineage(backups)), [4, 5]);
}

#[test]
fn a_test_restore_archived_into_the_same_place_does_not_crowd_out_the_real_server() {
    // Timeline 2 was promoted for a test; the real server goes on on timeline 1.
    let backups = vec![
        backup(1, 1, 100, day(1)),
        backup(2, 2, 150, day(2)),
        backup(3, 2, 160, day(3)),
        backup(4, 1, 300, day(4)),
        backup(5, 1, 400, day(5)),
    ];
    assert_eq!(kept(&last(2), &lineage(backups)), [4, 5, 2, 3]);
}

#[test]
fn a_superseded_lineage_keeps_its_own_newest_and_says_so() {
    let facts = LineageFacts { superseded: true, ..lineage(daily(3)) };
    let plan = plan_lineage(&last(1), &facts, day(22));
    assert_eq!(plan.keep.len(), 1);
    assert!(plan.notes[0].contains("--drop-lineage 1"), "{:?}", plan.notes);
    let policy = RetentionPolicy { drop_lineages: vec![SystemIdentifier(1)], ..last(1) };
    let plan = plan_lineage(&policy, &facts, day(22));
    assert_eq!((plan.keep.len(), plan.remove[2].reason), (0, RemoveReason::LineageDropped));
}

prop_compose! {
    fn any_backup(number: u8)(
        timeline in 1u32..4, lsn in 0u64..1000, hours in 0i64..2000, good in any::<bool>(), pinned in any::<bool>(),
    ) -> BackupFacts {
        let stopped = day(22) - SignedDuration::from_hours(hours);
        let pinned = (pinned && hours % 7 == 0).then(|| "pinned".to_owned());
        BackupFacts { good, pinned, ..backup(number, timeline, lsn, stopped) }
    }
}

fn any_backups() -> impl Strategy<Value = Vec<BackupFacts>> {
    (1u8..40).prop_flat_map(|count| (0..count).map(any_backup).collect::<Vec<_>>())
}

prop_compose! {
    fn any_policy()(
        keep_last in proptest::option::of(0u32..10), hours in proptest::option::of(0i64..500),
        periods in proptest::array::uniform4(0u32..4),
    ) -> RetentionPolicy {
        let [daily, weekly, monthly, yearly] = periods;
        let keep_within = hours.map(SignedDuration::from_hours);
        RetentionPolicy { keep_last, keep_within, daily, weekly, monthly, yearly, ..RetentionPolicy::default() }
    }
}

proptest! {
    #[test]
    fn every_plan_names_each_backup_once_and_keeps_what_must_be_kept(backups in any_backups(), policy in any_policy()) {
        let plan = plan_lineage(&policy, &lineage(backups.clone()), day(22));
        prop_assert_eq!(plan.keep.len() + plan.remove.len(), backups.len());
        let keeps = |wanted: &BackupFacts| plan.keep.iter().any(|kept| kept.backup == wanted.backup);
        prop_assert!(backups.iter().filter(|backup| backup.pinned.is_some()).all(keeps));
        if let Some(newest) = backups.iter().filter(|b| b.good).max_by_key(|b| (b.stopped, b.timeline, b.start)) {
            prop_assert!(keeps(newest));
        }
        if let Some(newest) = backups.iter().filter(|b| b.good).max_by_key(|b| by_position(b)) {
            prop_assert!(keeps(newest));
        }
        let good = backups.iter().filter(|b| b.good).count();
        let kept_good = backups.iter().filter(|b| b.good && keeps(b)).count();
        prop_assert!(kept_good >= good.min(policy.keep_last.unwrap_or(0) as usize));
    }

    #[test]
    fn what_one_plan_keeps_the_next_one_keeps_too(backups in any_backups(), policy in any_policy()) {
        let plan = plan_lineage(&policy, &lineage(backups.clone()), day(22));
        let stays = |b: &BackupFacts| plan.keep.iter().any(|kept| kept.backup == b.backup);
        let rest: Vec<_> = backups.into_iter().filter(stays).collect();
        let count = rest.len();
        let again = plan_lineage(&policy, &lineage(rest), day(22));
        prop_assert_eq!(again.keep.len(), count);
    }
}

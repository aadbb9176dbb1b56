use super::*;
use crate::settings::TargetAction;
use expect_test::{Expect, expect};
use pgproof_pg::{Ancestor, SegmentNumber, TimelineHistory, WalSegmentSize};
use pgproof_repo::walset::SegmentInstants;

const SIZE: WalSegmentSize = WalSegmentSize::DEFAULT;

fn at(segment: u64, offset: u64) -> Lsn {
    SegmentNumber(segment).start(SIZE).plus(offset)
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn candidate(number: u8, timeline: u32, segment: u64) -> Candidate {
    Candidate {
        span: BackupSpan {
            backup: id(number),
            timeline: TimelineId(timeline),
            start: at(segment, 40),
            stop: at(segment, 9000),
            stopped: second(100 * segment as i64 + 20),
        },
        soundness: Soundness::Sound,
        expired: false,
    }
}

fn id(number: u8) -> BackupId {
    BackupId::new(second(0), [0, 0, number])
}

fn wal(runs: &[(u32, std::ops::RangeInclusive<u64>)]) -> WalSet {
    WalSet::new(
        SIZE,
        runs.iter().flat_map(|(timeline, numbers)| {
            numbers.clone().map(|n| SegmentName::new(TimelineId(*timeline), SegmentNumber(n)))
        }),
    )
}

/// Segment n has a commit each at the seconds 100n and 100n+50, and transactions up to 10n.
fn told(segment: SegmentName) -> SegmentInstants {
    let n = segment.number.0;
    SegmentInstants {
        first_commit: Some(second(100 * n as i64)),
        last_commit: Some(second(100 * n as i64 + 50)),
        highest_xid: Some(10 * n as u32),
        restore_points: if n == 7 { vec![("before".into(), at(7, 77))] } else { vec![] },
        records_end: Some(at(n, 15 << 20)),
    }
}

fn request(stop: Target) -> Request {
    let target = RecoveryTarget { stop, edge: Edge::Inclusive, action: TargetAction::Promote };
    Request { target, timeline: TimelineChoice::Latest, backup: None, gap: GapRule::Refuse }
}

fn check(backups: &[Candidate], wal: &WalSet, request: &Request, expected: Expect) {
    let archive = Archive { system: SystemIdentifier(7), backups, wal };
    let mut lookup = |segment| Ok(Some(told(segment)));
    let seen = match choose(&archive, request, second(5000), &mut lookup) {
        Ok(chosen) => format!(
            "{} on timeline {}: {}..{} ({} segments of WAL), others {:?}, {}; {:?}",
            chosen.backup,
            chosen.timeline,
            chosen.first_segment.file_name(SIZE),
            chosen.last_segment.file_name(SIZE),
            chosen.replay_bytes.div_ceil(16 << 20),
            chosen.others,
            chosen.why,
            chosen.notes,
        ),
        Err(error) => format!("{error}\nhint: {}", error.hint().unwrap_or_default()),
    };
    expected.assert_eq(&seen);
}

fn three() -> Vec<Candidate> {
    vec![candidate(1, 1, 3), candidate(2, 1, 6), candidate(3, 1, 9)]
}

#[test]
fn latest_takes_the_newest_backup_and_all_wal() {
    check(
        &three(),
        &wal(&[(1, 3..=12)]),
        &request(Target::Latest),
        expect![
            "20270115T080000Z-000003 on timeline 1: 000000010000000000000009..00000001000000000000000C (4 segments of WAL), others [BackupId(20270115T080000Z-000002), BackupId(20270115T080000Z-000001)], the newest backup from which the latest instant can be reached; []"
        ],
    );
}

#[test]
fn a_time_takes_the_newest_backup_before_it() {
    check(
        &three(),
        &wal(&[(1, 3..=12)]),
        &request(Target::Time(second(730))),
        expect![
            "20270115T080000Z-000002 on timeline 1: 000000010000000000000006..000000010000000000000007 (2 segments of WAL), others [BackupId(20270115T080000Z-000001)], the newest backup from which 2027-01-15 08:12:10 UTC can be reached; []"
        ],
    );
}

#[test]
fn a_time_after_the_last_commit_is_refused_with_the_last_instant() {
    check(
        &three(),
        &wal(&[(1, 3..=12)]),
        &request(Target::Time(second(1260))),
        expect![[r#"
        could not restore: 2027-01-15 08:21:00 UTC cannot be reached on timeline 1: no archived transaction ended after 2027-01-15T08:21:00Z; archived WAL ends before segment 00000001000000000000000D
        hint: the last reachable instant before it is 2027-01-15 08:20:50 UTC (0/CF00000)"#]],
    );
}

#[test]
fn a_time_before_the_first_backup_is_refused_with_the_first_instant() {
    check(
        &three(),
        &wal(&[(1, 3..=12)]),
        &request(Target::Time(second(200))),
        expect![[r#"
        could not restore: 2027-01-15 08:03:20 UTC cannot be reached on timeline 1: 2027-01-15T08:03:20Z is before the backup was finished
        hint: the first reachable instant after it is 2027-01-15 08:05:20 UTC (0/3002328)"#]],
    );
}

#[test]
fn a_time_in_the_future_is_refused() {
    check(
        &three(),
        &wal(&[(1, 3..=12)]),
        &request(Target::Time(second(6000))),
        expect![[r#"
        could not restore: the target time 2027-01-15 09:40:00 UTC is in the future; now it is 2027-01-15 09:23:20 UTC
        hint: is the zone right? Leave the target out for the latest instant"#]],
    );
}

#[test]
fn latest_does_not_end_at_a_gap_unseen() {
    let holed = wal(&[(1, 3..=10), (1, 12..=15)]);
    check(
        &three(),
        &holed,
        &request(Target::Latest),
        expect![[r#"
        could not restore: the archive has a gap: segment 00000001000000000000000B is missing, and WAL goes on after it
        hint: run `pgproof archive status` to see how to fill it, or use --accept-gap to stop before it"#]],
    );
    let accepted = Request { gap: GapRule::Accept, ..request(Target::Latest) };
    check(
        &three(),
        &holed,
        &accepted,
        expect![[
            r#"20270115T080000Z-000003 on timeline 1: 000000010000000000000009..00000001000000000000000A (2 segments of WAL), others [BackupId(20270115T080000Z-000002), BackupId(20270115T080000Z-000001)], the newest backup from which the latest instant can be reached; ["recovery ends at 0/B000000, before the missing segment 00000001000000000000000B"]"#
        ]],
    );
    // A backup behind the gap makes it harmless.
    let mut four = three();
    four.push(candidate(4, 1, 13));
    check(
        &four,
        &holed,
        &request(Target::Latest),
        expect![
            "20270115T080000Z-000004 on timeline 1: 00000001000000000000000D..00000001000000000000000F (3 segments of WAL), others [], the newest backup from which the latest instant can be reached; []"
        ],
    );
}

#[test]
fn a_target_behind_a_gap_names_the_missing_segment() {
    let holed = wal(&[(1, 3..=10), (1, 12..=15)]);
    check(
        &three(),
        &holed,
        &request(Target::Time(second(1330))),
        expect![[r#"
        could not restore: 2027-01-15 08:22:10 UTC cannot be reached on timeline 1: no archived transaction ended after 2027-01-15T08:22:10Z; archived WAL ends before segment 00000001000000000000000B
        hint: the last reachable instant before it is 2027-01-15 08:17:30 UTC (0/AF00000)"#]],
    );
}

#[test]
fn names_transactions_and_positions_are_found() {
    let wal = wal(&[(1, 3..=12)]);
    check(
        &three(),
        &wal,
        &request(Target::Name("before".into())),
        expect![
            "20270115T080000Z-000002 on timeline 1: 000000010000000000000006..000000010000000000000007 (2 segments of WAL), others [BackupId(20270115T080000Z-000001)], the newest backup from which restore point `before` can be reached; []"
        ],
    );
    check(
        &three(),
        &wal,
        &request(Target::Name("after".into())),
        expect![[r#"
        could not restore: restore point `after` cannot be reached on timeline 1: no restore point `after` is in the WAL archived after the backup
        hint: the last reachable instant before it is 2027-01-15 08:20:50 UTC (0/CF00000)"#]],
    );
    check(
        &three(),
        &wal,
        &request(Target::Xid(75)),
        expect![
            "20270115T080000Z-000002 on timeline 1: 000000010000000000000006..000000010000000000000008 (3 segments of WAL), others [BackupId(20270115T080000Z-000001)], the newest backup from which transaction 75 can be reached; []"
        ],
    );
    check(
        &three(),
        &wal,
        &request(Target::Lsn(at(8, 5))),
        expect![
            "20270115T080000Z-000002 on timeline 1: 000000010000000000000006..000000010000000000000008 (3 segments of WAL), others [BackupId(20270115T080000Z-000001)], the newest backup from which LSN 0/8000005 can be reached; []"
        ],
    );
    check(
        &three(),
        &wal,
        &request(Target::Lsn(at(40, 5))),
        expect![[r#"
        could not restore: LSN 0/28000005 cannot be reached on timeline 1: no archived WAL record begins at or after 0/28000005; archived WAL ends before segment 00000001000000000000000D
        hint: the last reachable instant before it is 2027-01-15 08:20:50 UTC (0/CF00000)"#]],
    );
    check(
        &three(),
        &wal,
        &request(Target::Immediate),
        expect![
            "20270115T080000Z-000003 on timeline 1: 000000010000000000000009..000000010000000000000009 (1 segments of WAL), others [BackupId(20270115T080000Z-000002), BackupId(20270115T080000Z-000001)], the newest backup from which the end of the backup can be reached; []"
        ],
    );
}

#[test]
fn the_backup_asked_for_is_taken_or_the_reason_given() {
    let wal = wal(&[(1, 3..=12)]);
    let with = |number, stop| Request { backup: Some(id(number)), ..request(stop) };
    check(
        &three(),
        &wal,
        &with(1, Target::Time(second(730))),
        expect![
            "20270115T080000Z-000001 on timeline 1: 000000010000000000000003..000000010000000000000007 (5 segments of WAL), others [], it was asked for; []"
        ],
    );
    check(
        &three(),
        &wal,
        &with(3, Target::Time(second(730))),
        expect![[r#"
        could not restore: 2027-01-15 08:12:10 UTC cannot be reached on timeline 1: 2027-01-15T08:12:10Z is before the backup was finished
        hint: the first reachable instant after it is 2027-01-15 08:15:20 UTC (0/9002328)"#]],
    );
    check(
        &three(),
        &wal,
        &with(9, Target::Latest),
        expect![[r#"
        could not restore: there is no backup 20270115T080000Z-000009
        hint: `pgproof list` shows the backups"#]],
    );
    let mut marked = three();
    marked[2].expired = true;
    check(
        &marked,
        &wal,
        &with(3, Target::Latest),
        expect![[r#"
        could not restore: backup 20270115T080000Z-000003 is expired and about to be removed
        hint: `pgproof list` shows the backups that are kept"#]],
    );
    check(
        &marked,
        &wal,
        &request(Target::Latest),
        expect![
            "20270115T080000Z-000002 on timeline 1: 000000010000000000000006..00000001000000000000000C (7 segments of WAL), others [BackupId(20270115T080000Z-000001)], the newest backup from which the latest instant can be reached; []"
        ],
    );
}

#[test]
fn a_backup_with_bad_pages_is_the_last_resort() {
    let wal = wal(&[(1, 3..=12)]);
    let mut hurt = three();
    hurt[2].soundness = Soundness::FailedChecks;
    check(
        &hurt,
        &wal,
        &request(Target::Latest),
        expect![
            "20270115T080000Z-000002 on timeline 1: 000000010000000000000006..00000001000000000000000C (7 segments of WAL), others [BackupId(20270115T080000Z-000001)], the newest backup from which the latest instant can be reached; []"
        ],
    );
    check(
        &hurt[2..],
        &wal,
        &request(Target::Latest),
        expect![[
            r#"20270115T080000Z-000003 on timeline 1: 000000010000000000000009..00000001000000000000000C (4 segments of WAL), others [], the newest backup from which the latest instant can be reached; ["pages of this backup failed their checksum when it was taken; see `pgproof show`"]"#
        ]],
    );
}

fn forked() -> (Vec<Candidate>, WalSet) {
    let ancestor = Ancestor { timeline: TimelineId(1), switch: at(7, 100), reason: String::new() };
    let history = TimelineHistory::new(TimelineId(2), vec![ancestor]).unwrap();
    let wal = wal(&[(1, 3..=12), (2, 7..=9)]).with_histories([history]);
    (vec![candidate(1, 1, 3), candidate(2, 1, 6), candidate(3, 1, 9)], wal)
}

#[test]
fn the_newest_timeline_is_followed_from_a_backup_before_the_fork() {
    let (backups, wal) = forked();
    check(
        &backups,
        &wal,
        &request(Target::Latest),
        expect![
            "20270115T080000Z-000002 on timeline 2: 000000010000000000000006..000000020000000000000009 (4 segments of WAL), others [BackupId(20270115T080000Z-000001)], the newest backup from which the latest instant can be reached; []"
        ],
    );
    let current = Request { timeline: TimelineChoice::Current, ..request(Target::Latest) };
    check(
        &backups,
        &wal,
        &current,
        expect![
            "20270115T080000Z-000003 on timeline 1: 000000010000000000000009..00000001000000000000000C (4 segments of WAL), others [BackupId(20270115T080000Z-000002), BackupId(20270115T080000Z-000001)], the newest backup from which the latest instant can be reached; []"
        ],
    );
    let first = Request { timeline: TimelineChoice::Number(TimelineId(1)), ..request(Target::Latest) };
    check(
        &backups,
        &wal,
        &first,
        expect![
            "20270115T080000Z-000003 on timeline 1: 000000010000000000000009..00000001000000000000000C (4 segments of WAL), others [BackupId(20270115T080000Z-000002), BackupId(20270115T080000Z-000001)], the newest backup from which the latest instant can be reached; []"
        ],
    );
    let unknown = Request { timeline: TimelineChoice::Number(TimelineId(5)), ..request(Target::Latest) };
    check(
        &backups,
        &wal,
        &unknown,
        expect![[r#"
        could not restore: timeline 5 is not in the repository
        hint: known timelines: 1, 2"#]],
    );
}

#[test]
fn a_target_that_only_another_timeline_holds_is_pointed_to() {
    let (backups, wal) = forked();
    check(
        &backups,
        &wal,
        &request(Target::Time(second(1130))),
        expect![[r#"
        could not restore: 2027-01-15 08:18:50 UTC cannot be reached on timeline 2: no archived transaction ended after 2027-01-15T08:18:50Z; archived WAL ends before segment 00000002000000000000000A
        hint: the last reachable instant before it is 2027-01-15 08:15:50 UTC (0/9F00000); it can be reached with --timeline 1"#]],
    );
}

#[test]
fn without_backups_there_is_nothing_to_restore() {
    check(
        &[],
        &wal(&[(1, 3..=12)]),
        &request(Target::Latest),
        expect![[r#"
        could not restore: the repository holds no backup of system 7
        hint: run `pgproof backup`, or is this the right repository?"#]],
    );
}

#[test]
fn a_backup_without_its_own_wal_is_passed_over_but_not_unseen() {
    // Backup 3 needs segment 9.
    check(
        &three(),
        &wal(&[(1, 3..=8)]),
        &request(Target::Latest),
        expect![
            "20270115T080000Z-000002 on timeline 1: 000000010000000000000006..000000010000000000000008 (3 segments of WAL), others [BackupId(20270115T080000Z-000001)], the newest backup from which the latest instant can be reached; []"
        ],
    );
    check(
        &three(),
        &wal(&[(1, 3..=8), (1, 10..=12)]),
        &request(Target::Latest),
        expect![[r#"
        could not restore: the archive has a gap: segment 000000010000000000000009 is missing, and WAL goes on after it
        hint: run `pgproof archive status` to see how to fill it, or use --accept-gap to stop before it"#]],
    );
}

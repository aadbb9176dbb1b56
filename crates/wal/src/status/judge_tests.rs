//! One healthy observation, and what each change to it makes `archive status` say.

use super::judge;
use super::observation::*;
use expect_test::{Expect, expect};
use jiff::Timestamp;
use pgproof_base::Severity;
use pgproof_pg::{Lsn, SegmentName, SegmentNumber, SystemIdentifier, TimelineId, WalSegmentSize};
use pgproof_repo::BackupId;
use pgproof_repo::walset::{BackupSpan, WalSet};
use pgproof_server::{ArchiverFacts, ReceiverFacts};

const SIZE: WalSegmentSize = WalSegmentSize::DEFAULT;

fn segment(number: u64) -> SegmentName {
    SegmentName::new(TimelineId(1), SegmentNumber(number))
}

fn at(number: u64, offset: u64) -> Lsn {
    SegmentNumber(number).start(SIZE).plus(offset)
}

fn backup(start: u64) -> BackupSpan {
    BackupSpan {
        backup: BackupId::new(Timestamp::UNIX_EPOCH, [0; 3]),
        timeline: TimelineId(1),
        start: at(start, 40),
        stop: at(start, 900),
        stopped: Timestamp::UNIX_EPOCH,
    }
}

/// Segments 3 to 8 are archived, 9 is being written, 7 to 9 lie in `pg_wal`.
fn healthy() -> Observation {
    Observation {
        pgdata: "/data".into(),
        system: SystemIdentifier(7_412_345_678_901_234_567),
        segment_size: SIZE,
        checkpoint_timeline: TimelineId(1),
        checkpoint: at(8, 500),
        replays: false,
        server: Seen::Yes(ServerView {
            in_recovery: false,
            timeline: TimelineId(1),
            lsn: at(9, 4096),
            mode: "on".into(),
            command: "pgproof archive push %p".into(),
            library: String::new(),
            timeout: "1min".into(),
            archiver: ArchiverFacts {
                archived: 6,
                last_archived_age_s: Some(30.0),
                ..ArchiverFacts::default()
            },
            receiver: None,
        }),
        local: LocalWal {
            segments: (7..=9).map(segment).collect(),
            room: Some(Room { available: 50 << 30, total: 100 << 30 }),
            ..LocalWal::default()
        },
        archive: Seen::Yes(ArchiveView {
            place: "directory /backup".into(),
            wal: WalSet::new(SIZE, (3..=8).map(segment)),
            last_stored_age_s: Some(30),
            backups: vec![backup(3)],
        }),
        required: true,
        elsewhere: Vec::new(),
        command: CommandLine { head: "pgproof".into(), flags: String::new() },
        name: "main".into(),
    }
}

fn server(seen: &mut Observation) -> &mut ServerView {
    let Seen::Yes(server) = &mut seen.server else { panic!("no server") };
    server
}

fn archive(seen: &mut Observation) -> &mut ArchiveView {
    let Seen::Yes(archive) = &mut seen.archive else { panic!("no archive") };
    archive
}

fn archived(seen: &mut Observation, numbers: impl IntoIterator<Item = u64>) {
    archive(seen).wal = WalSet::new(SIZE, numbers.into_iter().map(segment));
}

fn check(change: impl FnOnce(&mut Observation), expected: Expect) {
    let mut seen = healthy();
    change(&mut seen);
    let report = judge(&seen);
    let unknown = || "?".to_owned();
    let mut text = format!(
        "{} archived to {}, lag {} bytes {} s\n",
        report.position.lsn,
        report.archived_to.map_or_else(unknown, |lsn| lsn.to_string()),
        report.lag_bytes.map_or_else(unknown, |n| n.to_string()),
        report.lag_s.map_or_else(unknown, |n| n.to_string()),
    );
    for finding in &report.findings {
        text += &format!("{:?} {}: {}\n", finding.severity, finding.code, finding.seen);
        for line in finding.remedies.iter().flat_map(|remedy| remedy.command.lines()) {
            text += &format!("    {line}\n");
        }
    }
    expected.assert_eq(&text);
}

#[test]
fn a_server_whose_complete_segments_are_archived_is_fine() {
    check(
        |_| {},
        expect![[r#"
        0/9001000 archived to 0/9000000, lag 4096 bytes 30 s
    "#]],
    );
    check(
        |seen| server(seen).lsn = at(9, 0),
        expect![[r#"
        0/9000000 archived to 0/9000000, lag 0 bytes 0 s
    "#]],
    );
}

#[test]
fn segments_that_wait_are_lag_and_no_gap() {
    check(
        |seen| {
            archived(seen, 3..=6);
            seen.local.ready = [segment(7), segment(8)].into();
            seen.local.waiting = 2;
            seen.local.oldest = Some(Waiting { name: segment(7).file_name(SIZE), age_s: 90 });
        },
        expect![[r#"
            0/9001000 archived to 0/7000000, lag 33558528 bytes 90 s
        "#]],
    );
}

fn receiver(active: bool, waiting_commits: i64) -> Option<ReceiverView> {
    let facts =
        ReceiverFacts { active, durable: Some(at(9, 96)), synchronous: active, lost: false, waiting_commits };
    Some(ReceiverView { slot: "pgproof".into(), facts })
}

#[test]
fn what_a_receiver_lacks_is_told_apart_from_what_the_archive_lacks() {
    let mut seen = healthy();
    server(&mut seen).receiver = receiver(true, 0);
    let report = judge(&seen);
    assert_eq!((report.lag_bytes, report.receiver.unwrap().lag_bytes), (Some(4096), Some(4000)));
    assert!(report.findings.is_empty());
}

#[test]
fn a_receiver_that_is_away_is_named_and_how_to_live_without_it() {
    check(
        |seen| server(seen).receiver = receiver(false, 0),
        expect![[r#"
        0/9001000 archived to 0/9000000, lag 4096 bytes 30 s
        Warning receiver-away: nobody receives WAL through slot pgproof; it is 4000 bytes behind
            SELECT pg_drop_replication_slot('pgproof');
    "#]],
    );
    check(
        |seen| server(seen).receiver = receiver(false, 3),
        expect![[r#"
        0/9001000 archived to 0/9000000, lag 4096 bytes 30 s
        Critical receiver-away: nobody receives WAL through slot pgproof; it is 4000 bytes behind
            SELECT pg_drop_replication_slot('pgproof');
    "#]],
    );
    check(
        |seen| {
            server(seen).receiver = receiver(false, 0);
            server(seen).receiver.as_mut().unwrap().facts.lost = true;
        },
        expect![[r#"
            0/9001000 archived to 0/9000000, lag 4096 bytes 30 s
            Critical receiver-lost: the server has removed WAL that the receiver of slot pgproof needs
                SELECT pg_drop_replication_slot('pgproof');
        "#]],
    );
}

#[test]
fn a_pile_of_waiting_files_is_named() {
    let waiting = |seen: &mut Observation, count, age_s| {
        seen.local.waiting = count;
        seen.local.oldest = Some(Waiting { name: segment(7).file_name(SIZE), age_s });
    };
    check(
        |seen| waiting(seen, 12, 60),
        expect![[r#"
        0/9001000 archived to 0/9000000, lag 4096 bytes 60 s
        Warning archive-behind: 12 files wait for the archiver, 000000010000000000000007 for 1 min 0 s
    "#]],
    );
    check(
        |seen| waiting(seen, 120, 60),
        expect![[r#"
        0/9001000 archived to 0/9000000, lag 4096 bytes 60 s
        Critical archive-behind: 120 files wait for the archiver, 000000010000000000000007 for 1 min 0 s
    "#]],
    );
    check(
        |seen| waiting(seen, 1, 700),
        expect![[r#"
        0/9001000 archived to 0/9000000, lag 4096 bytes 700 s
        Warning archive-behind: 1 file waits for the archiver, 000000010000000000000007 for 11 min 40 s
    "#]],
    );
}

#[test]
fn a_missing_segment_that_pg_wal_still_has_is_mended_by_one_command() {
    check(
        |seen| archived(seen, [3, 4, 5, 6, 8]),
        expect![[r#"
        0/9001000 archived to 0/9000000, lag 4096 bytes 30 s
        Critical archive-gap: segment 000000010000000000000007 is not in the archive; pg_wal still has it
            cd /data
            pgproof archive push pg_wal/000000010000000000000007
    "#]],
    );
    check(
        |seen| {
            seen.pgdata = "/my data".into();
            archived(seen, 3..=6);
        },
        expect![[r#"
            0/9001000 archived to 0/7000000, lag 33558528 bytes 30 s
            Critical archive-gap: 2 segments, 000000010000000000000007 to 000000010000000000000008, are not in the archive; pg_wal still has all of them
                cd '/my data'
                pgproof archive push pg_wal/000000010000000000000007
                pgproof archive push pg_wal/000000010000000000000008
        "#]],
    );
}

#[test]
fn a_gap_that_pg_wal_cannot_fill_needs_a_backup_unless_one_is_behind_it() {
    check(
        |seen| archived(seen, [3, 6, 7, 8]),
        expect![[r#"
        0/9001000 archived to 0/9000000, lag 4096 bytes 30 s
        Critical archive-gap: 2 segments, 000000010000000000000004 to 000000010000000000000005, are not in the archive
            pgproof backup
    "#]],
    );
    check(
        |seen| {
            archived(seen, [3, 6, 7, 8]);
            archive(seen).backups.push(backup(7));
        },
        expect![[r#"
            0/9001000 archived to 0/9000000, lag 4096 bytes 30 s
            Info archive-gap-passed: 2 segments, 000000010000000000000004 to 000000010000000000000005, are not in the archive
        "#]],
    );
}

#[test]
fn wal_that_was_let_go_of_between_two_backups_is_no_gap() {
    check(
        |seen| {
            archived(seen, [3, 7, 8]);
            archive(seen).backups.push(backup(7));
        },
        expect![[r#"
            0/9001000 archived to 0/9000000, lag 4096 bytes 30 s
        "#]],
    );
}

#[test]
fn a_stopped_server_is_judged_by_its_control_file() {
    check(
        |seen| seen.server = Seen::No("connection refused".into()),
        expect![[r#"
        0/80001F4 archived to 0/9000000, lag 0 bytes 0 s
        Warning server-unreachable: the server could not be asked: connection refused
    "#]],
    );
    check(
        |seen| {
            seen.server = Seen::No("connection refused".into());
            archived(seen, 3..=6);
        },
        expect![[r#"
            0/80001F4 archived to 0/7000000, lag 16777716 bytes 30 s
            Warning server-unreachable: the server could not be asked: connection refused
            Critical archive-gap: segment 000000010000000000000007 is not in the archive; pg_wal still has it
                cd /data
                pgproof archive push pg_wal/000000010000000000000007
        "#]],
    );
}

#[test]
fn a_standby_is_not_asked_for_what_its_primary_archives() {
    check(
        |seen| {
            server(seen).in_recovery = true;
            server(seen).mode = "off".into();
            archived(seen, 3..=6);
        },
        expect![[r#"
            0/9001000 archived to 0/7000000, lag 33558528 bytes 30 s
        "#]],
    );
}

#[test]
fn archiving_that_does_not_work_is_named() {
    check(
        |seen| server(seen).mode = "off".into(),
        expect![[r#"
        0/9001000 archived to 0/9000000, lag 4096 bytes 30 s
        Critical archive-mode-off: archive_mode is off
            pgproof init --restart
    "#]],
    );
    check(
        |seen| server(seen).command = String::new(),
        expect![[r#"
        0/9001000 archived to 0/9000000, lag 4096 bytes 30 s
        Critical archive-command-empty: archive_command is empty
            pgproof init
    "#]],
    );
    check(
        |seen| server(seen).timeout = "0".into(),
        expect![[r#"
        0/9001000 archived to 0/9000000, lag 4096 bytes 30 s
        Info archive-timeout-off: archive_timeout is 0
            ALTER SYSTEM SET archive_timeout = '60s'; SELECT pg_reload_conf();
    "#]],
    );
    let failed = |seen: &mut Observation, age| {
        server(seen).archiver.last_failed = Some(segment(9).file_name(SIZE));
        server(seen).archiver.last_failed_age_s = Some(age);
    };
    check(
        |seen| failed(seen, 5.0),
        expect![[r#"
        0/9001000 archived to 0/9000000, lag 4096 bytes 30 s
        Critical archiver-failing: the archiver failed 5.0 s ago with 000000010000000000000009, and has archived nothing since
            cd /data
            pgproof archive push pg_wal/000000010000000000000009
    "#]],
    );
    check(
        |seen| failed(seen, 60.0),
        expect![[r#"
        0/9001000 archived to 0/9000000, lag 4096 bytes 30 s
    "#]],
    );
}

#[test]
fn what_cannot_be_reached_or_is_nearly_full_is_said() {
    check(
        |seen| seen.archive = Seen::No("could not list: timed out".into()),
        expect![[r#"
        0/9001000 archived to ?, lag ? bytes ? s
        Critical repository-unreachable: the repository could not be read: could not list: timed out
    "#]],
    );
    check(
        |seen| archived(seen, []),
        expect![[r#"
        0/9001000 archived to ?, lag ? bytes ? s
        Warning archive-empty: the archive holds no WAL of system 7412345678901234567
            pgproof check
    "#]],
    );
    check(
        |seen| seen.local.room = Some(Room { available: 1 << 30, total: 100 << 30 }),
        expect![[r#"
        0/9001000 archived to 0/9000000, lag 4096 bytes 30 s
        Critical wal-disk-full: 1.0 GB left for pg_wal (1 %)
    "#]],
    );
}

#[test]
fn every_code_has_a_line_in_the_manual() {
    let page = include_str!("../../../../docs/findings.md");
    let source = include_str!("judge.rs").split_whitespace().collect::<Vec<_>>().join(" ");
    let mut codes = 0;
    for opening in ["Finding::new( \"", "Finding::new(\""] {
        for rest in source.split(opening).skip(1) {
            let code = rest.split('"').next().unwrap_or_default();
            codes += 1;
            assert!(page.contains(&format!("`{code}`")), "docs/findings.md lacks `{code}`");
        }
    }
    assert!(codes >= 10, "the source is read: {codes}");
}

#[test]
fn the_time_until_pg_wal_is_full_follows_from_what_piled_up() {
    let full_in_s = |waiting, age_s, available| {
        let mut seen = healthy();
        seen.local.waiting = waiting;
        seen.local.oldest = Some(Waiting { name: segment(7).file_name(SIZE), age_s });
        seen.local.room = Some(Room { available, total: 100 << 30 });
        let report = judge(&seen);
        let behind = report.findings.iter().find(|finding| finding.code == "archive-behind");
        (report.wal_full_in_s, behind.map(|finding| (finding.severity, finding.why.contains("is full in"))))
    };
    // 64 segments of 16 MiB in 64 s are 16 MiB/s.
    assert_eq!(full_in_s(64, 64, 16 << 30), (Some(1024), Some((Severity::Critical, true))));
    assert_eq!(full_in_s(64, 6400, 16 << 30), (Some(102_400), Some((Severity::Warning, false))));
    assert_eq!(full_in_s(64, 640, 16 << 30), (Some(10_240), Some((Severity::Warning, true))));
    assert_eq!(full_in_s(64, 64, 0).0, Some(1), "it is full now");
    assert_eq!(full_in_s(1, 700, 16 << 30).0, None, "one file says nothing");
}

/// Segments 3 to 8 are in another repository too.
fn held_elsewhere(seen: &mut Observation) {
    seen.elsewhere = vec![("offsite".into(), WalSet::new(SIZE, (3..=8).map(segment)))];
}

#[test]
fn what_another_repository_holds_is_copied_from_there() {
    check(
        |seen| {
            archived(seen, [3, 4, 7, 8]);
            held_elsewhere(seen);
        },
        expect![[r#"
            0/9001000 archived to 0/9000000, lag 4096 bytes 30 s
            Critical archive-gap: 2 segments, 000000010000000000000005 to 000000010000000000000006, are not in the archive; offsite holds all of them
                pgproof repair --repository main --from offsite
        "#]],
    );
    check(
        |seen| {
            archived(seen, [3, 4, 5]);
            held_elsewhere(seen);
            seen.required = false;
            seen.local.segments.clear();
        },
        expect![[r#"
            0/9001000 archived to 0/6000000, lag 50335744 bytes 30 s
            Warning archive-gap: 3 segments, 000000010000000000000006 to 000000010000000000000008, are not in the archive; offsite holds all of them
                pgproof repair --repository main --from offsite
        "#]],
    );
    check(
        |seen| {
            archived(seen, []);
            held_elsewhere(seen);
        },
        expect![[r#"
            0/9001000 archived to ?, lag ? bytes ? s
            Warning archive-empty: the archive holds no WAL of system 7412345678901234567
                pgproof repair --repository main --from offsite
                pgproof check
        "#]],
    );
}

#[test]
fn a_repository_that_need_not_hold_wal_is_no_emergency_when_it_is_away() {
    check(
        |seen| {
            seen.archive = Seen::No("no answer".into());
            seen.required = false;
        },
        expect![[r#"
            0/9001000 archived to ?, lag ? bytes ? s
            Warning repository-unreachable: the repository could not be read: no answer
        "#]],
    );
}

//! One healthy observation, and what each single change to it makes `check` say.

use super::judge;
use super::observation::*;
use expect_test::{Expect, expect};
use pgproof_base::{Finding, Severity};
use pgproof_pg::SystemIdentifier;
use pgproof_store::Capabilities;

const SYSTEM: SystemIdentifier = SystemIdentifier(7_412_345_678_901_234_567);
const COMMAND: &str = r#""/usr/bin/pgproof" --config "/etc/pgproof/pgproof.toml" archive push "%p""#;

fn healthy() -> Observation {
    let settings = [
        ("archive_mode", "on"),
        ("archive_command", COMMAND),
        ("archive_library", ""),
        ("wal_level", "replica"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
    ];
    Observation {
        program: "/usr/bin/pgproof".into(),
        config_file: Some("/etc/pgproof/pgproof.toml".into()),
        user: UserFacts { name: "postgres".into(), uid: 105, program_runs: Ok(()) },
        files: Seen::Yes(files()),
        server: Seen::Yes(ServerFacts {
            target: "/run/postgresql:5432 as postgres".into(),
            version_num: 170_002,
            system_identifier: SYSTEM,
            data_directory: "/data".into(),
            in_recovery: false,
            block_size: 8192,
            checksums: true,
            may_back_up: true,
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            pending_restart: Vec::new(),
            archiver: ArchiverFacts { last_archived_age_s: Some(30.0), ..ArchiverFacts::default() },
        }),
        repository: Seen::Yes(repository()),
        required: true,
        command_target: Some(CommandTarget {
            program_exists: true,
            config: Some("/etc/pgproof/pgproof.toml".into()),
        }),
        retention: true,
        archive_test: ArchiveTest::Stored { segment: "0".repeat(24), seconds: 0.4, summary: true },
    }
}

fn files() -> DirectoryFacts {
    DirectoryFacts {
        path: "/data".into(),
        owner_uid: 105,
        owner: "postgres".into(),
        version: "17".into(),
        system_identifier: Some(SYSTEM),
        files: 1000,
        bytes: 1 << 30,
        unreadable: 0,
        unreadable_first: Vec::new(),
        in_place_tablespaces: Vec::new(),
        wal_room: Some(Room { available: 50 << 30, total: 100 << 30, device: 1 }),
        ready: 1,
        ready_first: None,
        epoch: 0,
    }
}

fn repository() -> RepositoryFacts {
    RepositoryFacts {
        place: "directory /backup".into(),
        encrypted: true,
        recipients: 2,
        capabilities: Capabilities {
            writable: true,
            refusal: None,
            if_absent: true,
            if_match: true,
            read_after_write: true,
            list_after_write: true,
        },
        clock_ahead_ms: 3,
        room: Some(Room { available: 50 << 30, total: 100 << 30, device: 2 }),
        inside: None,
        lineages: vec![SYSTEM],
        writer: None,
        last_backup: Some(LastBackup { id: "20261122T203500Z-0a1b2c".into(), age_s: 3600 }),
    }
}

/// What is said after `change`: severity, code and what was seen.
fn check(change: impl FnOnce(&mut Observation), expected: Expect) {
    let mut seen = healthy();
    change(&mut seen);
    let line = |finding: Finding| {
        let severity = match finding.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        };
        format!("{severity} {}: {}\n", finding.code, finding.seen)
    };
    let text: String = judge(&seen).into_iter().map(line).collect();
    expected.assert_eq(&text);
}

fn server(seen: &mut Observation) -> &mut ServerFacts {
    match &mut seen.server {
        Seen::Yes(server) => server,
        Seen::No(_) => panic!("the server was seen"),
    }
}

fn set(seen: &mut Observation, name: &str, value: &str) {
    server(seen).settings.insert(name.to_owned(), value.to_owned());
}

fn data(seen: &mut Observation) -> &mut DirectoryFacts {
    match &mut seen.files {
        Seen::Yes(files) => files,
        Seen::No(_) => panic!("the files were seen"),
    }
}

fn repo(seen: &mut Observation) -> &mut RepositoryFacts {
    match &mut seen.repository {
        Seen::Yes(repository) => repository,
        Seen::No(_) => panic!("the repository was seen"),
    }
}

fn trouble(code: &str, message: &str) -> Trouble {
    Trouble { code: code.into(), message: message.into(), hint: Some("do something".into()) }
}

#[test]
fn a_healthy_server_has_no_findings() {
    check(|_| {}, expect![""]);
}

#[test]
fn what_cannot_be_seen_is_critical_and_hides_nothing_else() {
    check(
        |seen| {
            seen.server = Seen::No(trouble("server-connect", "could not connect"));
            seen.files = Seen::No(trouble("server-read", "could not read /data"));
            seen.archive_test = ArchiveTest::NotRun { why: "the server was not reached".into() };
        },
        expect![[r#"
            critical data-directory-unseen: could not read /data
            critical server-unreachable: could not connect
        "#]],
    );
}

#[test]
fn a_server_that_cannot_be_backed_up_at_all_is_named() {
    check(
        |seen| {
            server(seen).version_num = 130_010;
            server(seen).block_size = 16_384;
            server(seen).may_back_up = false;
            data(seen).in_place_tablespaces = vec!["16390".into()];
        },
        expect![[r#"
            critical tablespace-in-place: in-place tablespaces: 16390
            critical version-unsupported: PostgreSQL 13 is not supported
            critical block-size: the server's block size is 16384 bytes
            critical role-may-not-back-up: the role may not start a backup
        "#]],
    );
}

#[test]
fn unsafe_settings_are_named() {
    check(
        |seen| {
            set(seen, "fsync", "off");
            set(seen, "full_page_writes", "off");
            set(seen, "wal_level", "minimal");
            server(seen).checksums = false;
        },
        expect![[r#"
            critical fsync-off: fsync is off
            warning full-page-writes-off: full_page_writes is off
            critical wal-level-minimal: wal_level is minimal
            info checksums-off: data checksums are off
        "#]],
    );
}

#[test]
fn archiving_that_is_off_is_told_from_archiving_that_waits_for_a_restart() {
    check(
        |seen| set(seen, "archive_mode", "off"),
        expect![[r#"
        critical archive-mode-off: archive_mode is off
    "#]],
    );
    check(
        |seen| {
            set(seen, "archive_mode", "off");
            server(seen).pending_restart.push("archive_mode".into());
        },
        expect![[r#"
            critical restart-needed: archive_mode waits for a restart
        "#]],
    );
}

#[test]
fn a_command_that_is_not_ours_is_shown() {
    check(
        |seen| set(seen, "archive_command", ""),
        expect![[r#"
        critical archive-command-empty: archive_command is empty
    "#]],
    );
    check(
        |seen| set(seen, "archive_command", "cp %p /archive/%f"),
        expect![[r#"
        critical archive-command-foreign: archive_command is not pgproof's: cp %p /archive/%f
    "#]],
    );
    check(
        |seen| set(seen, "archive_library", "basic_archive"),
        expect![[r#"
        critical archive-library-in-use: archive_library is 'basic_archive', so archive_command is not used
    "#]],
    );
}

#[test]
fn a_command_of_ours_must_lead_here() {
    check(
        |seen| {
            seen.command_target =
                Some(CommandTarget { program_exists: false, config: Some("/other.toml".into()) });
        },
        expect![[r#"
            critical archive-command-broken: archive_command names a program that is not there: "/usr/bin/pgproof" --config "/etc/pgproof/pgproof.toml" archive push "%p"
            warning archive-command-differs: archive_command reads another configuration than this check: "/usr/bin/pgproof" --config "/etc/pgproof/pgproof.toml" archive push "%p"
        "#]],
    );
}

#[test]
fn an_archiver_that_failed_last_is_failing_and_one_that_recovered_is_not() {
    let failed = |seen: &mut Observation, age| {
        server(seen).archiver.last_failed = Some("000000010000000000000003".into());
        server(seen).archiver.last_failed_age_s = Some(age);
    };
    check(|seen| failed(seen, 60.0), expect![""]);
    check(
        |seen| failed(seen, 5.0),
        expect![[r#"
        critical archiver-failing: the archiver failed 5.0 s ago with 000000010000000000000003, and has archived nothing since
    "#]],
    );
    check(
        |seen| {
            failed(seen, 5.0);
            server(seen).archiver.last_archived_age_s = None;
            data(seen).ready = 150;
            data(seen).ready_first = Some("000000010000000000000003".into());
        },
        expect![[r#"
            critical archiver-failing: the archiver failed 5.0 s ago with 000000010000000000000003, and has archived nothing since
            critical archive-behind: 150 WAL files wait for the archiver, the first is 000000010000000000000003
        "#]],
    );
}

#[test]
fn the_server_users_access_is_what_counts() {
    check(
        |seen| {
            seen.user.uid = 1000;
            seen.user.name = "alice".into();
        },
        expect![[r#"
            warning not-server-user: check ran as alice, but /data belongs to postgres
        "#]],
    );
    check(
        |seen| {
            seen.user.program_runs = Err("permission denied".into());
            data(seen).unreadable = 2;
            data(seen).unreadable_first = vec![("/data/base/5/1259".into(), "permission denied".into())];
        },
        expect![[r#"
            critical program-not-runnable: postgres cannot run /usr/bin/pgproof: permission denied
            critical files-unreadable: 2 files of the data directory cannot be read: /data/base/5/1259 (permission denied)
        "#]],
    );
}

#[test]
fn a_repository_that_cannot_be_opened_says_why() {
    let no = |seen: &mut Observation, code: &str| {
        seen.repository = Seen::No(trouble(code, "the message"));
    };
    check(
        |seen| no(seen, "repository-absent"),
        expect![[r#"
        critical repository-absent: the message
    "#]],
    );
    check(
        |seen| no(seen, "repository-wrong-key"),
        expect![[r#"
        critical repository-key: the message
    "#]],
    );
    check(
        |seen| no(seen, "config-no-repository"),
        expect![[r#"
        critical repository-unconfigured: the message
    "#]],
    );
    check(
        |seen| no(seen, "store-timeout"),
        expect![[r#"
        critical repository-unreachable: the message
    "#]],
    );
}

#[test]
fn what_a_store_lacks_is_said() {
    check(
        |seen| {
            repo(seen).capabilities.writable = false;
            repo(seen).capabilities.refusal = Some("read-only file system".into());
        },
        expect![[r#"
            critical repository-read-only: directory /backup cannot be written: read-only file system
        "#]],
    );
    check(
        |seen| repo(seen).capabilities.if_match = false,
        expect![[r#"
        warning store-lacks: directory /backup: no conditional replacement: leases cannot be revoked, a minimum age rules expiry
    "#]],
    );
    check(
        |seen| repo(seen).capabilities.read_after_write = false,
        expect![[r#"
        critical store-inconsistent: directory /backup does not give back what was just written
    "#]],
    );
}

#[test]
fn a_repository_in_a_bad_place_is_named() {
    check(
        |seen| repo(seen).inside = Some("/data".into()),
        expect![[r#"
        critical repository-inside-data: the repository, directory /backup, lies inside /data
    "#]],
    );
    check(
        |seen| repo(seen).room = Some(Room { available: 1 << 30, total: 100 << 30, device: 1 }),
        expect![[r#"
            critical repository-disk-full: 1.0 GB left for the repository (1 %)
            warning same-disk: the repository is on the same file system as the server
        "#]],
    );
}

#[test]
fn a_repository_of_somebody_else_is_named() {
    check(
        |seen| repo(seen).lineages = vec![SystemIdentifier(1)],
        expect![[r#"
        warning repository-of-other-system: the repository holds only other systems: 1
    "#]],
    );
    check(
        |seen| data(seen).system_identifier = Some(SystemIdentifier(2)),
        expect![[r#"
        critical other-data-directory: the server is system 7412345678901234567, the data directory is of system 2
    "#]],
    );
    let taken = || WriterFacts { epoch: 2, host: "db2".into(), pgdata: "/data2".into() };
    check(
        |seen| repo(seen).writer = Some(taken()),
        expect![[r#"
        critical archive-superseded: /data2 on db2 took over archiving (epoch 2, ours is 0)
    "#]],
    );
    check(
        |seen| {
            repo(seen).writer = Some(taken());
            data(seen).epoch = 2;
        },
        expect![""],
    );
}

#[test]
fn clocks_backups_and_retention_are_looked_at() {
    check(
        |seen| repo(seen).clock_ahead_ms = -90_000,
        expect![[r#"
        warning clock-differs: the repository's clock is 1 min 30 s behind this host's
    "#]],
    );
    check(
        |seen| repo(seen).clock_ahead_ms = 3_600_000,
        expect![[r#"
        critical clock-differs: the repository's clock is 1 h 0 min ahead of this host's
    "#]],
    );
    check(
        |seen| repo(seen).last_backup = None,
        expect![[r#"
        warning no-backup: there is no backup yet
    "#]],
    );
    check(
        |seen| repo(seen).last_backup.as_mut().unwrap().age_s = 9 * 86_400,
        expect![[r#"
        warning backup-old: the newest backup, 20261122T203500Z-0a1b2c, is 9 d 0 h old
    "#]],
    );
    check(
        |seen| repo(seen).recipients = 1,
        expect![[r#"
        info key-single: one key alone opens the repository
    "#]],
    );
    check(
        |seen| seen.retention = false,
        expect![[r#"
        info retention-unset: no retention is configured
    "#]],
    );
}

#[test]
fn the_end_to_end_test_speaks_last() {
    let segment = "000000010000000000000005".to_owned();
    check(
        |seen| seen.archive_test = ArchiveTest::Missing { segment: segment.clone(), seconds: 60.0 },
        expect![[r#"
            critical archive-test-failed: segment 000000010000000000000005 did not reach the repository within 60 s
        "#]],
    );
    check(
        |seen| {
            seen.archive_test =
                ArchiveTest::Stored { segment: segment.clone(), seconds: 1.0, summary: false };
        },
        expect![[r#"
            warning summary-missing: segment 000000010000000000000005 was archived without a summary
        "#]],
    );
    check(
        |seen| seen.archive_test = ArchiveTest::Failed(trouble("server-query", "could not switch WAL")),
        expect![[r#"
            critical archive-test-failed: could not switch WAL
        "#]],
    );
}

#[test]
fn every_code_has_a_line_in_the_manual() {
    let page = include_str!("../../../../docs/findings.md");
    let source = include_str!("judge.rs").split_whitespace().collect::<Vec<_>>().join(" ");
    let mut codes = 0;
    for opening in ["Finding::new( \"", "Finding::new(\"", "unseen(\"", "=> \""] {
        for rest in source.split(opening).skip(1) {
            let code = rest.split('"').next().unwrap_or_default();
            codes += 1;
            assert!(page.contains(&format!("`{code}`")), "docs/findings.md lacks `{code}`");
        }
    }
    assert!(codes > 30, "the source is read: {codes}");
}

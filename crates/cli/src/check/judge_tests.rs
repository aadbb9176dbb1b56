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
        expect![[""]],
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
        expect![[""]],
    );
}

#[test]
fn archiving_that_is_off_is_told_from_archiving_that_waits_for_a_restart() {
    check(|seen| set(seen, "archive_mode", "off"), expect![[""]]);
    check(
        |seen| {
            set(seen, "archive_mode", "off");
            server(seen).pending_restart.push("archive_mode".into());
        },
        expect![[""]],
    );
}

#[test]
fn a_command_that_is_not_ours_is_shown() {
    check(|seen| set(seen, "archive_command", ""), expect![[""]]);
    check(|seen| set(seen, "archive_command", "cp %p /archive/%f"), expect![[""]]);
    check(|seen| set(seen, "archive_library", "basic_archive"), expect![[""]]);
}

#[test]
fn a_command_of_ours_must_lead_here() {
    check(
        |seen| {
            seen.command_target =
                Some(CommandTarget { program_exists: false, config: Some("/other.toml".into()) });
        },
        expect![[""]],
    );
}

#[test]
fn an_archiver_that_failed_last_is_failing_and_one_that_recovered_is_not() {
    let failed = |seen: &mut Observation, age| {
        server(seen).archiver.last_failed = Some("000000010000000000000003".into());
        server(seen).archiver.last_failed_age_s = Some(age);
    };
    check(|seen| failed(seen, 60.0), expect![""]);
    check(|seen| failed(seen, 5.0), expect![[""]]);
    check(
        |seen| {
            failed(seen, 5.0);
            server(seen).archiver.last_archived_age_s = None;
            data(seen).ready = 150;
            data(seen).ready_first = Some("000000010000000000000003".into());
        },
        expect![[""]],
    );
}

#[test]
fn the_server_users_access_is_what_counts() {
    check(|seen| seen.user.uid = 1000, expect![[""]]);
    check(
        |seen| {
            seen.user.program_runs = Err("permission denied".into());
            data(seen).unreadable = 2;
            data(seen).unreadable_first = vec![("/data/base/5/1259".into(), "permission denied".into())];
        },
        expect![[""]],
    );
}

#[test]
fn a_repository_that_cannot_be_opened_says_why() {
    let no = |seen: &mut Observation, code: &str| {
        seen.repository = Seen::No(trouble(code, "the message"));
    };
    check(|seen| no(seen, "repository-absent"), expect![[""]]);
    check(|seen| no(seen, "repository-wrong-key"), expect![[""]]);
    check(|seen| no(seen, "config-no-repository"), expect![[""]]);
    check(|seen| no(seen, "store-timeout"), expect![[""]]);
}

#[test]
fn what_a_store_lacks_is_said() {
    check(
        |seen| {
            repo(seen).capabilities.writable = false;
            repo(seen).capabilities.refusal = Some("read-only file system".into());
        },
        expect![[""]],
    );
    check(|seen| repo(seen).capabilities.if_match = false, expect![[""]]);
    check(|seen| repo(seen).capabilities.read_after_write = false, expect![[""]]);
}

#[test]
fn a_repository_in_a_bad_place_is_named() {
    check(|seen| repo(seen).inside = Some("/data".into()), expect![[""]]);
    check(
        |seen| repo(seen).room = Some(Room { available: 1 << 30, total: 100 << 30, device: 1 }),
        expect![[""]],
    );
}

#[test]
fn a_repository_of_somebody_else_is_named() {
    check(|seen| repo(seen).lineages = vec![SystemIdentifier(1)], expect![[""]]);
    check(|seen| data(seen).system_identifier = Some(SystemIdentifier(2)), expect![[""]]);
    let taken = || WriterFacts { epoch: 2, host: "db2".into(), pgdata: "/data2".into() };
    check(|seen| repo(seen).writer = Some(taken()), expect![[""]]);
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
    check(|seen| repo(seen).clock_ahead_ms = -90_000, expect![[""]]);
    check(|seen| repo(seen).clock_ahead_ms = 3_600_000, expect![[""]]);
    check(|seen| repo(seen).last_backup = None, expect![[""]]);
    check(|seen| repo(seen).last_backup.as_mut().unwrap().age_s = 9 * 86_400, expect![[""]]);
    check(|seen| seen.retention = false, expect![[""]]);
}

#[test]
fn the_end_to_end_test_speaks_last() {
    let segment = "000000010000000000000005".to_owned();
    check(
        |seen| seen.archive_test = ArchiveTest::Missing { segment: segment.clone(), seconds: 60.0 },
        expect![[""]],
    );
    check(
        |seen| {
            seen.archive_test =
                ArchiveTest::Stored { segment: segment.clone(), seconds: 1.0, summary: false };
        },
        expect![[""]],
    );
    check(
        |seen| seen.archive_test = ArchiveTest::Failed(trouble("server-query", "could not switch WAL")),
        expect![[""]],
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

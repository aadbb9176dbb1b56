use super::*;
use crate::choose::{GapRule, TimelineChoice};
use crate::directory::Room;
use crate::options::TablespaceMapping;
use crate::settings::{Edge, RecoveryTarget, TargetAction};
use crate::survey::RootNeed;
use crate::testing::{SYSTEM, commands, id, summary};
use expect_test::{Expect, expect};
use pgproof_pg::SegmentNumber;
use pgproof_repo::manifest::summary::{ExternalFile, Tablespace};
use pgproof_repo::walset::Target;

fn options() -> RestoreOptions {
    let target =
        RecoveryTarget { stop: Target::Latest, edge: Edge::Inclusive, action: TargetAction::Promote };
    RestoreOptions {
        request: Request { target, timeline: TimelineChoice::Latest, backup: None, gap: GapRule::Refuse },
        system: None,
        directory: "/new/data".into(),
        onto: Onto::Empty,
        databases: Vec::new(),
        tablespaces: TablespaceMapping::default(),
        external: None,
        archiving: Archiving::Off,
        commands: commands(),
        workers: 2,
        owner: None,
    }
}

fn place(path: &str, occupancy: Occupancy) -> PlaceFacts {
    PlaceFacts {
        path: path.into(),
        occupancy,
        owner: Owner { uid: 26, gid: 26 },
        room: Room { device: 1, available: 100 << 30 },
    }
}

fn directory(occupancy: Occupancy) -> DirectoryFacts {
    DirectoryFacts {
        place: place("/new/data", occupancy),
        system: None,
        has_version: false,
        running: None,
        tablespaces: BTreeMap::new(),
        wal_link: None,
    }
}

fn segment(number: u64) -> SegmentName {
    SegmentName::new(TimelineId(1), SegmentNumber(number))
}

fn chosen() -> Chosen {
    Chosen {
        backup: id(1),
        why: "the newest backup from which the latest instant can be reached".into(),
        timeline: TimelineId(1),
        replay_from: summary().start_lsn,
        first_segment: segment(3),
        last_segment: segment(9),
        replay_bytes: 7 * (16 << 20),
        others: Vec::new(),
        notes: Vec::new(),
    }
}

fn survey() -> Survey {
    Survey {
        files: 1000,
        bytes: 5 << 30,
        configuration: ["postgresql.conf", "pg_hba.conf"].map(str::to_owned).into(),
        needs: BTreeMap::from([(None, RootNeed { bytes: 5 << 30, present: 0 })]),
        ..Survey::default()
    }
}

fn check_admission(facts: &DirectoryFacts, onto: Onto, expected: Expect) {
    let seen = match admit_directory(facts, onto, SYSTEM) {
        Ok(()) => "admitted".to_owned(),
        Err(refusal) => format!("{refusal}\nhint: {}", refusal.hint()),
    };
    expected.assert_eq(&seen);
}

#[test]
fn only_what_was_asked_for_may_be_overwritten() {
    check_admission(&directory(Occupancy::Absent), Onto::Empty, expect!["admitted"]);
    check_admission(&directory(Occupancy::Empty), Onto::Delta, expect!["admitted"]);
    let occupied = directory(Occupancy::Occupied);
    check_admission(
        &occupied,
        Onto::Empty,
        expect![[r#"
        /new/data is not empty
        hint: choose an empty directory, or use --delta to write only what differs from the backup"#]],
    );
    check_admission(
        &occupied,
        Onto::Delta,
        expect![[r#"
        /new/data is not a data directory
        hint: a delta restore removes every file that the backup does not have; use --force if that is meant"#]],
    );
    check_admission(&occupied, Onto::Anything, expect!["admitted"]);
    let own = DirectoryFacts { system: Some(SYSTEM), ..occupied.clone() };
    check_admission(&own, Onto::Delta, expect!["admitted"]);
    let other = DirectoryFacts { system: Some(SystemIdentifier(5)), ..occupied };
    check_admission(
        &other,
        Onto::Delta,
        expect![[r#"
        /new/data belongs to system 5, and the backup to system 7400000000000000001
        hint: is this the right directory? --force overwrites it"#]],
    );
    let running = DirectoryFacts { running: Some(4711), ..own };
    check_admission(
        &running,
        Onto::Anything,
        expect![[r#"
        a server is running on /new/data (pid 4711)
        hint: stop it first: pg_ctl stop -D /new/data"#]],
    );
    check_admission(
        &directory(Occupancy::NotADirectory),
        Onto::Anything,
        expect![[r#"
        /new/data is not a directory
        hint: choose a directory that is empty or does not exist"#]],
    );
    let mut relative = directory(Occupancy::Absent);
    relative.place.path = "data".into();
    check_admission(
        &relative,
        Onto::Empty,
        expect![[r#"
        `data` is not an absolute path
        hint: write the path from the root"#]],
    );
}

fn with_tablespaces() -> BackupSummary {
    let tablespace =
        |oid, name: &str| Tablespace { oid, name: name.to_owned(), location: format!("/old/{name}") };
    BackupSummary { tablespaces: vec![tablespace(16384, "fast"), tablespace(16385, "big")], ..summary() }
}

fn check_tablespaces(options: &RestoreOptions, facts: &DirectoryFacts, expected: Expect) {
    let seen = match place_tablespaces(&with_tablespaces(), options, facts) {
        Ok(plans) => plans
            .iter()
            .map(|plan| format!("{} -> {}", plan.name, plan.directory.display()))
            .collect::<Vec<_>>()
            .join("\n"),
        Err(refusal) => format!("{refusal}\nhint: {}", refusal.hint()),
    };
    expected.assert_eq(&seen);
}

#[test]
fn tablespaces_go_where_they_are_told_to() {
    let empty = directory(Occupancy::Empty);
    let mapped = |single: &[(&str, &str)], root: Option<&str>| RestoreOptions {
        tablespaces: TablespaceMapping {
            single: single.iter().map(|(name, path)| ((*name).to_owned(), (*path).into())).collect(),
            root: root.map(PathBuf::from),
        },
        ..options()
    };
    check_tablespaces(
        &mapped(&[], None),
        &empty,
        expect![[r#"
        fast -> /old/fast
        big -> /old/big"#]],
    );
    check_tablespaces(
        &mapped(&[("fast", "/ssd/fast")], Some("/ts")),
        &empty,
        expect![[r#"
        fast -> /ssd/fast
        big -> /ts/16385"#]],
    );
    check_tablespaces(
        &mapped(&[("16385", "/hdd/big")], None),
        &empty,
        expect![[r#"
        fast -> /old/fast
        big -> /hdd/big"#]],
    );
    check_tablespaces(
        &mapped(&[("slow", "/hdd/big")], None),
        &empty,
        expect![[r#"
        the backup has no tablespace `slow`
        hint: it has 16384 (fast), 16385 (big)"#]],
    );
    check_tablespaces(
        &mapped(&[("fast", "ssd")], None),
        &empty,
        expect![[r#"
        `ssd` is not an absolute path
        hint: write the path from the root"#]],
    );
    check_tablespaces(
        &mapped(&[("fast", "/new/data/ts")], None),
        &empty,
        expect![[r#"
        /new/data/ts would hold both the data directory and tablespace 16384 (fast)
        hint: give each its own directory"#]],
    );
    check_tablespaces(
        &mapped(&[("fast", "/ts"), ("big", "/ts/big")], None),
        &empty,
        expect![[r#"
        /ts/big would hold both tablespace 16384 (fast) and tablespace 16385 (big)
        hint: give each its own directory"#]],
    );
    let mut linked = directory(Occupancy::Occupied);
    linked.tablespaces.insert(16384, "/linked/fast".into());
    let delta = RestoreOptions { onto: Onto::Delta, ..options() };
    check_tablespaces(
        &delta,
        &linked,
        expect![[r#"
        fast -> /linked/fast
        big -> /old/big"#]],
    );
}

#[test]
fn a_tablespace_in_use_is_taken_only_from_its_own_data_directory() {
    let plans = place_tablespaces(&with_tablespaces(), &options(), &directory(Occupancy::Empty)).unwrap();
    let places = BTreeMap::from([
        (16384, place("/old/fast", Occupancy::Occupied)),
        (16385, place("/old/big", Occupancy::Empty)),
    ]);
    let stranger = directory(Occupancy::Occupied);
    let mut own = stranger.clone();
    own.tablespaces.insert(16384, "/old/fast".into());
    let admit = |facts, onto| admit_tablespaces(&plans, &places, facts, onto);
    assert!(matches!(admit(&stranger, Onto::Empty), Err(Refusal::TablespaceNotEmpty { oid: 16384, .. })));
    assert!(matches!(admit(&stranger, Onto::Delta), Err(Refusal::TablespaceNotEmpty { oid: 16384, .. })));
    assert!(matches!(admit(&stranger, Onto::Anything), Err(Refusal::TablespaceNotEmpty { oid: 16384, .. })));
    assert_eq!(admit(&own, Onto::Delta), Ok(()));
}

fn check_plan(
    survey: Survey,
    summary: &BackupSummary,
    options: &RestoreOptions,
    room: u64,
    expected: Expect,
) {
    let mut directory =
        directory(if options.onto.is_delta() { Occupancy::Occupied } else { Occupancy::Empty });
    directory.place.room.available = room;
    let facts = Facts {
        chosen: chosen(),
        summary,
        directory: &directory,
        tablespaces: Vec::new(),
        tablespace_places: &BTreeMap::new(),
        survey,
        external: None,
        owner: None,
        first_not_archived: segment(10),
    };
    let seen = match plan(facts, options) {
        Ok(plan) => show(&plan),
        Err(refusal) => format!("{refusal}\nhint: {}", refusal.hint()),
    };
    expected.assert_eq(&seen);
}

fn show(plan: &Plan) -> String {
    let settings = plan.settings.iter().filter(|setting| !setting.value.is_empty());
    let settings: Vec<String> = settings.map(|s| format!("  {} = {}", s.name, s.value)).collect();
    format!(
        "{} files, {}\nremoved: {:?}\nkept: {:?}\nmade: {:?}\nexternal: {:?}\nexpected: {}\n{}\n{}\n",
        plan.files,
        Bytes(plan.bytes),
        plan.removals.iter().map(|removal| removal.path.display().to_string()).collect::<Vec<_>>(),
        plan.kept_wal,
        plan.made_configuration,
        plan.external,
        plan.expected.show(),
        settings.join("\n"),
        plan.notes.join("\n"),
    )
}

#[test]
fn the_plan_leaves_nothing_to_decide() {
    check_plan(
        survey(),
        &summary(),
        &options(),
        10 << 30,
        expect![[r#"
        1000 files, 5.0 GB
        removed: []
        kept: []
        made: []
        external: []
        expected: about 12.0 s (5.0 GB at 600 MB/s with 2 workers, and at most 112 MB of WAL at 48 MB/s; this machine was not measured)
          restore_command = "/usr/bin/pgproof" --config "/etc/pgproof.toml" archive get "%f" "%p"
          recovery_target_timeline = 1
          archive_mode = off
        archiving will be off (archive_mode in postgresql.auto.conf); --take-over lets the restored server archive
    "#]],
    );
}

#[test]
fn a_full_disk_is_noticed_beforehand() {
    check_plan(
        survey(),
        &summary(),
        &options(),
        1 << 30,
        expect![[r#"
        /new/data needs 5.1 GB and has 1.0 GB left
        hint: free space, or restore to a larger file system"#]],
    );
    let mut present = survey();
    present.needs.insert(None, RootNeed { bytes: 5 << 30, present: 49 << 27 });
    let delta = RestoreOptions { onto: Onto::Delta, ..options() };
    check_plan(
        present,
        &summary(),
        &delta,
        1 << 30,
        expect![[r#"
        1000 files, 5.0 GB
        removed: []
        kept: []
        made: []
        external: []
        expected: about 12.0 s (5.0 GB at 600 MB/s with 2 workers, and at most 112 MB of WAL at 48 MB/s; this machine was not measured)
          restore_command = "/usr/bin/pgproof" --config "/etc/pgproof.toml" archive get "%f" "%p"
          recovery_target_timeline = 1
          archive_mode = off
        the backup was taken of /var/lib/postgresql/15/main
        archiving will be off (archive_mode in postgresql.auto.conf); --take-over lets the restored server archive
    "#]],
    );
}

#[test]
fn configuration_elsewhere_is_made_up_for_or_restored_beside() {
    let external =
        |path: &str| ExternalFile { path: path.to_owned(), entry: format!("pgproof_external{path}") };
    let summary = BackupSummary {
        external_files: vec![
            external("/etc/postgresql/15/main/postgresql.conf"),
            external("/etc/postgresql/15/main/conf.d/a.conf"),
        ],
        ..summary()
    };
    let bare = || Survey { configuration: BTreeMap::<String, ()>::new().into_keys().collect(), ..survey() };
    check_plan(
        bare(),
        &summary,
        &options(),
        10 << 30,
        expect![[r#"
        1000 files, 5.0 GB
        removed: []
        kept: []
        made: ["postgresql.conf", "pg_hba.conf"]
        external: [("/etc/postgresql/15/main/postgresql.conf", None), ("/etc/postgresql/15/main/conf.d/a.conf", None)]
        expected: about 12.0 s (5.0 GB at 600 MB/s with 2 workers, and at most 112 MB of WAL at 48 MB/s; this machine was not measured)
          restore_command = "/usr/bin/pgproof" --config "/etc/pgproof.toml" archive get "%f" "%p"
          recovery_target_timeline = 1
          archive_mode = off
        postgresql.conf lay outside of the data directory: one with the settings that recovery needs is made
        pg_hba.conf lay outside of the data directory: its stored copy is used, or one that admits local users by name
        2 configuration files outside of the data directory are not restored; --external DIRECTORY restores them
        archiving will be off (archive_mode in postgresql.auto.conf); --take-over lets the restored server archive
    "#]],
    );
    let beside = RestoreOptions { external: Some("/etc/restored".into()), ..options() };
    check_plan(
        bare(),
        &summary,
        &beside,
        10 << 30,
        expect![[r#"
        1000 files, 5.0 GB
        removed: []
        kept: []
        made: ["postgresql.conf", "pg_hba.conf"]
        external: [("/etc/postgresql/15/main/postgresql.conf", Some("/etc/restored/postgresql.conf")), ("/etc/postgresql/15/main/conf.d/a.conf", Some("/etc/restored/conf.d/a.conf"))]
        expected: about 12.0 s (5.0 GB at 600 MB/s with 2 workers, and at most 112 MB of WAL at 48 MB/s; this machine was not measured)
          restore_command = "/usr/bin/pgproof" --config "/etc/pgproof.toml" archive get "%f" "%p"
          recovery_target_timeline = 1
          archive_mode = off
        postgresql.conf lay outside of the data directory: one with the settings that recovery needs is made
        pg_hba.conf lay outside of the data directory: its stored copy is used, or one that admits local users by name
        archiving will be off (archive_mode in postgresql.auto.conf); --take-over lets the restored server archive
    "#]],
    );
}

#[test]
fn a_delta_keeps_wal_that_was_never_archived() {
    let local = |number: u64, page: Option<u64>| LocalWal {
        name: segment(number).file_name(WalSegmentSize::DEFAULT),
        page: page.map(|page| (1, page * (16 << 20))),
    };
    // 9 is archived; 10 and 11 go on; 12 is an old file kept for its space; 13 has nothing before it.
    let survey = Survey {
        local_wal: vec![
            local(9, Some(9)),
            local(10, Some(10)),
            local(11, Some(11)),
            local(12, Some(5)),
            local(13, Some(13)),
        ],
        ..survey()
    };
    let delta = RestoreOptions { onto: Onto::Delta, ..options() };
    check_plan(
        survey,
        &summary(),
        &delta,
        10 << 30,
        expect![[r#"
        1000 files, 5.0 GB
        removed: ["/new/data/pg_wal/000000010000000000000009", "/new/data/pg_wal/00000001000000000000000C", "/new/data/pg_wal/00000001000000000000000D"]
        kept: ["00000001000000000000000A", "00000001000000000000000B"]
        made: []
        external: []
        expected: about 12.0 s (5.0 GB at 600 MB/s with 2 workers, and at most 112 MB of WAL at 48 MB/s; this machine was not measured)
          restore_command = "/usr/bin/pgproof" --config "/etc/pgproof.toml" archive get "%f" "%p"
          recovery_target_timeline = 1
          archive_mode = off
        the backup was taken of /var/lib/postgresql/15/main
        2 segments in pg_wal were never archived (00000001000000000000000A to 00000001000000000000000B) and stay: PostgreSQL replays them after the archive
        archiving will be off (archive_mode in postgresql.auto.conf); --take-over lets the restored server archive
    "#]],
    );
}

#[test]
fn taking_over_switches_archiving_on() {
    let options = RestoreOptions { archiving: Archiving::TakeOver { reason: "fire".into() }, ..options() };
    check_plan(
        survey(),
        &summary(),
        &options,
        10 << 30,
        expect![[r#"
        1000 files, 5.0 GB
        removed: []
        kept: []
        made: []
        external: []
        expected: about 12.0 s (5.0 GB at 600 MB/s with 2 workers, and at most 112 MB of WAL at 48 MB/s; this machine was not measured)
          restore_command = "/usr/bin/pgproof" --config "/etc/pgproof.toml" archive get "%f" "%p"
          recovery_target_timeline = 1
          archive_mode = on
          archive_command = "/usr/bin/pgproof" --config "/etc/pgproof.toml" archive push "%p"

    "#]],
    );
}

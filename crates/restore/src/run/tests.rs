use super::*;
use crate::choose::{GapRule, Request, TimelineChoice};
use crate::observe::prepare;
use crate::options::{Onto, RestoreOptions, TablespaceMapping};
use crate::settings::{Edge, RecoveryTarget, TargetAction};
use crate::testing::{
    Content, SYSTEM, Taker, Tree, commands, control_file, id, memory, noise, publish, summary, time, tree,
};
use pgproof_base::NoProgress;
use pgproof_pg::ControlFile;
use pgproof_repo::lease::{ExpiredMark, Holder};
use pgproof_repo::manifest::BackupSummary;
use pgproof_repo::manifest::summary::Tablespace;
use pgproof_repo::record;
use pgproof_repo::walset::Target;
use pgproof_store::{PutMode, Store};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

fn options(directory: &Path) -> RestoreOptions {
    let target =
        RecoveryTarget { stop: Target::Latest, edge: Edge::Inclusive, action: TargetAction::Promote };
    RestoreOptions {
        request: Request { target, timeline: TimelineChoice::Latest, backup: None, gap: GapRule::Refuse },
        system: None,
        directory: directory.to_owned(),
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

fn cluster() -> Tree {
    tree(&[
        ("PG_VERSION", b"15\n".to_vec()),
        ("base/5/1259", noise(1, 40 * 8192)),
        ("base/5/2600", noise(2, 8192)),
        ("global/1262", noise(3, 8192)),
        ("global/pg_control", control_file()),
        ("pg_hba.conf", b"local all all peer\n".to_vec()),
        ("pg_wal/archive_status/000000010000000000000002.ready", Vec::new()),
        ("pg_replslot/slot/state", b"slot".to_vec()),
        ("postgresql.auto.conf", b"work_mem = '8MB'\nprimary_conninfo = 'host=a'\n".to_vec()),
        ("postgresql.conf", b"port = 5433\n".to_vec()),
        ("postmaster.pid", b"1\n".to_vec()),
        ("pgproof.writer", b"4\n".to_vec()),
        ("standby.signal", Vec::new()),
    ])
}

fn restored(repository: &Repository, options: &RestoreOptions) -> Result<Report> {
    run(repository, &prepare(repository, options, time(1000))?, &NoProgress)
}

fn control_of(directory: &Path) -> ControlFile {
    ControlFile::parse(&fs::read(directory.join("global/pg_control")).unwrap()).unwrap()
}

#[test]
fn a_restored_directory_recovers_and_holds_nothing_of_the_running_server() {
    let (repository, _) = memory();
    let manifest = Taker::new(&repository).take(&summary(), &cluster());
    publish(&repository, &manifest);
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("new/data");
    let report = restored(&repository, &options(&data)).unwrap();
    assert_eq!(fs::read(data.join("base/5/1259")).unwrap(), noise(1, 40 * 8192));
    assert_eq!(fs::read(data.join("global/pg_control")).unwrap(), control_file());
    assert_eq!(fs::read_to_string(data.join("backup_label")).unwrap(), summary().backup_label);
    assert!(data.join("recovery.signal").exists());
    assert!(data.join("pg_wal/archive_status").is_dir());
    assert!(data.join("pg_replslot").is_dir());
    for stale in [
        "postmaster.pid",
        "pgproof.writer",
        "standby.signal",
        "tablespace_map",
        "pg_replslot/slot",
        "pg_wal/archive_status/000000010000000000000002.ready",
    ] {
        assert!(!data.join(stale).exists(), "{stale}");
    }
    let settings = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
    assert!(settings.contains("work_mem = '8MB'"), "{settings}");
    assert!(settings.contains("archive_mode = 'off'"), "{settings}");
    assert!(settings.contains("recovery_target_timeline = '1'"), "{settings}");
    assert!(!settings.contains("primary_conninfo"), "{settings}");
    assert!(report.notes.iter().any(|note| note.contains("primary_conninfo")), "{:?}", report.notes);
    assert_eq!(report.epoch, None);
    // The lease is let go of.
    let readers = repository.store().list(Some(&Lineage::new(SYSTEM).readers_dir()), None).unwrap();
    assert!(readers.is_empty());
}

#[test]
fn a_restore_that_broke_off_does_not_start_and_is_continued_by_a_delta() {
    let (repository, store) = memory();
    let tablespace = |location: &Path| Tablespace {
        oid: 16384,
        name: "fast".to_owned(),
        location: location.display().to_string(),
    };
    let scratch = tempfile::tempdir().unwrap();
    let summary = BackupSummary { tablespaces: vec![tablespace(&scratch.path().join("ts"))], ..summary() };
    let mut tree = cluster();
    tree.insert("pg_tblspc".to_owned(), Content::Directory);
    tree.insert("pg_tblspc/16384/PG_15_202209061".to_owned(), Content::Directory);
    tree.insert("pg_tblspc/16384/PG_15_202209061/5".to_owned(), Content::Directory);
    tree.insert("pg_tblspc/16384/PG_15_202209061/5/1".to_owned(), Content::File(noise(9, 8192)));
    tree.insert("pg_xact".to_owned(), Content::Directory);
    tree.insert("pg_xact/0000".to_owned(), Content::File(noise(10, 8192)));
    let manifest = Taker::new(&repository).take(&summary, &tree);
    publish(&repository, &manifest);
    let data = scratch.path().join("data");

    // The last extent cannot be read: by then the rest is written.
    let extent = manifest.file("pg_xact/0000").unwrap().unwrap().map.extents()[0];
    let pack = manifest.packs().get(extent.pack).unwrap().path(SYSTEM);
    let sound = store.get(&pack).unwrap();
    let mut damaged = sound.clone();
    damaged[extent.offset as usize + 20] ^= 1;
    store.put(&pack, &[&damaged], PutMode::Overwrite).unwrap();
    let error = restored(&repository, &options(&data)).unwrap_err();
    assert!(matches!(error, RestoreError::Damage { .. }), "{error}");
    assert!(control_of(&data).is_impossible());
    assert!(!data.join("backup_label").exists());

    store.put(&pack, &[&sound], PutMode::Overwrite).unwrap();
    let error = restored(&repository, &options(&data)).unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");
    let delta = RestoreOptions { onto: Onto::Delta, ..options(&data) };
    restored(&repository, &delta).unwrap();
    assert!(!control_of(&data).is_impossible());
    assert_eq!(fs::read_link(data.join("pg_tblspc/16384")).unwrap(), scratch.path().join("ts"));
    assert_eq!(fs::read(scratch.path().join("ts/PG_15_202209061/5/1")).unwrap(), noise(9, 8192));
    assert_eq!(fs::read(data.join("pg_xact/0000")).unwrap(), noise(10, 8192));
}

#[test]
fn a_delta_removes_what_the_backup_lacks_and_keeps_the_logs_and_wal_of_its_own() {
    let (repository, _) = memory();
    let manifest = Taker::new(&repository).take(&summary(), &cluster());
    publish(&repository, &manifest);
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    restored(&repository, &options(&data)).unwrap();
    let segment = |number: u64| {
        let mut bytes = vec![0; 8192];
        bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
        bytes[8..16].copy_from_slice(&(number << 24).to_le_bytes());
        bytes
    };
    let write = |path: &str, bytes: &[u8]| {
        let path = data.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("base/5/99999", b"dropped since");
    write("base/77/1", b"a database made since");
    write("log/postgresql.log", b"what happened");
    write("standby.signal", b"");
    write("pg_wal/000000010000000000000003", &segment(3));
    write("pg_wal/000000010000000000000004", &segment(4));
    write("pg_wal/000000010000000000000005", &segment(1));
    write("pg_wal/archive_status/000000010000000000000004.ready", b"");
    let delta = RestoreOptions { onto: Onto::Delta, ..options(&data) };
    let prepared = prepare(&repository, &delta, time(1000)).unwrap();
    let mut removals: Vec<PathBuf> =
        prepared.plan.removals.iter().map(|r| r.path.strip_prefix(&data).unwrap().to_owned()).collect();
    removals.sort();
    let removed = [
        "backup_label",
        "base/5/99999",
        "base/77",
        "pg_wal/000000010000000000000003",
        "pg_wal/000000010000000000000005",
        "pg_wal/archive_status/000000010000000000000004.ready",
        "recovery.signal",
        "standby.signal",
    ];
    assert_eq!(removals, removed.map(PathBuf::from));
    assert_eq!(prepared.plan.kept_wal, ["000000010000000000000004"]);
    let report = run(&repository, &prepared, &NoProgress).unwrap();
    assert_eq!(report.placed.work.bytes_written, 0);
    assert!(!data.join("base/77").exists());
    assert!(data.join("log/postgresql.log").exists());
    assert!(data.join("pg_wal/000000010000000000000004").exists());
    assert!(data.join("recovery.signal").exists());
}

#[test]
fn databases_left_out_get_files_without_content_and_a_guard_also_in_place_of_what_is_there() {
    let (repository, _) = memory();
    let mut tree = cluster();
    for (path, content) in [
        ("base/16384/1259", noise(20, 3 * 8192)),
        ("base/16384/PG_VERSION", b"15\n".to_vec()),
        ("base/16385/1259", noise(21, 50 * 8192)),
        ("base/16385/PG_VERSION", b"15\n".to_vec()),
        ("base/16385/pg_filenode.map", noise(22, 524)),
    ] {
        tree.insert(path.rsplit_once('/').unwrap().0.to_owned(), Content::Directory);
        tree.insert(path.to_owned(), Content::File(content));
    }
    let manifest = Taker::new(&repository).take(&summary(), &tree);
    publish(&repository, &manifest);
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    restored(&repository, &options(&data)).unwrap();
    // The summary of this backup lists no databases, so that they go by number.
    let some = |onto| RestoreOptions { databases: vec!["16384".into()], onto, ..options(&data) };
    let error = restored(&repository, &some(Onto::Delta)).unwrap_err();
    assert!(error.to_string().contains("would empty 1 other"), "{error}");

    let report = restored(&repository, &some(Onto::Anything)).unwrap();
    assert_eq!(fs::read(data.join("base/16384/1259")).unwrap(), noise(20, 3 * 8192));
    assert_eq!(fs::read(data.join("base/16385/1259")).unwrap(), vec![0; 50 * 8192]);
    assert_eq!(fs::metadata(data.join("base/16385/1259")).unwrap().blocks(), 0);
    assert_eq!(fs::read(data.join("base/16385/pg_filenode.map")).unwrap(), vec![0; 524]);
    let guard = format!("{}\n", crate::databases::GUARD);
    assert_eq!(fs::read_to_string(data.join("base/16385/PG_VERSION")).unwrap(), guard);
    assert_eq!(fs::read_to_string(data.join("base/16384/PG_VERSION")).unwrap(), "15\n");
    let settings = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
    assert!(settings.contains("\nignore_invalid_pages = 'on'\n"), "{settings}");
    let databases = report.plan.databases.unwrap();
    assert_eq!(databases.bytes_left_out, 50 * 8192 + 524);
}

#[test]
fn a_backup_that_is_marked_meanwhile_is_let_go_before_anything_is_written() {
    let (repository, _) = memory();
    let manifest = Taker::new(&repository).take(&summary(), &cluster());
    publish(&repository, &manifest);
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let prepared = prepare(&repository, &options(&data), time(1000)).unwrap();
    let mark = ExpiredMark { by: Holder::this_process(), why: "older than a week".to_owned() };
    let path = Lineage::new(SYSTEM).backup(id(1)).expired();
    record::write(&repository, &path, &mark, PutMode::IfAbsent).unwrap();
    let error = run(&repository, &prepared, &NoProgress).unwrap_err();
    assert!(matches!(error, RestoreError::Repository { .. }), "{error}");
    assert!(!data.exists());
    let error = prepare(&repository, &options(&data), time(1000)).unwrap_err();
    assert!(error.to_string().contains("no backup"), "{error}");
}

#[test]
fn taking_over_raises_the_epoch_and_gives_it_to_the_server() {
    let (repository, _) = memory();
    let manifest = Taker::new(&repository).take(&summary(), &cluster());
    publish(&repository, &manifest);
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let taking =
        RestoreOptions { archiving: Archiving::TakeOver { reason: "fire".to_owned() }, ..options(&data) };
    let report = restored(&repository, &taking).unwrap();
    assert_eq!(report.epoch, Some(1));
    assert_eq!(writer::read_epoch(&data).unwrap(), 1);
    let error = writer::check_epoch(&repository, Lineage::new(SYSTEM), 0).unwrap_err();
    assert!(error.to_string().contains(data.to_str().unwrap()), "{error}");
    let settings = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
    assert!(settings.contains("archive push \"%p\""), "{settings}");
}

#[test]
fn a_backup_without_a_control_file_is_not_restored() {
    let (repository, _) = memory();
    let mut tree = cluster();
    tree.remove("global/pg_control");
    let manifest = Taker::new(&repository).take(&summary(), &tree);
    publish(&repository, &manifest);
    let scratch = tempfile::tempdir().unwrap();
    let error = restored(&repository, &options(&scratch.path().join("data"))).unwrap_err();
    assert!(matches!(error, RestoreError::Incomplete { .. }), "{error}");
    assert!(!scratch.path().join("data").exists());
}

#[test]
fn a_backup_without_configuration_gets_one_that_starts() {
    let (repository, _) = memory();
    let mut tree = cluster();
    tree.remove("postgresql.conf");
    tree.remove("pg_hba.conf");
    let manifest = Taker::new(&repository).take(&summary(), &tree);
    publish(&repository, &manifest);
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let report = restored(&repository, &options(&data)).unwrap();
    assert!(fs::read_to_string(data.join("postgresql.conf")).unwrap().contains("max_connections = 100"));
    assert!(fs::read_to_string(data.join("pg_hba.conf")).unwrap().contains("peer"));
    assert_eq!(report.plan.made_configuration, ["postgresql.conf", "pg_hba.conf"]);
}

//! Disks that are full or cannot be written: the repository's, the spool's, the server's own for WAL.

use super::{all_is_well, failed, rounds};
use crate::receive::Receiver;
use crate::scene::{Scene, safe_server};
use anyhow::{Context, Result, ensure};
use pgproof_testkit::{SmallDisk, wait};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

/// Fills a disk but for so many bytes.
fn fill(disk: &SmallDisk, leave: u64) -> Result<PathBuf> {
    let ballast = disk.path().join("ballast");
    let mut file = fs::File::create(&ballast)?;
    while disk.free_bytes()? > leave {
        if let Err(error) = file.write_all(&[7; 4096]) {
            ensure!(error.kind() == ErrorKind::StorageFull, "fill the disk: {error}");
            break;
        }
    }
    Ok(ballast)
}

fn waits_for_a_failure(scene: &Scene) -> Result<()> {
    let failures = "SELECT failed_count FROM pg_stat_archiver";
    let before: u64 = scene.server.value(failures)?.parse()?;
    wait::until_true("the archiver to fail", || Ok(scene.server.value(failures)?.parse::<u64>()? > before))
}

/// A scene whose repository has a disk of its own.
fn with_disk(mebibytes: u32) -> Result<(Scene, SmallDisk)> {
    let scene = Scene::new(safe_server())?;
    let place = scene.new_place("disk");
    let disk = SmallDisk::mount(&place, mebibytes, scene.server.account())?;
    scene.server.account().create_dir(&place.join("repository"))?;
    std::os::unix::fs::symlink(place.join("repository"), scene.repository())?;
    scene.init(&["--restart"])?.succeeded()?;
    Ok((scene, disk))
}

#[test]
fn a_full_repository_is_an_error_and_goes_on_when_there_is_space() -> Result<()> {
    let (scene, disk) = with_disk(192)?;
    scene.server.dir("temp")?;
    scene.server.load_pgbench(1)?;
    scene.pgproof(&["backup"])?.succeeded()?;
    for round in 0..rounds()? {
        // Every round fails at another point: with the first byte, within a pack, at a record.
        let ballast = fill(&disk, u64::from(round % 8) * 300_000)?;
        scene.server.sql("UPDATE pgbench_accounts SET abalance = abalance + 1")?;
        let ran = scene.pgproof(&["backup", "--full"])?;
        failed(&ran)?;
        ensure!(ran.stderr.contains("No space left"), "{}", ran.stderr);
        let dump = scene.ran(crate::dump::command(&scene, &["dump", "--full"]))?;
        failed(&dump)?;
        ensure!(dump.stderr.contains("No space left"), "{}", dump.stderr);
        scene.server.switch_wal()?;
        waits_for_a_failure(&scene)?;
        // Reading goes on.
        scene.pgproof(&["list"])?.succeeded()?;
        fs::remove_file(ballast)?;
        scene.ran(crate::dump::command(&scene, &["dump"]))?.succeeded()?;
        all_is_well(&scene, &format!("full-{round}"))?;
        scene.pgproof(&["expire", "--keep-last", "1", "--sweep-after", "0s"])?.succeeded()?;
    }
    Ok(())
}

#[test]
fn a_repository_that_cannot_be_written_still_gives_what_it_has() -> Result<()> {
    let (scene, disk) = with_disk(192)?;
    scene.server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")?;
    scene.pgproof(&["backup"])?.succeeded()?;
    scene.server.archive_everything()?;
    disk.set_writable(false)?;
    failed(&scene.pgproof(&["backup"])?)?;
    failed(&scene.pgproof(&["expire", "--keep-last", "1", "--sweep-after", "0s"])?)?;
    let before = scene.server.table_sums()?;
    scene.server.switch_wal()?;
    waits_for_a_failure(&scene)?;
    scene.pgproof(&["list"])?.succeeded()?;
    scene.pgproof(&["verify"])?.succeeded().context("a verification that can note nothing")?;
    let restored = scene.restored("from-read-only", &[])?;
    ensure!(restored.table_sums()? == before, "the restored server holds something else");
    drop(restored);
    disk.set_writable(true)?;
    all_is_well(&scene, "writable")
}

#[test]
fn a_full_spool_acknowledges_nothing_that_it_does_not_hold() -> Result<()> {
    let scene = Scene::initialised()?;
    let server = &scene.server;
    server.sql("CREATE TABLE t (a int)")?;
    scene.pgproof(&["backup"])?.succeeded()?;
    let spool = scene.new_place("spool-disk");
    // Three segments: the one that is received, its spare, and one that is being handed over.
    let disk = SmallDisk::mount(&spool, 48, server.account())?;
    let spool = spool.display().to_string();
    let mut receiver = Receiver::start(&scene, &spool)?;
    receiver.make_synchronous(&scene)?;
    server.sql("INSERT INTO t VALUES (1)")?;
    let ballast = fill(&disk, 0)?;
    // A commit returns only if the receiver says that it holds it; whatever it says has to be true.
    let acknowledged = AtomicI32::new(1);
    thread::scope(|scope| -> Result<()> {
        let (mut session, acknowledged) = (server.client()?, &acknowledged);
        scope.spawn(move || {
            for number in 2..60 {
                let insert = format!(
                    "INSERT INTO t VALUES ({number}); SELECT pg_logical_emit_message(true, 'filler', repeat('x', 1000000))"
                );
                if session.batch_execute(&insert).is_err() {
                    return;
                }
                acknowledged.store(number, Ordering::SeqCst);
            }
        });
        let mut before = 0;
        wait::until_true("commits to wait", || {
            thread::sleep(Duration::from_secs(3));
            let now = acknowledged.load(Ordering::SeqCst);
            Ok(std::mem::replace(&mut before, now) == now)
        })?;
        server.kill9()
    })?;
    let acknowledged = acknowledged.into_inner();
    ensure!(acknowledged < 59, "a full disk took 60 MB");
    // The host is lost, and the spool remains as it is.
    receiver.kill()?;
    fs::remove_file(ballast)?;
    let restored = receiver.restored(&scene, "after-full-spool")?;
    let found: i32 = restored.value("SELECT max(a) FROM t")?.parse()?;
    ensure!(found >= acknowledged, "{acknowledged} was acknowledged, {found} came back");
    Ok(())
}

#[test]
fn a_server_whose_wal_disk_was_full_goes_on_without_a_gap() -> Result<()> {
    let scene = Scene::new(safe_server().wal_segment_size_mb(1).setting("max_wal_size", "8MB"))?;
    let server = &scene.server;
    let disk = wal_on_a_disk_of_its_own(&scene, 96)?;
    scene.init(&["--restart"])?.succeeded()?;
    server.sql("CREATE TABLE t (a int, b text)")?;
    scene.pgproof(&["backup"])?.succeeded()?;
    // Without its repository the archive keeps WAL, until there is no room for more.
    let away = scene.new_place("away");
    fs::rename(scene.repository(), &away)?;
    let mut acknowledged = 0;
    let mut session = server.client()?;
    for number in 1..=4000 {
        let insert = format!(
            "INSERT INTO t SELECT {number}, repeat(md5(i::text), 30) FROM generate_series(1, 200) AS i"
        );
        if session.batch_execute(&insert).is_err() {
            break;
        }
        acknowledged = number;
        if number == 20 {
            let status = scene.pgproof(&["archive", "status", "--json"])?.json()?;
            ensure!(status["report"]["waiting"].as_u64() > Some(0), "{status}");
        }
    }
    ensure!((1..4000).contains(&acknowledged), "the disk never was full");
    wait::until_true("the server to stop", || Ok(!server.is_running()))?;
    disk.resize(512)?;
    fs::rename(&away, scene.repository())?;
    server.start()?;
    let count = format!("SELECT count(DISTINCT a) FROM t WHERE a <= {acknowledged}");
    assert_eq!(server.value(&count)?, acknowledged.to_string());
    server.archive_everything()?;
    let status = scene.pgproof(&["archive", "status", "--json"])?.json()?;
    assert_eq!(status["report"]["gaps"], serde_json::json!([]), "{status}");
    scene.comes_back("wal-disk-restored", &[])
}

/// Moves `pg_wal` to a small disk, as `initdb --waldir` would have put it.
fn wal_on_a_disk_of_its_own(scene: &Scene, mebibytes: u32) -> Result<SmallDisk> {
    let server = &scene.server;
    server.stop(pgproof_testkit::StopMode::Fast)?;
    let place = scene.new_place("wal-disk");
    let disk = SmallDisk::mount(&place, mebibytes, server.account())?;
    let (from, to) = (server.pgdata().join("pg_wal"), place.join("pg_wal"));
    copied(&from, &to, scene)?;
    fs::remove_dir_all(&from)?;
    std::os::unix::fs::symlink(&to, &from)?;
    server.start()?;
    Ok(disk)
}

fn copied(from: &Path, to: &Path, scene: &Scene) -> Result<()> {
    let account = scene.server.account();
    account.create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, into) = (entry?, to);
        let target = into.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copied(&entry.path(), &target, scene)?;
        } else {
            fs::copy(entry.path(), &target)?;
            account.own(&target)?;
        }
    }
    Ok(())
}

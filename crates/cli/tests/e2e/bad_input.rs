//! What is refused: each with a clear error, before anything was changed.

use crate::scene::{Scene, safe_server};
use anyhow::{Result, ensure};
use pgproof_pg::MajorVersion;
use pgproof_testkit::{Builder, Postgres, free_port};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// One scene for all that a restore refuses: a backup, and WAL with a hole behind it.
#[test]
fn a_restore_that_cannot_be_right_is_refused_before_anything_is_written() -> Result<()> {
    let scene = Scene::initialised()?;
    let server = &scene.server;
    server.sql("CREATE TABLE t (a int)")?;
    scene.pgproof(&["backup"])?.succeeded()?;
    server.sql("INSERT INTO t VALUES (1)")?;
    server.archive_everything()?;
    let place = scene.new_place("restored");
    let into = place.display().to_string();
    let refused = |more: &[&str], says: &[&str]| -> Result<()> {
        let ran = scene.pgproof(&[&["restore", "--pgdata", &into], more].concat())?;
        ensure!(ran.code == 3, "{more:?}: exit code {}\n{}{}", ran.code, ran.stdout, ran.stderr);
        for text in says {
            ensure!(ran.stderr.contains(text), "{more:?} does not say `{text}`:\n{}", ran.stderr);
        }
        ensure!(!place.exists(), "{more:?} made the directory");
        Ok(())
    };
    refused(&["--time", "2999-01-01 00:00:00+00"], &["is in the future"])?;
    refused(&["--time", "2001-01-01 00:00:00+00"], &["cannot be reached", "hint:"])?;
    refused(&["--time", "yesterday, about noon"], &["hint:"])?;
    let after_last_commit = server.value("SELECT clock_timestamp()::text")?;
    std::thread::sleep(std::time::Duration::from_millis(1100));
    refused(&["--time", &after_last_commit], &["cannot be reached", "hint:"])?;
    refused(&["--lsn", "FF/0"], &["cannot be reached"])?;
    refused(&["--xid", "4000000"], &["cannot be reached"])?;
    refused(&["--name", "nobody made it"], &["cannot be reached"])?;
    refused(&["--timeline", "7"], &["timeline 7 is not in the repository"])?;
    refused(&["--backup", "20010101T000000Z-000000"], &["there is no backup"])?;
    refused(&["--system", "1234567890"], &["hint:"])?;

    let key = scene.config().with_file_name("main.key");
    let other_key = scene.config().with_file_name("other.key");
    fs::rename(&key, &other_key)?;
    refused(&[], &["main.key"])?;
    let stranger = pgproof_repo::key::generate();
    fs::write(&key, format!("{}\n", *stranger.identity))?;
    server.account().own(&key)?;
    refused(&[], &["the key does not open"])?;
    fs::rename(&other_key, &key)?;

    let description = scene.repository().join("repository");
    let sound = fs::read(&description)?;
    fs::write(&description, b"not a repository at all")?;
    refused(&[], &["repository"])?;
    fs::write(&description, &sound)?;

    fs::create_dir(&place)?;
    fs::write(place.join("precious"), "data")?;
    let ran = scene.pgproof(&["restore", "--pgdata", &into])?;
    assert!(ran.code == 3 && ran.stderr.contains("is not empty"), "{}", ran.stderr);
    let ran = scene.pgproof(&["restore", "--pgdata", &into, "--delta"])?;
    assert!(ran.code == 3 && ran.stderr.contains("is not a data directory"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(place.join("precious"))?, "data");
    let running = server.pgdata().display().to_string();
    let ran = scene.pgproof(&["restore", "--pgdata", &running, "--delta", "--force"])?;
    assert!(ran.code == 3 && ran.stderr.contains("a server is running"), "{}", ran.stderr);

    a_hole_in_the_archive_is_named(&scene)
}

fn a_hole_in_the_archive_is_named(scene: &Scene) -> Result<()> {
    let hole = scene.server.archive_everything()?;
    scene.server.archive_everything()?;
    let name = hole.file_name(scene.server.wal_segment_size()?);
    let object = find(&scene.repository(), &name)?;
    fs::remove_file(object)?;
    let place = scene.new_place("behind-the-hole");
    let ran = scene.pgproof(&["restore", "--pgdata", &place.display().to_string()])?;
    ensure!(ran.code == 3 && ran.stderr.contains(&name), "the missing segment is not named: {}", ran.stderr);
    ensure!(!place.exists());
    let verify = scene.pgproof(&["verify"])?;
    ensure!(verify.code == 1 && verify.stdout.contains(&name), "{}{}", verify.stdout, verify.stderr);
    Ok(())
}

/// The object that holds a segment; `pgproof` names them so that a person finds them.
fn find(directory: &Path, name: &str) -> Result<std::path::PathBuf> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Ok(found) = find(&path, name) {
                return Ok(found);
            }
        } else if path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)) {
            return Ok(path);
        }
    }
    anyhow::bail!("no object of {name} in {}", directory.display())
}

#[test]
fn what_cannot_be_backed_up_fails_the_backup_by_name() -> Result<()> {
    let scene = Scene::initialised()?;
    let good = scene.pgproof(&["backup", "--json"])?.succeeded()?.json()?;
    // As the kernel counts, also where root has become the owner of the data directory.
    let number = |pointer: &str| good.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let (planned, counted) = (number("/report/bytes_read"), number("/report/process_io/read_chars"));
    assert!(
        planned > 1 << 20 && counted >= planned && counted < 2 * planned,
        "{planned} by plan, {counted} by kernel"
    );
    let path = scene.server.pgdata().join("base/1/999999");
    fs::write(&path, [0; 8192])?;
    scene.server.account().own(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000))?;
    let ran = scene.pgproof(&["backup"])?;
    fs::remove_file(&path)?;
    assert!(ran.code == 3 && ran.stderr.contains("base/1/999999"), "{}{}", ran.stdout, ran.stderr);
    scene.server.each(&["SET allow_in_place_tablespaces = on", "CREATE TABLESPACE inside LOCATION ''"])?;
    let ran = scene.pgproof(&["backup"])?;
    assert!(
        ran.code == 3 && ran.stderr.contains("is an in-place tablespace"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    scene.server.sql("DROP TABLESPACE inside")?;
    let show = scene.pgproof(&["show", "--json", good["report"]["id"].as_str().unwrap_or_default()])?;
    show.succeeded()?;
    scene.pgproof(&["backup"])?.succeeded()?;
    Ok(())
}

#[test]
fn segments_of_one_megabyte_are_archived_and_replayed() -> Result<()> {
    comes_back(safe_server().wal_segment_size_mb(1))
}

#[test]
#[ignore = "moves some gigabytes of WAL: minutes"]
fn segments_of_one_gigabyte_are_archived_and_replayed() -> Result<()> {
    comes_back(
        safe_server().wal_segment_size_mb(1024).setting("min_wal_size", "2GB").setting("max_wal_size", "4GB"),
    )
}

fn comes_back(builder: Builder) -> Result<()> {
    let scene = Scene::new(builder)?;
    scene.init(&["--restart"])?;
    scene.server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) a")?;
    scene.pgproof(&["backup"])?.succeeded()?;
    scene.server.sql("INSERT INTO t VALUES (1001)")?;
    scene.server.archive_everything()?;
    let (place, port) = (scene.new_place("restored"), free_port()?);
    let into = place.display().to_string();
    let ran = scene.pgproof(&["restore", "--pgdata", &into, "--start", "--port", &port.to_string()])?;
    let restored = scene.server.copy_started_at(&place, port)?;
    ran.succeeded()?;
    assert_eq!(restored.value("SELECT count(*) FROM t")?, "1001");
    Ok(())
}

#[test]
fn an_unreachable_store_and_a_foreign_system_are_told_apart() -> Result<()> {
    let scene = Scene::initialised()?;
    let away = scene.new_place("away");
    fs::rename(scene.repository(), &away)?;
    let ran = scene.pgproof(&["backup"])?;
    assert!(ran.code == 3 && ran.stderr.contains("repository"), "{}", ran.stderr);
    assert!(!scene.repository().exists(), "an absent repository must not be made anew by a backup");
    fs::rename(&away, scene.repository())?;

    // A segment of another cluster, copied into this one's pg_wal.
    let other = Postgres::builder(MajorVersion::V15).setting("fsync", "on").start()?;
    let segment = other.switch_wal()?.file_name(other.wal_segment_size()?);
    let copied = scene.server.pgdata().join("pg_wal/0000000100000000000000EE");
    fs::copy(other.pgdata().join("pg_wal").join(&segment), &copied)?;
    scene.server.account().own(&copied)?;
    let mut wrong = scene.command(&["archive", "push", "pg_wal/0000000100000000000000EE"]);
    wrong.current_dir(scene.server.pgdata());
    let ran = scene.ran(wrong)?;
    fs::remove_file(&copied)?;
    assert!(ran.code == 3 && ran.stderr.contains("but this server is system"), "{}", ran.stderr);
    Ok(())
}

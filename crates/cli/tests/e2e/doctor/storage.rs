//! Disks fill, and WAL is not archived.

use super::patient::{Patient, Tmpfs, run, server};
use crate::scene::Scene;
use anyhow::{Result, ensure};
use pgproof_testkit::StopMode;
use std::fs;
use std::os::unix::fs::symlink;

/// A server whose `pg_wal` is a file system of its own; unmounted after the server is gone.
fn on_small_disk(megabytes: u32) -> Result<(Patient, Tmpfs)> {
    let patient = Patient::of(server().setting("max_wal_size", "64MB").setting("min_wal_size", "32MB"))?;
    patient.server.stop(StopMode::Fast)?;
    let disk = Tmpfs::new(patient.server.ground().join("wal"), megabytes)?;
    let (from, to) = (patient.server.pgdata().join("pg_wal"), disk.path().join("pg_wal"));
    run("cp", &["-a", &from.display().to_string(), &to.display().to_string()])?;
    fs::remove_dir_all(&from)?;
    symlink(&to, &from)?;
    patient.server.start()?;
    Ok((patient, disk))
}

/// Writes WAL until the server gives up.
fn write_until_it_stops(patient: &Patient) -> Result<()> {
    let fill = "INSERT INTO filler SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g";
    patient.server.sql("CREATE TABLE filler (a int, b text)")?;
    let began = std::time::Instant::now();
    while patient.server.sql(fill).is_ok() {
        ensure!(began.elapsed().as_secs() < 120, "the disk does not fill");
    }
    while patient.server.is_running() {
        ensure!(began.elapsed().as_secs() < 120, "the server does not stop");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    Ok(())
}

#[test]
fn an_abandoned_slot_keeps_wal() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("SELECT pg_create_physical_replication_slot('node_2', true)")?;
    patient.server.sql("CREATE TABLE t AS SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g")?;
    patient.is_cured_of("slot-inactive")
}

#[test]
fn an_abandoned_slot_has_filled_the_disk_and_the_server_stopped() -> Result<()> {
    let (patient, _disk) = on_small_disk(160)?;
    patient.server.sql("SELECT pg_create_physical_replication_slot('old_standby', true)")?;
    write_until_it_stops(&patient)?;
    let found = patient.findings()?;
    let cause = |code: &str| {
        found.iter().find(|one| one["code"] == code).map_or(String::new(), |one| one["cause"].to_string())
    };
    ensure!(cause("disk-space").contains("slot-inactive:old_standby"), "{found:#?}");
    ensure!(cause("server-down").contains("disk-space"), "{found:#?}");
    patient.is_cured_of("slot-inactive")
}

#[test]
fn a_foreign_file_has_filled_the_disk_of_wal() -> Result<()> {
    let (patient, disk) = on_small_disk(160)?;
    let name = format!("core.{}", patient.server.port());
    run("dd", &["if=/dev/zero", &format!("of={}", disk.path().join(&name).display()), "bs=1M", "count=90"])?;
    write_until_it_stops(&patient)?;
    let cured = patient.is_cured_of("disk-space");
    fs::remove_file(std::path::Path::new("/var/tmp").join(&name))?;
    cured
}

#[test]
fn the_disk_became_read_only() -> Result<()> {
    let (patient, disk) = on_small_disk(160)?;
    patient.server.stop(StopMode::Fast)?;
    run("mount", &["-o", "remount,ro", &disk.path().display().to_string()])?;
    patient.is_cured_of("disk-read-only")
}

#[test]
fn the_archive_command_fails() -> Result<()> {
    let scene = Scene::initialised_from(server())?;
    scene
        .server
        .each(&["ALTER SYSTEM SET archive_command = 'cp %p /nowhere/%f'", "SELECT pg_reload_conf()"])?;
    scene.server.sql("CREATE TABLE t (a int)")?;
    scene.server.switch_wal()?;
    let patient = Patient::from_server(scene.server)?;
    let found = patient.suffers_from("archiver-failing")?;
    // `init` ends with a check, which may read the archiver's statistics before its next attempt and exit with 1 for that.
    let _ = patient.carry_out(&found, 0);
    patient.is_well()
}

#[test]
fn sorts_fail_at_the_limit_of_temporary_files() -> Result<()> {
    let patient = Patient::of(server().setting("work_mem", "64kB").setting("temp_file_limit", "1MB"))?;
    let sorts = "SELECT count(*) FROM (SELECT g FROM generate_series(1, 200000) g ORDER BY md5(g::text)) q";
    ensure!(patient.server.sql(sorts).is_err(), "the limit counts");
    // What was logged in the second of the remedy's reload might be of before or after it.
    std::thread::sleep(std::time::Duration::from_secs(1));
    patient.is_cured_of("temp-file-limit")
}

#[test]
fn sorts_write_more_to_disk_than_is_good() -> Result<()> {
    let patient = Patient::of(server().setting("work_mem", "64kB"))?;
    patient.limit("temporary-files = [10000000, 1000000000000]")?;
    let sorts = "SELECT count(*) FROM (SELECT g FROM generate_series(1, 400000) g ORDER BY md5(g::text)) q";
    patient.server.sql(sorts)?;
    let found = patient.suffers_from("temporary-files")?;
    patient.carry_out(&found, 0)?;
    ensure!(patient.server.value("SHOW log_temp_files")? == "10MB");
    Ok(())
}

#[test]
fn the_archive_command_hangs() -> Result<()> {
    let patient =
        Patient::of(server().setting("archive_mode", "on").setting("archive_command", "sleep 1000"))?;
    patient.server.sql("CREATE TABLE t (a int)")?;
    for _ in 0..11 {
        patient.server.sql("INSERT INTO t VALUES (1)")?;
        patient.server.switch_wal()?;
    }
    let found = patient.suffers_from("archiver-behind")?;
    ensure!(found["remedies"][0]["command"].to_string().contains("pkill -TERM -P"), "{found}");
    // Whatever it waited for is there again, but the one that hangs does not know.
    patient.server.each(&["ALTER SYSTEM SET archive_command = 'test -n %p'", "SELECT pg_reload_conf()"])?;
    patient.carry_out(&found, 0)?;
    patient.is_well()
}

#[test]
fn archiving_is_on_and_no_command_is_set() -> Result<()> {
    let patient = Patient::of(server().setting("archive_mode", "on"))?;
    let found = patient.suffers_from("archive-command-empty")?;
    patient.carry_out(&found, 1)?;
    patient.server.restart()?;
    patient.is_well()
}

#[test]
fn wal_may_grow_beyond_its_disk() -> Result<()> {
    let (patient, _disk) = on_small_disk(160)?;
    patient.server.each(&["ALTER SYSTEM SET max_wal_size = '10GB'", "SELECT pg_reload_conf()"])?;
    patient.is_cured_of("wal-bound-too-large")
}

#[test]
fn no_inodes_are_left() -> Result<()> {
    let (patient, disk) = on_small_disk(160)?;
    run("mount", &["-o", "remount,nr_inodes=200", &disk.path().display().to_string()])?;
    let folder = disk.path().join("mail");
    fs::create_dir(&folder)?;
    let made = (0..400).take_while(|n| fs::write(folder.join(n.to_string()), "").is_ok()).count();
    ensure!(made < 400, "the inodes do not end");
    let found = patient.suffers_from("inodes")?;
    patient.carry_out(&found, 0)?;
    fs::remove_dir_all(&folder)?;
    patient.is_well()
}

#[test]
fn the_disk_of_the_data_is_full() -> Result<()> {
    let patient = Patient::new()?;
    let disk = Tmpfs::new(patient.server.ground().join("space"), 40)?;
    run(
        "chown",
        &["--reference", &patient.server.pgdata().display().to_string(), &disk.path().display().to_string()],
    )?;
    patient.server.each(&[
        &format!("CREATE TABLESPACE small LOCATION '{}'", disk.path().display()),
        "CREATE TABLE \"Archive\" (a int, b text) TABLESPACE small",
    ])?;
    let name = format!("dump.{}", patient.server.port());
    run("dd", &["if=/dev/zero", &format!("of={}", disk.path().join(&name).display()), "bs=1M", "count=38"])?;
    let fill = "INSERT INTO \"Archive\" SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g";
    ensure!(patient.server.sql(fill).is_err(), "there is room");
    let cured = patient.suffers_from("disk-space").and_then(|found| patient.carry_out(&found, 0));
    let _ = fs::remove_file(std::path::Path::new("/var/tmp").join(&name));
    cured?;
    patient.is_well()
}

#[test]
fn the_disk_is_full_within_hours_at_this_rate() -> Result<()> {
    let (patient, disk) = on_small_disk(1000)?;
    let state = patient.server.dir("state")?;
    let patient = patient.given("XDG_STATE_HOME", &state.display().to_string());
    patient.doctor(&[])?.succeeded()?;
    // An hour ago it had what it has now; since then somebody dumps into it.
    let kept = fs::read_dir(state.join("pgproof/doctor"))?.next().expect("a look is kept")?.path();
    let mut look: serde_json::Value = serde_json::from_slice(&fs::read(&kept)?)?;
    for one in look["disks"].as_array_mut().expect("disks") {
        one["at"] = serde_json::json!(jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1));
    }
    fs::write(&kept, look.to_string())?;
    run(
        "dd",
        &["if=/dev/zero", &format!("of={}", disk.path().join("more").display()), "bs=1M", "count=500"],
    )?;
    let found = patient.suffers_from("disk-filling")?;
    ensure!(found["seen"].to_string().contains("is full in"), "{found}");
    fs::remove_file(disk.path().join("more"))?;
    patient.is_well()
}

//! The server does not start.

use super::patient::{Patient, server};
use super::reach::make_certificate;
use crate::scene::Scene;
use anyhow::{Result, ensure};
use pgproof_pg::MajorVersion;
use pgproof_testkit::StopMode;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn stopped() -> Result<Patient> {
    let patient = Patient::new()?;
    patient.server.stop(StopMode::Fast)?;
    Ok(patient)
}

#[test]
fn others_may_look_into_the_data_directory() -> Result<()> {
    let patient = stopped()?;
    fs::set_permissions(patient.server.pgdata(), fs::Permissions::from_mode(0o755))?;
    patient.is_cured_of("directory-mode")
}

#[test]
fn the_control_file_was_moved_away() -> Result<()> {
    let patient = stopped()?;
    let path = patient.server.pgdata().join("global/pg_control");
    fs::rename(&path, path.with_extension("old"))?;
    patient.is_cured_of("control-file-missing")
}

#[test]
fn a_setting_is_misspelt() -> Result<()> {
    let patient = stopped()?;
    patient.server.append_settings(&[("shared_bufers", "1GB")])?;
    patient.is_cured_of("settings-broken")
}

#[test]
fn a_setting_has_a_value_that_it_cannot_have() -> Result<()> {
    let patient = stopped()?;
    patient.server.append_settings(&[("work_mem", "lots")])?;
    patient.is_cured_of("settings-broken")
}

#[test]
fn shared_buffers_are_larger_than_memory() -> Result<()> {
    let patient = stopped()?;
    patient.server.append_settings(&[("shared_buffers", "4TB")])?;
    patient.is_cured_of("memory-too-large")
}

#[test]
fn recovery_is_asked_for_and_no_command_given() -> Result<()> {
    let patient = stopped()?;
    fs::write(patient.server.pgdata().join("recovery.signal"), "")?;
    patient.is_cured_of("restore-command-missing")
}

#[test]
fn the_socket_directory_is_missing() -> Result<()> {
    let patient = stopped()?;
    fs::remove_dir_all(patient.server.socket_dir())?;
    patient.is_cured_of("socket-directory-missing")
}

#[test]
fn a_copy_left_out_empty_directories() -> Result<()> {
    let patient = stopped()?;
    for name in ["pg_notify", "pg_replslot"] {
        fs::remove_dir_all(patient.server.pgdata().join(name))?;
    }
    patient.is_cured_of("directory-missing")
}

#[test]
fn everybody_may_read_the_key() -> Result<()> {
    let patient = Patient::new()?;
    if patient.version() == MajorVersion::V18 {
        // The tests' build of 18 has no TLS.
        return Ok(());
    }
    make_certificate(&patient, 400)?;
    patient.server.append_settings(&[("ssl", "on")])?;
    patient.server.stop(StopMode::Fast)?;
    fs::set_permissions(patient.server.pgdata().join("server.key"), fs::Permissions::from_mode(0o644))?;
    patient.is_cured_of("tls-key-mode")
}

#[test]
fn the_port_is_taken() -> Result<()> {
    let first = Patient::new()?;
    let (port, folder) = (first.server.port().to_string(), first.server.socket_dir().display().to_string());
    let second = server().setting("port", &port).setting("unix_socket_directories", &folder).create()?;
    ensure!(second.start().is_err(), "two servers on one port");
    let second = Patient::from_server(second)?;
    let found = second.suffers_from("port-taken")?;
    ensure!(found["seen"].to_string().contains(&first.server.pgdata().display().to_string()), "{found}");
    second.carry_out(&found, 0)?;
    ensure!(second.server.pid().is_some(), "it runs now");
    Ok(())
}

#[test]
fn a_wal_file_is_gone_after_a_crash() -> Result<()> {
    let scene = Scene::initialised_from(server())?;
    // A server that `init` restarted is nobody's child here, and stays a zombie after kill -9 where no init reaps it.
    scene.server.restart()?;
    scene.server.checkpoint()?;
    let archived = scene.server.archive_everything()?;
    scene.server.kill9()?;
    let size = pgproof_pg::WalSegmentSize::DEFAULT;
    let name = archived.file_name(size);
    fs::remove_file(scene.server.pgdata().join("pg_wal").join(name.as_str()))?;
    Patient::from_server(scene.server)?.is_cured_of("wal-missing")
}

#[test]
fn a_backend_was_killed() -> Result<()> {
    let patient = Patient::new()?;
    let mut client = patient.server.client()?;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    std::process::Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    patient.suffers_from("backend-killed").map(drop)
}

#[test]
fn the_certificate_ends_in_days() -> Result<()> {
    let patient = Patient::new()?;
    if patient.version() == MajorVersion::V18 {
        // The tests' build of 18 has no TLS.
        return Ok(());
    }
    make_certificate(&patient, 5)?;
    patient.server.append_settings(&[("ssl", "on")])?;
    patient.server.restart()?;
    let found = patient.suffers_from("tls-certificate")?;
    ensure!(found["severity"] == "critical" && found["seen"].to_string().contains("ends in "), "{found}");
    make_certificate(&patient, 400)?;
    patient.carry_out(&found, 0)?;
    patient.is_well()
}

#[test]
fn a_library_of_an_extension_is_missing() -> Result<()> {
    let patient = stopped()?;
    patient.server.append_settings(&[("shared_preload_libraries", "pg_wonder")])?;
    ensure!(patient.server.start().is_err(), "it starts without");
    patient.is_cured_of("library-missing")
}

#[test]
fn huge_pages_are_demanded_and_not_there() -> Result<()> {
    let patient = stopped()?;
    patient.server.append_settings(&[("huge_pages", "on"), ("shared_buffers", "64MB")])?;
    if patient.server.start().is_ok() {
        // This host has some.
        return Ok(());
    }
    patient.is_cured_of("huge-pages-missing")
}

#[test]
fn the_archive_ends_before_the_target_of_recovery() -> Result<()> {
    let patient = stopped()?;
    let targets = [("restore_command", "false"), ("recovery_target_time", "2035-01-01 00:00:00+00")];
    patient.server.append_settings(&targets)?;
    fs::write(patient.server.pgdata().join("recovery.signal"), "")?;
    ensure!(patient.server.start().is_err(), "it comes up with less");
    let found = patient.suffers_from("recovery-target-missed")?;
    patient.carry_out(&found, 1)?;
    patient.is_well()
}

#[test]
fn nobody_reaped_the_postmaster_that_was_killed() -> Result<()> {
    let patient = Patient::new()?;
    // It is this process's child, and stays a zombie until it is asked for.
    let pid = fs::read_to_string(patient.server.pgdata().join("postmaster.pid"))?;
    let pid = pid.lines().next().unwrap_or_default();
    super::patient::run("kill", &["-9", pid])?;
    patient.is_cured_of("postmaster-zombie")
}

#[test]
fn the_data_are_of_another_version() -> Result<()> {
    let patient = stopped()?;
    let path = patient.server.pgdata().join("PG_VERSION");
    let right = fs::read_to_string(&path)?;
    fs::write(&path, "12\n")?;
    ensure!(patient.server.start().is_err(), "it starts");
    patient.suffers_from("version-mismatch")?;
    fs::write(&path, right)?;
    patient.server.start()?;
    patient.is_well()
}

#[test]
fn killed_servers_have_left_no_identifier_of_shared_memory() -> Result<()> {
    let patient = stopped()?;
    let account = patient.server.account().name.clone();
    // A world of its own, in which one identifier is all there are, and it is taken.
    let start = format!(
        "echo 1 > /proc/sys/kernel/shmmni && ipcmk -M 100 && exec runuser -u {account} -- {} -D {} >> {} 2>&1",
        patient.server.bin().join("postgres").display(),
        patient.server.pgdata().display(),
        patient.server.log_path().display()
    );
    ensure!(super::patient::run("unshare", &["--ipc", "sh", "-c", &start]).is_err(), "it starts");
    patient.is_cured_of("shared-memory-ids")
}

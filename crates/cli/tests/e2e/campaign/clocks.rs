//! Clocks that are wrong by a year, per process, and a store whose clock runs ahead of a stopped writer.

use super::{all_is_well, rounds};
use crate::s3::configure_at;
use crate::scene::{Scene, program, safe_server};
use anyhow::{Context, Result, ensure};
use pgproof_testkit::s3::S3Server;
use pgproof_testkit::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The program with a clock that is wrong by so much, as `faketime` (Debian's package of that name) writes it.
fn with_clock(scene: &Scene, wrong_by: &str, arguments: &[&str]) -> Command {
    let plain = scene.command(arguments);
    let mut command = Command::new("faketime");
    command.args(["-f", wrong_by]).arg(program()).args(arguments).current_dir("/").stdin(Stdio::null());
    command.env_clear();
    for (name, value) in plain.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    // Steps of the clock do not move the monotonic one.
    command.env("PATH", "/usr/bin:/bin").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}

/// A backup that takes a while.
fn slow_backup(scene: &Scene) -> Result<Child> {
    let mut command = scene.command(&["backup", "--full", "--max-rate", "4MB"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    wait::until_true("the backup to hold its lease", || {
        Ok(scene.pgproof(&["list", "--json"])?.stdout.contains("\"running\""))
    })?;
    Ok(child)
}

fn finished(child: Child) -> Result<(Option<i32>, String)> {
    let done = child.wait_with_output()?;
    Ok((done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned()))
}

#[test]
fn a_wrong_clock_removes_nothing_and_orders_nothing() -> Result<()> {
    let scene = Scene::initialised()?;
    scene.server.load_pgbench(2)?;
    scene.pgproof(&["backup"])?.succeeded()?;
    for round in 0..rounds()? {
        for wrong_by in ["+400d", "-400d"] {
            let running = slow_backup(&scene)?;
            // Leases, marks and their ages are the store's; whoever expires cannot make them older.
            let expire = ["expire", "--keep-last", "1", "--sweep-after", "1h"];
            scene.ran(with_clock(&scene, wrong_by, &expire))?.succeeded()?;
            let (code, said) = finished(running)?;
            ensure!(code == Some(0), "{wrong_by}: {said}");
            scene.server.sql("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid < 100")?;
            let ran = scene.ran(with_clock(&scene, wrong_by, &["backup", "--json"]))?.succeeded()?;
            ensure!(
                !ran.json()?["report"]["base"].is_null(),
                "it did not build upon the newest: {}",
                ran.stdout
            );
            scene.ran(with_clock(&scene, wrong_by, &["verify"]))?.succeeded().context(wrong_by)?;
            // The newest is the one furthest in WAL, whatever the clock said when it was taken.
            scene.server.sql("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid < 100")?;
            let newest = scene.pgproof(&["backup", "--json"])?.succeeded()?.json()?;
            let shown = scene.pgproof(&["show", "--json"])?.succeeded()?.json()?;
            assert_eq!(shown["report"]["id"], newest["report"]["id"], "{wrong_by}");
        }
        all_is_well(&scene, &format!("clock-{round}"))?;
    }
    Ok(())
}

#[test]
fn expire_on_another_host_spares_a_running_backup() -> Result<()> {
    let scene = Scene::initialised()?;
    scene.server.load_pgbench(2)?;
    scene.pgproof(&["backup"])?.succeeded()?;
    let running = slow_backup(&scene)?;
    // Another host cannot see the process, only its lease.
    let plain = scene.command(&["expire", "--keep-last", "1", "--sweep-after", "0s"]);
    let mut command = Command::new("unshare");
    command.args([
        "--uts",
        "--pid",
        "--fork",
        "--mount-proc",
        "sh",
        "-c",
        "hostname elsewhere && exec \"$0\" \"$@\"",
    ]);
    command.arg(program()).args(plain.get_args()).current_dir("/").stdin(Stdio::null());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    scene.ran(command)?.succeeded()?;
    let (code, said) = finished(running)?;
    ensure!(code == Some(0), "{said}");
    all_is_well(&scene, "other-host")
}

/// A writer that was stopped for longer than its lease lives, while another host expired, publishes nothing.
#[test]
fn a_writer_that_outlived_its_lease_does_not_publish() -> Result<()> {
    let clock = tempfile::NamedTempFile::new()?;
    std::fs::write(clock.path(), "+0")?;
    let store = S3Server::moto_with_clock(clock.path())?;
    let scene = Scene::new(safe_server())?;
    configure_at(&scene, &store, store.port())?;
    let data = scene.server.pgdata().display().to_string();
    scene.pgproof(&["init", "--yes", "--restart", "--pgdata", &data])?.succeeded()?;
    scene.server.load_pgbench(2)?;
    let first = scene.pgproof(&["backup", "--json"])?.succeeded()?.json()?;
    let running = slow_backup(&scene)?;
    let pid = Pid::from_child(&running);
    kill_process(pid, Signal::STOP)?;
    std::fs::write(clock.path(), "+30m")?;
    wait::until("the store's clock to be ahead", Duration::from_secs(20), || {
        let list = scene.pgproof(&["list", "--json"])?.stdout;
        Ok((!list.contains("\"running\"")).then_some(()))
    })?;
    scene.pgproof(&["expire", "--keep-last", "1", "--sweep-after", "0s"])?.succeeded()?;
    kill_process(pid, Signal::CONT)?;
    let (code, said) = finished(running)?;
    ensure!(code == Some(3) && said.contains("error:"), "{code:?} {said}");
    let shown = scene.pgproof(&["show", "--json"])?.succeeded()?.json()?;
    assert_eq!(shown["report"]["id"], first["report"]["id"]);
    all_is_well(&scene, "stopped-writer")
}

//! Backups of servers that send their files over the replication protocol.

use crate::scene::{Ran, Scene};
use crate::standby::{Pair, same_tables_come_back};
use crate::versions::{comes_back_from, while_busy};
use anyhow::{Context, Result, ensure};
use pgproof_pg::MajorVersion;
use pgproof_testkit::{Postgres, wait};
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// A server that archives, with a tablespace, and a role that may replicate and nothing else.
fn scene(version: MajorVersion) -> Result<Scene> {
    let builder = Postgres::builder(version).setting("fsync", "on").setting("max_wal_size", "2GB");
    let scene = Scene::initialised_from(builder.tablespace("spare"))?;
    let server = &scene.server;
    server.load_pgbench(3)?;
    server.each(&[
        "CREATE ROLE replicator REPLICATION LOGIN",
        "CREATE TABLE in_spare (a int) TABLESPACE spare",
        "CREATE TABLE kept_in_spare TABLESPACE spare AS SELECT g, md5(g::text) FROM generate_series(1, 9000) g",
    ])?;
    let hba = server.pgdata().join("pg_hba.conf");
    let before = fs::read_to_string(&hba)?;
    fs::write(&hba, format!("local replication replicator trust\nlocal all replicator reject\n{before}"))?;
    server.reload()?;
    Ok(scene)
}

fn command(scene: &Scene, more: &[&str]) -> Command {
    let mut command = scene.command(&[&["backup", "--remote", "--json"], more].concat());
    command
        .env("PGPROOF_INSTANCE_SOCKET_DIRECTORY", scene.server.socket_dir())
        .env("PGPROOF_INSTANCE_PORT", scene.server.port().to_string())
        .env("PGPROOF_INSTANCE_USER", "replicator");
    command
}

fn backup(scene: &Scene, more: &[&str]) -> Result<Ran> {
    scene.ran(command(scene, more))
}

fn good_backup(scene: &Scene) -> Result<Value> {
    Ok(backup(scene, &[])?.succeeded()?.json()?["report"].take())
}

fn name(report: &Value) -> Result<&str> {
    report["id"].as_str().context("a backup has a name")
}

fn number(report: &Value, field: &str) -> Result<u64> {
    report[field].as_u64().with_context(|| format!("{field} is a number"))
}

fn what_a_server_sends_comes_back(version: MajorVersion) -> Result<()> {
    let scene = scene(version)?;
    let full = good_backup(&scene)?;
    assert_eq!(full["base"], Value::Null);
    ensure!(number(&full, "pages_verified")? > 4000, "{full:#}");
    scene
        .server
        .sql("UPDATE pgbench_tellers SET tbalance = 1; INSERT INTO kept_in_spare VALUES (0, 'new')")?;
    let second = good_backup(&scene)?;
    assert_eq!(second["base"], full["id"]);
    let (stored, before) = (number(&second, "bytes_stored")?, number(&full, "bytes_stored")?);
    ensure!(stored * 10 < before, "{stored} bytes are stored again of {before}");
    for one in [&full, &second] {
        same_tables_come_back(&scene, name(one)?)?;
    }
    let busy = while_busy(&scene, || good_backup(&scene))?;
    assert_eq!(busy["bad_pages"], serde_json::json!([]));
    comes_back_from(&scene, name(&busy)?)?;
    // What lies here is compared with what was sent, and then WAL is trusted.
    let local = scene.pgproof(&["backup", "--json"])?.succeeded()?.json()?["report"].take();
    assert_eq!((&local["base"], &local["trusting"]), (&busy["id"], &Value::from(0)));
    let trusting = scene.pgproof(&["backup", "--json"])?.succeeded()?.json()?["report"].take();
    assert_eq!((&trusting["base"], &trusting["trusting"]), (&local["id"], &Value::from(1)));
    scene.pgproof(&["verify"])?.succeeded()?;
    comes_back_from(&scene, name(&trusting)?)
}

#[test]
fn what_a_server_of_14_sends_comes_back() -> Result<()> {
    what_a_server_sends_comes_back(MajorVersion::V14)
}

#[test]
fn what_a_server_of_15_sends_comes_back() -> Result<()> {
    what_a_server_sends_comes_back(MajorVersion::V15)
}

#[test]
fn what_a_server_of_16_sends_comes_back() -> Result<()> {
    what_a_server_sends_comes_back(MajorVersion::V16)
}

#[test]
fn what_a_server_of_17_sends_comes_back() -> Result<()> {
    what_a_server_sends_comes_back(MajorVersion::V17)
}

#[test]
fn what_a_server_of_18_sends_comes_back() -> Result<()> {
    what_a_server_sends_comes_back(MajorVersion::V18)
}

const SENDING: &str =
    "SELECT count(*) FROM pg_stat_progress_basebackup WHERE phase = 'streaming database files'";

/// A backup that is under way, slowly enough to be met there.
fn under_way(scene: &Scene) -> Result<std::process::Child> {
    let mut command = command(scene, &["--max-rate", "8MB"]);
    let running = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    wait::until_true("the server to send", || Ok(scene.server.value(SENDING)? == "1"))?;
    thread::sleep(Duration::from_secs(2));
    Ok(running)
}

#[test]
fn a_killed_remote_backup_and_a_lost_connection_leave_no_backup_and_hinder_none() -> Result<()> {
    let scene = scene(MajorVersion::V17)?;
    let mut killed = under_way(&scene)?;
    ensure!(killed.try_wait()?.is_none(), "the backup had ended before it was to be killed");
    killed.kill()?;
    killed.wait()?;

    let cut = under_way(&scene)?;
    scene.server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_basebackup")?;
    let output = cut.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    ensure!(stderr.contains("could not receive the backup"), "{stderr}");
    let list = scene.pgproof(&["list", "--json"])?.succeeded()?.json()?;
    let listed = list["report"]["lineages"][0]["backups"].as_array().context("backups")?;
    ensure!(listed.iter().all(|backup| backup["state"]["state"] != "published"), "{list:#}");

    let good = good_backup(&scene)?;
    assert_eq!(good["resumed"], Value::Bool(true));
    same_tables_come_back(&scene, name(&good)?)
}

/// A standby can only send; what its last WAL needs comes from the primary's archive.
#[test]
fn what_a_standby_sends_comes_back() -> Result<()> {
    let pair = Pair::new(MajorVersion::V17)?;
    let backup = || -> Result<Value> {
        let mut command = pair.command(&["backup", "--remote", "--json"]);
        // What lies here must not be needed, nor what the file says of the primary.
        command.env_remove("PGPROOF_BACKUP_FROM").env("PGPROOF_INSTANCE_PGDATA", "/nonexistent");
        Ok(pair.scene.ran(command)?.succeeded()?.json()?["report"].take())
    };
    let full = backup()?;
    assert_eq!(full["base"], Value::Null);
    pair.scene.server.sql("UPDATE pgbench_tellers SET tbalance = 7")?;
    pair.catch_up()?;
    let second = backup()?;
    assert_eq!(second["base"], full["id"]);
    pair.scene.pgproof(&["verify"])?.succeeded()?;
    same_tables_come_back(&pair.scene, name(&full)?)?;
    same_tables_come_back(&pair.scene, name(&second)?)
}

#[test]
fn a_bad_page_that_was_sent_is_named() -> Result<()> {
    let scene = scene(MajorVersion::V16)?;
    scene.server.checkpoint()?;
    let path = scene.server.value("SELECT pg_relation_filepath('pgbench_accounts')")?;
    let file = fs::OpenOptions::new().write(true).open(scene.server.pgdata().join(&path))?;
    std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 7 * 8192 + 4000)?;
    let bad = backup(&scene, &[])?;
    assert_eq!(bad.code, 1, "{}", bad.stderr);
    let report = bad.json()?["report"].take();
    assert_eq!(
        (&report["bad_pages"][0]["path"], &report["bad_pages"][0]["block"]),
        (&Value::from(path), &Value::from(7))
    );
    Ok(())
}

//! Transactions that are prepared while a backup runs, whose state files a checkpoint of that time brings into the copy.

use crate::scene::Scene;
use crate::standby::Pair;
use anyhow::{Context, Result, ensure};
use pgproof_pg::MajorVersion;
use pgproof_testkit::{Postgres, free_port, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::process::{Child, Command, Stdio};

/// A backup that was stopped in the middle, and does not outlive its test.
struct Halted {
    child: Option<Child>,
    pid: Pid,
}

impl Halted {
    /// Starts a backup and stops its process while the server makes the checkpoint at its start.
    fn at_its_checkpoint(server: &Postgres, mut command: Command) -> Result<Self> {
        command.env("PGPROOF_BACKUP_FAST_CHECKPOINT", "false");
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        let halted = Self { child: Some(child), pid };
        let spread = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'checkpointer' AND wait_event = 'CheckpointWriteDelay'";
        wait::until_true("the checkpoint of the backup", || Ok(server.value(spread)? == "1"))?;
        kill_process(pid, Signal::STOP)?;
        Ok(halted)
    }

    /// Lets it come to its end.
    fn finish(mut self) -> Result<Value> {
        kill_process(self.pid, Signal::CONT)?;
        let output = self.child.take().context("it runs")?.wait_with_output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {stderr}", output.status);
        let document: Value = serde_json::from_slice(&output.stdout)?;
        Ok(document["report"].clone())
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Prepares a transaction after the starting checkpoint of a backup of `read`, whose next checkpoint puts its state file among the files
/// that are about to be copied.
fn backup_with_late(pair: &Pair, read: &Postgres, late: &str, command: Command) -> Result<String> {
    let primary = &pair.scene.server;
    // A standby makes a restartpoint of a checkpoint that it replayed, and has to have something to write then.
    pair.catch_up()?;
    primary.sql("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 10 = 0")?;
    let goal = primary.lsn()?;
    wait::until_true("the standby to replay", || Ok(pair.standby.lsn()? >= goal))?;
    let halted = Halted::at_its_checkpoint(read, command)?;
    // The very next transaction would be removed rightly: only those behind it are taken for some of an epoch before.
    primary.sql("SELECT pg_current_xact_id()")?;
    let prepare = format!("PREPARE TRANSACTION '{late}'");
    primary.each(&["BEGIN", &format!("INSERT INTO late VALUES ('{late}')"), &prepare])?;
    let_the_backup_begin(read)?;
    pair.catch_up()?;
    read.checkpoint()?;
    let xid = primary.value(&format!("SELECT transaction FROM pg_prepared_xacts WHERE gid = '{late}'"))?;
    let file = read.pgdata().join(format!("pg_twophase/{:016X}", xid.parse::<u64>()?));
    ensure!(file.exists(), "{} is not among the files that are about to be copied", file.display());
    let report = halted.finish()?;
    report["id"].as_str().map(str::to_owned).context("a backup has a name")
}

/// Lets the spread checkpoint end now, so that the backup begins with it and not with the next one.
fn let_the_backup_begin(server: &Postgres) -> Result<()> {
    let hurry = |target: &str| {
        server.sql(&format!("ALTER SYSTEM SET checkpoint_completion_target = {target}"))?;
        server.reload()
    };
    hurry("0")?;
    let waiting = "SELECT (SELECT count(*) FROM pg_stat_activity
                            WHERE state = 'active' AND query LIKE '%pg_backup_start(%' AND pid <> pg_backend_pid())
                        + (SELECT count(*) FROM pg_stat_progress_basebackup WHERE phase = 'waiting for checkpoint to finish')";
    wait::until_true("the checkpoint to end", || Ok(server.value(waiting)? == "0"))?;
    hurry("0.9")
}

/// Restores a backup, ends every prepared transaction there, and gives the rows that are there then.
fn committed_after_restore(scene: &Scene, backup: &str) -> Result<String> {
    let (place, port) = (scene.new_place(backup), free_port()?.to_string());
    let spaces = scene.new_place(&format!("{backup}-spaces")).display().to_string();
    let into = place.display().to_string();
    let what = ["restore", "--json", "--pgdata", &into, "--backup", backup, "--tablespace-root", &spaces];
    let ran = scene.pgproof(&[&what[..], &["--start", "--port", &port]].concat())?;
    let restored = scene.server.copy_started_at(&place, port.parse()?)?;
    let notes = ran.succeeded()?.json()?["report"]["done"]["plan"]["notes"].to_string();
    let gids = "SELECT gid FROM pg_prepared_xacts ORDER BY gid";
    assert_eq!(restored.query(gids)?, scene.server.query(gids)?, "{backup}");
    ensure!(notes.contains("1 prepared transactions began after the backup's start"), "{backup}: {notes}");
    for row in restored.query(gids)? {
        let gid = row.first().cloned().flatten().context("a prepared transaction has a name")?;
        restored.each(&[&format!("COMMIT PREPARED '{gid}'")])?;
    }
    restored.value("SELECT string_agg(what, ' ' ORDER BY what) FROM late")
}

fn a_transaction_prepared_during_the_copy_comes_back(version: MajorVersion) -> Result<()> {
    let pair = Pair::new(version)?;
    let Pair { scene, standby } = &pair;
    let server = &scene.server;
    // Enough in a tablespace, which is sent first, to keep a server that sends waiting for a reader that stands still.
    server.sql(
        "CREATE TABLE late (what text);
         CREATE TABLE much TABLESPACE spare AS SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 20000) g",
    )?;
    server.each(&["BEGIN", "INSERT INTO late VALUES ('early')", "PREPARE TRANSACTION 'early'"])?;
    let mut backups = Vec::new();
    for late in ["full", "incremental"] {
        let command = scene.command(&["backup", "--json"]);
        backups.push(backup_with_late(&pair, server, late, command)?);
    }
    let mut remote = scene.command(&["backup", "--remote", "--json"]);
    remote
        .env("PGPROOF_INSTANCE_SOCKET_DIRECTORY", server.socket_dir())
        .env("PGPROOF_INSTANCE_PORT", server.port().to_string());
    backups.push(backup_with_late(&pair, server, "remote", remote)?);
    let mut of_standby = pair.command(&["backup", "--json"]);
    of_standby.env("PGPROOF_BACKUP_PRIMARY_CONNINFO", server.connection_string());
    backups.push(backup_with_late(&pair, standby, "standby", of_standby)?);
    server.archive_everything()?;
    for backup in backups {
        assert_eq!(
            committed_after_restore(scene, &backup)?,
            "early full incremental remote standby",
            "{backup}"
        );
    }
    Ok(())
}

#[test]
fn a_transaction_prepared_during_the_copy_of_17_comes_back() -> Result<()> {
    a_transaction_prepared_during_the_copy_comes_back(MajorVersion::V17)
}

#[test]
fn a_transaction_prepared_during_the_copy_of_18_comes_back() -> Result<()> {
    a_transaction_prepared_during_the_copy_comes_back(MajorVersion::V18)
}

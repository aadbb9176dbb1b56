//! Backups of real streaming standbys: what comes back is what the primary holds.

use crate::scene::{Ran, Scene, safe_server};
use crate::versions::{comes_back_from, while_busy};
use anyhow::{Context, Result, ensure};
use pgproof_pg::MajorVersion;
use pgproof_testkit::{Postgres, StopMode, free_port, wait};
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// A primary that archives, and its standby, which does not.
pub(crate) struct Pair {
    pub(crate) scene: Scene,
    pub(crate) standby: Postgres,
}

impl Pair {
    pub(crate) fn new(version: MajorVersion) -> Result<Self> {
        let builder = Postgres::builder(version).setting("fsync", "on").setting("max_wal_size", "2GB");
        let scene = Scene::initialised_from(builder.tablespace("spare"))?;
        scene.server.load_pgbench(2)?;
        scene.server.sql("CREATE TABLE in_spare (a int) TABLESPACE spare")?;
        let (data, spare) = (scene.server.dir("standby")?, scene.server.dir("standby-spare")?);
        let mapping = format!("{}={}", scene.server.tablespace_dir("spare").display(), spare.display());
        let into = data.display().to_string();
        let arguments = ["--pgdata", &into, "--tablespace-mapping", &mapping];
        let more = ["--checkpoint=fast", "--wal-method=stream"];
        scene.server.run_client("pg_basebackup", &[&arguments[..], &more[..]].concat())?;
        let standby = Postgres::on(version, &data)?;
        // pg_basebackup is the newest one, and would write parameters that older servers do not know.
        let primary = scene.server.connection_string();
        standby.append_settings(&[("primary_conninfo", &primary)])?;
        fs::write(data.join("standby.signal"), "")?;
        standby.account().own(&data.join("standby.signal"))?;
        standby.start()?;
        let pair = Self { scene, standby };
        pair.catch_up()?;
        Ok(pair)
    }

    /// Waits until the standby has replayed a checkpoint of now.
    pub(crate) fn catch_up(&self) -> Result<()> {
        self.scene.server.checkpoint()?;
        let goal = self.scene.server.lsn()?;
        wait::until_true("the standby to catch up", || Ok(self.standby.lsn()? >= goal))
    }

    /// `pgproof` on the standby's host: only what is different there is set.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.scene.command(arguments);
        command
            .env("PGPROOF_INSTANCE_PGDATA", self.standby.pgdata())
            .env("PGPROOF_INSTANCE_SOCKET_DIRECTORY", self.standby.socket_dir())
            .env("PGPROOF_INSTANCE_PORT", self.standby.port().to_string())
            .env("PGPROOF_BACKUP_FROM", "standby");
        command
    }

    /// A backup of the standby that may ask the primary to end its segment.
    fn backup(&self, more: &[&str]) -> Result<Ran> {
        let mut command = self.command(&[&["backup", "--json"], more].concat());
        command.env("PGPROOF_BACKUP_PRIMARY_CONNINFO", self.scene.server.connection_string());
        self.scene.ran(command)
    }

    fn good_backup(&self) -> Result<Value> {
        Ok(self.backup(&[])?.succeeded()?.json()?["report"].take())
    }

    fn shown(&self, report: &Value) -> Result<Value> {
        let shown = self.scene.pgproof(&["show", name(report)?, "--json"])?.succeeded()?.json()?;
        Ok(shown["report"]["summary"].clone())
    }

    /// What is stored restores, and every object is whole.
    fn verify(&self) -> Result<()> {
        self.scene.pgproof(&["verify"])?.succeeded().map(drop)
    }
}

fn name(report: &Value) -> Result<&str> {
    report["id"].as_str().context("a backup has a name")
}

fn a_busy_standby_comes_back(version: MajorVersion) -> Result<()> {
    let pair = Pair::new(version)?;
    let full = while_busy(&pair.scene, || pair.good_backup())?;
    assert_eq!((&full["base"], &full["from_standby"]), (&Value::Null, &Value::Bool(true)));
    pair.catch_up()?;
    let mut second = while_busy(&pair.scene, || pair.good_backup())?;
    assert_eq!(second["base"], full["id"], "{second:#}");
    // The primary's archiver may be behind the standby: what it has not archived yet is compared instead.
    for _ in 0..3 {
        if second["gaps"] == serde_json::json!([]) {
            break;
        }
        pair.catch_up()?;
        second = while_busy(&pair.scene, || pair.good_backup())?;
    }
    assert_eq!(second["gaps"], serde_json::json!([]), "WAL alone must tell what changed");
    ensure!(second["reasons"]["reused"]["files"].as_u64() > Some(500), "{}", second["reasons"]);
    let summary = pair.shown(&second)?;
    assert_eq!(summary["from_standby"], Value::Bool(true));
    assert_eq!(summary["origin"]["kind"], "directory");
    let label = summary["backup_label"].as_str().context("a label")?;
    ensure!(label.contains("BACKUP FROM: standby"), "{label}");
    for backup in [&full, &second] {
        comes_back_from(&pair.scene, name(backup)?)?;
    }
    Ok(())
}

/// Restores one backup, replays all WAL since, and compares every row.
pub(crate) fn same_tables_come_back(scene: &Scene, backup: &str) -> Result<()> {
    scene.server.archive_everything()?;
    let (place, port) = (scene.new_place(backup), free_port()?.to_string());
    let spaces = scene.new_place(&format!("{backup}-spaces")).display().to_string();
    let into = place.display().to_string();
    let what = ["restore", "--pgdata", &into, "--backup", backup, "--tablespace-root", &spaces];
    let ran = scene.pgproof(&[&what[..], &["--start", "--port", &port]].concat())?;
    let restored = scene.server.copy_started_at(&place, port.parse()?)?;
    ran.succeeded()?;
    assert_eq!(restored.table_sums()?, scene.server.table_sums()?);
    Ok(())
}

#[test]
fn a_busy_standby_of_14_comes_back() -> Result<()> {
    a_busy_standby_comes_back(MajorVersion::V14)
}

#[test]
fn a_busy_standby_of_15_comes_back() -> Result<()> {
    a_busy_standby_comes_back(MajorVersion::V15)
}

#[test]
fn a_busy_standby_of_16_comes_back() -> Result<()> {
    a_busy_standby_comes_back(MajorVersion::V16)
}

#[test]
fn a_busy_standby_of_17_comes_back() -> Result<()> {
    a_busy_standby_comes_back(MajorVersion::V17)
}

#[test]
fn a_busy_standby_of_18_comes_back() -> Result<()> {
    a_busy_standby_comes_back(MajorVersion::V18)
}

/// A standby that is promoted in the middle of a backup is none any more; what was there before stays, and its backups go on.
#[test]
fn a_promotion_ends_the_backup_and_leaves_the_earlier_ones() -> Result<()> {
    let pair = Pair::new(MajorVersion::V15)?;
    let before = pair.good_backup()?;
    let mut slow = pair.command(&["backup", "--full", "--max-rate", "8MB"]);
    slow.stdout(Stdio::null()).stderr(Stdio::piped());
    let running = slow.spawn()?;
    wait::until_true("the backup to begin", || {
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
        Ok(pair.standby.value(locks)? == "1")
    })?;
    thread::sleep(Duration::from_secs(1));
    pair.standby.sql("SELECT pg_promote()")?;
    let output = running.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    ensure!(stderr.contains("was promoted during the backup"), "{stderr}");
    let list = pair.scene.pgproof(&["list", "--json"])?.succeeded()?.json()?;
    let listed = list["report"]["lineages"][0]["backups"].as_array().context("backups")?;
    let published = listed.iter().filter(|backup| backup["state"] == "published");
    assert_eq!(published.map(|backup| &backup["id"]).collect::<Vec<_>>(), [&before["id"]], "{list:#}");
    let refused = pair.backup(&[])?;
    assert_eq!(refused.code, 3);
    ensure!(refused.stderr.contains("is not in recovery"), "{}", refused.stderr);
    pair.verify()?;
    same_tables_come_back(&pair.scene, name(&before)?)
}

#[test]
fn without_its_last_wal_a_backup_fails_and_says_what_to_do() -> Result<()> {
    let pair = Pair::new(MajorVersion::V17)?;
    pair.scene.server.sql("SELECT pg_logical_emit_message(false, 'test', 'something')")?;
    pair.catch_up()?;
    let mut command = pair.command(&["backup"]);
    command.env("PGPROOF_BACKUP_ARCHIVE_TIMEOUT", "4s");
    let failed = pair.scene.ran(command)?;
    assert_eq!(failed.code, 3, "{}", failed.stderr);
    for words in ["the archive lacks WAL segment", "which this backup of a standby needs", "pg_switch_wal()"]
    {
        ensure!(failed.stderr.contains(words), "{}", failed.stderr);
    }
    let list = pair.scene.pgproof(&["list"])?.succeeded()?;
    // The primary does what was said, and the attempt is continued.
    pair.scene.server.switch_wal()?;
    let mut command = pair.command(&["backup", "--json"]);
    command.env("PGPROOF_BACKUP_ARCHIVE_TIMEOUT", "60s");
    let switcher = thread::scope(|scope| {
        let switching = scope.spawn(|| -> Result<()> {
            thread::sleep(Duration::from_secs(3));
            pair.scene.server.switch_wal().map(drop)
        });
        let ran = pair.scene.ran(command);
        switching.join().expect("the thread does not panic").and(ran)
    })?;
    let report = switcher.succeeded()?.json()?;
    assert_eq!(report["report"]["resumed"], Value::Bool(true), "{}", list.stdout);
    same_tables_come_back(&pair.scene, report["report"]["id"].as_str().context("a name")?)
}

/// The files of two servers are equal by WAL, but a fault of the one must not come into the backups of the other.
#[test]
fn a_backup_of_another_server_is_compared_with_and_not_trusted() -> Result<()> {
    let pair = Pair::new(MajorVersion::V16)?;
    let primary = pair.scene.pgproof(&["backup", "--json"])?.succeeded()?.json()?["report"].take();
    pair.scene.server.sql("UPDATE pgbench_tellers SET tbalance = 7")?;
    pair.catch_up()?;
    let of_standby = pair.good_backup()?;
    assert_eq!(of_standby["base"], primary["id"]);
    let gap = of_standby["gaps"][0].as_str().unwrap_or_default();
    ensure!(gap.contains("it was taken from another server"), "{of_standby:#}");
    let (read, logical) = (of_standby["bytes_read"].as_u64(), of_standby["bytes_logical"].as_u64());
    ensure!(read >= logical.map(|bytes| bytes * 9 / 10), "everything is read: {read:?} of {logical:?}");
    let (stored, all) = (of_standby["bytes_stored"].as_u64(), primary["bytes_stored"].as_u64());
    ensure!(stored < all.map(|bytes| bytes / 2), "what is equal is not stored again: {stored:?} of {all:?}");
    assert_eq!(of_standby["trusting"], 0);

    pair.catch_up()?;
    let trusting = pair.good_backup()?;
    assert_eq!((&trusting["base"], &trusting["trusting"]), (&of_standby["id"], &Value::from(1)));
    // The primary builds on its own earlier one, though the standby's are newer.
    let again = pair.scene.pgproof(&["backup", "--json"])?.succeeded()?.json()?["report"].take();
    assert_eq!((&again["base"], &again["gaps"]), (&primary["id"], &serde_json::json!([])));
    for backup in [&of_standby, &trusting, &again] {
        same_tables_come_back(&pair.scene, name(backup)?)?;
    }
    Ok(())
}

#[test]
fn a_standby_comes_back_to_a_time() -> Result<()> {
    let pair = Pair::new(MajorVersion::V18)?;
    let server = &pair.scene.server;
    let backup = pair.good_backup()?;
    server.sql("CREATE TABLE t AS SELECT 1 AS a")?;
    let time = server.value("SELECT pg_sleep(1)::text || clock_timestamp()::text")?;
    thread::sleep(Duration::from_secs(1));
    server.sql("DROP TABLE t")?;
    server.archive_everything()?;
    let (place, port) = (pair.scene.new_place("restored"), free_port()?.to_string());
    let spaces = pair.scene.new_place("spaces").display().to_string();
    let into = place.display().to_string();
    let target = ["restore", "--pgdata", &into, "--backup", name(&backup)?, "--time", &time];
    let more = ["--tablespace-root", &spaces, "--start", "--port", &port, "--target-action", "promote"];
    let ran = pair.scene.pgproof(&[&target[..], &more[..]].concat())?;
    let restored = server.copy_started_at(&place, port.parse()?)?;
    ran.succeeded()?;
    assert_eq!(restored.value("SELECT count(*) FROM t")?, "1");
    Ok(())
}

#[test]
fn without_full_page_writes_on_the_primary_nothing_is_backed_up() -> Result<()> {
    let pair = Pair::new(MajorVersion::V14)?;
    let server = &pair.scene.server;
    server.each(&["ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()"])?;
    server.sql("UPDATE pgbench_accounts SET abalance = 1 WHERE aid % 100 = 0")?;
    pair.catch_up()?;
    let refused = pair.backup(&[])?;
    assert_eq!(refused.code, 3, "{}", refused.stdout);
    ensure!(refused.stderr.contains("full_page_writes=off"), "{}", refused.stderr);
    // What is named as its primary is asked who it is, before anything is copied.
    let stranger = safe_server().start()?;
    let mut command = pair.command(&["backup"]);
    command.env("PGPROOF_BACKUP_PRIMARY_CONNINFO", stranger.connection_string());
    let refused = pair.scene.ran(command)?;
    ensure!(refused.stderr.contains("is not the primary of this standby"), "{}", refused.stderr);
    stranger.stop(StopMode::Immediate)?;
    Ok(())
}

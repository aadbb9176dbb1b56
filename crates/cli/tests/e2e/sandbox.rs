//! `sandbox`: a clone answers though most of the repository was never read, connects to nobody, and leaves nothing.

use crate::scene::Scene;
use anyhow::{Context, Result, ensure};
use pgproof_pg::MajorVersion;
use pgproof_testkit::{Postgres, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// A server with a backup, and a place for sandboxes.
struct Lab {
    scene: Scene,
    place: PathBuf,
}

impl Lab {
    fn of(version: MajorVersion, fill: &str) -> Result<Self> {
        let scene =
            Scene::new(Postgres::builder(version).setting("fsync", "on").setting("wal_level", "logical"))?;
        scene.init(&["--restart"])?.succeeded()?;
        scene.server.sql(fill)?;
        scene.pgproof(&["backup"])?.succeeded()?;
        scene.server.sql("INSERT INTO small VALUES (2, 'after the backup')")?;
        scene.server.archive_everything()?;
        // Short, because the path of a socket is: and where the server's account may go.
        let place = scene.server.ground().join("b");
        Ok(Self { scene, place })
    }

    fn sandbox(&self, arguments: &[&str]) -> Result<crate::scene::Ran> {
        let place = self.place.display().to_string();
        let (verb, rest) = arguments.split_first().context("a verb")?;
        let (before, behind) = match rest.iter().position(|word| *word == "--") {
            Some(at) => rest.split_at(at),
            None => (rest, &[][..]),
        };
        let all = [&["sandbox", verb][..], before, &["--directory", &place][..], behind].concat();
        self.scene.pgproof(&all)
    }

    fn create(&self, arguments: &[&str]) -> Result<Value> {
        let all = [&["create", "--name", "c", "--json"][..], arguments].concat();
        Ok(self.sandbox(&all)?.succeeded()?.json()?["report"].clone())
    }

    fn ask(&self, sql: &str) -> Result<String> {
        Ok(self.sandbox(&["psql", "c", "--", "-XAtc", sql])?.succeeded()?.stdout.trim().to_owned())
    }

    /// Processes whose command line names the place.
    fn processes(&self) -> Result<Vec<String>> {
        let place = self.place.display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&place) {
                found.push(line);
            }
        }
        Ok(found)
    }

    fn process_of(&self, name: &str) -> Result<i64> {
        let place = self.place.display().to_string();
        for entry in fs::read_dir("/proc")?.flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let is_it = match name {
                "postgres" => line.contains("bin/postgres -D"),
                verb => line.contains(&format!("sandbox {verb}")),
            };
            if line.contains(&place) && is_it {
                return Ok(entry.file_name().to_string_lossy().parse()?);
            }
        }
        anyhow::bail!("no process {name}")
    }

    fn nothing_is_left(&self) -> Result<()> {
        wait::until_true("all processes of the sandbox to end", || Ok(self.processes()?.is_empty()))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        ensure!(!mounts.contains(&*self.place.display().to_string()), "{mounts}");
        Ok(())
    }
}

const SMALL: &str = "CREATE TABLE small (id int PRIMARY KEY, text text); INSERT INTO small VALUES (1, 'before'); \
    CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 30) AS filler FROM generate_series(1, 40000) g";

#[test]
fn a_clone_of_14_answers_and_takes_writes() -> Result<()> {
    answers(MajorVersion::V14)
}

#[test]
fn a_clone_of_15_answers_and_takes_writes() -> Result<()> {
    answers(MajorVersion::V15)
}

#[test]
fn a_clone_of_16_answers_and_takes_writes() -> Result<()> {
    answers(MajorVersion::V16)
}

#[test]
fn a_clone_of_17_answers_and_takes_writes() -> Result<()> {
    answers(MajorVersion::V17)
}

#[test]
fn a_clone_of_18_answers_and_takes_writes() -> Result<()> {
    answers(MajorVersion::V18)
}

fn answers(version: MajorVersion) -> Result<()> {
    let lab = Lab::of(version, SMALL)?;
    let report = lab.create(&["--lazy"])?;
    ensure!(report["kind"] == "lazy" && report["status"] == "running", "{report:#}");
    ensure!(lab.ask("SELECT count(*) FROM small")? == "2");
    ensure!(lab.ask("SELECT count(*), sum(length(filler)) FROM big")? == "40000|38400000");
    for sql in [
        "UPDATE big SET id = id + 1",
        "CREATE TABLE own AS SELECT * FROM big",
        "CHECKPOINT",
        "VACUUM FULL small",
        "DROP TABLE big",
    ] {
        lab.ask(sql)?;
    }
    ensure!(lab.ask("SELECT count(*), min(id) FROM own")? == "40000|2");
    ensure!(lab.scene.server.value("SELECT min(id) FROM big")? == "1", "the origin changed");
    let exec = lab.sandbox(&["exec", "c", "--", "sh", "-c", "echo $PGHOST; exit 7"])?;
    ensure!(exec.code == 7 && exec.stdout.contains("/b/c/s"), "{exec:?}");
    lab.sandbox(&["stop", "c"])?.succeeded()?;
    lab.nothing_is_left()?;
    lab.sandbox(&["start", "c"])?.succeeded()?;
    ensure!(lab.ask("SELECT count(*), min(id) FROM own")? == "40000|2");
    lab.sandbox(&["drop", "c"])?.succeeded()?;
    lab.nothing_is_left()?;
    ensure!(fs::read_dir(&lab.place)?.count() == 0);
    Ok(())
}

#[test]
fn packs_that_are_not_needed_may_be_gone_and_little_is_read() -> Result<()> {
    let lab = Lab::of(MajorVersion::V15, SMALL)?;
    let report = lab.create(&["--lazy"])?;
    let read = report["measured"]["bytes_read"].as_u64().context("bytes read")?;
    ensure!(read < 64 << 20, "{report:#}");
    let pages = |report: &Value, name: &str| report["statistics"][name].as_u64().context("statistics");
    ensure!(pages(&report, "pages_read")? * 4 < pages(&report, "pages_total")?, "{report:#}");
    ensure!(lab.ask("SELECT text FROM small WHERE id = 1")? == "before");
    // Nothing of the backup is left: what was read once is still there, and the rest is an error and no lie.
    let mut packs = Vec::new();
    find_packs(&lab.scene.repository(), &mut packs)?;
    ensure!(!packs.is_empty());
    for pack in &packs {
        fs::rename(pack, pack.with_extension("away"))?;
    }
    ensure!(lab.ask("SELECT text FROM small WHERE id = 1")? == "before");
    let lost = lab.sandbox(&["psql", "c", "--", "-XAtc", "SELECT sum(length(filler)) FROM big"])?;
    ensure!(lost.code != 0 && lost.stderr.contains("Input/output error"), "{lost:?}");
    for pack in &packs {
        fs::rename(pack.with_extension("away"), pack)?;
    }
    // The failure was not kept.
    ensure!(lab.ask("SELECT sum(length(filler)) FROM big")? == "38400000");
    lab.sandbox(&["drop", "c"])?.succeeded()?;
    lab.nothing_is_left()
}

fn find_packs(directory: &std::path::Path, packs: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            find_packs(&path, packs)?;
        } else if path.components().any(|part| ["pack", "packs"].iter().any(|name| part.as_os_str() == *name))
        {
            packs.push(path);
        }
    }
    Ok(())
}

#[test]
fn a_killed_keeper_leaves_no_process_and_no_mount_and_can_be_dropped() -> Result<()> {
    let lab = Lab::of(MajorVersion::V15, SMALL)?;
    for victim in ["keep", "files", "postgres"] {
        let report = lab.create(&["--lazy"])?;
        let mut load = lab.scene.command(&[
            "sandbox",
            "psql",
            "c",
            "--directory",
            &lab.place.display().to_string(),
            "--",
            "-XAtc",
            "UPDATE big SET filler = filler || 'x'",
        ]);
        let mut load = load.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_millis(300));
        let pid = match victim {
            "keep" => report["keeper"].as_i64().context("keeper")?,
            name => lab.process_of(name)?,
        };
        kill_process(Pid::from_raw(i32::try_from(pid)?).context("a process")?, Signal::KILL)?;
        load.wait()?;
        lab.nothing_is_left().with_context(|| format!("after {victim} was killed"))?;
        let listed = lab.sandbox(&["list", "--json"])?.json()?["report"]["sandboxes"][0].clone();
        ensure!(listed["status"] == "failed" && listed["failure"].is_string(), "{listed:#}");
        lab.sandbox(&["drop", "c"])?.succeeded()?;
    }
    Ok(())
}

#[test]
fn a_mask_runs_before_anybody_else_and_a_failing_one_leaves_nothing() -> Result<()> {
    let lab = Lab::of(MajorVersion::V15, SMALL)?;
    let mask = lab.scene.server.ground().join("mask.sql");
    fs::write(&mask, "UPDATE small SET text = 'masked';\nSELECT no_such_function();\n")?;
    let file = mask.display().to_string();
    let failed = lab.sandbox(&["create", "--name", "c", "--mask", &file])?;
    ensure!(failed.code == 3 && failed.stderr.contains("no_such_function"), "{failed:?}");
    lab.nothing_is_left()?;
    ensure!(fs::read_dir(&lab.place)?.count() == 0);
    fs::write(&mask, "UPDATE small SET text = 'masked';\n")?;
    lab.create(&["--mask", &file])?;
    ensure!(lab.ask("SELECT DISTINCT text FROM small")? == "masked");
    lab.sandbox(&["drop", "c"])?.succeeded()?;
    lab.nothing_is_left()
}

#[test]
fn a_subscription_a_foreign_server_and_a_worker_of_the_origin_reach_nobody() -> Result<()> {
    let lab = Lab::of(
        MajorVersion::V15,
        &format!("{SMALL}; CREATE EXTENSION postgres_fdw; CREATE TABLE copied (id int)"),
    )?;
    let server = &lab.scene.server;
    let (host, port) = (server.socket_dir().display().to_string(), server.port());
    // Live in the origin's catalogs: the clone has them as they are.
    server.sql(&format!(
        "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port={port} dbname=postgres' PUBLICATION p WITH (connect = false)"
    ))?;
    server.sql("ALTER SUBSCRIPTION s ENABLE")?;
    server.sql(&format!(
        "CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{port}', dbname 'postgres'); \
         CREATE USER MAPPING FOR postgres SERVER there; \
         CREATE FOREIGN TABLE far (id int) SERVER there OPTIONS (table_name 'small')"
    ))?;
    server.archive_everything()?;
    let report = lab.create(&["--lazy"])?;
    ensure!(report["isolation"].to_string().contains("network namespace"), "{report:#}");
    ensure!(
        lab.ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'logical replication%'")?
            == "0"
    );
    ensure!(lab.ask("SELECT subenabled FROM pg_subscription")? == "t");
    ensure!(lab.ask("SHOW archive_mode")? == "off" && lab.ask("SHOW primary_conninfo")?.is_empty());
    let far = lab.sandbox(&["psql", "c", "--", "-XAtc", "SELECT count(*) FROM far"])?;
    ensure!(far.code != 0 && far.stderr.contains("could not connect"), "{far:?}");
    // Not even as a superuser who writes to the host.
    let write =
        lab.sandbox(&["psql", "c", "--", "-XAtc", &format!("COPY small TO PROGRAM 'cat > {host}/x'")])?;
    ensure!(write.code != 0 && !PathBuf::from(&host).join("x").exists(), "{write:?}");
    lab.sandbox(&["drop", "c"])?.succeeded()?;
    lab.nothing_is_left()
}

#[test]
fn an_ordinary_account_gets_a_restored_one_and_is_told_why() -> Result<()> {
    let lab = Lab::of(MajorVersion::V15, SMALL)?;
    let account = lab.scene.server.account();
    account.create_dir(&lab.place)?;
    let mut command = lab.scene.command(&["sandbox", "create", "--name", "c", "--json", "--directory"]);
    command.arg(&lab.place);
    account.apply(&mut command);
    let report = lab.scene.ran(command)?.succeeded()?.json()?["report"].clone();
    ensure!(report["kind"] == "full" && report["why_full"].is_string(), "{report:#}");
    ensure!(lab.ask("SELECT count(*) FROM small")? == "2");
    let keeper = i32::try_from(report["keeper"].as_i64().context("keeper")?)?;
    kill_process(Pid::from_raw(keeper).context("a process")?, Signal::KILL)?;
    lab.nothing_is_left()?;
    lab.sandbox(&["drop", "c"])?.succeeded()?;
    Ok(())
}

#[test]
fn a_full_layer_is_a_full_disk_and_the_server_lives() -> Result<()> {
    let lab = Lab::of(MajorVersion::V15, SMALL)?;
    lab.create(&["--lazy", "--layer-limit", "24MB"])?;
    let full = lab.sandbox(&["psql", "c", "--", "-XAtc", "CREATE TABLE own AS SELECT * FROM big"])?;
    ensure!(full.code != 0 && full.stderr.contains("No space left on device"), "{full:?}");
    ensure!(lab.ask("SELECT count(*) FROM small")? == "2", "the server went down");
    lab.sandbox(&["drop", "c"])?.succeeded()?;
    lab.nothing_is_left()
}

#[test]
fn what_is_over_is_collected() -> Result<()> {
    let lab = Lab::of(MajorVersion::V15, SMALL)?;
    lab.create(&["--lazy", "--ttl", "1s"])?;
    std::thread::sleep(Duration::from_secs(2));
    let gone = lab.sandbox(&["gc", "--json"])?.succeeded()?.json()?["report"]["removed"].clone();
    ensure!(gone[0] == "c", "{gone:#}");
    lab.nothing_is_left()
}

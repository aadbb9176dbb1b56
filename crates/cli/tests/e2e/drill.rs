//! `drill`: healthy clusters pass with no finding, and each real fault fails its own check and no other.

use crate::scene::{Ran, Scene, safe_server};
use anyhow::{Context, Result, ensure};
use pgproof_pg::MajorVersion;
use pgproof_testkit::{Postgres, StopMode, wait};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

#[test]
fn a_healthy_cluster_of_14_passes_a_drill_with_no_finding() -> Result<()> {
    passes(MajorVersion::V14)
}

#[test]
fn a_healthy_cluster_of_15_passes_a_drill_with_no_finding() -> Result<()> {
    passes(MajorVersion::V15)
}

#[test]
fn a_healthy_cluster_of_16_passes_a_drill_with_no_finding() -> Result<()> {
    passes(MajorVersion::V16)
}

#[test]
fn a_healthy_cluster_of_17_passes_a_drill_with_no_finding() -> Result<()> {
    passes(MajorVersion::V17)
}

#[test]
fn a_healthy_cluster_of_18_passes_a_drill_with_no_finding() -> Result<()> {
    passes(MajorVersion::V18)
}

/// A cluster with something for every check to look at, and its first backup.
struct Site {
    scene: Scene,
    scratch: PathBuf,
    assertions: PathBuf,
}

const SHOP: &str = "CREATE EXTENSION bloom; \
    CREATE TABLE orders (id serial PRIMARY KEY, body text); \
    INSERT INTO orders (body) SELECT repeat(md5(g::text), 5) FROM generate_series(1, 3000) g; \
    CREATE TABLE lines (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, place int); \
    INSERT INTO lines (place) SELECT g FROM generate_series(1, 100) g; ANALYZE";

impl Site {
    fn new(scene: Scene) -> Result<Self> {
        let server = &scene.server;
        server.each(&["CREATE DATABASE shop"])?;
        server.sql_in("shop", SHOP)?;
        let (scratch, assertions) = (server.dir("x")?, server.dir("assertions")?);
        fs::write(
            assertions.join("counted.sql"),
            "-- database: shop\nSELECT count(*) >= 3000 FROM orders;\n",
        )?;
        fs::write(
            assertions.join("empty.sql"),
            "-- database: shop\nSELECT * FROM orders WHERE body IS NULL",
        )?;
        let command = server.ground().join("look");
        fs::write(
            &command,
            "#!/bin/sh\ntest -S \"$PGHOST/.s.PGSQL.$PGPORT\" && test \"$PGDATABASE\" = postgres\n",
        )?;
        let ran = Command::new("chmod").arg("755").arg(&command).status()?;
        ensure!(ran.success());
        let drill = format!(
            "[drill]\nassertions = \"{}\"\ncommand = \"{}\"\n",
            assertions.display(),
            command.display()
        );
        let config = scene.config();
        fs::write(&config, fs::read_to_string(&config)?.replacen("[drill]\n", &drill, 1))?;
        let site = Self { scene, scratch, assertions };
        site.scene.pgproof(&["heartbeat", "--create"])?.succeeded()?;
        site.scene.pgproof(&["backup"])?.succeeded()?;
        Ok(site)
    }

    fn server(&self) -> &Postgres {
        &self.scene.server
    }

    fn drill(&self, arguments: &[&str]) -> Result<Drilled> {
        let scratch = self.scratch.display().to_string();
        let ran = self.scene.pgproof(&[&["drill", "--json", "--scratch", &scratch], arguments].concat())?;
        Drilled::of(ran)
    }

    fn nothing_is_left(&self) -> Result<()> {
        let left = fs::read_dir(&self.scratch)?.count();
        ensure!(left == 0, "{left} directories are left in {}", self.scratch.display());
        Ok(())
    }
}

/// A drill's report.
struct Drilled {
    code: i32,
    report: Value,
    talk: String,
}

impl Drilled {
    fn of(ran: Ran) -> Result<Self> {
        let json = ran.json()?;
        let report = json.pointer("/report/done").with_context(|| format!("{json:#}\n{}", ran.stderr))?;
        Ok(Self { code: ran.code, report: report.clone(), talk: ran.stderr })
    }

    fn checks(&self) -> impl Iterator<Item = &Value> {
        self.report["checks"].as_array().into_iter().flatten()
    }

    fn with_verdict(&self, verdict: &str) -> Vec<&str> {
        let found = self.checks().filter(|check| check["verdict"] == verdict);
        found.filter_map(|check| check["check"].as_str()).collect()
    }

    /// Everything was looked at, and there is not even a hint.
    fn found_nothing(self) -> Result<Self> {
        let findings: usize = self.checks().filter_map(|c| c["findings"].as_array().map(Vec::len)).sum();
        ensure!(self.code == 0 && findings == 0, "{:#}", self.report);
        Ok(self)
    }

    /// One check failed, with this finding first, and no other did.
    fn fails_only(self, check: &str, code: &str) -> Result<Self> {
        ensure!(self.code == 1 && self.with_verdict("failed") == [check], "{:#}", self.report);
        ensure!(self.report["culprit"]["check"] == check, "{:#}", self.report["culprit"]);
        let failed = self.checks().find(|one| one["check"] == check).context("the check is there")?;
        ensure!(failed["findings"][0]["code"] == code, "{failed:#}");
        Ok(self)
    }
}

fn passes(version: MajorVersion) -> Result<()> {
    let site = Site::new(Scene::initialised_from(Postgres::builder(version).setting("fsync", "on"))?)?;
    let server = site.server();
    server.sql_in("shop", "INSERT INTO orders (body) SELECT md5(g::text) FROM generate_series(1, 500) g")?;
    site.scene.pgproof(&["heartbeat"])?.succeeded()?;
    server.archive_everything()?;
    let found = site.drill(&["--rto", "1h", "--rpo", "1h"])?.found_nothing()?;
    ensure!(found.with_verdict("passed").len() == 14, "{:#}", found.report);
    let measured = &found.report["measured"];
    let lacks = |name: &str| format!("{name} of {measured:#}\n{}", found.talk);
    let number = |name: &str| measured.pointer(name).and_then(Value::as_f64).with_context(|| lacks(name));
    ensure!(number("/first_query_s")? > number("/restore_s")?, "{measured:#}");
    ensure!(number("/wal/bytes")? > 0.0 && number("/data_loss/lost_s")? == 0.0, "{measured:#}");
    ensure!(number("/data_loss/at_most_s")? > 0.0, "{measured:#}");
    site.nothing_is_left()?;
    let hot = "SELECT n_tup_upd = n_tup_hot_upd AND n_tup_upd > 0 FROM pg_stat_user_tables WHERE relname = 'heartbeat'";
    wait::until_true("statistics of the heartbeat", || Ok(server.value(hot)? == "t"))?;
    let rights = "SELECT string_agg(DISTINCT privilege_type, ' ' ORDER BY privilege_type) \
        FROM information_schema.column_privileges WHERE grantee = 'pgproof_heartbeat'";
    ensure!(server.value(rights)? == "SELECT UPDATE");
    if version == MajorVersion::V15 {
        some_other_instant(&site)?;
        a_killed_drill_is_cleared_away(&site)?;
    }
    Ok(())
}

fn some_other_instant(site: &Site) -> Result<()> {
    // Segments to choose a position from.
    for _ in 0..3 {
        site.server().sql_in("shop", "INSERT INTO lines (place) VALUES (1)")?;
        site.server().archive_everything()?;
    }
    let found = site.drill(&["--random", "--seed", "77777777777"])?.found_nothing()?;
    let target = found.report["source"]["target"].as_str().unwrap_or_default();
    ensure!(target.starts_with("LSN "), "{target}");
    ensure!(found.with_verdict("not-done") == ["recovery-time", "data-loss"], "{:#}", found.report);
    let planned =
        site.scene.pgproof(&["drill", "--dry-run", "--scratch", &site.scratch.display().to_string()])?;
    ensure!(planned.succeeded()?.stdout.contains("nothing was changed"));
    site.nothing_is_left()
}

fn a_killed_drill_is_cleared_away(site: &Site) -> Result<()> {
    let scratch = site.scratch.display().to_string();
    let mut child = site.scene.command(&["drill", "--scratch", &scratch]);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let place = site.scratch.join(format!("pgproof-drill-{}", child.id()));
    let pid = place.join("data/postmaster.pid");
    wait::until_true("the private server to start", || Ok(pid.exists()))?;
    child.kill()?;
    child.wait()?;
    let postmaster = fs::read_to_string(&pid)?.lines().next().unwrap_or_default().to_owned();
    let found = site.drill(&[])?;
    let notes = found.report["notes"].to_string();
    ensure!(notes.contains("which an interrupted run had left"), "{notes}");
    ensure!(!Path::new("/proc").join(&postmaster).join("cwd").exists(), "{postmaster} still runs");
    site.nothing_is_left()
}

/// A copy of the repository, with something done to it.
struct Copied {
    place: String,
    key: String,
}

impl Copied {
    fn of(site: &Site, name: &str) -> Result<Self> {
        let place = site.scene.new_place(name);
        let copied = Command::new("cp").arg("-a").arg(site.scene.repository()).arg(&place).status()?;
        ensure!(copied.success());
        Ok(Self { place: place.display().to_string(), key: key_file(&site.scene)?.display().to_string() })
    }

    fn drill(&self, site: &Site, more: &[&str]) -> Result<Drilled> {
        let arguments = ["--repository", &self.place, "--key-file", &self.key];
        site.drill(&[&arguments, more].concat())
    }

    fn files(&self, folder: &str) -> Result<Vec<PathBuf>> {
        let listed = Command::new("find").arg(&self.place).args(["-path", folder, "-type", "f"]).output()?;
        let mut files: Vec<PathBuf> =
            String::from_utf8_lossy(&listed.stdout).lines().map(PathBuf::from).collect();
        files.sort();
        Ok(files)
    }
}

fn key_file(scene: &Scene) -> Result<PathBuf> {
    let config = fs::read_to_string(scene.config())?;
    let line = config.lines().find(|line| line.starts_with("key_file")).context("a key is configured")?;
    Ok(PathBuf::from(line.split('"').nth(1).context("a path in quotes")?))
}

fn flip(path: &Path, at: u64) -> Result<()> {
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 0x10], at)?;
    Ok(())
}

#[test]
fn each_fault_fails_its_own_check_and_no_other() -> Result<()> {
    let site = Site::new(Scene::initialised_from(safe_server().setting("autovacuum", "off"))?)?;
    let server = site.server();
    for _ in 0..3 {
        server.sql_in("shop", "INSERT INTO orders (body) VALUES ('more')")?;
        server.archive_everything()?;
    }
    faults_of_the_repository(&site)?;
    objectives(&site)?;
    fs::write(site.assertions.join("wrong.sql"), "-- database: shop\nSELECT id FROM orders WHERE id < 9")?;
    let found = site.drill(&[])?.fails_only("assertions", "drill-assertion-failed")?;
    ensure!(found.report["culprit"]["seen"].to_string().contains("wrong does not hold"));
    ensure!(found.report["tried"] == serde_json::json!([]), "no other backup would help");
    fs::remove_file(site.assertions.join("wrong.sql"))?;
    a_missing_library(&site)?;
    a_page_corrupt_on_the_primary(&site)?;
    server.sql_in("shop", "DELETE FROM lines")?;
    server.archive_everything()?;
    let found = site.drill(&["--try-older", "0"])?.fails_only("rows", "drill-table-emptied")?;
    ensure!(found.report["culprit"]["seen"].to_string().contains("public.lines of database shop"));
    site.nothing_is_left()
}

fn faults_of_the_repository(site: &Site) -> Result<()> {
    let flipped = Copied::of(site, "flipped")?;
    let pack = flipped.files("*/pack/*")?.pop().context("a backup has packs")?;
    flip(&pack, fs::metadata(&pack)?.len() / 2)?;
    let found = flipped.drill(site, &[])?.fails_only("files", "drill-files")?;
    ensure!(found.report["newest_passing"].is_null(), "{:#}", found.report);
    fs::remove_file(&pack)?;
    flipped.drill(site, &["--try-older", "0"])?.fails_only("files", "drill-files")?;

    let gap = Copied::of(site, "gap")?;
    let segments = gap.files("*/wal/0*")?;
    let middle = segments.iter().rev().nth(1).context("there are several segments")?;
    fs::remove_file(middle)?;
    let found =
        gap.drill(site, &[])?.fails_only("wal", "drill-wal").with_context(|| format!("{segments:?}"))?;
    ensure!(
        !found.report["newest_passing"].is_null(),
        "the backup's own end is behind no gap: {:#}",
        found.report
    );

    let mut locked = Copied::of(site, "locked")?;
    let other = site.scratch.with_extension("key");
    locked.key = other.display().to_string();
    site.scene.pgproof(&["key", "generate", &locked.key])?.succeeded()?;
    locked.drill(site, &[])?.fails_only("repository", "drill-repository")?;
    Ok(())
}

fn objectives(site: &Site) -> Result<()> {
    site.drill(&["--rto", "1ms"])?.fails_only("recovery-time", "drill-rto-missed")?;
    site.scene.pgproof(&["heartbeat"])?.succeeded()?;
    site.server().archive_everything()?;
    thread::sleep(Duration::from_millis(1200));
    // This one stays in a segment that nobody archived yet.
    site.scene.pgproof(&["heartbeat"])?.succeeded()?;
    let found = site.drill(&["--rpo", "1s"])?.fails_only("data-loss", "drill-rpo-missed")?;
    let lost = found.report["measured"]["data_loss"]["lost_s"].as_f64().context("it is measured")?;
    ensure!((1.2..600.0).contains(&lost), "{lost}");
    Ok(())
}

fn a_missing_library(site: &Site) -> Result<()> {
    let server = site.server();
    let installed = server.value("SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'")?;
    let library = server.dir("libraries")?.join("gone.so");
    fs::copy(Path::new(&installed).join("bloom.so"), &library)?;
    server.sql_in(
        "shop",
        &format!(
            "CREATE FUNCTION gone(internal) RETURNS index_am_handler LANGUAGE c AS '{}', 'blhandler'",
            library.display()
        ),
    )?;
    server.archive_everything()?;
    fs::remove_file(&library)?;
    let found = site.drill(&[])?.fails_only("extensions", "drill-library-missing")?;
    ensure!(found.report["culprit"]["seen"].to_string().contains("gone.so"), "{:#}", found.report["culprit"]);
    server.sql_in("shop", "DROP FUNCTION gone")?;
    server.archive_everything()?;
    Ok(())
}

fn a_page_corrupt_on_the_primary(site: &Site) -> Result<()> {
    let server = site.server();
    let file = server.query_in("shop", "SELECT pg_relation_filepath('orders')")?;
    let file = server.pgdata().join(file[0][0].as_deref().context("a table has a file")?);
    server.checkpoint()?;
    server.stop(StopMode::Fast)?;
    flip(&file, 8192 + 8000)?;
    server.start()?;
    let backup = site.scene.pgproof(&["backup", "--full", "--json"])?;
    let id = backup.json()?.pointer("/report/id").and_then(Value::as_str).context("it is named")?.to_owned();
    // The assertion reads that page too, and would fail beside.
    let (kept, aside) = (site.assertions.join("counted.sql"), site.assertions.join("counted.aside"));
    let (empty, empty_aside) = (site.assertions.join("empty.sql"), site.assertions.join("empty.aside"));
    fs::rename(&kept, &aside)?;
    fs::rename(&empty, &empty_aside)?;
    server.archive_everything()?;
    let found = site.drill(&["--backup", &id])?.fails_only("checksums", "drill-page-damaged")?;
    let seen = found.report["culprit"]["seen"].to_string();
    ensure!(seen.contains("block 1 of") && seen.contains("orders of database shop"), "{seen}");
    let passing = &found.report["newest_passing"];
    ensure!(passing.is_string() && passing.as_str() != Some(&id), "{:#}", found.report);
    fs::rename(&aside, &kept)?;
    fs::rename(&empty_aside, &empty)?;
    // Without being told, a drill takes the sound backup, and so does a restore.
    site.drill(&[])?.found_nothing()?;
    Ok(())
}

#[test]
fn a_corrupt_index_is_found_where_checksums_are_off() -> Result<()> {
    let scene = Scene::initialised_from(safe_server().checksums(false).setting("autovacuum", "off"))?;
    let server = &scene.server;
    server.sql("CREATE TABLE t (id int); INSERT INTO t SELECT g FROM generate_series(1, 5000) g; CREATE INDEX by_id ON t (id)")?;
    let file = server.pgdata().join(server.value("SELECT pg_relation_filepath('by_id')")?);
    server.checkpoint()?;
    server.stop(StopMode::Fast)?;
    let page = fs::read(&file)?[3 * 8192..4 * 8192].to_vec();
    // The tuple at the end of free space: eight bytes of header, then the key.
    let upper = u16::from_le_bytes([page[14], page[15]]);
    flip(&file, 3 * 8192 + u64::from(upper) + 9)?;
    server.start()?;
    let scratch = server.dir("x")?;
    scene.pgproof(&["backup"])?.succeeded()?;
    let ran = scene.pgproof(&[
        "drill",
        "--json",
        "--try-older",
        "0",
        "--scratch",
        &scratch.display().to_string(),
    ])?;
    let found = Drilled::of(ran)?.fails_only("amcheck", "drill-index-corrupt")?;
    ensure!(found.report["culprit"]["seen"].to_string().contains("by_id"), "{:#}", found.report["culprit"]);
    Ok(())
}

//! A second repository: copied into, restored from, and healed from.

use crate::scene::{Ran, Scene};
use anyhow::{Context, Result, ensure};
use pgproof_testkit::Seed;
use pgproof_testkit::postgres::TableSum;
use rand::Rng;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Instant;

/// A server with two backups and WAL behind them, and a place for a second repository.
struct Two {
    scene: Scene,
    second: String,
    key: String,
    sums: BTreeMap<String, TableSum>,
}

impl Two {
    fn new() -> Result<Self> {
        let scene = Scene::initialised()?;
        scene.server.load_pgbench(1)?;
        scene.pgproof(&["backup"])?.succeeded()?;
        scene.server.sql("UPDATE pgbench_accounts SET abalance = 7 WHERE aid % 50 = 0")?;
        scene.pgproof(&["backup"])?.succeeded()?;
        scene.server.sql("CREATE TABLE last AS SELECT generate_series(1, 1000) AS a")?;
        scene.server.archive_everything()?;
        let sums = scene.server.table_sums()?;
        let text = |name: &str| scene.new_place(name).display().to_string();
        let (second, key) = (text("second"), text("second.key"));
        Ok(Self { scene, second, key, sums })
    }

    /// Copies into the second repository, which is made where it is missing.
    fn copy(&self, more: &[&str]) -> Result<Ran> {
        self.scene.pgproof(&[&self.copying(&self.second)[..], more].concat())
    }

    fn copying<'a>(&'a self, to: &'a str) -> [&'a str; 8] {
        ["copy", "--from", "main", "--to", to, "--create", "--to-key-file", &self.key]
    }

    /// Runs a command on the second repository.
    fn on_second(&self, arguments: &[&str]) -> Result<Ran> {
        let place = ["--repository", &self.second, "--key-file", &self.key];
        self.scene.pgproof(&[arguments, &place].concat())
    }

    fn repair(&self, more: &[&str]) -> Result<Ran> {
        let arguments =
            ["repair", "--repository", "main", "--from", &self.second, "--from-key-file", &self.key];
        self.scene.pgproof(&[&arguments, more].concat())
    }

    fn restores(&self, from: &[&str], name: &str) -> Result<()> {
        let restored = self.scene.restored(name, from)?;
        ensure!(restored.table_sums()? == self.sums, "the restored server holds something else");
        Ok(())
    }
}

fn backup_states(report: &Value) -> Vec<&str> {
    let backups = report["report"]["lineages"][0]["backups"].as_array();
    backups.into_iter().flatten().filter_map(|backup| backup["state"].as_str()).collect()
}

#[test]
fn a_copy_survives_being_killed_and_stands_in_for_the_repository_that_is_lost() -> Result<()> {
    let two = Two::new()?;
    let dry = two.copy(&["--dry-run"])?;
    ensure!(dry.code == 3, "there is nothing to copy to yet: {}{}", dry.stdout, dry.stderr);
    killed_copies_hurt_nothing(&two)?;

    let done = two.copy(&["--json"])?.succeeded()?.json()?;
    assert_eq!(backup_states(&done).len(), 2, "{done:#}");
    two.on_second(&["verify"])?.succeeded()?;
    let again = two.copy(&["--json"])?.succeeded()?.json()?;
    assert_eq!(backup_states(&again), ["present", "present"]);
    assert_eq!(again["report"]["lineages"][0]["segments"], json!(0), "{again:#}");

    let third = two.scene.new_place("third").display().to_string();
    let ran = two.scene.pgproof(&[&two.copying(&third)[..], &["--backup", "latest", "--json"]].concat())?;
    assert_eq!(backup_states(&ran.succeeded()?.json()?), ["copied"]);
    let of_third = ["--repository", &third, "--key-file", &two.key];
    two.scene.pgproof(&[&["verify"], &of_third[..]].concat())?.succeeded()?;

    fs::rename(two.scene.repository(), two.scene.new_place("lost"))?;
    two.restores(&["--repository", &two.second, "--key-file", &two.key], "from-second")?;
    two.restores(&of_third, "from-third")
}

/// kill -9 at moments spread over a copy: what is there is whole, and nothing stands in the way of the next one.
fn killed_copies_hurt_nothing(two: &Two) -> Result<()> {
    let timed = two.scene.new_place("timed").display().to_string();
    let began = Instant::now();
    two.scene.pgproof(&two.copying(&timed))?.succeeded()?;
    let usual = began.elapsed();
    let mut moments = Seed::from_environment().rng(1);
    let mut killed = 0;
    for part in 0..5 {
        let mut command = two.scene.command(&two.copying(&two.second));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        thread::sleep(usual.mul_f64((f64::from(part) + moments.random_range(0.3..0.9)) / 5.0));
        killed += usize::from(child.try_wait()?.is_none());
        child.kill()?;
        child.wait()?;
        if Path::new(&two.second).join("repository").exists() {
            nothing_critical(&two.on_second(&["verify", "--json"])?.json()?)?;
        }
    }
    ensure!(killed >= 2, "only {killed} of 5 copies were still running when they were to be killed");
    Ok(())
}

/// Threads put WAL in any order, so there may be a gap until the next copy; but what is published is whole.
fn nothing_critical(verified: &Value) -> Result<()> {
    let findings = verified["report"]["lineages"][0]["findings"].as_array();
    let critical = findings.into_iter().flatten().any(|found| found["severity"] == json!("critical"));
    ensure!(!critical && !verified["report"].is_null(), "after a killed copy: {verified:#}");
    Ok(())
}

/// Files below a directory, in order.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false => found.push(path),
        }
    }
    found.sort();
    Ok(found)
}

fn flip(path: &Path) -> Result<()> {
    let mut bytes = fs::read(path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    Ok(fs::write(path, bytes)?)
}

/// One object of each kind of the first repository.
fn victims(repository: &Path) -> Result<Vec<PathBuf>> {
    let all = files(repository)?;
    let first = |holds: &dyn Fn(&str) -> bool| -> Result<PathBuf> {
        let found = all.iter().find(|path| path.to_str().is_some_and(holds));
        Ok(found.context("there is an object of each kind")?.clone())
    };
    let last_wal = all.iter().rfind(|path| path.to_str().is_some_and(|text| text.contains("/wal/0")));
    Ok(vec![
        first(&|text| text.contains("/pack/"))?,
        first(&|text| text.ends_with("/manifest"))?,
        first(&|text| text.ends_with("/outcome"))?,
        last_wal.context("WAL is archived")?.clone(),
    ])
}

#[test]
fn what_is_damaged_or_gone_is_healed_from_the_second_repository() -> Result<()> {
    let two = Two::new()?;
    two.copy(&[])?.succeeded()?;
    let repository = two.scene.repository();
    two.repair(&["--dry-run"])?.succeeded()?;
    for gone in [false, true] {
        let hurt = victims(&repository)?;
        for path in &hurt {
            if gone { fs::remove_file(path)? } else { flip(path)? }
        }
        let verify = two.scene.pgproof(&["verify"])?;
        ensure!(verify.code == 1, "{}{}", verify.stdout, verify.stderr);
        let dry = two.repair(&["--dry-run"])?;
        ensure!(dry.code == 0 && dry.stdout.contains("heal "), "{}{}", dry.stdout, dry.stderr);
        ensure!(two.scene.pgproof(&["verify"])?.code == 1, "a dry run changed something");
        let repaired = two.repair(&[])?.succeeded()?;
        ensure!(repaired.stdout.contains("everything is as it was stored"), "{}", repaired.stdout);
        two.scene.pgproof(&["verify"])?.succeeded()?;
    }
    // The archiver goes on, and so do backups that build on what was healed.
    two.scene.pgproof(&["backup"])?.succeeded()?;
    two.scene.pgproof(&["verify"])?.succeeded()?;
    two.restores(&[], "healed")?;
    what_is_damaged_there_too_is_named(&two)
}

fn what_is_damaged_there_too_is_named(two: &Two) -> Result<()> {
    let there = files(Path::new(&two.second))?
        .into_iter()
        .find(|path| path.to_str().is_some_and(|text| text.contains("/wal/0")))
        .context("WAL was copied")?;
    let segment = two.scene.repository().join(there.strip_prefix(&two.second)?);
    flip(&segment)?;
    flip(&there)?;
    let damaged = fs::read(&segment)?;
    let ran = two.repair(&[])?;
    let name = segment.file_name().and_then(|name| name.to_str()).context("a segment has a name")?;
    ensure!(ran.code == 1 && ran.stdout.contains(name), "{}{}", ran.stdout, ran.stderr);
    ensure!(ran.stdout.contains("these backups can be restored as they are"), "{}", ran.stdout);
    ensure!(fs::read(&segment)? == damaged, "it was replaced by what is damaged too");
    Ok(())
}

//! Evidence and objectives on a real cluster: what commands leave in the ledger, how `status` judges it, and what `verify` says of a ledger
//! that was tampered with. Each rule is tested from tables in `crates/cli/src/objectives` and `crates/repo/src/ledger`.

use crate::scene::Scene;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// The report of `status` with these objectives, which ends with this code.
fn status(scene: &Scene, objectives: &[(&str, &str)], code: i32) -> Result<Value> {
    let mut command = scene.command(&["status", "--json"]);
    for (name, value) in objectives {
        command.env(format!("PGPROOF_OBJECTIVES_{}", name.to_uppercase()), value);
    }
    let ran = scene.ran(command)?;
    ensure!(ran.code == code, "exit code {}\n{}\n{}", ran.code, ran.stdout, ran.stderr);
    Ok(ran.json()?["report"].take())
}

fn verdict<'a>(report: &'a Value, objective: &str) -> Result<&'a str> {
    let lines = report["objectives"].as_array().context("no objectives")?;
    let line = lines.iter().find(|line| line["objective"] == objective).context("no such line")?;
    line["verdict"].as_str().context("no verdict")
}

/// The objects of the ledger, oldest first.
pub(crate) fn ledger(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            match path.is_dir() {
                true => open.push(path),
                false if path.components().any(|part| part.as_os_str() == "ledger") => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn status_tells_for_each_objective_whether_evidence_keeps_it() -> Result<()> {
    let scene = Scene::initialised()?;
    let unproven = status(&scene, &[("backup_max_age", "1h"), ("verify_every", "1h")], 1)?;
    assert_eq!(verdict(&unproven, "backup_max_age")?, "unproven");

    scene.pgproof(&["backup"])?.succeeded()?;
    scene.pgproof(&["verify"])?.succeeded()?;
    let place = scene.new_place("restored");
    let place = place.to_str().context("not UTF-8")?;
    scene.pgproof(&["restore", "--pgdata", place])?.succeeded()?;
    status(&scene, &[], 0)?;
    let kept = [("rpo", "1h"), ("restore_rto", "1h"), ("backup_max_age", "1h"), ("verify_every", "1h")];
    let report = status(&scene, &kept, 0)?;
    for (objective, _) in kept {
        assert_eq!(verdict(&report, objective)?, "kept", "{objective}");
    }
    assert!(report["estimate"]["restore_s"].as_f64().is_some_and(|seconds| seconds > 0.0), "{report}");

    // Nothing runs any more: the repository alone shows it.
    sleep(Duration::from_millis(1300));
    for objective in ["rpo", "backup_max_age", "verify_every"] {
        assert_eq!(verdict(&status(&scene, &[(objective, "1s")], 1)?, objective)?, "broken");
    }
    for objective in ["rto", "drill_every"] {
        assert_eq!(verdict(&status(&scene, &[(objective, "1h")], 1)?, objective)?, "unproven");
    }
    let scratch = scene.server.dir("x")?.display().to_string();
    scene.pgproof(&["drill", "--scratch", &scratch])?.succeeded()?;
    let report = status(&scene, &[("rto", "1h"), ("drill_every", "1h")], 0)?;
    for objective in ["rto", "drill_every"] {
        assert_eq!(verdict(&report, objective)?, "kept", "{objective}");
    }
    let page = scene.pgproof(&["status"])?.succeeded()?.stdout;
    ensure!(page.contains("Recovery windows") && page.contains("timeline 1: "), "{page}");
    Ok(())
}

#[test]
fn a_verification_that_found_damage_breaks_its_objective() -> Result<()> {
    let scene = Scene::initialised()?;
    scene.pgproof(&["backup"])?.succeeded()?;
    scene.pgproof(&["verify"])?.succeeded()?;
    status(&scene, &[("verify_every", "1h")], 0)?;
    let objects = ledger(&scene.repository())?;
    ensure!(objects.len() == 2, "a backup and a verification: {objects:?}");

    let newest = objects.last().context("no ledger")?;
    let mut bytes = fs::read(newest)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(newest, bytes)?;
    let ran = scene.pgproof(&["verify", "--json"])?;
    assert_eq!(ran.code, 1);
    ensure!(ran.stdout.contains("verify-ledger-damaged"), "{}", ran.stdout);
    // That verification is evidence too, and the chain goes on behind the damage.
    let report = status(&scene, &[("verify_every", "1h")], 1)?;
    assert_eq!(verdict(&report, "verify_every")?, "broken");
    ensure!(report["ledger_flaws"].as_array().is_some_and(|flaws| !flaws.is_empty()), "{report}");
    Ok(())
}

#[test]
fn a_ledger_that_cannot_be_written_is_a_warning() -> Result<()> {
    let scene = Scene::initialised()?;
    scene.pgproof(&["backup"])?.succeeded()?;
    let object = ledger(&scene.repository())?.remove(0);
    let chain = object.parent().context("no chain")?;
    // A file where the folder of the chain was: nothing can be put below it.
    fs::remove_dir_all(chain)?;
    fs::write(chain, "in the way")?;
    let ran = scene.pgproof(&["backup"])?.succeeded()?;
    ensure!(ran.stderr.contains("the ledger does not tell of this"), "{}", ran.stderr);
    Ok(())
}

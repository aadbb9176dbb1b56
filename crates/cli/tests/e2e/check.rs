//! `pgproof check` on a real server. What each fault makes it say is tested from tables in `src/check/judge_tests.rs`.

use crate::scene::{Scene, numbers_gone};
use anyhow::Result;
use expect_test::expect;
use std::fs;

#[test]
fn a_set_up_server_lacks_only_a_backup() -> Result<()> {
    let scene = Scene::initialised()?;
    let ran = scene.pgproof(&["check"])?.succeeded()?;
    let kept: String = ran
        .stdout
        .lines()
        .filter(|line| line.contains('[') && !line.contains("GROUND"))
        .map(|l| format!("{l}\n"))
        .collect();
    expect![[r#"
        warning [same-disk] the repository is on the same file system as the server
        warning [no-backup] there is no backup yet
        info [key-single] one key alone opens the repository
        info [retention-unset] no retention is configured
              [retention]
    "#]]
    .assert_eq(&numbers_gone(&kept));
    let report = scene.pgproof(&["check", "--json"])?.succeeded()?.json()?;
    assert!(report["report"]["observation"]["archive_test"]["stored"]["summary"].as_bool().unwrap_or(false));
    Ok(())
}

#[test]
fn a_key_that_the_server_cannot_read_is_found_before_a_backup_needs_it() -> Result<()> {
    let scene = Scene::initialised()?;
    let key = scene.config().with_file_name("main.key");
    fs::rename(&key, key.with_extension("away"))?;
    let ran = scene.pgproof(&["check"])?;
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("critical [repository-key]"), "{}", ran.stdout);
    Ok(())
}

#[test]
fn every_setting_shows_who_said_it() -> Result<()> {
    let scene = Scene::initialised()?;
    let mut command = scene.command(&["config", "explain", "--json"]);
    command.env("PGPROOF_BACKUP_PROCESSES", "3");
    let report = scene.ran(command)?.succeeded()?.json()?;
    let settings = report["report"]["settings"].as_array().cloned().unwrap_or_default();
    let origin = |name: &str| {
        let found = settings.iter().find(|setting| setting["name"] == name);
        found.map(|setting| setting["origin"]["kind"].clone()).unwrap_or_default()
    };
    assert_eq!(origin("repository.main.path"), "file");
    assert_eq!(origin("backup.processes"), "environment");
    assert_eq!(origin("backup.compression"), "default");
    Ok(())
}

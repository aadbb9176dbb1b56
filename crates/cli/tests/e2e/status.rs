//! `pgproof archive status`: what it says of a real archive. Each rule is tested from tables in `crates/wal/src/status`.

use crate::scene::Scene;
use anyhow::{Context, Result, ensure};
use pgproof_testkit::StopMode;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn a_lost_segment_is_named_and_mended_by_the_command_shown() -> Result<()> {
    let scene = Scene::initialised()?;
    let lost = scene.server.archive_everything()?.file_name(scene.server.wal_segment_size()?);
    scene.server.archive_everything()?;
    let fine = status(&scene, 0)?;
    assert_eq!(fine["gaps"], Value::Array(Vec::new()));
    assert_eq!(fine["position"]["source"], "primary");

    let object = find(&scene.repository(), &lost)?.context("the segment is not in the repository")?;
    fs::remove_file(&object)?;
    let report = status(&scene, 1)?;
    assert_eq!(
        (&report["gaps"][0]["first"], &report["gaps"][0]["state"]),
        (&lost.as_str().into(), &"mendable".into())
    );
    let finding = &report["findings"][0];
    assert_eq!(finding["code"], "archive-gap");
    let command = finding["remedies"][0]["command"].as_str().context("no command")?;
    let ran = Command::new("sh").args(["-ec", command]).current_dir("/").output()?;
    ensure!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
    assert!(object.exists());
    assert_eq!(status(&scene, 0)?["gaps"], Value::Array(Vec::new()));
    // Root ran it, and the server must go on all the same.
    scene.server.archive_everything()?;
    Ok(())
}

#[test]
fn a_stopped_server_is_compared_by_its_files() -> Result<()> {
    let scene = Scene::initialised()?;
    let lost = scene.server.archive_everything()?.file_name(scene.server.wal_segment_size()?);
    scene.server.archive_everything()?;
    scene.server.stop(StopMode::Fast)?;
    let report = status(&scene, 1)?;
    assert_eq!(report["position"]["source"], "control-file");
    assert_eq!(report["findings"][0]["code"], "server-unreachable");
    assert_eq!(report["gaps"], Value::Array(Vec::new()));
    let object = find(&scene.repository(), &lost)?.context("the segment is not in the repository")?;
    fs::remove_file(&object)?;
    assert_eq!(status(&scene, 1)?["gaps"][0]["first"], lost.as_str());
    let text = scene.pgproof(&["archive", "status"])?.stdout;
    assert!(text.contains("its last checkpoint") && text.contains("critical [archive-gap]"), "{text}");
    Ok(())
}

/// The report, unfiltered: its commands are run.
fn status(scene: &Scene, code: i32) -> Result<Value> {
    let output = scene.command(&["archive", "status", "--json"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.code() == Some(code),
        "{}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let document: Value = serde_json::from_str(&text)?;
    Ok(document["report"].clone())
}

fn find(directory: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|file| file == name) {
            return Ok(Some(path));
        }
        if path.is_dir()
            && let Some(found) = find(&path, name)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

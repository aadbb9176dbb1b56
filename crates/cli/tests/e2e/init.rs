//! `pgproof init`: what it does, what it leaves alone, what it refuses.

use crate::scene::{Scene, safe_server};
use anyhow::Result;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn one_command_makes_a_fresh_server_archived() -> Result<()> {
    let scene = Scene::new(safe_server())?;
    let ran = scene.init(&["--restart"])?.succeeded()?;
    assert!(ran.stdout.contains("restarted the server, for archive_mode"), "{}", ran.stdout);
    assert!(ran.stdout.contains("KEEP A COPY OF [GROUND]/etc/main.key"), "{}", ran.stdout);
    assert!(ran.stdout.contains("was in the repository after"), "{}", ran.stdout);
    let server = scene.server.account().uid;
    let key = fs::metadata(scene.config().with_file_name("main.key"))?;
    assert_eq!((key.uid(), key.permissions().mode() & 0o777), (server, 0o600));
    assert_eq!(fs::metadata(scene.config())?.permissions().mode() & 0o777, 0o640);
    for entry in fs::read_dir(scene.repository())? {
        assert_eq!(entry?.metadata()?.uid(), server, "nothing in the repository is root's");
    }
    Ok(())
}

#[test]
fn a_second_run_changes_nothing_and_says_so() -> Result<()> {
    let scene = Scene::initialised()?;
    let before = fs::read_to_string(scene.config())?;
    let again = scene.init(&[])?.succeeded()?;
    assert!(again.stdout.contains("archive_command is set"), "{}", again.stdout);
    assert!(again.stdout.contains("stays as it is"), "{}", again.stdout);
    assert_eq!(fs::read_to_string(scene.config())?, before);
    Ok(())
}

#[test]
fn without_restart_the_needed_one_is_named() -> Result<()> {
    let scene = Scene::new(safe_server())?;
    let ran = scene.init(&[])?;
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("The server must be restarted for archive_mode"), "{}", ran.stdout);
    assert!(ran.stdout.contains("critical [restart-needed]"), "{}", ran.stdout);
    assert_eq!(scene.server.value("SHOW archive_mode")?, "off");
    scene.init(&["--restart"])?.succeeded()?;
    assert_eq!(scene.server.value("SHOW archive_mode")?, "on");
    Ok(())
}

#[test]
fn a_dry_run_changes_nothing() -> Result<()> {
    let scene = Scene::new(safe_server())?;
    let ran = scene.init(&["--dry-run"])?.succeeded()?;
    assert!(ran.stdout.contains("create the repository"), "{}", ran.stdout);
    assert!(!scene.repository().exists() && !scene.config().exists());
    Ok(())
}

#[test]
fn somebody_elses_archive_command_is_refused_until_told_otherwise() -> Result<()> {
    let scene = Scene::new(safe_server().archive_by_copying())?;
    let before = scene.server.value("SHOW archive_command")?;
    let refused = scene.init(&[])?;
    assert_eq!(refused.code, 3);
    assert!(refused.stderr.contains("archive_command is in use: test ! -f"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--replace-archive-command"), "{}", refused.stderr);
    assert_eq!(scene.server.value("SHOW archive_command")?, before);
    assert!(!scene.repository().exists() && !scene.config().exists());
    scene.init(&["--replace-archive-command"])?.succeeded()?;
    assert!(scene.server.value("SHOW archive_command")?.contains("archive push"));
    Ok(())
}

#[test]
fn a_repository_inside_the_data_is_refused() -> Result<()> {
    let scene = Scene::new(safe_server())?;
    let data = scene.server.pgdata().display().to_string();
    let inside = format!("{data}/backup");
    let ran = scene.pgproof(&["init", "--yes", "--pgdata", &data, "--repository", &inside])?;
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("lie inside one another"), "{}", ran.stderr);
    assert!(!scene.config().exists());
    Ok(())
}

#[test]
fn a_program_that_the_server_cannot_run_is_refused_before_anything_is_changed() -> Result<()> {
    let scene = Scene::new(safe_server())?;
    if !scene.server.account().foreign {
        // Only root's own places are closed to the server.
        return Ok(());
    }
    let closed = tempfile::tempdir()?;
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700))?;
    let program = closed.path().join("pgproof");
    fs::copy(crate::scene::program(), &program)?;
    let data = scene.server.pgdata().display().to_string();
    let repository = scene.repository().display().to_string();
    let mut command = std::process::Command::new(&program);
    command.envs(scene.server.environment()).env("PGPROOF_CONFIG", scene.config()).current_dir("/");
    command.args(["init", "--yes", "--restart", "--pgdata", &data, "--repository", &repository]);
    let refused = scene.ran(command)?;
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("install -m 755"), "{}", refused.stderr);
    assert!(!scene.repository().exists() && !scene.config().exists());
    assert_eq!(scene.server.value("SHOW archive_mode")?, "off");
    Ok(())
}

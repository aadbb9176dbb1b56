//! PostgreSQL's hooks: what they deliver, and the exit codes that decide about a server's life.

use crate::scene::Scene;
use anyhow::Result;
use std::fs;

#[test]
fn archive_get_tells_absent_from_unknown() -> Result<()> {
    let scene = Scene::initialised()?;
    let stored = scene.server.archive_everything()?;
    let name = stored.file_name(scene.server.wal_segment_size()?);
    let get = |name: &str, place: &str| -> Result<i32> {
        let mut command = scene.command(&["archive", "get", name, place]);
        command.current_dir(scene.server.pgdata());
        Ok(scene.ran(command)?.code)
    };
    assert_eq!(get(&name, "pg_wal/RECOVERYXLOG")?, 0);
    fs::remove_file(scene.server.pgdata().join("pg_wal/RECOVERYXLOG"))?;
    assert_eq!(get("0000000100000FFF000000FF", "pg_wal/RECOVERYXLOG")?, 1, "proven absent");
    assert_eq!(get("00000009.history", "pg_wal/RECOVERYHISTORY")?, 1, "proven absent");
    assert_eq!(get("nonsense", "pg_wal/RECOVERYXLOG")?, 126);
    let away = scene.new_place("away");
    fs::rename(scene.repository(), &away)?;
    assert_eq!(get(&name, "pg_wal/RECOVERYXLOG")?, 126, "an unmounted disk is no proof of absence");
    fs::rename(&away, scene.repository())?;
    let key = scene.config().with_file_name("main.key");
    fs::rename(&key, key.with_extension("away"))?;
    assert_eq!(get(&name, "pg_wal/RECOVERYXLOG")?, 126, "a missing key is no proof of absence");
    Ok(())
}

#[test]
fn hooks_outside_a_data_directory_say_so() -> Result<()> {
    let scene = Scene::initialised()?;
    let ran = scene.pgproof(&["archive", "push", "pg_wal/000000010000000000000001"])?;
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("/ is not a data directory"), "{}", ran.stderr);
    Ok(())
}

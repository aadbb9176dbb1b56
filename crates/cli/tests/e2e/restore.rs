//! The way there and back: backups, what is listed of them, and what comes back.

use crate::scene::Scene;
use anyhow::Result;
use pgproof_testkit::{Postgres, StopMode, free_port};
use std::process::Command;

#[test]
fn what_was_committed_before_the_target_comes_back_and_nothing_after() -> Result<()> {
    let scene = Scene::initialised()?;
    let server = &scene.server;
    server.sql("CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000)")?;
    let full = scene.pgproof(&["backup", "--json"])?.succeeded()?.json()?;
    assert_eq!(full["report"]["base"], serde_json::Value::Null);
    server.sql("INSERT INTO t VALUES (1001)")?;
    let incremental = scene.pgproof(&["backup", "--json"])?.succeeded()?.json()?;
    assert_eq!(incremental["report"]["base"], full["report"]["id"]);
    server.sql("INSERT INTO t VALUES (1002)")?;
    server.sql("SELECT pg_create_restore_point('before the accident')")?;
    server.sql("DROP TABLE t")?;
    server.archive_everything()?;

    let place = scene.new_place("restored");
    let into = place.display().to_string();
    scene
        .pgproof(&[
            "restore",
            "--pgdata",
            &into,
            "--name",
            "before the accident",
            "--target-action",
            "promote",
        ])?
        .succeeded()?;
    let restored = Postgres::on(server.version(), &place)?;
    restored.start()?;
    restored.wait_for_promotion()?;
    assert_eq!(restored.value("SELECT count(*) FROM t")?, "1002");
    assert_eq!(
        restored.value("SHOW archive_mode")?,
        "off",
        "a copy must not archive into its origin's place"
    );

    let list = scene.pgproof(&["list", "--json"])?.succeeded()?.json()?;
    assert_eq!(list["report"]["lineages"][0]["backups"].as_array().map(Vec::len), Some(2));
    assert_eq!(list["report"]["lineages"][0]["windows"].as_array().map(Vec::len), Some(1));
    scene.pgproof(&["show"])?.succeeded()?;
    scene.pgproof(&["verify"])?.succeeded()?;
    Ok(())
}

#[test]
fn restored_and_started_by_one_command() -> Result<()> {
    let scene = Scene::initialised()?;
    scene.server.sql("CREATE TABLE t AS SELECT generate_series(1, 10) AS a")?;
    scene.pgproof(&["backup"])?.succeeded()?;
    scene.server.archive_everything()?;
    let place = scene.new_place("restored");
    let into = place.display().to_string();
    let port = free_port()?;
    let arguments = ["restore", "--pgdata", &into, "--start", "--port", &port.to_string(), "--json"];
    let ran = scene.pgproof(&arguments)?;
    // From here on the started server ends with this test, whatever becomes of it.
    let restored = Postgres::on(scene.server.version(), &place)?;
    let report = ran.succeeded()?.json()?;
    assert_eq!(report["report"]["done"]["recovery"]["state"], "promoted", "{report:#}");
    assert!(restored.is_running());
    // The restored configuration has the origin's socket directory; only the port is its own.
    let psql = Command::new(restored.bin().join("psql"))
        .args(["-X", "-A", "-t", "-U", "postgres", "-d", "postgres", "-p", &port.to_string(), "-h"])
        .arg(scene.server.socket_dir())
        .args(["-c", "SELECT sum(a), pg_is_in_recovery() FROM t", "-c", "INSERT INTO t VALUES (11)"])
        .output()?;
    let said = String::from_utf8_lossy(&psql.stdout).into_owned();
    assert_eq!(said.trim(), "55|f\nINSERT 0 1", "{}", String::from_utf8_lossy(&psql.stderr));
    assert_eq!(scene.server.value("SELECT count(*) FROM t")?, "10", "the origin goes on by itself");
    restored.stop(StopMode::Fast)
}

#[test]
fn pins_keep_what_the_retention_lets_go() -> Result<()> {
    let scene = Scene::initialised()?;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let report = scene.pgproof(&["backup", "--json"])?.succeeded()?.json()?;
        ids.push(report["report"]["id"].as_str().unwrap_or_default().to_owned());
    }
    scene.pgproof(&["pin", &ids[0], "--reason", "audit"])?.succeeded()?;
    let dry = scene.pgproof(&["expire", "--keep-last", "1", "--dry-run"])?.succeeded()?;
    assert!(dry.stdout.contains(&format!("keep    {}  pinned: audit", ids[0])), "{}", dry.stdout);
    assert!(dry.stdout.contains(&format!("remove  {}", ids[1])), "{}", dry.stdout);
    scene.pgproof(&["expire", "--keep-last", "1", "--sweep-after", "0s"])?.succeeded()?;
    let list = scene.pgproof(&["list", "--json"])?.succeeded()?.json()?;
    let left: Vec<_> = list["report"]["lineages"][0]["backups"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|backup| backup["id"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(left, [ids[0].clone(), ids[2].clone()]);
    scene.pgproof(&["unpin", &ids[0]])?.succeeded()?;
    scene.pgproof(&["verify"])?.succeeded()?;
    Ok(())
}

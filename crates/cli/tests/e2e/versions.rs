//! Backups of a server that everything is done to meanwhile, restored and compared: on every supported version.

use crate::scene::Scene;
use anyhow::{Context, Result, ensure};
use pgproof_pg::MajorVersion;
use pgproof_testkit::{Postgres, free_port};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

#[test]
fn a_busy_server_of_14_comes_back() -> Result<()> {
    a_busy_server_comes_back(MajorVersion::V14)
}

#[test]
fn a_busy_server_of_15_comes_back() -> Result<()> {
    a_busy_server_comes_back(MajorVersion::V15)
}

#[test]
fn a_busy_server_of_16_comes_back() -> Result<()> {
    a_busy_server_comes_back(MajorVersion::V16)
}

#[test]
fn a_busy_server_of_17_comes_back() -> Result<()> {
    a_busy_server_comes_back(MajorVersion::V17)
}

#[test]
fn a_busy_server_of_18_comes_back() -> Result<()> {
    a_busy_server_comes_back(MajorVersion::V18)
}

fn a_busy_server_comes_back(version: MajorVersion) -> Result<()> {
    let builder = Postgres::builder(version).setting("fsync", "on").setting("max_wal_size", "2GB");
    let scene = Scene::new(builder.tablespace("spare"))?;
    scene.init(&["--restart"])?;
    scene.server.load_pgbench(2)?;
    scene.server.sql("CREATE TABLE in_spare (a int) TABLESPACE spare")?;
    let full = while_busy(&scene, || scene.pgproof(&["backup", "--json"]))?.succeeded()?.json()?;
    assert_eq!(full["report"]["base"], serde_json::Value::Null);
    let second = while_busy(&scene, || scene.pgproof(&["backup", "--json"]))?.succeeded()?.json()?;
    assert_eq!(second["report"]["base"], full["report"]["id"], "{second:#}");
    assert_eq!(second["report"]["gaps"], serde_json::json!([]), "WAL alone must tell what changed");
    for backup in [&full, &second] {
        comes_back_from(&scene, backup["report"]["id"].as_str().context("a backup has a name")?)?;
    }
    Ok(())
}

/// Restores one backup, replays all WAL since, and compares.
pub(crate) fn comes_back_from(scene: &Scene, backup: &str) -> Result<()> {
    scene.server.archive_everything()?;
    let (place, port) = (scene.new_place(backup), free_port()?);
    let spaces = scene.new_place(&format!("{backup}-spaces")).display().to_string();
    let (into, port_text) = (place.display().to_string(), port.to_string());
    let ran = scene.pgproof(&[
        "restore",
        "--pgdata",
        &into,
        "--backup",
        backup,
        "--tablespace-root",
        &spaces,
        "--start",
        "--port",
        &port_text,
    ])?;
    let restored = scene.server.copy_started_at(&place, port)?;
    ran.succeeded()?;
    let prepared = "SELECT string_agg(gid, ',' ORDER BY gid) FROM pg_prepared_xacts";
    assert_eq!(restored.value(prepared)?, scene.server.value(prepared)?);
    for database in ["postgres", "kept"] {
        let unlogged = restored.query_in(database, "SELECT count(*) FROM unlogged")?;
        assert_eq!(unlogged[0][0].as_deref(), Some("0"), "an unlogged table is empty after recovery");
    }
    let (before, after) = (lines(scene.server.dump()?), lines(restored.dump()?));
    let difference = before.iter().zip(&after).find(|(left, right)| left != right);
    ensure!(difference.is_none() && before.len() == after.len(), "the dumps differ: {difference:?}");
    ensure!(before.len() > 200_000, "only {} lines were compared", before.len());
    Ok(())
}

/// The dump without what a restore changes: where tablespaces lie, and the values of sequences, of which PostgreSQL logs 32 in advance
/// (`SEQ_LOG_VALS` in `src/backend/commands/sequence.c`), so that recovery goes on behind those.
fn lines(dump: String) -> Vec<String> {
    let changes =
        |line: &str| line.starts_with("CREATE TABLESPACE") || line.starts_with("SELECT pg_catalog.setval(");
    dump.lines().filter(|line| !changes(line)).map(str::to_owned).collect()
}

/// Does something while pgbench runs at full speed and a session does what breaks careless backups.
pub(crate) fn while_busy<T: Send>(scene: &Scene, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let server = &scene.server;
    let done = AtomicBool::new(false);
    let rounds = AtomicU32::new(0);
    thread::scope(|scope| {
        let bench = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                server.run_pgbench(1)?;
            }
            Ok(())
        });
        let definitions = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) || rounds.load(Ordering::Relaxed) < 2 {
                one_round(server, rounds.fetch_add(1, Ordering::Relaxed))?;
            }
            Ok(())
        });
        // One round first, so that whatever is done meets its traces.
        while rounds.load(Ordering::Relaxed) == 0 && !definitions.is_finished() {
            thread::yield_now();
        }
        let result = act();
        done.store(true, Ordering::Relaxed);
        bench.join().expect("pgbench's thread does not panic")?;
        definitions.join().expect("the thread of definitions does not panic")?;
        result
    })
}

fn one_round(server: &Postgres, round: u32) -> Result<()> {
    let strategy = |name: &str| match server.version() {
        MajorVersion::V14 => String::new(),
        _ => format!(" STRATEGY {name}"),
    };
    // A round's leftovers are those of the round before: what is made is there while a backup runs, and so is what is dropped.
    server.each(&[
        "DROP DATABASE IF EXISTS passing",
        &format!(
            "CREATE DATABASE passing{}",
            strategy(if round.is_multiple_of(2) { "file_copy" } else { "wal_log" })
        ),
        "DROP TABLE IF EXISTS churned",
        "CREATE TABLE churned (id int PRIMARY KEY, body text)",
        "INSERT INTO churned SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 3000) g",
        "DELETE FROM churned WHERE id > 500",
        "VACUUM (FREEZE) churned",
        "CREATE INDEX ON churned USING gin (string_to_array(body, '0'))",
        "TRUNCATE in_spare",
        "INSERT INTO in_spare SELECT generate_series(1, 1000)",
        "ALTER TABLE churned SET TABLESPACE spare",
        "SELECT lo_create(0), lo_from_bytea(0, decode(repeat('ab', 5000), 'hex'))",
        "CREATE UNLOGGED TABLE IF NOT EXISTS unlogged AS SELECT generate_series(1, 1000) a",
        "CREATE SEQUENCE IF NOT EXISTS counted",
        "SELECT nextval('counted') FROM generate_series(1, 50)",
        "REINDEX TABLE pgbench_tellers",
    ])?;
    if server.query("SELECT 1 FROM pg_database WHERE datname = 'kept'")?.is_empty() {
        server.each(&[&format!("CREATE DATABASE kept{}", strategy("file_copy"))])?;
        server.sql_in(
            "kept",
            "CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS a; CREATE TABLE kept AS SELECT 1 AS a",
        )?;
    }
    server.each(&[
        "BEGIN",
        &format!(
            "CREATE TABLE prepared_{} AS SELECT {round} AS round",
            server.value("SELECT txid_current()")?
        ),
        &format!("PREPARE TRANSACTION 'round {round} {}'", server.value("SELECT txid_current()")?),
    ])?;
    // The pool holds ten: the older half is decided, one way or the other.
    for row in server.query("SELECT gid FROM pg_prepared_xacts ORDER BY prepared DESC OFFSET 4")? {
        let gid = row.first().cloned().flatten().context("a prepared transaction has a name")?;
        let end = if gid.len() % 2 == 0 { "COMMIT" } else { "ROLLBACK" };
        server.each(&[&format!("{end} PREPARED '{gid}'")])?;
    }
    Ok(())
}

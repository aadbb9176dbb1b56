//! `restore --database`: one of two databases comes back whole while replay goes through both; the other can only be dropped.

use crate::scene::Scene;
use anyhow::{Context, Result, ensure};
use pgproof_pg::MajorVersion;
use pgproof_testkit::{Postgres, StopMode, free_port};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

#[test]
fn one_database_of_a_busy_14_comes_back() -> Result<()> {
    one_database_comes_back(MajorVersion::V14, true)
}

#[test]
fn one_database_of_a_busy_15_comes_back() -> Result<()> {
    one_database_comes_back(MajorVersion::V15, true)
}

#[test]
fn one_database_of_a_busy_16_comes_back() -> Result<()> {
    // Without checksums vacuum writes no image of the pages whose hints it sets, so that replay meets pages of zeroes.
    one_database_comes_back(MajorVersion::V16, false)
}

#[test]
fn one_database_of_a_busy_17_comes_back() -> Result<()> {
    one_database_comes_back(MajorVersion::V17, true)
}

#[test]
fn one_database_of_a_busy_18_comes_back() -> Result<()> {
    one_database_comes_back(MajorVersion::V18, true)
}

const BOTH: [&str; 2] = ["kept", "omitted"];

fn one_database_comes_back(version: MajorVersion, checksums: bool) -> Result<()> {
    let builder =
        Postgres::builder(version).checksums(checksums).setting("fsync", "on").setting("autovacuum", "off");
    let scene = Scene::new(builder.tablespace("spare"))?;
    scene.init(&["--restart"])?;
    let server = &scene.server;
    for database in BOTH {
        server.each(&[&format!("CREATE DATABASE {database}")])?;
        server.sql_in(database, TABLES)?;
    }
    while_busy(server, || scene.pgproof(&["backup"])?.succeeded())?;
    for database in BOTH {
        without_images(server, database)?;
    }
    let oid = |name: &str| server.value(&format!("SELECT oid FROM pg_database WHERE datname = '{name}'"));
    let (kept, omitted) = (oid("kept")?, oid("omitted")?);
    // After the backup, so that it comes by WAL alone: from a template that is restored, and from one that is not.
    server.each(&["CREATE DATABASE later", "CREATE DATABASE copied TEMPLATE omitted"])?;
    server.sql_in("later", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")?;
    server.archive_everything()?;

    let (place, port) = (scene.new_place("restored"), free_port()?);
    let (into, port_text) = (place.display().to_string(), port.to_string());
    let spaces = scene.new_place("spaces").display().to_string();
    let arguments = ["restore", "--database", "kept", "--pgdata", &into, "--tablespace-root", &spaces];
    let unknown = scene.pgproof(&["restore", "--database", "kpet", "--pgdata", &into])?;
    ensure!(unknown.code == 3 && unknown.stderr.contains(&format!("kept ({kept})")), "{}", unknown.stderr);
    let planned = scene.pgproof(&[&arguments[..], &["--dry-run", "--json"]].concat())?.succeeded()?.json()?;
    let before = &planned["report"]["planned"]["databases"];
    ensure!(before["left_out"][0]["name"] == "omitted", "{before:#}");
    ensure!(before["bytes_left_out"].as_u64() > Some(5 << 20), "{before:#}");

    let ran = scene.pgproof(&[&arguments[..], &["--start", "--port", &port_text, "--json"]].concat())?;
    let restored = server.copy_started_at(&place, port)?;
    let report = ran.succeeded()?.json()?;
    let recovery = &report["report"]["done"]["recovery"];
    ensure!(
        recovery["state"] == "promoted" && recovery["invalid_pages"] == Value::Array(vec![]),
        "{recovery:#}"
    );
    same_in(server, &restored, "kept")?;
    same_in(server, &restored, "postgres")?;
    same_in(server, &restored, "later")?;
    cannot_be_used_but_dropped(server, &restored, recovery)?;

    // What was needed for this recovery only is gone with it, and the server starts again without.
    restored.stop(StopMode::Fast)?;
    let log = std::fs::read_to_string(place.join("pgproof-start.log"))?;
    ensure!(log.contains(&format!("base/{omitted}/")), "replay met no page that was left out:\n{log}");
    let settings = std::fs::read_to_string(place.join("postgresql.auto.conf"))?;
    ensure!(!settings.contains("ignore_invalid_pages") && !settings.contains("recovery_end"), "{settings}");
    let again = Postgres::on(version, &place)?;
    again.start()?;
    ensure!(again.value("SHOW ignore_invalid_pages")? == "off");
    same_in(server, &again, "kept")?;

    // In place it would be a way to lose the other databases.
    again.stop(StopMode::Fast)?;
    let delta = scene.pgproof(&[&arguments[..], &["--delta"]].concat())?;
    ensure!(delta.code == 3 && delta.stderr.contains("would empty"), "{}", delta.stderr);
    let for_ever = scene.pgproof(&["restore", "--database", "kept", "--take-over", "--pgdata", &into])?;
    ensure!(for_ever.code == 2, "{}", for_ever.stderr);
    Ok(())
}

/// Connecting fails for the one who tries and for nobody else, and `DROP DATABASE` as reported works.
fn cannot_be_used_but_dropped(origin: &Postgres, restored: &Postgres, recovery: &Value) -> Result<()> {
    let shells = recovery["shells"].as_array().context("shells are listed")?;
    let names: Vec<&str> = shells.iter().filter_map(|shell| shell["name"].as_str()).collect();
    // Before 15, and with FILE_COPY since, a copy of a shell is one.
    let copy_is_shell = origin.version() == MajorVersion::V14;
    let expected: &[&str] = if copy_is_shell { &["omitted", "copied"] } else { &["omitted"] };
    ensure!(
        names.len() == expected.len() && expected.iter().all(|name| names.contains(name)),
        "{recovery:#}"
    );
    if !copy_is_shell {
        same_in(origin, restored, "copied")?;
    }
    for shell in shells {
        let name = shell["name"].as_str().context("a shell has a name")?;
        let refused =
            format!("{:?}", restored.query_in(name, "SELECT 1").err().context("it lets nobody in")?);
        ensure!(refused.contains("incompatible with server") && refused.contains("left-out"), "{refused}");
        ensure!(restored.query_in("kept", "SELECT 1").is_ok(), "a refused connection harms no other");
        restored.each(&[shell["drop"].as_str().context("the report names the SQL")?])?;
    }
    Ok(())
}

fn same_in(origin: &Postgres, restored: &Postgres, database: &str) -> Result<()> {
    let dump =
        |server: &Postgres| server.run_client("pg_dump", &["--no-unlogged-table-data", "--dbname", database]);
    let (before, after) = (lines(dump(origin)?), lines(dump(restored)?));
    let difference = before.iter().zip(&after).find(|(left, right)| left != right);
    ensure!(difference.is_none() && before.len() == after.len(), "{database} differs: {difference:?}");
    // Indexes too: a dump reads tables only.
    let (origin, restored) = (counts(origin, database)?, counts(restored, database)?);
    ensure!(origin == restored, "{database}: {origin:?} became {restored:?}");
    Ok(())
}

/// Without what differs from run to run of pg_dump, and the values of sequences, of which recovery skips up to 32.
fn lines(dump: String) -> Vec<String> {
    let differs = |line: &str| {
        line.starts_with("SELECT pg_catalog.setval(")
            || line.starts_with("\\restrict")
            || line.starts_with("\\unrestrict")
    };
    dump.lines().filter(|line| !differs(line)).map(str::to_owned).collect()
}

fn counts(server: &Postgres, database: &str) -> Result<Vec<Vec<Option<String>>>> {
    if server.query_in(database, "SELECT 1 FROM pg_class WHERE relname = 'items'")?.is_empty() {
        return Ok(Vec::new());
    }
    server.query_in(
        database,
        "SET enable_seqscan = off; SELECT count(*), min(id), max(id) FROM items WHERE id > 0; \
         SELECT count(*) FROM items WHERE body = 'none'",
    )
}

const TABLES: &str = "CREATE TABLE items (id serial PRIMARY KEY, body text, words tsvector, place point);
    INSERT INTO items (body, words, place) SELECT md5(g::text), to_tsvector('simple', repeat(md5(g::text) || ' ', 3)), point(g, -g)
        FROM generate_series(1, 20000) g;
    CREATE INDEX ON items USING hash (body); CREATE INDEX ON items USING gin (words); CREATE INDEX ON items USING gist (place);
    CREATE INDEX ON items USING spgist (place); CREATE INDEX ON items USING brin (id);
    CREATE TABLE untouched AS SELECT g AS a, repeat('x', 100) AS b FROM generate_series(1, 20000) g;
    CREATE TABLE in_spare (a int) TABLESPACE spare; CREATE TABLE emptied AS SELECT generate_series(1, 5000) AS a;
    CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS a; CREATE TABLE fresh AS SELECT generate_series(1, 20000) AS a;
    CREATE TABLE alike AS SELECT g AS id, 1 AS k FROM generate_series(1, 20000) g; CREATE INDEX ON alike USING hash (k);";

/// Changes of pages that WAL holds no image of (`REGBUF_NO_IMAGE`): a hash index is vacuumed behind the first page of its only bucket, and,
/// without checksums, pages become all-visible.
fn without_images(server: &Postgres, database: &str) -> Result<()> {
    let mut client = server.client_to(database)?;
    for statement in ["DELETE FROM alike WHERE id > 18000", "VACUUM alike", "VACUUM fresh"] {
        client.batch_execute(statement).with_context(|| format!("run {statement} in {database}"))?;
    }
    Ok(())
}

/// Does something while both databases are written to in every way that replay treats differently, and then goes on for two more rounds.
fn while_busy<T: Send>(server: &Postgres, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let done = AtomicBool::new(false);
    let rounds = AtomicU32::new(0);
    thread::scope(|scope| {
        let work = scope.spawn(|| -> Result<()> {
            let mut after = 0;
            while after < 2 {
                let round = rounds.fetch_add(1, Ordering::Relaxed);
                BOTH.iter().try_for_each(|database| one_round(server, database, round))?;
                after += u32::from(done.load(Ordering::Relaxed));
            }
            Ok(())
        });
        while rounds.load(Ordering::Relaxed) < 2 && !work.is_finished() {
            thread::yield_now();
        }
        let result = act();
        done.store(true, Ordering::Relaxed);
        work.join().expect("the thread of work does not panic")?;
        result
    })
}

fn one_round(server: &Postgres, database: &str, round: u32) -> Result<()> {
    let mut client = server.client_to(database)?;
    let passing = format!("passing_{database}");
    let (create, drop) = (format!("CREATE DATABASE {passing}"), format!("DROP DATABASE IF EXISTS {passing}"));
    let updated = format!(
        "UPDATE items SET body = md5(body || {round}), place = point({round}, id) WHERE id % 7 = {round} % 7"
    );
    let mut statements = vec![
        "INSERT INTO items (body, words, place) SELECT md5(random()::text), to_tsvector('simple', md5(random()::text)), \
            point(random(), random()) FROM generate_series(1, 3000)",
        &updated,
        "DELETE FROM items WHERE id % 11 = 3",
        "VACUUM (FREEZE) items",
        "DELETE FROM untouched WHERE a > 15000",
        "VACUUM untouched",
        "TRUNCATE in_spare",
        "INSERT INTO in_spare SELECT generate_series(1, 2000)",
        "DELETE FROM emptied",
        "VACUUM emptied",
        "INSERT INTO emptied SELECT generate_series(1, 5000)",
        "DROP TABLE IF EXISTS churned",
        "CREATE TABLE churned (id int PRIMARY KEY, body text)",
        "INSERT INTO churned SELECT g, repeat(md5(g::text), 50) FROM generate_series(1, 2000) g",
        "ALTER TABLE churned SET TABLESPACE spare",
        "REINDEX TABLE items",
        "SELECT lo_from_bytea(0, decode(repeat('ab', 5000), 'hex'))",
    ];
    // Mapped catalogs: their new places are in pg_filenode.map, which replay then writes.
    if round.is_multiple_of(3) {
        statements.extend(["VACUUM FULL pg_class", "VACUUM FULL pg_attribute", "CHECKPOINT"]);
    }
    statements.extend([drop.as_str(), create.as_str()]);
    for statement in statements {
        client.batch_execute(statement).with_context(|| format!("run {statement} in {database}"))?;
    }
    Ok(())
}

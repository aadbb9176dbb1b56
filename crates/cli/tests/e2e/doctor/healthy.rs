//! Nothing is wrong, and nothing is said.

use super::patient::{Patient, server};
use super::replication::pair;
use anyhow::{Result, ensure};
use pgproof_pg::MajorVersion;
use pgproof_testkit::Postgres;
use std::time::{Duration, Instant};

#[test]
fn a_fresh_server_of_every_version() -> Result<()> {
    for version in MajorVersion::ALL {
        let patient = Patient::of(Postgres::builder(version).setting("fsync", "on"))?;
        let found = patient.findings()?;
        ensure!(found.is_empty(), "{version}: {found:#?}");
    }
    Ok(())
}

#[test]
fn a_busy_server() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.load_pgbench(2)?;
    std::thread::scope(|scope| {
        let load = scope.spawn(|| patient.server.run_pgbench(6));
        while !load.is_finished() {
            let found = patient.findings()?;
            ensure!(found.is_empty(), "{found:#?}");
        }
        load.join().expect("no panic")
    })
}

#[test]
fn a_standby_and_its_primary() -> Result<()> {
    let (primary, standby) = pair(None)?;
    standby.is_well()?;
    primary.sql("CREATE TABLE t AS SELECT generate_series(1, 100000)")?;
    ensure!(standby.findings()?.is_empty());
    let primary = Patient::from_server(primary)?;
    ensure!(primary.findings()?.is_empty());
    Ok(())
}

#[test]
fn look_alikes_of_faults() -> Result<()> {
    let patient = Patient::of(server().setting("max_prepared_transactions", "5"))?;
    patient.server.each(&[
        // A slot that keeps nothing, a sequence that goes round, an unchecked constraint, a role that nobody logs in as.
        "SELECT pg_create_physical_replication_slot('future')",
        "CREATE SEQUENCE ring MAXVALUE 10 CYCLE",
        "SELECT setval('ring', 10)",
        "CREATE TABLE t (a int)",
        "ALTER TABLE t ADD CONSTRAINT later CHECK (a > 0) NOT VALID",
        "CREATE ROLE \"group\" NOLOGIN",
        "CREATE DATABASE closed ALLOW_CONNECTIONS false",
        "CREATE TABLE small (a int) WITH (autovacuum_enabled = off)",
        "INSERT INTO small VALUES (1)",
        "DELETE FROM small",
        "CREATE UNLOGGED TABLE u (a int)",
    ])?;
    ensure!(patient.server.sql("SELECT 1 / 0").is_err());
    let found = patient.findings()?;
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

#[test]
fn many_tables() -> Result<()> {
    let patient = Patient::new()?;
    let count = std::env::var("PGPROOF_TABLES").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    for at in (0..count).step_by(500) {
        let make = format!(
            "DO $$ BEGIN FOR i IN {at}..{} LOOP EXECUTE format('CREATE TABLE t%s (id serial PRIMARY KEY, a text)', i); END LOOP; END $$",
            at + 499
        );
        patient.server.sql(&make)?;
    }
    let began = Instant::now();
    let found = patient.findings()?;
    ensure!(found.is_empty(), "{found:#?}");
    ensure!(began.elapsed() < Duration::from_secs(12), "it took {:?}", began.elapsed());
    Ok(())
}

#[test]
fn a_locked_catalog_does_not_hold_it_up() -> Result<()> {
    let patient = Patient::new()?;
    let mut holder = patient.holds("BEGIN; LOCK pg_class IN ACCESS EXCLUSIVE MODE")?;
    let began = Instant::now();
    let _ = patient.findings()?;
    ensure!(began.elapsed() < Duration::from_secs(12), "it took {:?}", began.elapsed());
    holder.batch_execute("ROLLBACK")?;
    patient.is_well()
}

#[test]
fn a_locked_table_does_not_hold_it_up_and_is_not_locked_by_it() -> Result<()> {
    let patient = Patient::new()?;
    patient.server.sql("CREATE TABLE t (id serial PRIMARY KEY)")?;
    let _holder = patient.holds("BEGIN; LOCK t IN ACCESS EXCLUSIVE MODE")?;
    let began = Instant::now();
    let _ = patient.findings()?;
    ensure!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    Ok(())
}

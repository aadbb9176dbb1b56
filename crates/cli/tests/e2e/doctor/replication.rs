//! Standbys and slots.

use super::patient::{Patient, run, server};
use anyhow::Result;
use pgproof_testkit::{Postgres, StopMode, free_port};
use std::fs;

/// A primary and a standby that is a copy of it.
pub(super) fn pair(conninfo: Option<&str>) -> Result<(Postgres, Patient)> {
    let primary = server().start()?;
    primary.stop(StopMode::Fast)?;
    let copy = primary.ground().join("standby");
    run("cp", &["-a", &primary.pgdata().display().to_string(), &copy.display().to_string()])?;
    fs::write(copy.join("standby.signal"), "")?;
    primary.start()?;
    let port = free_port()?;
    let standby = primary.copy_started_at(&copy, port)?;
    let own = primary.connection_string();
    standby.append_settings(&[("port", &port.to_string())])?;
    standby.append_settings(&[("primary_conninfo", conninfo.unwrap_or(&own))])?;
    standby.start()?;
    Ok((primary, Patient::from_server(standby)?))
}

#[test]
fn replay_is_paused() -> Result<()> {
    let (_primary, standby) = pair(None)?;
    standby.is_well()?;
    standby.server.sql("SELECT pg_wal_replay_pause()")?;
    standby.is_cured_of("replay-paused")
}

#[test]
fn the_primary_is_not_where_the_standby_looks_for_it() -> Result<()> {
    let (_primary, standby) = pair(Some("host=127.0.0.1 port=1 user=postgres"))?;
    standby.suffers_from("receiver-down").map(drop)
}

#[test]
fn the_primary_has_removed_what_the_standby_needs() -> Result<()> {
    let (primary, standby) = pair(None)?;
    standby.is_well()?;
    standby.server.stop(StopMode::Fast)?;
    primary.sql("CREATE TABLE t (a int)")?;
    for _ in 0..3 {
        primary.switch_wal()?;
        primary.sql("INSERT INTO t VALUES (1)")?;
        primary.checkpoint()?;
    }
    standby.server.start()?;
    let found = standby.suffers_from("receiver-down")?;
    anyhow::ensure!(found["seen"].to_string().contains("has already been removed"), "{found}");
    Ok(())
}

#[test]
fn a_slot_has_lost_its_wal() -> Result<()> {
    let builder = server()
        .wal_segment_size_mb(1)
        .setting("max_slot_wal_keep_size", "2MB")
        .setting("checkpoint_warning", "0");
    let patient = Patient::of(builder.setting("min_wal_size", "2MB").setting("max_wal_size", "4MB"))?;
    patient.server.sql("SELECT pg_create_physical_replication_slot('lagging', true)")?;
    for _ in 0..12 {
        patient.server.sql("CREATE TABLE IF NOT EXISTS t (a int); INSERT INTO t VALUES (1)")?;
        patient.server.switch_wal()?;
    }
    patient.server.checkpoint()?;
    patient.is_cured_of("slot-lost")
}

#[test]
fn a_subscription_meets_a_row_that_is_there_already() -> Result<()> {
    let patient = Patient::of(server().setting("wal_level", "logical"))?;
    patient.server.each(&["CREATE DATABASE \"To\"", "CREATE TABLE t (id int PRIMARY KEY)"])?;
    patient.server.each(&[
        "CREATE PUBLICATION p FOR TABLE t",
        "SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
    ])?;
    patient.server.sql_in("To", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")?;
    let subscribe = format!(
        "CREATE SUBSCRIPTION \"From\" CONNECTION '{}' PUBLICATION p WITH (create_slot = false, slot_name = s, copy_data = false)",
        patient.server.connection_string()
    );
    patient.server.client_to("To")?.batch_execute(&subscribe)?;
    patient.server.sql("INSERT INTO t VALUES (1)")?;
    let found = patient.suffers_from("subscription-stopped")?;
    let evidence = found["evidence"].to_string();
    anyhow::ensure!(evidence.contains("duplicate key") || evidence.contains("conflict detected"), "{found}");
    patient.server.sql_in("To", "DELETE FROM t")?;
    patient.carry_out(&found, 0)?;
    patient.is_well()
}

#[test]
fn replay_cancels_what_is_read() -> Result<()> {
    let (primary, standby) = pair(None)?;
    standby.server.append_settings(&[("max_standby_streaming_delay", "0")])?;
    standby.server.reload()?;
    primary.sql("CREATE TABLE \"Old rows\" AS SELECT generate_series(1, 1000) AS a")?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let mut reads =
        standby.holds("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM \"Old rows\"")?;
    primary.each(&["DELETE FROM \"Old rows\"", "VACUUM \"Old rows\""])?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    anyhow::ensure!(reads.batch_execute("SELECT count(*) FROM \"Old rows\"").is_err(), "it was cancelled");
    drop(reads);
    standby.is_cured_of("standby-conflicts")
}

#[test]
fn the_standby_has_room_for_fewer_sessions_than_its_primary() -> Result<()> {
    let (_primary, standby) = pair(None)?;
    standby.is_well()?;
    standby.server.stop(StopMode::Fast)?;
    standby.server.append_settings(&[("max_connections", "20")])?;
    anyhow::ensure!(standby.server.start().is_err(), "it starts with less");
    standby.is_cured_of("standby-settings")
}

#[test]
fn the_old_primary_came_back_and_takes_writes() -> Result<()> {
    let (_primary, standby) = pair(None)?;
    standby.is_well()?;
    standby.server.sql("SELECT pg_promote()")?;
    standby.server.wait_for_promotion()?;
    standby.server.checkpoint()?;
    standby.is_cured_of("twin-primary")
}

#[test]
fn a_published_table_has_no_key() -> Result<()> {
    let patient = Patient::of(server().setting("wal_level", "logical"))?;
    patient
        .server
        .each(&["CREATE TABLE \"Events\" (a int)", "CREATE PUBLICATION all_of_it FOR ALL TABLES"])?;
    anyhow::ensure!(patient.server.sql("DELETE FROM \"Events\" WHERE a = 1").is_err(), "it can be updated");
    patient.is_cured_of("replica-identity-missing")
}

#[test]
fn a_standby_receives_and_does_not_replay() -> Result<()> {
    let (primary, standby) = pair(None)?;
    standby.is_well()?;
    standby.server.sql("SELECT pg_wal_replay_pause()")?;
    let primary = Patient::from_server(primary)?;
    primary.limit("standby-lag = [1000000, 1000000000000]")?;
    primary.server.sql("CREATE TABLE t AS SELECT g, repeat('x', 500) FROM generate_series(1, 10000) g")?;
    let found = primary.suffers_from("standby-lag")?;
    anyhow::ensure!(found["seen"].to_string().contains("not flushed"), "{found}");
    standby.is_cured_of("replay-paused")?;
    primary.is_well()
}

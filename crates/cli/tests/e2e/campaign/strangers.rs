//! Two servers that believe to be the same, archiving into one place.

use crate::scene::Scene;
use anyhow::{Context, Result, ensure};
use pgproof_testkit::{Postgres, StopMode, wait};
use std::process::Command;

/// A copy of the data directory that was started beside the original, as after a careless restore by other means.
#[test]
fn the_wal_of_a_second_server_is_refused_and_the_first_ones_is_kept() -> Result<()> {
    let scene = Scene::initialised()?;
    let server = &scene.server;
    server.sql("CREATE TABLE t AS SELECT 1 AS a")?;
    scene.pgproof(&["backup"])?.succeeded()?;
    server.archive_everything()?;
    server.stop(StopMode::Fast)?;
    let place = scene.new_place("twin");
    let status = Command::new("cp").arg("-a").args([server.pgdata(), &place]).status()?;
    ensure!(status.success(), "cp ended with {status}");
    server.start()?;
    let twin = Postgres::on(server.version(), &place)?;
    twin.start()?;

    server.sql("INSERT INTO t VALUES (2)")?;
    server.archive_everything()?;
    let before = server.table_sums()?;
    twin.sql("CREATE TABLE of_the_twin AS SELECT generate_series(1, 1000) AS a")?;
    let refused = twin.switch_wal()?;
    wait::until_true("the second server's archiver to fail", || {
        Ok(twin.value("SELECT failed_count > 0 FROM pg_stat_archiver")? == "t")
    })?;
    let log = twin.log()?;
    ensure!(log.contains("archived already with other content"), "the log does not say why: {log}");
    let name = refused.file_name(twin.wal_segment_size()?);
    let kept = place.join("pg_wal/archive_status").join(format!("{name}.ready"));
    ensure!(kept.exists(), "the second server believes that its WAL is archived");
    twin.stop(StopMode::Immediate)?;

    assert_eq!(server.table_sums()?, before);
    scene.pgproof(&["verify"])?.succeeded()?;
    scene.comes_back("beside-a-twin", &[]).context("the first server's WAL")
}

//! The testkit's servers do what its tests rely on.

use anyhow::{Context, Result};
use pgproof_pg::MajorVersion;
use pgproof_testkit::{Account, Postgres, StopMode, wait};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

#[test]
fn every_version_starts_works_and_is_gone_when_dropped() -> Result<()> {
    let mut identifiers = BTreeSet::new();
    for version in MajorVersion::ALL {
        let server = Postgres::builder(version).setting("work_mem", "5MB").tablespace("extra").start()?;
        server.sql("CREATE TABLE t (a int) TABLESPACE extra; INSERT INTO t VALUES (1), (2)")?;
        assert_eq!(server.value("SELECT sum(a) FROM t")?, "3");
        assert_eq!(server.value("SHOW server_version_num")?[..2], version.to_string());
        assert_eq!(server.value("SHOW work_mem")?, "5MB");
        assert_eq!(server.value("SHOW data_checksums")?, "on");
        for extension in ["amcheck", "pg_visibility", "pageinspect", "bloom"] {
            server.sql(&format!("CREATE EXTENSION {extension}"))?;
        }
        identifiers.insert(server.value("SELECT system_identifier FROM pg_control_system()")?);
        let (ground, pid) = (server.ground().to_owned(), server.pid().context("it runs")?);
        drop(server);
        assert!(!ground.exists());
        assert!(test_kill_process(pid).is_err());
    }
    assert_eq!(identifiers.len(), 5, "clusters from templates have identifiers of their own");
    Ok(())
}

#[test]
fn a_killed_server_recovers_and_a_stopped_one_restarts() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V15).checksums(false).start()?;
    assert_eq!(server.value("SHOW data_checksums")?, "off");
    server.sql("CREATE TABLE t AS SELECT generate_series(1, 100) a")?;
    server.kill9()?;
    assert!(!server.is_running() && server.client().is_err());
    server.start()?;
    assert_eq!(server.value("SELECT count(*) FROM t")?, "100");
    assert!(server.log()?.contains("automatic recovery in progress"));
    for mode in [StopMode::Smart, StopMode::Fast, StopMode::Immediate] {
        server.stop(mode)?;
        assert!(!server.is_running());
        server.start()?;
    }
    Ok(())
}

#[test]
fn archived_segments_are_waited_for_whatever_their_size() -> Result<()> {
    for megabytes in [1, 16, 64] {
        let server = Postgres::builder(MajorVersion::V17)
            .wal_segment_size_mb(megabytes)
            .archive_by_copying()
            .start()?;
        let last = server.archive_everything()?;
        let size = server.wal_segment_size()?;
        assert_eq!(size.bytes(), megabytes << 20);
        assert!(server.archive_dir().join(last.file_name(size)).exists());
    }
    Ok(())
}

#[test]
fn client_programs_of_the_newest_version_work_against_the_oldest() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V14).start()?;
    server.load_pgbench(1)?;
    server.run_pgbench(1)?;
    server.sql("CREATE UNLOGGED TABLE u AS SELECT 'gone' AS a; CREATE TABLE seen AS SELECT 'kept' AS a")?;
    let dump = server.dump()?;
    assert!(dump.contains("kept") && !dump.contains("gone\n") && dump.contains("pgbench_accounts"));
    let sums = server.table_sums()?;
    assert_eq!(sums["postgres.public.pgbench_accounts"].rows, 100_000);
    assert!(!sums.contains_key("postgres.public.u"));
    server.sql("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 7")?;
    assert_ne!(
        server.table_sums()?["postgres.public.pgbench_accounts"],
        sums["postgres.public.pgbench_accounts"]
    );
    server.restart()?;
    assert_eq!(server.run_client("psql", &["-Atc", "SELECT 1"])?, "1\n");
    Ok(())
}

#[test]
fn a_copied_data_directory_is_served_beside_its_origin() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V16).start()?;
    server.sql("CREATE TABLE t AS SELECT 1 AS a")?;
    server.stop(StopMode::Fast)?;
    let copy = server.ground().join("copy");
    let status = Command::new("cp").arg("-a").arg(server.pgdata()).arg(&copy).status()?;
    assert!(status.success());
    server.start()?;
    let second = Postgres::on(MajorVersion::V16, &copy)?;
    second.start()?;
    assert_eq!(second.dump()?, server.dump()?);
    assert_eq!(second.table_sums()?, server.table_sums()?);
    Ok(())
}

#[test]
fn servers_run_as_an_ordinary_account() -> Result<()> {
    let account = Account::for_servers()?;
    assert_ne!(account.uid, 0);
    let server = Postgres::builder(MajorVersion::V18).create()?;
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(server.pgdata())?.uid(), account.uid);
    Ok(())
}

/// Set for the process that [`a_server_does_not_outlive_a_killed_test`] kills.
const VICTIM: &str = "PGPROOF_TESTKIT_VICTIM";

#[test]
fn a_server_does_not_outlive_a_killed_test() -> Result<()> {
    if env::var_os(VICTIM).is_some() {
        let server = Postgres::builder(MajorVersion::V15).start()?;
        println!("ground {}", server.ground().display());
        println!("pid {}", server.pid().context("it runs")?.as_raw_nonzero());
        std::thread::sleep(wait::PATIENCE);
        return Ok(());
    }
    let mut victim = Command::new(env::current_exe()?)
        .args(["--exact", "a_server_does_not_outlive_a_killed_test", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut ground, mut pid) = (None, None);
    for line in BufReader::new(victim.stdout.take().context("a pipe")?).lines() {
        let line = line?;
        let after = |word: &str| line.split_once(word).map(|(_, rest)| rest.to_owned());
        ground = ground.or(after("ground ").map(PathBuf::from));
        pid = pid.or(after("pid ").and_then(|text| text.parse().ok()).and_then(Pid::from_raw));
        if pid.is_some() {
            break;
        }
    }
    let (ground, pid) = (ground.context("the ground is told")?, pid.context("the process is told")?);
    assert!(ground.exists());
    kill_process(Pid::from_child(&victim), Signal::KILL)?;
    victim.wait()?;
    wait::until_true("the server and its files to be gone", || {
        Ok(test_kill_process(pid).is_err() && !ground.exists())
    })
}

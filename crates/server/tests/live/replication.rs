//! WAL as a standby receives it, from real servers.

use crate::connect_options;
use anyhow::{Result, ensure};
use pgproof_pg::{Lsn, MajorVersion, TimelineId, WalSegmentSize};
use pgproof_server::replication::{Received, Replication, Stream};
use pgproof_server::{ConnectOptions, ServerError, find};
use pgproof_testkit::{Postgres, StopMode, wait};
use std::fs;
use std::time::{Duration, Instant};

fn open(server: &Postgres) -> Result<Replication> {
    Ok(Replication::open(&connect_options(server), "receiver")?)
}

/// What the stream brings from `from` up to `to`, every byte of it acknowledged.
fn read_to(stream: &mut Stream, from: Lsn, to: Lsn) -> Result<Vec<u8>> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut all = Vec::new();
    while from.plus(all.len() as u64) < to {
        ensure!(Instant::now() < deadline, "the stream brought {} bytes only", all.len());
        match stream.receive(Duration::from_secs(1))? {
            Received::Wal { start, data } => {
                assert_eq!(start, from.plus(all.len() as u64), "no byte is left out");
                all.extend_from_slice(&data);
                let end = from.plus(all.len() as u64);
                stream.acknowledge(end, end)?;
            }
            Received::Keepalive { .. } | Received::Nothing => {}
            Received::Ended => break,
        }
    }
    Ok(all)
}

#[test]
fn what_the_stream_brings_is_what_the_server_wrote() -> Result<()> {
    for version in MajorVersion::ALL {
        let megabytes = if version == MajorVersion::V17 { 1 } else { 16 };
        let server = Postgres::builder(version).wal_segment_size_mb(megabytes).start()?;
        let mut replication = open(&server)?;
        let identity = replication.identify_system()?;
        let size = replication.wal_segment_size()?;
        assert_eq!(size, WalSegmentSize::new(u64::from(megabytes) << 20)?);
        assert_eq!(identity.timeline, TimelineId(1));
        assert_eq!(identity.system_identifier, find::control_file(server.pgdata())?.system_identifier);
        assert!(
            replication.create_physical_slot("receiver")? && !replication.create_physical_slot("receiver")?
        );
        server.sql("CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 20000) g")?;
        let segment = identity.flushed.segment(size);
        let from = segment.start(size);
        let mut stream = replication.start_physical(Some("receiver"), from, identity.timeline)?;
        let to = server.lsn()?;
        let all = read_to(&mut stream, from, to)?;
        let name = pgproof_pg::SegmentName::new(identity.timeline, segment).file_name(size);
        let written = fs::read(server.pgdata().join("pg_wal").join(name))?;
        let comparable = all.len().min(written.len());
        assert!(all[..comparable] == written[..comparable], "version {version}: other bytes than in pg_wal");
        wait::until_true("the slot to know what is durable", || {
            let behind =
                server.value("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'receiver'")?;
            Ok(behind.parse::<Lsn>()? >= to)
        })?;
    }
    Ok(())
}

#[test]
fn a_commit_waits_for_a_synchronous_receiver_until_it_acknowledges() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V15).start()?;
    server.sql("CREATE TABLE t (id int)")?;
    server.sql("ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (receiver)'")?;
    let mut replication = open(&server)?;
    let identity = replication.identify_system()?;
    let mut stream = replication.start_physical(None, identity.flushed, identity.timeline)?;
    // The server takes a receiver for synchronous once it has caught up.
    stream.acknowledge(identity.flushed, identity.flushed)?;
    server.reload()?;
    wait::until_true("the receiver to be synchronous", || {
        let state = server.value("SELECT coalesce(max(sync_state), 'none') FROM pg_stat_replication")?;
        if let Received::Wal { start, data } = stream.receive(Duration::ZERO)? {
            let end = start.plus(data.len() as u64);
            stream.acknowledge(end, end)?;
        }
        Ok(state == "sync")
    })?;
    let mut client = server.client()?;
    let commit = std::thread::spawn(move || client.batch_execute("INSERT INTO t VALUES (1)"));
    let deadline = Instant::now() + Duration::from_secs(20);
    let end = loop {
        ensure!(Instant::now() < deadline, "no WAL came");
        if let Received::Wal { start, data } = stream.receive(Duration::from_secs(1))? {
            break start.plus(data.len() as u64);
        }
    };
    // Written only is not enough.
    stream.acknowledge(end, identity.flushed)?;
    std::thread::sleep(Duration::from_millis(500));
    assert!(!commit.is_finished(), "the commit did not wait");
    let mut durable = end;
    while !commit.is_finished() {
        ensure!(Instant::now() < deadline, "the commit waits for ever");
        stream.acknowledge(durable, durable)?;
        if let Received::Wal { start, data } = stream.receive(Duration::from_millis(20))? {
            durable = start.plus(data.len() as u64);
        }
    }
    commit.join().expect("the client's thread")?;
    Ok(())
}

#[test]
fn the_end_of_a_timeline_names_the_next_one() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V15).start()?;
    let mut replication = open(&server)?;
    let identity = replication.identify_system()?;
    let size = replication.wal_segment_size()?;
    replication.create_physical_slot("receiver")?;
    server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000)")?;
    server.stop(StopMode::Fast)?;
    fs::write(server.pgdata().join("standby.signal"), "")?;
    server.start()?;
    server.sql("SELECT pg_promote()")?;
    server.wait_for_promotion()?;
    server.sql("CREATE TABLE u AS SELECT generate_series(1, 1000)")?;

    let mut replication = open(&server)?;
    assert_eq!(replication.identify_system()?.timeline, TimelineId(2));
    let from = identity.flushed.segment(size).start(size);
    let mut stream = replication.start_physical(Some("receiver"), from, TimelineId(1))?;
    let all = read_to(&mut stream, from, Lsn::MAX)?;
    let (mut replication, next) = stream.finish()?;
    let (timeline, begin) = next.expect("a next timeline");
    assert_eq!((timeline, begin), (TimelineId(2), from.plus(all.len() as u64)));
    let history = replication.timeline_history(timeline)?;
    assert_eq!(history.name, "00000002.history");
    assert_eq!(history.content, fs::read(server.pgdata().join("pg_wal/00000002.history"))?);
    let mut stream = replication.start_physical(Some("receiver"), begin, timeline)?;
    read_to(&mut stream, begin, server.lsn()?)?;
    Ok(())
}

#[test]
fn refusals_are_told_in_the_servers_words() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V18).start()?;
    let mut replication = open(&server)?;
    let identity = replication.identify_system()?;
    let error = replication.timeline_history(TimelineId(7)).unwrap_err();
    assert!(error.to_string().contains("fetch a timeline history"), "{error}");
    // The connection goes on.
    assert_eq!(replication.identify_system()?.system_identifier, identity.system_identifier);
    let error = replication.start_physical(Some("nowhere"), identity.flushed, identity.timeline).unwrap_err();
    let ServerError::Statement { source, .. } = &error else { panic!("{error}") };
    assert!(source.to_string().contains("replication slot \"nowhere\" does not exist"), "{source}");
    Ok(())
}

#[test]
fn a_password_is_asked_for_and_proven() -> Result<()> {
    for (method, encryption) in
        [("scram-sha-256", "scram-sha-256"), ("md5", "md5"), ("password", "scram-sha-256")]
    {
        let server =
            Postgres::builder(MajorVersion::V15).setting("password_encryption", encryption).start()?;
        server.sql("CREATE ROLE r REPLICATION LOGIN PASSWORD 'secret'")?;
        let hba = server.pgdata().join("pg_hba.conf");
        fs::write(&hba, format!("local replication r {method}\nlocal all postgres trust\n"))?;
        server.reload()?;
        let with = |password: &str| ConnectOptions {
            connection_string: Some(format!(
                "host={} port={} user=r password={password}",
                server.socket_dir().display(),
                server.port()
            )),
            ..ConnectOptions::default()
        };
        Replication::open(&with("secret"), "receiver")?.identify_system()?;
        let error = Replication::open(&with("wrong"), "receiver").unwrap_err();
        let ServerError::Connect { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.code().map(|code| code.code()), Some("28P01"), "{method}: {source}");
    }
    Ok(())
}

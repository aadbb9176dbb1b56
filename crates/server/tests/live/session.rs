//! Connecting, and what a server says of itself.

use crate::{connect_options, open};
use anyhow::Result;
use pgproof_pg::{Lsn, MajorVersion, TimelineId};
use pgproof_server::{ConnectOptions, Facts, ServerError, Session, find};
use pgproof_testkit::{Postgres, StopMode};

#[test]
fn facts_of_every_version_agree_with_its_files() -> Result<()> {
    for version in MajorVersion::ALL {
        let server = Postgres::builder(version)
            .checksums(version != MajorVersion::V16)
            .wal_segment_size_mb(if version == MajorVersion::V17 { 1 } else { 16 })
            .setting("archive_mode", "on")
            .tablespace("extra")
            .start()?;
        let facts = Facts::observe(&mut open(&server)?)?;
        let control = find::control_file(server.pgdata())?;
        assert_eq!(facts.major()?, version);
        assert_eq!(facts.system_identifier, control.system_identifier);
        assert_eq!(facts.catalog_version, control.catalog_version);
        assert_eq!(facts.wal_segment_size, control.wal_segment_size);
        assert_eq!(facts.checksums, control.has_checksums());
        assert_eq!(facts.checksums, version != MajorVersion::V16);
        assert_eq!(facts.block_size, 8192);
        assert_eq!(facts.timeline, TimelineId(1));
        assert!(!facts.in_recovery && facts.superuser && facts.may_back_up);
        assert_eq!(facts.data_directory, server.pgdata());
        assert_eq!(facts.setting("archive_mode"), "on");
        assert_eq!(facts.setting("wal_level"), "replica");
        let [tablespace] = facts.tablespaces.as_slice() else { panic!("{:?}", facts.tablespaces) };
        assert_eq!(
            (tablespace.name.as_str(), &tablespace.location),
            ("extra", &server.tablespace_dir("extra"))
        );
        assert!(
            facts
                .databases
                .iter()
                .any(|database| database.name == "template0" && !database.allows_connections)
        );
    }
    Ok(())
}

#[test]
fn facts_move_with_the_server_and_survive_json() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V15).start()?;
    let mut session = open(&server)?;
    let before = Facts::observe(&mut session)?;
    server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000)")?;
    server.sql("ALTER SYSTEM SET max_connections = 51")?;
    server.sql("SELECT pg_reload_conf()")?;
    let after = Facts::observe(&mut open(&server)?)?;
    assert!(after.lsn > before.lsn && before.lsn > Lsn::INVALID);
    pgproof_testkit::wait::until_true("max_connections to wait for a restart", || {
        Ok(Facts::observe(&mut open(&server)?)?.pending_restart == ["max_connections"])
    })?;
    let again: Facts = serde_json::from_str(&serde_json::to_string(&after)?)?;
    assert_eq!(again, after);
    Ok(())
}

#[test]
fn a_role_without_privileges_is_told_what_it_lacks() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V15).start()?;
    server.sql("CREATE ROLE plain LOGIN")?;
    let connect = ConnectOptions { user: Some("plain".to_owned()), ..connect_options(&server) };
    let mut session = Session::open(&connect)?;
    let facts = Facts::observe(&mut session)?;
    assert!(!facts.superuser && !facts.may_back_up);
    let error = session.execute("switch to a new WAL segment", "SELECT pg_switch_wal()").unwrap_err();
    assert!(error.hint().contains("superuser"), "{error}: {}", error.hint());
    Ok(())
}

#[test]
fn a_server_that_is_not_there_is_named_with_the_reason() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V15).start()?;
    let connect = connect_options(&server);
    server.stop(StopMode::Fast)?;
    let error = Session::open(&connect).unwrap_err();
    assert!(matches!(error, ServerError::Connect { .. }));
    assert!(error.to_string().contains(&server.socket_dir().display().to_string()), "{error}");
    assert!(error.hint().contains("running"), "{}", error.hint());
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(cause.contains("No such file"), "{cause}");
    Ok(())
}

#[test]
fn a_session_notices_that_its_server_was_killed() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V17).start()?;
    let mut session = open(&server)?;
    server.kill9()?;
    let error = session.query_one("ask for one", "SELECT 1", &[]).unwrap_err();
    assert!(matches!(error, ServerError::Statement { .. }), "{error}");
    assert!(session.is_closed());
    Ok(())
}

//! Starting, stopping and promoting servers.

use crate::{LIMIT, connect_options, open};
use anyhow::Result;
use pgproof_pg::{ClusterState, MajorVersion, TimelineId};
use pgproof_server::{Control, Facts, ServerError, Session, StopMode, find};
use pgproof_testkit::Postgres;
use std::time::Duration;

fn control(server: &Postgres) -> Result<Control> {
    Ok(Control::new(server.pgdata(), &server.bin())?.with_log(&server.dir("log")?.join("server.log")))
}

#[test]
fn every_version_starts_restarts_and_stops_as_the_owner_of_its_files() -> Result<()> {
    for version in MajorVersion::ALL {
        let server = Postgres::builder(version).create()?;
        let control = control(&server)?;
        assert!(!control.is_running()?);
        control.start(LIMIT)?;
        assert!(control.is_running()? && server.is_running());
        open(&server)?;
        control.start(LIMIT)?;
        control.restart(LIMIT)?;
        open(&server)?;
        control.stop(StopMode::Fast, LIMIT)?;
        assert!(!control.is_running()? && !server.is_running());
        assert_eq!(find::control_file(server.pgdata())?.state, ClusterState::ShutDown);
        control.stop(StopMode::Fast, LIMIT)?;
    }
    Ok(())
}

#[test]
fn a_server_that_cannot_start_says_why_in_its_own_words() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V15).setting("shared_buffers", "12 parsecs").create()?;
    let error = control(&server)?.start(LIMIT).unwrap_err();
    assert!(matches!(error, ServerError::Control { action: "start", .. }), "{error}");
    assert!(error.hint().contains("parsecs"), "{}", error.hint());
    Ok(())
}

#[test]
fn a_setting_on_the_command_line_wins() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V17).create()?;
    control(&server)?.with_setting("work_mem", "7MB").start(LIMIT)?;
    assert_eq!(server.value("SHOW work_mem")?, "7MB");
    Ok(())
}

#[test]
fn a_stop_that_takes_too_long_is_reported_and_not_forced() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V15).start()?;
    let mut client = open(&server)?;
    let error = control(&server)?.stop(StopMode::Smart, Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, ServerError::Timeout { .. }), "{error}");
    client.query_one("ask for one", "SELECT 1", &[])?;
    Ok(())
}

#[test]
fn a_standby_becomes_a_primary_of_a_new_timeline() -> Result<()> {
    for version in [MajorVersion::V14, MajorVersion::V18] {
        // A standby refuses fewer connections than the primary had, which for a cluster never started is initdb's number.
        let server = Postgres::builder(version).setting("max_connections", "100").create()?;
        let signal = server.pgdata().join("standby.signal");
        std::fs::write(&signal, "")?;
        server.account().own(&signal)?;
        let control = control(&server)?;
        control.start(LIMIT)?;
        let standby = Facts::observe(&mut open(&server)?)?;
        assert!(standby.in_recovery && standby.timeline == TimelineId(1));
        control.promote(LIMIT)?;
        let primary = Facts::observe(&mut Session::open(&connect_options(&server))?)?;
        assert!(!primary.in_recovery && primary.timeline == TimelineId(2), "{:?}", primary.timeline);
    }
    Ok(())
}

#[test]
fn a_reload_reaches_the_server() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V16).start()?;
    server.append_settings(&[("work_mem", "9MB")])?;
    control(&server)?.reload()?;
    pgproof_testkit::wait::until_true("the setting", || Ok(server.value("SHOW work_mem")? == "9MB"))?;
    server.stop(pgproof_testkit::StopMode::Fast)?;
    assert!(control(&server)?.reload().is_err());
    Ok(())
}

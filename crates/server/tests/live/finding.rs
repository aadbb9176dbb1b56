//! Finding instances without connecting.

use anyhow::Result;
use pgproof_pg::MajorVersion;
use pgproof_server::{Owner, ServerError, Session, State, find};
use pgproof_testkit::{Postgres, StopMode};
use std::fs;

#[test]
fn a_running_instance_of_every_version_is_found_and_can_be_reached() -> Result<()> {
    for version in MajorVersion::ALL {
        let server = Postgres::builder(version).start()?;
        let found = find::find_all();
        let instance = found.instances.iter().find(|instance| instance.data_directory == server.pgdata());
        let instance = instance.unwrap_or_else(|| panic!("{version} is missing in {found:?}"));
        assert_eq!(instance, &find::at(server.pgdata())?);
        assert_eq!(instance.version, version);
        assert_eq!(instance.owner, Owner { uid: server.account().uid, gid: server.account().gid });
        assert!(matches!(instance.state, State::Running { ready: true, .. }), "{:?}", instance.state);
        assert_eq!(instance.port, server.port());
        assert_eq!(instance.socket_directory, Some(server.socket_dir()));
        assert_eq!(
            instance.programs.as_ref().map(fs::canonicalize).transpose()?,
            Some(fs::canonicalize(server.bin())?)
        );
        assert!(instance.files_outside.is_empty(), "{:?}", instance.files_outside);
        let mut connect = instance.connect_options();
        connect.user = Some("postgres".to_owned());
        Session::open(&connect)?;
    }
    Ok(())
}

#[test]
fn a_stopped_and_a_killed_server_are_told_apart() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V15).start()?;
    server.kill9()?;
    assert!(server.pgdata().join("postmaster.pid").exists());
    assert_eq!(find::at(server.pgdata())?.state, State::Stopped { clean: false });
    server.start()?;
    server.stop(StopMode::Fast)?;
    let stopped = find::at(server.pgdata())?;
    assert_eq!(stopped.state, State::Stopped { clean: true });
    assert_eq!((stopped.port, stopped.socket_directory), (server.port(), Some(server.socket_dir())));
    Ok(())
}

#[test]
fn configuration_outside_the_data_directory_is_found() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V15).create()?;
    let outside = server.dir("etc")?;
    for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        fs::rename(server.pgdata().join(name), outside.join(name))?;
    }
    fs::create_dir(outside.join("conf.d"))?;
    fs::write(outside.join("conf.d/more.conf"), "work_mem = '3MB'\n")?;
    let main = outside.join("postgresql.conf");
    // As Debian has it: these two are looked for in the data directory unless they are named (`SelectConfigFiles` of guc.c).
    let mut settings = fs::read_to_string(&main)? + "include_dir = 'conf.d'\n";
    for (name, file) in [("hba_file", "pg_hba.conf"), ("ident_file", "pg_ident.conf")] {
        settings += &format!("{name} = '{}'\n", outside.join(file).display());
    }
    fs::write(&main, settings)?;
    for path in [outside.join("conf.d"), outside.join("conf.d/more.conf")] {
        server.account().own(&path)?;
    }
    let control = pgproof_server::Control::new(server.pgdata(), &server.bin())?
        .with_setting("config_file", &main.display().to_string());
    control.start(crate::LIMIT)?;
    assert_eq!(server.value("SHOW work_mem")?, "3MB");
    for running in [true, false] {
        if !running {
            control.stop(pgproof_server::StopMode::Fast, crate::LIMIT)?;
        }
        let instance = find::at(server.pgdata())?;
        assert_eq!(instance.config_file, main);
        assert_eq!(instance.hba_file, outside.join("pg_hba.conf"));
        assert_eq!(instance.files_outside.len(), 4, "{:?}", instance.files_outside);
        assert_eq!(instance.port, server.port());
    }
    let again = find::at(server.pgdata())?.control()?;
    again.start(crate::LIMIT)?;
    again.stop(pgproof_server::StopMode::Fast, crate::LIMIT)?;
    Ok(())
}

#[test]
fn what_is_no_data_directory_is_refused_by_name() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let error = find::at(folder.path()).unwrap_err();
    assert!(matches!(error, ServerError::NotADataDirectory { .. }), "{error}");
    fs::write(folder.path().join("PG_VERSION"), "13\n")?;
    let error = find::at(folder.path()).unwrap_err();
    assert!(matches!(&error, ServerError::Version { version, .. } if version == "13"), "{error}");
    assert!(matches!(find::at(&folder.path().join("none")).unwrap_err(), ServerError::Host { .. }));
    Ok(())
}

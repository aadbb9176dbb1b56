//! Changing settings and seeing what came of it.

use crate::{connect_options, open};
use anyhow::Result;
use pgproof_pg::MajorVersion;
use pgproof_server::{
    Control, ServerError,
    settings::{Change, change, look},
};
use pgproof_testkit::Postgres;

#[test]
fn a_change_is_in_effect_or_waits_for_a_restart_on_every_version() -> Result<()> {
    for version in MajorVersion::ALL {
        let server = Postgres::builder(version).start()?;
        let mut session = open(&server)?;
        let command = r#"/opt/pg proof/pgproof archive push "%p" 'a' \b"#;
        let changes = [Change::set("archive_mode", "on"), Change::set("archive_command", command)];
        let changed = change(&mut session, &connect_options(&server), &changes)?;
        assert_eq!(changed.after_restart, ["archive_mode"]);
        assert_eq!(changed.in_effect, ["archive_command"]);
        server.restart()?;
        let [mode] = &*look(&mut open(&server)?, &["archive_mode"])? else { panic!("one setting") };
        assert!(mode.value == "on" && mode.needs_restart() && !mode.pending_restart);
        assert_eq!(server.value("SHOW archive_command")?, command);
        let changed =
            change(&mut open(&server)?, &connect_options(&server), &[Change::reset("archive_command")])?;
        assert_eq!(changed.in_effect, ["archive_command"]);
    }
    Ok(())
}

#[test]
fn a_change_that_the_command_line_overrules_is_an_error() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V15).create()?;
    Control::new(server.pgdata(), &server.bin())?.with_setting("archive_timeout", "7").start(crate::LIMIT)?;
    let changes = [Change::set("archive_timeout", "60")];
    let error = change(&mut open(&server)?, &connect_options(&server), &changes).unwrap_err();
    assert!(matches!(&error, ServerError::Setting { why, .. } if why.contains("command line")), "{error}");
    Ok(())
}

#[test]
fn a_refused_change_puts_those_before_it_back() -> Result<()> {
    let server = Postgres::builder(MajorVersion::V18).start()?;
    let connect = connect_options(&server);
    change(&mut open(&server)?, &connect, &[Change::set("archive_timeout", "11min")])?;
    let changes = [
        Change::set("archive_timeout", "12min"),
        Change::set("archive_command", "true"),
        Change::set("wal_level", "nonsense"),
    ];
    let error = change(&mut open(&server)?, &connect, &changes).unwrap_err();
    assert!(matches!(error, ServerError::Statement { .. }), "{error}");
    let file = std::fs::read_to_string(server.pgdata().join("postgresql.auto.conf"))?;
    assert!(file.contains("11min") && !file.contains("archive_command"), "{file}");
    Ok(())
}

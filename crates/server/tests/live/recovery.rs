//! Watching recoveries end at their target, or not.

use crate::{LIMIT, connect_options};
use anyhow::Result;
use pgproof_pg::{Lsn, MajorVersion, TimelineId};
use pgproof_server::{Control, RecoveryEnd, ServerError};
use pgproof_testkit::{Postgres, StopMode};

/// A stopped cluster with three archived tables' worth of WAL ahead of it: created before, rows after. Returns a server on
/// the old files, and the position between the second and the third row.
fn set_back(version: MajorVersion) -> Result<(Postgres, Lsn)> {
    let server = Postgres::builder(version).archive_by_copying().start()?;
    server.sql("CREATE TABLE t (a int)")?;
    server.stop(StopMode::Fast)?;
    let old = server.ground().join("old");
    let copy = |from: &std::path::Path, to: &std::path::Path| -> Result<()> {
        let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status()?;
        anyhow::ensure!(status.success(), "cp {} {}", from.display(), to.display());
        Ok(())
    };
    copy(server.pgdata(), &old)?;
    server.start()?;
    server.sql("INSERT INTO t VALUES (1)")?;
    server.sql("INSERT INTO t VALUES (2)")?;
    let between = server.lsn()?;
    server.sql("INSERT INTO t VALUES (3)")?;
    server.archive_everything()?;
    server.kill9()?;
    std::fs::remove_dir_all(server.pgdata())?;
    std::fs::rename(&old, server.pgdata())?;
    Ok((server, between))
}

fn recover(server: &Postgres, target: &str, action: &str) -> Result<Control> {
    let signal = server.pgdata().join("recovery.signal");
    std::fs::write(&signal, "")?;
    server.account().own(&signal)?;
    let archive = server.archive_dir();
    Ok(Control::new(server.pgdata(), &server.bin())?
        .with_setting("restore_command", &format!("cp {}/%f %p", archive.display()))
        .with_setting("recovery_target_lsn", target)
        .with_setting("recovery_target_action", action))
}

#[test]
fn a_recovery_that_pauses_or_promotes_at_its_target_is_seen_to_do_so() -> Result<()> {
    for version in [MajorVersion::V14, MajorVersion::V17] {
        let (server, target) = set_back(version)?;
        let control = recover(&server, &target.to_string(), "pause")?;
        control.launch()?;
        let mut shown = 0;
        let end = control.wait_for_recovery(&connect_options(&server), LIMIT, &mut |_| shown += 1)?;
        assert!(matches!(end, RecoveryEnd::Paused { at } if at >= target), "{end:?}");
        assert!(shown > 0);
        assert_eq!(server.value("SELECT max(a) FROM t")?, "2");
        control.promote(LIMIT)?;
        let end = control.wait_for_recovery(&connect_options(&server), LIMIT, &mut |_| {})?;
        assert!(matches!(end, RecoveryEnd::Promoted { timeline: TimelineId(2), .. }), "{end:?}");
    }
    Ok(())
}

#[test]
fn a_recovery_that_shuts_down_at_its_target_is_no_failure() -> Result<()> {
    let (server, target) = set_back(MajorVersion::V15)?;
    let control = recover(&server, &target.to_string(), "shutdown")?;
    control.launch()?;
    let end = control.wait_for_recovery(&connect_options(&server), LIMIT, &mut |_| {})?;
    assert_eq!(end, RecoveryEnd::ShutDown);
    Ok(())
}

#[test]
fn a_target_that_is_never_reached_is_a_failure_in_the_servers_words() -> Result<()> {
    let (server, _) = set_back(MajorVersion::V15)?;
    let control = recover(&server, "F/0", "promote")?;
    control.launch()?;
    let error = control.wait_for_recovery(&connect_options(&server), LIMIT, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ServerError::Control { action: "recover", .. }), "{error}");
    assert!(error.hint().contains("before configured recovery target was reached"), "{}", error.hint());
    Ok(())
}

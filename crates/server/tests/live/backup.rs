//! Starting and stopping backups.

use crate::open;
use anyhow::Result;
use pgproof_pg::{Lsn, MajorVersion, TimelineId, label};
use pgproof_server::{Facts, RunningBackup, ServerError};
use pgproof_testkit::Postgres;

#[test]
fn a_backup_of_every_version_begins_and_ends_with_its_label() -> Result<()> {
    for version in MajorVersion::ALL {
        let server = Postgres::builder(version).tablespace("extra").start()?;
        let mut session = open(&server)?;
        let facts = Facts::observe(&mut session)?;
        let running =
            RunningBackup::start(&mut session, facts.version_num, facts.wal_segment_size, "a label", true)?;
        let (start, timeline) = (running.start, running.timeline);
        assert_eq!(timeline, TimelineId(1));
        server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000)")?;
        let stopped = running.stop(&mut session)?;
        assert!(stopped.stop > start && start > Lsn::INVALID);
        let parsed = label::BackupLabel::parse(&stopped.backup_label)?;
        assert_eq!((parsed.label.as_str(), parsed.start), ("a label", start));
        let [entry] = &*label::parse_tablespace_map(&stopped.tablespace_map)? else {
            panic!("one tablespace")
        };
        assert_eq!(entry.location, server.tablespace_dir("extra").display().to_string());
    }
    Ok(())
}

#[test]
fn a_backup_ends_with_the_session_that_began_it() -> Result<()> {
    for version in [MajorVersion::V14, MajorVersion::V15] {
        let server = Postgres::builder(version).start()?;
        let mut session = open(&server)?;
        let facts = Facts::observe(&mut session)?;
        let begin = |session: &mut _| {
            RunningBackup::start(session, facts.version_num, facts.wal_segment_size, "lost", true)
        };
        let running = begin(&mut session)?;
        drop(session);
        let mut other = open(&server)?;
        let error = running.stop(&mut other).unwrap_err();
        assert!(matches!(error, ServerError::Statement { .. }), "{error}");
        begin(&mut other)?.stop(&mut other)?;
    }
    Ok(())
}

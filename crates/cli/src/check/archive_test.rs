//! The test of the whole chain: WAL is written, its segment closed, and the segment awaited in the repository.
//!
//! Nothing else proves that `archive_command` works as the server runs it, with the server's user, environment and limits.

use super::observation::ArchiveTest;
use super::observe::trouble;
use crate::archive_command::{self, ArchiveCommand};
use crate::args::high::Context;
use pgproof_base::{Progress, Stage};
use pgproof_pg::SegmentName;
use pgproof_repo::walobject::SegmentReader;
use pgproof_repo::{Lineage, Repository};
use pgproof_server::{Facts, Session};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks: the archiver itself wakes at once when a segment is closed.
const PAUSE: Duration = Duration::from_millis(100);

/// A message makes the segment worth switching; without one `pg_switch_wal` does nothing at its start. The message is not
/// transactional and means nothing to anybody (`src/backend/replication/logical/message.c`).
const SWITCH: &str = "SELECT pg_walfile_name(pg_switch_wal()) \
    FROM (SELECT pg_logical_emit_message(false, 'pgproof', 'check') OFFSET 0) AS written";

pub(super) fn run(
    context: &Context,
    session: &mut Session,
    facts: &Facts,
    repository: &Repository,
    limit: Option<Duration>,
) -> ArchiveTest {
    let skip = |why: &str| ArchiveTest::NotRun { why: why.to_owned() };
    let Some(limit) = limit else { return skip("it was left out (--no-archive-test)") };
    if facts.in_recovery {
        return skip("the server is a standby");
    }
    let ours = matches!(archive_command::parse(facts.setting("archive_command")), ArchiveCommand::Ours(_));
    if facts.setting("archive_mode") == "off" || !ours || !facts.setting("archive_library").is_empty() {
        return skip("archiving into this repository is not set up");
    }
    context.talk.stage(Stage::WaitingForWal, None);
    match switch_and_wait(session, facts, repository, limit) {
        Ok(test) => test,
        Err(error) => ArchiveTest::Failed(trouble(&error)),
    }
}

fn switch_and_wait(
    session: &mut Session,
    facts: &Facts,
    repository: &Repository,
    limit: Duration,
) -> anyhow::Result<ArchiveTest> {
    let row = session.query_one("close a WAL segment", SWITCH, &[])?;
    let segment: String = row.get(0);
    let name = SegmentName::parse(&segment, facts.wal_segment_size)?;
    let path = Lineage::new(facts.system_identifier).segment(name, facts.wal_segment_size);
    let began = Instant::now();
    loop {
        let stored = repository.store().head(&path)?.is_some();
        let seconds = began.elapsed().as_secs_f64();
        if stored {
            let summary = SegmentReader::open(repository, &path)?.summary()?.is_some();
            return Ok(ArchiveTest::Stored { segment, seconds, summary });
        }
        if began.elapsed() >= limit {
            return Ok(ArchiveTest::Missing { segment, seconds });
        }
        thread::sleep(PAUSE);
    }
}

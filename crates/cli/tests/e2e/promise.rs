//! A standby that is to promise a new term: it acknowledges nothing of the old one any more, and knows how far it is.

use anyhow::{Context, Result, ensure};
use pgproof_ha::act::{ManagedSettings, allot_timeline, clear_marks, receivers, stop_receiving};
use pgproof_ha::observe::end_of_wal;
use pgproof_pg::{Lsn, MajorVersion, TimelineId};
use pgproof_server::{Control, find};
use pgproof_testkit::{Postgres, StopMode, wait};
use std::time::Duration;

/// A primary whose commits wait for its one standby.
struct Pair {
    primary: Postgres,
    standby: Postgres,
    control: Control,
}

impl Pair {
    fn new(version: MajorVersion) -> Result<Self> {
        let primary = Postgres::builder(version).start()?;
        primary.sql("CREATE TABLE t (id int)")?;
        let place = primary.ground().join("standby");
        let target = place.display().to_string();
        primary.run_client("pg_basebackup", &["-D", &target, "-X", "stream", "-c", "fast"])?;
        std::fs::write(place.join("standby.signal"), "")?;
        primary.account().own(&place.join("standby.signal"))?;
        let conninfo = format!("{} application_name=n2.t1", primary.connection_string());
        ManagedSettings::default().with("primary_conninfo", &conninfo).write(&place)?;
        for name in ["pgproof.conf", "postgresql.conf"] {
            primary.account().own(&place.join(name))?;
        }
        let standby = Postgres::on(version, &place)?;
        standby.start()?;
        primary.each(&[
            "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (\"n2.t1\")'",
            "SELECT pg_reload_conf()",
        ])?;
        let control = Control::new(&place, &primary.bin())?;
        let pair = Self { primary, standby, control };
        wait::until_true("the standby to stream", || Ok(!receivers(pair.standby.pgdata())?.is_empty()))?;
        pair.primary.sql("INSERT INTO t VALUES (1)")?;
        Ok(pair)
    }

    fn flushed(&self) -> Result<Lsn> {
        Ok(self.standby.value("SELECT pg_last_wal_receive_lsn()")?.parse()?)
    }

    /// Read from the files alone, from the last checkpoint on.
    fn end(&self) -> Result<Lsn> {
        let control = find::control_file(self.standby.pgdata())?;
        Ok(end_of_wal(self.standby.pgdata(), control.wal_segment_size, control.checkpoint)?.lsn)
    }
}

/// With replay paused a reload changes nothing, which is why it is not enough.
#[test]
fn a_standby_whose_replay_is_paused_acknowledges_nothing_after_it_stopped_receiving() -> Result<()> {
    for version in [MajorVersion::V14, MajorVersion::V18] {
        let pair = Pair::new(version)?;
        pair.standby.sql("SELECT pg_wal_replay_pause()")?;
        pair.primary.sql("INSERT INTO t VALUES (2)")?;
        stop_receiving(&pair.control, wait::PATIENCE)?;
        ensure!(receivers(pair.standby.pgdata())?.is_empty());
        let mut commit = pair.primary.client_program("psql")?;
        let mut commit = commit.args(["-c", "INSERT INTO t VALUES (3)"]).spawn().context("run psql")?;
        wait::until_true("the commit to wait", || {
            Ok(pair.primary.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")?
                == "1")
        })?;
        let far = pair.flushed()?;
        pair.standby.sql("SELECT pg_wal_replay_resume()")?;
        wait::until_true("everything to be replayed", || {
            Ok(pair.standby.value("SELECT count(*) FROM t")? == "2")
        })?;
        // It would be asked for again by now, if it could be: what is retried after a failure is retried within this time.
        std::thread::sleep(Duration::from_secs(1));
        ensure!(receivers(pair.standby.pgdata())?.is_empty() && pair.flushed()? == far);
        ensure!(commit.try_wait()?.is_none(), "a commit was acknowledged by a standby that promised");
        // The end of WAL is what the server says while it knows, and known when it does not run.
        let replayed: Lsn = pair.standby.value("SELECT pg_last_wal_replay_lsn()")?.parse()?;
        ensure!(pair.end()? == replayed, "{} instead of {replayed}", pair.end()?);
        pair.standby.stop(StopMode::Immediate)?;
        ensure!(pair.end()? == replayed);
        pair.standby.start()?;
        ensure!(receivers(pair.standby.pgdata())?.is_empty(), "a restart began to receive again");
        pair.primary.kill9()?;
        commit.wait()?;
    }
    Ok(())
}

/// Two promotions that were interrupted would take the same number otherwise, and pg_rewind would see one history.
#[test]
fn a_promotion_takes_the_timeline_that_it_was_allotted_and_others_follow() -> Result<()> {
    for version in [MajorVersion::V14, MajorVersion::V18] {
        let pair = Pair::new(version)?;
        let place = pair.primary.ground().join("follower");
        let target = place.display().to_string();
        pair.primary.run_client("pg_basebackup", &["-D", &target, "-X", "stream", "-c", "fast"])?;
        std::fs::write(place.join("standby.signal"), "")?;
        stop_receiving(&pair.control, wait::PATIENCE)?;
        let data = pair.standby.pgdata();
        let own = |number| pair.primary.account().own(&data.join(format!("pg_wal/0000000{number}.history")));
        // An attempt that was broken off leaves nothing that keeps the server from starting.
        allot_timeline(data, TimelineId(1), TimelineId(4))?;
        pair.standby.stop(StopMode::Immediate)?;
        clear_marks(data)?;
        pair.standby.start()?;
        allot_timeline(data, TimelineId(1), TimelineId(4))?;
        [2, 3].into_iter().try_for_each(own)?;
        pair.control.promote(wait::PATIENCE)?;
        let timeline = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
        ensure!(pair.standby.value(timeline)? == "00000004", "{}", pair.standby.value(timeline)?);
        // The numbers that were never used stay: a standby that follows from the old timeline asks for the history of each.
        clear_marks(data)?;
        let conninfo = format!("{} application_name=n3.t2", pair.standby.connection_string());
        ManagedSettings::default().with("primary_conninfo", &conninfo).write(&place)?;
        for name in ["standby.signal", "pgproof.conf", "postgresql.conf"] {
            pair.primary.account().own(&place.join(name))?;
        }
        let follower = Postgres::on(version, &place)?;
        follower.start()?;
        pair.standby.sql("INSERT INTO t VALUES (9)")?;
        wait::until_true("the follower to have the new timeline's commit", || {
            Ok(follower.value("SELECT count(*) FROM t WHERE id = 9")? == "1")
        })?;
    }
    Ok(())
}

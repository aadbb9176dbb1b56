//! Talking to a test's server: SQL, and PostgreSQL's own client programs.

use super::Postgres;
use crate::{Server, wait};
use anyhow::{Context, Result, anyhow, ensure};
use pgproof_pg::{Lsn, SegmentName, SegmentNumber, TimelineId, WalSegmentSize};
use postgres::{Client, Config, NoTls, SimpleQueryMessage};
use std::{
    process::{Command, Output},
    time::Duration,
};

impl Postgres {
    /// A new connection to the database `postgres`.
    ///
    /// # Errors
    /// Fails when the server does not accept it.
    pub fn client(&self) -> Result<Client> {
        self.client_to("postgres")
    }

    /// A new connection to a database.
    ///
    /// # Errors
    /// Fails when the server does not accept it.
    pub fn client_to(&self, database: &str) -> Result<Client> {
        let mut config = Config::new();
        config
            .host_path(self.socket_dir())
            .port(self.port)
            .user("postgres")
            .dbname(database)
            .application_name("testkit")
            .connect_timeout(Duration::from_secs(10));
        config
            .connect(NoTls)
            .with_context(|| format!("connect to database {database} on {}", self.ground().display()))
    }

    /// Runs statements separated by semicolons, in a new session on the database `postgres`.
    ///
    /// # Errors
    /// Fails as the first statement that fails; the statements run in one transaction unless they say otherwise.
    pub fn sql(&self, statements: &str) -> Result<()> {
        self.sql_in("postgres", statements)
    }

    /// As [`Self::sql`], in another database.
    ///
    /// # Errors
    /// As [`Self::sql`].
    pub fn sql_in(&self, database: &str, statements: &str) -> Result<()> {
        self.client_to(database)?.batch_execute(statements).with_context(|| format!("run {statements}"))
    }

    /// Runs each statement in one session and a transaction of its own (`CREATE DATABASE`, `VACUUM`).
    ///
    /// # Errors
    /// Fails as the first statement that fails.
    pub fn each(&self, statements: &[&str]) -> Result<()> {
        let mut client = self.client()?;
        for statement in statements {
            client.batch_execute(statement).with_context(|| format!("run {statement}"))?;
        }
        Ok(())
    }

    /// The rows of one query, as text.
    ///
    /// # Errors
    /// Fails when the query does.
    pub fn query(&self, query: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.query_in("postgres", query)
    }

    /// As [`Self::query`], in another database.
    ///
    /// # Errors
    /// Fails when the query does.
    pub fn query_in(&self, database: &str, query: &str) -> Result<Vec<Vec<Option<String>>>> {
        let messages =
            self.client_to(database)?.simple_query(query).with_context(|| format!("run {query}"))?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The first column of the first row, which must not be null.
    ///
    /// # Errors
    /// Fails when the query does or gives nothing.
    pub fn value(&self, query: &str) -> Result<String> {
        let rows = self.query(query)?;
        let value = rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten();
        value.ok_or_else(|| anyhow!("{query} gave no value"))
    }

    /// The position after the last WAL record written; on a standby, the last one replayed.
    ///
    /// # Errors
    /// Fails when the server does not answer.
    pub fn lsn(&self) -> Result<Lsn> {
        let text = self.value(
            "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END",
        )?;
        Ok(text.parse()?)
    }

    /// Waits until recovery has ended and writes are taken.
    ///
    /// # Errors
    /// Fails when the server does not answer, or not in time.
    pub fn wait_for_promotion(&self) -> Result<()> {
        crate::wait::until_true(
            "the end of recovery",
            || Ok(self.value("SELECT pg_is_in_recovery()")? == "f"),
        )
    }

    /// Writes a checkpoint.
    ///
    /// # Errors
    /// Fails when the server does.
    pub fn checkpoint(&self) -> Result<()> {
        self.sql("CHECKPOINT")
    }

    /// Size of this cluster's WAL segments.
    ///
    /// # Errors
    /// Fails when the server does not answer.
    pub fn wal_segment_size(&self) -> Result<WalSegmentSize> {
        let bytes = self.value("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'")?;
        Ok(WalSegmentSize::new(bytes.parse()?)?)
    }

    /// The timeline of the last checkpoint.
    ///
    /// # Errors
    /// Fails when the server does not answer.
    pub fn timeline(&self) -> Result<TimelineId> {
        Ok(self.value("SELECT timeline_id FROM pg_control_checkpoint()")?.parse()?)
    }

    /// Ends the current WAL segment, so that it is archived, and returns it. Something is written before, because
    /// PostgreSQL does not switch an untouched segment.
    ///
    /// # Errors
    /// Fails when the server does.
    pub fn switch_wal(&self) -> Result<SegmentName> {
        self.sql("SELECT pg_logical_emit_message(false, 'testkit', 'switch')")?;
        let end: Lsn = self.value("SELECT pg_switch_wal()")?.parse()?;
        Ok(SegmentName::new(self.timeline()?, end.previous_segment(self.wal_segment_size()?)))
    }

    /// Waits until the server has archived everything before `lsn`, which must lie in a segment that is already complete
    /// (see [`Self::switch_wal`]).
    ///
    /// # Errors
    /// Fails after a minute, with the archiver's last failure.
    pub fn wait_for_archived(&self, lsn: Lsn) -> Result<()> {
        let size = self.wal_segment_size()?;
        let wanted = lsn.previous_segment(size);
        self.wait_for_archived_number(wanted, size)
    }

    /// Switches to a new segment and waits until everything before is archived; returns the last archived segment.
    ///
    /// # Errors
    /// As [`Self::switch_wal`] and [`Self::wait_for_archived`].
    pub fn archive_everything(&self) -> Result<SegmentName> {
        let size = self.wal_segment_size()?;
        let last = self.switch_wal()?;
        self.wait_for_archived(last.end(size))?;
        Ok(last)
    }

    fn wait_for_archived_number(&self, wanted: SegmentNumber, size: WalSegmentSize) -> Result<()> {
        let look = || {
            let rows = self.query("SELECT last_archived_wal FROM pg_stat_archiver")?;
            let name = rows.into_iter().flatten().next().flatten().unwrap_or_default();
            // The archiver's last file may be a history file, which tells nothing about segments.
            let Some(segment) = name.get(..24) else { return Ok(None) };
            let Ok(done) = SegmentName::parse(segment, size) else { return Ok(None) };
            Ok((done.start(size) >= wanted.start(size)).then_some(()))
        };
        wait::until("segments to be archived", wait::PATIENCE, look)
            .with_context(|| format!("the server's log ends:\n{}", self.log_tail()))
    }

    /// A client program of PostgreSQL (`psql`, `pgbench`, `pg_dump`, ...), set up to reach this server. The newest version
    /// is taken: it works against all older servers.
    ///
    /// # Errors
    /// Fails when the newest version cannot be had.
    pub fn client_program(&self, name: &str) -> Result<Command> {
        Ok(self.set_up(&Server::with_clients()?, name))
    }

    /// A program of this server's own version that works on its files (`pg_waldump`, `pg_checksums`); `None` where the
    /// installation is bare.
    #[must_use]
    pub fn own_program(&self, name: &str) -> Option<Command> {
        self.bin().join(name).is_file().then(|| self.set_up(&self.server, name))
    }

    fn set_up(&self, server: &Server, name: &str) -> Command {
        let mut command = Command::new(server.bin().join(name));
        command.envs(self.environment()).current_dir("/");
        self.account.apply(&mut command);
        command
    }

    /// Runs a client program and returns what it printed.
    ///
    /// # Errors
    /// Fails when the program does, with what it wrote to standard error.
    pub fn run_client(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.client_program(name)?;
        let output = command.args(arguments).output().with_context(|| format!("run {command:?}"))?;
        printed(&command, output)
    }

    /// Creates and fills pgbench's tables: 100,000 accounts, about 15 MB, for each unit of `scale`.
    ///
    /// # Errors
    /// Fails when pgbench does.
    pub fn load_pgbench(&self, scale: u32) -> Result<()> {
        self.run_client("pgbench", &["--initialize", "--quiet", "--scale", &scale.to_string()]).map(drop)
    }

    /// Runs pgbench's standard transactions with two clients for so many seconds.
    ///
    /// # Errors
    /// Fails when pgbench does.
    pub fn run_pgbench(&self, seconds: u32) -> Result<()> {
        self.run_client("pgbench", &["--client=2", "--no-vacuum", "--time", &seconds.to_string()]).map(drop)
    }
}

fn printed(command: &Command, output: Output) -> Result<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, stderr.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

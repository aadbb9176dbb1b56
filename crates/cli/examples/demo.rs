//! The demonstration behind `make demo`: an accident, and the way back from it, on a server of its own.
//!
//! Everything is done as an operator would do it, by running `pgproof`; this file only plays the part of the applications that write and of
//! the hand that slips. The proof at the end compares every table of the restored server with what the lost one had acknowledged. The server,
//! its repository and the restored copy lie in one temporary directory that is gone afterwards, also when a step fails.

#![allow(clippy::print_stdout, reason = "this is a program that shows something")]

use anyhow::{Context, Result, ensure};
use pgproof_pg::MajorVersion;
use pgproof_testkit::postgres::TableSum;
use pgproof_testkit::{Pgproof, Postgres, free_port};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Debian's version; it is installed where `cargo xtask demo` can install packages.
const VERSION: MajorVersion = MajorVersion::V15;

/// About 150 MB of pgbench data: enough to see a rate, little enough to wait for.
const SCALE: u32 = 10;

/// Payments that the application had an answer for when the accident happened.
const PAYMENTS: usize = 500;

fn main() -> Result<()> {
    let began = Instant::now();
    let show = Show { program: Pgproof::new()?.binary().to_owned(), began };
    show.step("A PostgreSQL server with data: pgbench, scale 10, running with fsync on");
    let server = Postgres::builder(VERSION).setting("fsync", "on").start()?;
    server.load_pgbench(SCALE)?;
    server.sql(
        "CREATE TABLE payments (id bigint PRIMARY KEY, paid_at timestamptz DEFAULT clock_timestamp())",
    )?;

    let data = server.pgdata().display().to_string();
    let repository = server.ground().join("repository").display().to_string();
    show.step("It becomes recoverable");
    show.run(&server, &["init", "--yes", "--restart", "--pgdata", &data, "--repository", &repository])?;
    show.step("A first backup, which is full");
    show.run(&server, &["backup"])?;
    show.step("The applications go on for five seconds; then a second backup, which reads what changed");
    server.run_pgbench(5)?;
    show.run(&server, &["backup"])?;

    show.step("More work, and then an accident: somebody drops a table");
    let acknowledged = pay(&server)?;
    let before = server.table_sums()?;
    let instant = server.value("SELECT clock_timestamp()::text")?;
    std::thread::sleep(Duration::from_millis(200));
    server.sql("DROP TABLE payments")?;
    server.run_pgbench(1)?;
    println!("  {acknowledged} payments were acknowledged; `DROP TABLE payments` came after {instant}");

    show.step("Back to the instant before, beside the damaged server");
    server.archive_everything()?;
    let place = server.ground().join("restored");
    let port = free_port()?;
    let (into, port_text) = (place.display().to_string(), port.to_string());
    let arguments = ["restore", "--pgdata", &into, "--time", &instant, "--start", "--port", &port_text];
    let report = show.run_for_report(&server, &arguments)?;
    let restored = server.copy_started_at(&place, port)?;
    let lost = prove(&restored, &before, acknowledged)?;

    show.step("What was proven");
    let seconds =
        |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).context("the report lacks a time");
    let (write_s, replay_s) = (seconds("/report/done/total_s")?, seconds("/report/done/recovery/replay_s")?);
    println!("  tables compared     {}, by row count and checksum: all equal", before.len());
    println!(
        "  data loss           {lost} of {acknowledged} acknowledged payments, 0 rows of any other table"
    );
    println!(
        "  restore time        {:.1} s: {write_s:.1} s to write the files, {replay_s:.1} s to start and replay WAL",
        write_s + replay_s,
    );
    println!("  demonstration       {:.0} s; nothing of it is left behind", began.elapsed().as_secs_f64());
    Ok(())
}

/// Runs `pgproof` and shows what it is asked and what it says.
struct Show {
    program: PathBuf,
    began: Instant,
}

impl Show {
    fn step(&self, what: &str) {
        println!("\n[{:5.1} s] {what}", self.began.elapsed().as_secs_f64());
    }

    fn run(&self, server: &Postgres, arguments: &[&str]) -> Result<()> {
        println!("  $ pgproof {}", arguments.join(" "));
        let output = self.command(server, arguments).stderr(Stdio::inherit()).output()?;
        print_indented(&String::from_utf8_lossy(&output.stdout));
        ensure!(output.status.success(), "`pgproof {}` ended with {}", arguments.join(" "), output.status);
        Ok(())
    }

    fn run_for_report(&self, server: &Postgres, arguments: &[&str]) -> Result<Value> {
        println!("  $ pgproof {}", arguments.join(" "));
        let output = self.command(server, arguments).arg("--json").output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "restore ended with {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&text).context("the report of restore is no JSON")
    }

    fn command(&self, server: &Postgres, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let config = server.ground().join("etc/pgproof.toml");
        command.args(arguments).envs(server.environment()).env("PGPROOF_CONFIG", config).stdin(Stdio::null());
        command
    }
}

fn print_indented(text: &str) {
    for line in text.lines() {
        println!("  {line}");
    }
}

/// Single-row transactions, one after the other; returns how many the server acknowledged.
fn pay(server: &Postgres) -> Result<usize> {
    let mut client = server.client()?;
    let statement = client.prepare("INSERT INTO payments (id) VALUES ($1)")?;
    for id in 0..PAYMENTS {
        client.execute(&statement, &[&i64::try_from(id)?])?;
    }
    Ok(PAYMENTS)
}

/// Compares every table of the restored server with what the lost one held; returns the number of acknowledged payments that are not there.
fn prove(restored: &Postgres, before: &BTreeMap<String, TableSum>, acknowledged: usize) -> Result<usize> {
    let after = restored.table_sums()?;
    for (table, sum) in before {
        let found = after.get(table).with_context(|| format!("{table} did not come back"))?;
        ensure!(found == sum, "{table} differs: {sum:?} before, {found:?} restored");
    }
    ensure!(after.len() == before.len(), "the restored server has tables that nobody acknowledged");
    let rows: usize = restored.value("SELECT count(*) FROM payments")?.parse()?;
    ensure!(rows == acknowledged, "{rows} payments came back of {acknowledged}");
    Ok(acknowledged - rows)
}

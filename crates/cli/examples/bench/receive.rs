//! What a commit waits for whoever stands in the synchronous standby's place, on the same host and disk.

use crate::measure::{self, ROUNDS, median};
use crate::results::Results;
use crate::site::{Encryption, Site};
use anyhow::{Context, Result};
use pgproof_testkit::{Postgres, free_port, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Clients that commit at the same time: alone a commit shows the bare latency, together they share syncs.
const CLIENTS: [&str; 2] = ["1", "4"];

const RECEIVEWAL: &str = "pg_receivewal";
const STANDBY: &str = "standby";

/// A receiver or a standby that is asked to end with its turn.
struct Following(Child);

impl Following {
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().with_context(|| format!("run {command:?}"))?))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // To all three SIGINT means a clean end.
        if kill_process(Pid::from_child(&self.0), Signal::INT).is_ok() {
            drop(self.0.wait());
        }
    }
}

/// `archive receive`, `pg_receivewal --synchronous` and a hot standby in turn. All WAL is stored in the repository each time: by `archive
/// receive` itself, beside the others by `archive_command`.
pub(crate) fn commit_latency(results: &mut Results) -> Result<()> {
    let site = Site::new(Encryption::Off)?;
    let server = &site.server;
    server.load_pgbench(20)?;
    let archive_command = server.value("SHOW archive_command")?.replace('\'', "''");
    let standby = standby(&site)?;
    let spool = site.empty("spool")?.display().to_string();
    let received = site.empty("received")?.display().to_string();
    let slot = format!("SELECT pg_create_physical_replication_slot('{RECEIVEWAL}')");
    server.sql(&slot)?;
    let mut latencies: Vec<[[f64; CLIENTS.len()]; 3]> = Vec::new();
    for round in 0..ROUNDS {
        let mut latency = [[f64::NAN; CLIENTS.len()]; 3];
        for turn in 0..3 {
            // Each contestant is first once.
            let contestant = (round + turn) % 3;
            let (archive, name) = match contestant {
                0 => ("/bin/true", "pgproof"),
                1 => (archive_command.as_str(), RECEIVEWAL),
                _ => (archive_command.as_str(), STANDBY),
            };
            server.each(&[
                &format!("ALTER SYSTEM SET archive_command = '{archive}'"),
                &format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"),
                "CHECKPOINT",
            ])?;
            server.reload()?;
            let following = Following::start(match contestant {
                0 => site.pgproof(&["archive", "receive", "--spool", &spool]),
                1 => {
                    let mut command = server.client_program("pg_receivewal")?;
                    command.args(["--synchronous", "--slot", RECEIVEWAL, "--directory", &received]);
                    command
                }
                _ => start_of_standby(&site, &standby)?,
            })?;
            wait::until_true("the commits to wait for the contestant", || {
                let state = format!(
                    "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{name}' AND sync_state = 'sync' \
                     AND pg_wal_lsn_diff(pg_current_wal_flush_lsn(), flush_lsn) < 65536"
                );
                Ok(server.value(&state)? == "1")
            })?;
            for (place, clients) in CLIENTS.iter().enumerate() {
                latency[contestant][place] = milliseconds_a_commit(server, clients)?;
            }
            server.sql("ALTER SYSTEM SET synchronous_standby_names = ''")?;
            server.reload()?;
            drop(following);
        }
        results.note(format!(
            "commit latency, ms with 1 and with 4 clients: pgproof {:.2} and {:.2}, {RECEIVEWAL} {:.2} and {:.2}, {STANDBY} {:.2} and {:.2}",
            latency[0][0], latency[0][1], latency[1][0], latency[1][1], latency[2][0], latency[2][1],
        ));
        latencies.push(latency);
    }
    for (place, clients) in CLIENTS.iter().enumerate() {
        for (other, name) in [(1, RECEIVEWAL), (2, STANDBY)] {
            let ratio = median(latencies.iter().map(|latency| latency[0][place] / latency[other][place]));
            results.judge(format!("commit latency, {clients} clients, against {name}"), ratio, 1.1);
        }
    }
    Ok(())
}

/// The data directory of a standby of the site's server.
fn standby(site: &Site) -> Result<PathBuf> {
    let place = site.server.ground().join("standby");
    // Of the server's own version, whose settings it writes.
    let mut copy = site.server.own_program("pg_basebackup").context("the server has no pg_basebackup")?;
    let from = format!("{} application_name={STANDBY}", site.server.connection_string());
    copy.args(["--checkpoint=fast", "--write-recovery-conf", "--create-slot", "--slot", STANDBY])
        .args(["--dbname", &from, "--pgdata"])
        .arg(&place);
    measure::run(copy, None)?;
    Ok(place)
}

fn start_of_standby(site: &Site, data: &Path) -> Result<Command> {
    let mut command = site.server.own_program("postgres").context("the server has no program")?;
    command.arg("-D").arg(data).args(["-p", &free_port()?.to_string()]);
    Ok(command)
}

fn milliseconds_a_commit(server: &Postgres, clients: &str) -> Result<f64> {
    let clients = format!("--client={clients}");
    let said = server.run_client("pgbench", &["--no-vacuum", &clients, "--time=15"])?;
    let latency = said
        .lines()
        .find_map(|line| line.strip_prefix("latency average = ")?.split(' ').next()?.parse().ok());
    latency.context("pgbench told no latency")
}

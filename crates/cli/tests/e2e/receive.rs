//! WAL received as it is written: what a client was told is committed comes back without the server's disk.
//!
//! `PGPROOF_ROUNDS` says how many servers are killed (CI takes a few); `PGPROOF_SEED` repeats the choice of moments.

use crate::scene::Scene;
use crate::several::{object, offsite, with_offsite};
use anyhow::{Context, Result, ensure};
use pgproof_server::find;
use pgproof_testkit::{Postgres, Seed, free_port, wait};
use rand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::Duration;
use std::{env, fs, thread};

/// Rounds of an ordinary run.
const ROUNDS: usize = 2;

/// Clients that commit at the same time.
const CLIENTS: usize = 4;

/// A receiver that ends with its test.
pub(crate) struct Receiver {
    child: Child,
    log: PathBuf,
    spool: String,
}

impl Receiver {
    pub(crate) fn start(scene: &Scene, spool: &str) -> Result<Self> {
        let log = scene.new_place("receive.log");
        let said = fs::File::options().create(true).append(true).open(&log)?;
        let mut command = scene.command(&["archive", "receive", "--spool", spool, "--verbose"]);
        let child = command.stdout(Stdio::null()).stderr(said).spawn()?;
        let receiver = Self { child, log, spool: spool.to_owned() };
        wait::until_true("the receiver to stream", || {
            let streams = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'pgproof' AND state = 'streaming'";
            Ok(scene.server.value(streams)? == "1")
        })
        .with_context(|| fs::read_to_string(&receiver.log).unwrap_or_default())?;
        Ok(receiver)
    }

    /// Lets commits wait for it from now on.
    pub(crate) fn make_synchronous(&self, scene: &Scene) -> Result<()> {
        scene.server.sql("ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (pgproof)'")?;
        scene.server.reload()?;
        wait::until_true("the receiver to be synchronous", || {
            let state = "SELECT coalesce(max(sync_state), 'none') FROM pg_stat_replication WHERE application_name = 'pgproof'";
            Ok(scene.server.value(state)? == "sync")
        })
    }

    /// Restores from repository and spool, and gives the server that runs then.
    pub(crate) fn restored(&self, scene: &Scene, name: &str) -> Result<Postgres> {
        scene.restored(name, &["--spool", &self.spool])
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL).map(drop)
    }

    fn signal(&mut self, signal: Signal) -> Result<std::process::ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, signal)?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn no_acknowledged_commit_is_lost_with_the_servers_disk() -> Result<()> {
    let rounds = env::var("PGPROOF_ROUNDS").ok().map_or(Ok(ROUNDS), |text| text.parse())?;
    let mut moments = Seed::from_environment().rng(1);
    let mut needed = 0;
    for round in 0..rounds {
        let scene = Scene::initialised()?;
        let server = &scene.server;
        server.sql("CREATE TABLE t (client int, id int)")?;
        scene.pgproof(&["backup"])?.succeeded()?;
        let spool = server.dir("spool")?.display().to_string();
        let mut receiver = Receiver::start(&scene, &spool)?;
        receiver.make_synchronous(&scene)?;
        let acknowledged = Mutex::new([0; CLIENTS]);
        thread::scope(|scope| -> Result<()> {
            for client in 0..CLIENTS {
                let mut session = server.client()?;
                let acknowledged = &acknowledged;
                scope.spawn(move || {
                    for id in 1.. {
                        // A bigger row now and then, so that segments fill.
                        let insert = format!(
                            "INSERT INTO t VALUES ({client}, {id}); SELECT pg_logical_emit_message(true, 'filler', repeat('x', 50000))"
                        );
                        if session.batch_execute(&insert).is_err() {
                            return;
                        }
                        acknowledged.lock().expect("no client panicked")[client] = id;
                    }
                });
            }
            thread::sleep(Duration::from_millis(moments.random_range(500..4000)));
            server.kill9()
        })?;
        if round % 2 == 1 {
            // The receiver dies too: what it acknowledged is on its disk.
            receiver.kill()?;
        } else {
            let status = receiver.signal(Signal::TERM)?;
            ensure!(status.success(), "{status}: {}", fs::read_to_string(&receiver.log)?);
        }
        let acknowledged = acknowledged.into_inner()?;
        ensure!(acknowledged.iter().all(|&id| id > 0), "too little was committed: {acknowledged:?}");
        let copy = receiver.restored(&scene, "restored")?;
        for (client, last) in acknowledged.into_iter().enumerate() {
            let query = format!("SELECT count(*) FROM t WHERE client = {client} AND id <= {last}");
            assert_eq!(copy.value(&query)?, last.to_string(), "round {round}, client {client}");
        }
        for entry in fs::read_dir(PathBuf::from(&spool).join(system(&copy)?))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            needed += usize::from(name.starts_with("0000000") && !name.ends_with(".tmp"));
        }
    }
    // Between two segments the repository may have all there is.
    ensure!(needed > 0, "the repository alone held every commit: nothing was shown");
    Ok(())
}

fn status(scene: &Scene) -> Result<serde_json::Value> {
    let document: serde_json::Value =
        serde_json::from_str(&scene.pgproof(&["archive", "status", "--json"])?.stdout)?;
    Ok(document["report"].clone())
}

fn system(server: &Postgres) -> Result<String> {
    Ok(find::control_file(server.pgdata())?.system_identifier.to_string())
}

#[test]
fn a_receiver_goes_on_after_restarts_of_either_side_without_a_gap() -> Result<()> {
    let scene = Scene::initialised()?;
    let server = &scene.server;
    // Only the receiver archives, so that a gap of its own is one of the archive.
    server.sql("ALTER SYSTEM SET archive_command = '/bin/false'")?;
    server.reload()?;
    let spool = server.dir("spool")?.display().to_string();
    let mut receiver = Receiver::start(&scene, &spool)?;
    server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")?;
    server.switch_wal()?;
    let streaming = status(&scene)?;
    assert_eq!(streaming["receiver"]["active"], true, "{streaming}");
    receiver.signal(Signal::KILL)?;
    wait::until_true("the server to miss the receiver", || {
        Ok(status(&scene)?["receiver"]["active"] == serde_json::Value::Bool(false))
    })?;
    let away = status(&scene)?;
    let codes = away["findings"].as_array().context("findings")?;
    assert!(codes.iter().any(|finding| finding["code"] == "receiver-away"), "{away}");
    server.sql("INSERT INTO t SELECT generate_series(1001, 2000)")?;
    server.switch_wal()?;
    server.sql("INSERT INTO t SELECT generate_series(2001, 3000)")?;
    let mut receiver = Receiver::start(&scene, &spool)?;
    server.restart()?;
    server.sql("INSERT INTO t SELECT generate_series(3001, 4000)")?;
    let last = server.switch_wal()?;
    let size = server.wal_segment_size()?;
    wait::until_true("the repository to have the last segment", || {
        let mut get =
            scene.command(&["archive", "get", "--no-prefetch", &last.file_name(size), "pg_wal/GOT"]);
        get.current_dir(server.pgdata());
        Ok(scene.ran(get)?.code == 0)
    })
    .with_context(|| fs::read_to_string(&receiver.log).unwrap_or_default())?;
    let first = server.value("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'pgproof'")?;
    ensure!(!first.is_empty());
    let wal = fs::read_dir(scene.repository().join(system(server)?).join("wal/00000001/00000000"))?;
    let mut numbers: Vec<u64> = wal
        .filter_map(|entry| u64::from_str_radix(entry.ok()?.file_name().to_str()?.get(16..24)?, 16).ok())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap: {numbers:?}");
    let status = receiver.signal(Signal::TERM)?;
    assert!(status.success(), "{status}: {}", fs::read_to_string(&receiver.log)?);
    Ok(())
}

#[test]
fn received_wal_leaves_the_spool_when_every_required_repository_holds_it() -> Result<()> {
    let scene = with_offsite()?;
    let server = &scene.server;
    server.sql("ALTER SYSTEM SET archive_command = '/bin/false'")?;
    server.reload()?;
    let spool = server.dir("spool")?.display().to_string();
    let mut receiver = Receiver::start(&scene, &spool)?;
    let away = scene.new_place("away");
    fs::rename(offsite(&scene), &away)?;
    server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")?;
    let name = server.switch_wal()?.file_name(server.wal_segment_size()?);
    wait::until_true("main to hold the segment", || Ok(object(&scene.repository(), &name)?.is_some()))?;
    let held = PathBuf::from(&spool).join(system(server)?).join(&name);
    ensure!(held.exists(), "it left the spool, and offsite does not have it");
    fs::rename(&away, offsite(&scene))?;
    wait::until_true("the segment to leave the spool", || Ok(!held.exists()))
        .with_context(|| fs::read_to_string(&receiver.log).unwrap_or_default())?;
    ensure!(object(&offsite(&scene), &name)?.is_some());
    ensure!(receiver.signal(Signal::TERM)?.success());
    Ok(())
}

#[test]
fn a_target_that_only_the_spool_holds_is_reached_with_it_and_refused_without() -> Result<()> {
    let scene = Scene::initialised()?;
    let server = &scene.server;
    server.sql("CREATE TABLE t (a int)")?;
    scene.pgproof(&["backup"])?.succeeded()?;
    let spool = server.dir("spool")?.display().to_string();
    let mut receiver = Receiver::start(&scene, &spool)?;
    receiver.make_synchronous(&scene)?;
    server.sql("INSERT INTO t VALUES (1)")?;
    let time = server.value("SELECT clock_timestamp()::text")?;
    server.sql("SELECT pg_create_restore_point('spooled')")?;
    // Acknowledged, so the spool has all before it; the segment is not complete, so the repository has nothing of it.
    server.sql("INSERT INTO t VALUES (2)")?;
    receiver.kill()?;
    for (at, target) in [["--time", &time], ["--name", "spooled"]].iter().enumerate() {
        let place = scene.new_place(&format!("restored-{at}"));
        let (into, port) = (place.display().to_string(), free_port()?);
        let what = [&["restore", "--pgdata", &into], &target[..]].concat();
        let refused = scene.pgproof(&what)?;
        ensure!(
            refused.code == 3 && refused.stderr.contains("cannot be reached on timeline 1"),
            "{}",
            refused.stderr
        );
        let port_text = port.to_string();
        let ran =
            scene.pgproof(&[&what[..], &["--spool", &spool, "--start", "--port", &port_text]].concat())?;
        let restored = server.copy_started_at(&place, port)?;
        ran.succeeded()?;
        assert_eq!(restored.value("SELECT string_agg(a::text, ' ') FROM t")?, "1", "{target:?}");
    }
    Ok(())
}

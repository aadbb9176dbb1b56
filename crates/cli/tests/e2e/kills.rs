//! kill -9 of every command that writes, at random moments: what was acknowledged stays, and the next run succeeds.
//!
//! `PGPROOF_KILLS` says how many times (CI takes a few); `PGPROOF_SEED` repeats a run. Times differ from run to run, so a seed repeats the
//! choice of moments, not the instruction that was hit.

use crate::scene::Scene;
use anyhow::{Context, Result, ensure};
use pgproof_testkit::{Seed, free_port};
use rand::Rng;
use rand::rngs::StdRng;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// Kills in an ordinary run: one of each victim.
const KILLS: usize = 4;

#[derive(Debug, Clone, Copy)]
enum Victim {
    Backup,
    Push,
    Restore,
    Expire,
}

const VICTIMS: [Victim; 4] = [Victim::Backup, Victim::Push, Victim::Restore, Victim::Expire];

#[test]
fn whatever_is_killed_loses_nothing_and_hinders_nobody() -> Result<()> {
    let kills = env::var("PGPROOF_KILLS").ok().map_or(Ok(KILLS), |text| text.parse())?;
    let seed = Seed::from_environment();
    let mut moments = seed.rng(1);
    let scene = Scene::initialised()?;
    scene.server.load_pgbench(2)?;
    let mut usual = Usual::measure(&scene)?;
    let mut killed = 0;
    for (round, victim) in VICTIMS.into_iter().cycle().take(kills).enumerate() {
        scene.server.sql(&format!(
            "UPDATE pgbench_accounts SET abalance = {round} WHERE aid % 50 = {}; CREATE TABLE round_{round} AS SELECT {round} AS a",
            round % 50
        ))?;
        killed += usize::from(kill(&scene, victim, &mut moments, &mut usual)?);
        whole_after(&scene, victim).with_context(|| format!("round {round}, after a killed {victim:?}"))?;
    }
    ensure!(killed * 2 >= kills, "only {killed} of {kills} were still running when they were to be killed");
    everything_comes_back(&scene, kills)
}

/// How long each command takes undisturbed: kills are spread over that.
struct Usual {
    backup: Duration,
    restore: Duration,
    expire: Duration,
}

impl Usual {
    fn measure(scene: &Scene) -> Result<Self> {
        let timed = |arguments: &[&str]| -> Result<Duration> {
            let began = Instant::now();
            scene.pgproof(arguments)?.succeeded()?;
            Ok(began.elapsed())
        };
        scene.pgproof(&["backup"])?.succeeded()?;
        let place = scene.new_place("half").display().to_string();
        Ok(Self {
            backup: timed(&["backup"])?,
            restore: timed(&["restore", "--pgdata", &place])?,
            expire: timed(&["expire", "--keep-last", "2", "--sweep-after", "0s"])?,
        })
    }
}

/// Kills one run of the victim; false when it had ended before.
fn kill(scene: &Scene, victim: Victim, moments: &mut StdRng, usual: &mut Usual) -> Result<bool> {
    let place = scene.new_place("half").display().to_string();
    let (arguments, usual): (&[&str], Duration) = match victim {
        Victim::Backup => (&["backup"], usual.backup),
        Victim::Restore => {
            if moments.random::<bool>() {
                fs::remove_dir_all(&place)?;
            }
            (&["restore", "--pgdata", &place, "--delta", "--force"], usual.restore)
        }
        Victim::Expire => (&["expire", "--keep-last", "2", "--sweep-after", "0s"], usual.expire),
        Victim::Push => return kill_push(scene, moments),
    };
    let mut command = scene.command(arguments);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    thread::sleep(usual.mul_f64(moments.random_range(0.02..0.95)));
    end(&mut child)
}

fn end(child: &mut Child) -> Result<bool> {
    let running = child.try_wait()?.is_none();
    child.kill()?;
    child.wait()?;
    Ok(running)
}

/// The server itself runs `archive push`; it is found by its command line.
fn kill_push(scene: &Scene, moments: &mut StdRng) -> Result<bool> {
    scene.server.switch_wal()?;
    let config = scene.config().display().to_string();
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if let Some(pid) = pushing(&config)? {
            thread::sleep(Duration::from_millis(moments.random_range(0..60)));
            let killed = rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok();
            return Ok(killed);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(false)
}

fn pushing(config: &str) -> Result<Option<rustix::process::Pid>> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let has = |word: &str| words.contains(&word.as_bytes());
        if has("push") && has(config) {
            return Ok(rustix::process::Pid::from_raw(pid));
        }
    }
    Ok(None)
}

/// What must hold after any kill.
fn whole_after(scene: &Scene, victim: Victim) -> Result<()> {
    scene.server.archive_everything()?;
    scene.pgproof(&["verify"])?.succeeded().context("verify")?;
    let last = scene.server.value("SELECT last_archived_wal FROM pg_stat_archiver")?;
    let mut get = scene.command(&["archive", "get", "--no-prefetch", &last, "pg_wal/RECOVERYXLOG"]);
    get.current_dir(scene.server.pgdata());
    scene.ran(get)?.succeeded().context("the last WAL that was acknowledged is missing")?;
    fs::remove_file(scene.server.pgdata().join("pg_wal/RECOVERYXLOG"))?;
    let place = scene.new_place("half");
    let into = place.display().to_string();
    match victim {
        Victim::Backup | Victim::Push => scene.pgproof(&["backup"])?.succeeded()?,
        Victim::Restore => {
            never_half(&place)?;
            scene.pgproof(&["restore", "--pgdata", &into, "--delta", "--force"])?.succeeded()?
        }
        Victim::Expire => {
            scene.pgproof(&["expire", "--keep-last", "2", "--sweep-after", "0s"])?.succeeded()?
        }
    };
    Ok(())
}

/// A restore that did not come to its end left a control file that no server starts with, or none.
fn never_half(place: &Path) -> Result<()> {
    let Ok(bytes) = fs::read(place.join("global/pg_control")) else { return Ok(()) };
    let control = pgproof_pg::ControlFile::parse(&bytes);
    let usable = control.is_ok_and(|control| !control.is_impossible());
    let complete = place.join("recovery.signal").exists() && place.join("PG_VERSION").exists();
    ensure!(!usable || complete, "a half-restored directory has a control file that a server starts with");
    Ok(())
}

fn everything_comes_back(scene: &Scene, kills: usize) -> Result<()> {
    scene.pgproof(&["backup"])?.succeeded()?;
    scene.server.sql("CREATE TABLE last AS SELECT 1 AS a")?;
    scene.server.archive_everything()?;
    let before = scene.server.table_sums()?;
    ensure!(before.keys().filter(|name| name.contains("round_")).count() == kills);
    let (place, port) = (scene.new_place("whole"), free_port()?);
    let (into, port_text) = (place.display().to_string(), port.to_string());
    let ran = scene.pgproof(&["restore", "--pgdata", &into, "--start", "--port", &port_text])?;
    let restored = scene.server.copy_started_at(&place, port)?;
    ran.succeeded()?;
    ensure!(restored.table_sums()? == before, "the restored server holds something else");
    Ok(())
}

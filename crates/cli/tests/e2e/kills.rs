//! kill -9 of every command, at random moments: what was acknowledged stays, what is published is whole, and the next run succeeds.
//!
//! One table of verbs ([`VERBS`]), in three groups with a scene each. `PGPROOF_KILLS` says how often they are killed in all, `PGPROOF_VERB`
//! takes one of them alone, and `PGPROOF_SEED` repeats a run: the order and the moments, not the instruction that was hit.

mod verbs;

use crate::scene::{Scene, safe_server};
use anyhow::{Context, Result, ensure};
use pgproof_testkit::Seed;
use rand::Rng;
use rand::rngs::StdRng;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};
use verbs::{Group, VERBS, Verb, Way};

/// Kills in an ordinary run: two of each verb.
const KILLS: usize = 2 * VERBS.len();

/// After so many kills what has piled up is expired, so that a verification stays short.
const HOUSEKEEPING: usize = 15;

/// The scene of a group.
struct Ground {
    scene: Scene,
}

impl Ground {
    fn new(group: Group) -> Result<Self> {
        let scene = Scene::initialised_from(safe_server().wal_segment_size_mb(1))?;
        scene.server.each(&["CREATE DATABASE shop", "CREATE TABLE t (a int, b text)"])?;
        scene.server.sql_in("shop", "CREATE TABLE orders AS SELECT g AS id, repeat(md5(g::text), 10) AS body FROM generate_series(1, 5000) g")?;
        for place in ["temp", "scratch", "spool"] {
            scene.server.dir(place)?;
        }
        scene.pgproof(&["backup"])?.succeeded()?;
        if group == Group::Logical {
            scene.ran(crate::dump::command(&scene, &["dump"]))?.succeeded()?;
        }
        Ok(Self { scene })
    }

    fn place(&self, name: &str) -> String {
        self.scene.new_place(name).display().to_string()
    }

    /// Something that the next backup, dump and segment have to hold.
    fn change(&self, round: usize) -> Result<()> {
        let rows = format!("INSERT INTO t SELECT {round}, md5(g::text) FROM generate_series(1, 200) g");
        self.scene.server.sql(&rows)
    }

    /// What every verb must leave: nothing damaged, and no acknowledged WAL missing.
    fn whole(&self) -> Result<()> {
        self.scene.server.archive_everything()?;
        self.scene.pgproof(&["verify"])?.succeeded().context("verify")?;
        let last = self.scene.server.value("SELECT last_archived_wal FROM pg_stat_archiver")?;
        self.delivers(&last, &[]).context("the last WAL that was acknowledged is missing")
    }

    fn delivers(&self, segment: &str, more: &[&str]) -> Result<()> {
        let to = self.place("delivered");
        let mut get =
            self.scene.command(&[&["archive", "get", "--no-prefetch", segment, &to], more].concat());
        get.current_dir(self.scene.server.pgdata());
        self.scene.ran(get)?.succeeded()?;
        Ok(fs::remove_file(to)?)
    }
}

/// What became of the kills of one verb.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    at_work: usize,
    took: Duration,
}

fn kill_all_of(group: Group) -> Result<()> {
    let kills = env::var("PGPROOF_KILLS").ok().map_or(Ok(KILLS), |text| text.parse())?;
    let alone = env::var("PGPROOF_VERB").ok();
    let verbs: Vec<&Verb> = VERBS
        .iter()
        .filter(|verb| {
            alone.as_deref().map_or(verb.group == group, |name| name == verb.name && verb.group == group)
        })
        .collect();
    if verbs.is_empty() {
        return Ok(());
    }
    let kills = kills * verbs.len() / if alone.is_some() { verbs.len() } else { VERBS.len() };
    let seed = Seed::from_environment();
    let mut rng = seed.rng(1);
    let ground = Ground::new(group)?;
    let mut usual = BTreeMap::new();
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for round in 0..kills {
        let verb = verbs[round % verbs.len()];
        let began = Instant::now();
        let at_work = one_kill(&ground, verb, round, &mut rng, &mut usual).with_context(|| {
            format!("kill {round}, of {}: replays with PGPROOF_SEED={}", verb.name, seed.value())
        })?;
        if round % HOUSEKEEPING == HOUSEKEEPING - 1 {
            // A copy that lags behind the retention has a gap, and verification of it says so.
            if Path::new(&ground.place("second")).exists() {
                ground.scene.ran(verbs::copy(&ground))?.succeeded()?;
            }
            ground.scene.pgproof(&["expire", "--keep-last", "2", "--sweep-after", "0s"])?.succeeded()?;
        }
        let tally = tallies.entry(verb.name).or_default();
        tally.kills += 1;
        tally.at_work += usize::from(at_work);
        tally.took += began.elapsed();
    }
    tell(&tallies);
    let at_work: usize = tallies.values().map(|tally| tally.at_work).sum();
    ensure!(
        at_work * 2 >= kills,
        "only {at_work} of {kills} were at work when they were killed: {tallies:?}"
    );
    ground.scene.pgproof(&["backup"])?.succeeded()?;
    ground.scene.comes_back("whole", &[])
}

#[expect(clippy::print_stdout, reason = "the figures of a campaign are for whoever ran it")]
fn tell(tallies: &BTreeMap<&str, Tally>) {
    for (name, Tally { kills, at_work, took }) in tallies {
        println!("{name}: {kills} kills, {at_work} at work, {:.1} s", took.as_secs_f64());
    }
}

/// Kills one run and looks what is left; tells whether it was at work.
fn one_kill(
    ground: &Ground,
    verb: &Verb,
    round: usize,
    rng: &mut StdRng,
    usual: &mut BTreeMap<&'static str, Duration>,
) -> Result<bool> {
    ground.change(round)?;
    if !usual.contains_key(verb.name) && verb.way == Way::ToItsEnd {
        // The first run may have more to do than those that follow.
        for _ in 0..2 {
            (verb.before)(ground)?;
            let began = Instant::now();
            ground.scene.ran((verb.command)(ground))?.succeeded().context("undisturbed")?;
            usual.insert(verb.name, began.elapsed());
        }
    }
    (verb.before)(ground)?;
    let at_work = match verb.way {
        Way::ToItsEnd => {
            let mut child = spawned(ground, verb)?;
            thread::sleep(usual[verb.name].mul_f64(rng.random_range(0.02..0.95)));
            end(&mut child)?
        }
        Way::ForEver => {
            let mut child = spawned(ground, verb)?;
            let until = Instant::now() + Duration::from_millis(rng.random_range(20..600));
            while Instant::now() < until {
                ground.scene.server.switch_wal()?;
                thread::sleep(Duration::from_millis(rng.random_range(0..40)));
            }
            // Where a push has started a resident archiver, ours has ended, and that one serves.
            end(&mut child)? || kill_running(&ground.scene, "run")?
        }
        Way::ByTheServer => kill_push(&ground.scene, rng)?,
    };
    if !verb.heals {
        ground.whole()?;
    }
    (verb.next)(ground, verb).context("the next run")?;
    if verb.heals {
        ground.whole()?;
    }
    Ok(at_work)
}

fn spawned(ground: &Ground, verb: &Verb) -> Result<Child> {
    Ok((verb.command)(ground).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

fn end(child: &mut Child) -> Result<bool> {
    let running = child.try_wait()?.is_none();
    child.kill()?;
    child.wait()?;
    Ok(running)
}

/// The server itself runs `archive push`.
fn kill_push(scene: &Scene, rng: &mut StdRng) -> Result<bool> {
    scene.server.switch_wal()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if let Some(pid) = running(scene, "push")? {
            thread::sleep(Duration::from_millis(rng.random_range(0..60)));
            return Ok(kill_process(pid, Signal::KILL).is_ok());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(false)
}

fn kill_running(scene: &Scene, verb: &str) -> Result<bool> {
    Ok(running(scene, verb)?.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok()))
}

/// A process of this verb that somebody else started for this scene, by its command line.
fn running(scene: &Scene, verb: &str) -> Result<Option<Pid>> {
    let ground = scene.server.ground().display().to_string();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let mut words = line.split('\0');
        if words.any(|word| word == "archive") && words.next() == Some(verb) && line.contains(&ground) {
            return Ok(Pid::from_raw(pid));
        }
    }
    Ok(None)
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

#[test]
fn whatever_is_killed_of_the_archive_loses_nothing_and_hinders_nobody() -> Result<()> {
    kill_all_of(Group::Archive)
}

#[test]
fn whatever_is_killed_of_backups_loses_nothing_and_hinders_nobody() -> Result<()> {
    kill_all_of(Group::Backups)
}

#[test]
fn whatever_is_killed_of_dumps_and_extracts_loses_nothing_and_hinders_nobody() -> Result<()> {
    kill_all_of(Group::Logical)
}

//! `archive run`: what waits is archived ahead of PostgreSQL's archiver, and whatever becomes of that process, nothing is taken for archived
//! that is not.

use crate::scene::{Scene, safe_server};
use crate::several::{add_offsite, not_required, offsite};
use anyhow::{Context, Result, ensure};
use pgproof_testkit::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

/// Segments of 1 MB: what counts here is how many there are.
fn small_segments() -> Result<Scene> {
    Scene::initialised_from(safe_server().wal_segment_size_mb(1))
}

fn write_segments(scene: &Scene, count: usize) -> Result<()> {
    for _ in 0..count {
        scene.server.sql("SELECT pg_logical_emit_message(false, 'filler', 'x')")?;
        scene.server.switch_wal()?;
    }
    Ok(())
}

/// `archive run`, which ends with its test.
struct Resident(Child);

impl Resident {
    fn start(scene: &Scene) -> Result<Self> {
        let data = scene.server.pgdata().display().to_string();
        let mut command = scene.command(&["archive", "run", "--pgdata", &data, "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        wait::until_true("the resident archiver to serve", || {
            ensure!(child.try_wait()?.is_none(), "it ended");
            serves(scene)
        })?;
        Ok(Self(child))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.0), signal)?)
    }

    /// Exit code and what it said, once it has ended.
    fn ended(mut self) -> Result<(Option<i32>, String)> {
        let status = self.0.wait()?;
        let mut said = String::new();
        for pipe in [
            self.0.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read>),
            self.0.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read>),
        ] {
            std::io::Read::read_to_string(&mut pipe.context("no pipe")?, &mut said)?;
        }
        Ok((status.code(), said))
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Does somebody listen for this data directory? The kernel lists abstract sockets with an `@`.
fn serves(scene: &Scene) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let data = fs::metadata(scene.server.pgdata())?;
    let name = format!("@pgproof-archiver-{}-{}", data.dev(), data.ino());
    Ok(fs::read_to_string("/proc/net/unix")?.lines().any(|line| line.ends_with(&name)))
}

/// Every segment of the server is in the archive.
fn nothing_is_missing(scene: &Scene) -> Result<()> {
    let data = scene.server.pgdata().display().to_string();
    let status = scene.pgproof(&["archive", "status", "--json", "--pgdata", &data])?.json()?;
    ensure!(status["report"]["gaps"] == serde_json::json!([]), "{status}");
    ensure!(status["report"]["waiting"] == 0, "{status}");
    Ok(())
}

fn moved(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("move {}", from.display()))
}

#[test]
fn what_piled_up_while_the_repository_was_away_is_archived_ahead() -> Result<()> {
    let scene = small_segments()?;
    let away = scene.new_place("away");
    moved(&scene.repository(), &away)?;
    write_segments(&scene, 24)?;
    wait::until_true("the archiver to fail", || {
        Ok(scene.server.value("SELECT failed_count > 0 FROM pg_stat_archiver")? == "t")
    })?;
    let archived = scene.server.value("SELECT archived_count FROM pg_stat_archiver")?;
    moved(&away, &scene.repository())?;
    scene.server.archive_everything()?;
    ensure!(serves(&scene)?, "a push that saw many waiting files started nobody");
    let after: u64 = scene.server.value("SELECT archived_count FROM pg_stat_archiver")?.parse()?;
    ensure!(after >= archived.parse::<u64>()? + 24, "{archived} and then {after}");
    nothing_is_missing(&scene)
}

#[test]
fn whatever_becomes_of_the_resident_archiver_wal_is_archived() -> Result<()> {
    let scene = small_segments()?;
    let resident = Resident::start(&scene)?;
    write_segments(&scene, 6)?;
    scene.server.archive_everything()?;

    resident.signal(Signal::STOP)?;
    write_segments(&scene, 2)?;
    scene.server.archive_everything().context("it is stopped")?;
    resident.signal(Signal::CONT)?;
    write_segments(&scene, 2)?;
    scene.server.archive_everything().context("it goes on")?;
    resident.signal(Signal::TERM)?;
    let (code, said) = resident.ended()?;
    ensure!(code == Some(0), "{said}");
    let report: serde_json::Value = serde_json::from_str(&said)?;
    ensure!(report["report"]["answered"].as_u64() >= Some(6), "{said}");

    let resident = Resident::start(&scene)?;
    resident.signal(Signal::KILL)?;
    write_segments(&scene, 2)?;
    scene.server.archive_everything().context("it was killed")?;
    nothing_is_missing(&scene)?;
    scene.pgproof(&["verify"])?.succeeded().map(drop)
}

#[test]
fn a_second_one_is_refused_and_one_whose_repository_was_replaced_ends() -> Result<()> {
    let scene = small_segments()?;
    let resident = Resident::start(&scene)?;
    let data = scene.server.pgdata().display().to_string();
    let second = scene.pgproof(&["archive", "run", "--pgdata", &data])?;
    assert_eq!(second.code, 3, "{}", second.stderr);
    assert!(second.stderr.contains("another `archive run` serves"), "{}", second.stderr);

    moved(&scene.repository(), &scene.new_place("old"))?;
    scene.init(&[])?.succeeded()?;
    write_segments(&scene, 2)?;
    scene.server.archive_everything()?;
    let (code, said) = resident.ended()?;
    ensure!(code == Some(3) && said.contains("holds another repository now"), "{code:?} {said}");
    // What was archived into the new one can be read with its keys.
    scene.pgproof(&["verify"])?.succeeded().map(drop)
}

#[test]
fn a_repository_that_may_lag_does_not_keep_others_from_being_archived_ahead() -> Result<()> {
    let scene = small_segments()?;
    add_offsite(&scene)?.succeeded()?;
    not_required(&scene)?;
    moved(&offsite(&scene), &scene.new_place("away"))?;
    let resident = Resident::start(&scene)?;
    write_segments(&scene, 6)?;
    scene.server.archive_everything()?;
    resident.signal(Signal::TERM)?;
    let (code, said) = resident.ended()?;
    ensure!(code == Some(0) && said.contains("\"answered\": "), "{said}");
    // It failed once or twice and rested then, however many files there were.
    let tried = said.matches("repository offsite lacks").count();
    ensure!((1..=2 * 2).contains(&tried), "tried {tried} times: {said}");
    let main = scene.pgproof(&["archive", "status", "--json", "--repository", "main"])?.json()?;
    ensure!(main["report"]["gaps"] == serde_json::json!([]), "{main}");
    Ok(())
}

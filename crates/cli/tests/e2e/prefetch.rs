//! Reading ahead of replay: what `archive get` takes from the spool, what fills it, and that nothing of it stays.

use crate::scene::{Scene, safe_server};
use anyhow::{Result, ensure};
use pgproof_pg::SegmentName;
use pgproof_testkit::{Postgres, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Segments of 1 MB: what counts here is how many there are.
fn small_segments() -> Result<Scene> {
    Scene::initialised_from(safe_server().wal_segment_size_mb(1))
}

/// A backup and so many segments behind it; returns the names of these.
fn archived(scene: &Scene, segments: usize) -> Result<Vec<String>> {
    let server = &scene.server;
    server.sql("CREATE TABLE t (a int)")?;
    scene.pgproof(&["backup"])?.succeeded()?;
    let size = server.wal_segment_size()?;
    let mut names: Vec<SegmentName> = Vec::new();
    for i in 0..segments {
        server.sql(&format!("INSERT INTO t VALUES ({i})"))?;
        names.push(server.switch_wal()?);
    }
    server.archive_everything()?;
    Ok(names.iter().map(|name| name.file_name(size)).collect())
}

fn restored(scene: &Scene) -> Result<PathBuf> {
    let place = scene.new_place("restored");
    scene.pgproof(&["restore", "--pgdata", &place.display().to_string()])?.succeeded()?;
    Ok(place)
}

#[test]
fn replay_reads_ahead_and_nothing_of_it_stays() -> Result<()> {
    let scene = small_segments()?;
    archived(&scene, 12)?;
    let place = restored(&scene)?;
    let server = Postgres::on(scene.server.version(), &place)?;
    server.launch()?;
    let mut spooled = BTreeSet::new();
    wait::until_true("the end of recovery", || {
        spooled.extend(held(&place));
        ensure!(server.is_running(), "the server ended:\n{}", server.log_tail());
        Ok(server.value("SELECT pg_is_in_recovery()").is_ok_and(|value| value == "f"))
    })?;
    assert_eq!(server.value("SELECT count(*) FROM t")?, "12");
    assert!(!spooled.is_empty(), "nothing was fetched ahead");
    wait::until_true("the spool to be gone", || Ok(!place.join("pg_wal/pgproof_spool").exists()))?;
    wait::until_true("the fetcher to be gone", || Ok(fetcher(&place).is_none()))
}

#[test]
fn what_is_delivered_is_the_same_with_and_without_reading_ahead() -> Result<()> {
    let scene = small_segments()?;
    let names = archived(&scene, 12)?;
    let place = restored(&scene)?;
    // As if the server ran and recovered; the test asks in its stead.
    fs::write(place.join("postmaster.pid"), "1\n")?;
    let get = |name: &str, more: &[&str]| -> Result<(i32, Vec<u8>)> {
        let mut command = scene.command(&[&["archive", "get", name, "pg_wal/RECOVERYXLOG"], more].concat());
        command.current_dir(&place);
        let code = scene.ran(command)?.code;
        let file = place.join("pg_wal/RECOVERYXLOG");
        let content = fs::read(&file).unwrap_or_default();
        if file.exists() {
            fs::remove_file(&file)?;
        }
        Ok((code, content))
    };
    assert_eq!(get(&names[0], &["--no-prefetch"])?.0, 0);
    assert!(!place.join("pg_wal/pgproof_spool").exists(), "--no-prefetch leaves no trace");

    assert_eq!(get(&names[0], &[])?.0, 0);
    let all_ahead = || Ok(names[1..=8].iter().all(|name| held(&place).contains(name)));
    wait::until_true("eight segments to be fetched ahead", all_ahead)?;
    assert!(!held(&place).contains(&names[9]), "eight are enough");
    let ahead = get(&names[1], &[])?;
    assert!(!held(&place).contains(&names[1]), "it was taken from the spool");
    assert_eq!(ahead, get(&names[1], &["--no-prefetch"])?);
    assert_eq!(get("0000000100000FFF000000FF", &[])?.0, 1, "proven absent");
    assert_eq!(
        get(&names[2], &["--repository", "/nowhere"])?.0,
        126,
        "a spool proves nothing about the repository"
    );

    // Killed at any point it leaves nothing wrong, and the next one carries on.
    let killed = wait::until("the fetcher", wait::PATIENCE, || Ok(fetcher(&place)))?;
    kill_process(killed, Signal::KILL)?;
    wait::until_true("the killed fetcher to be gone", || Ok(fetcher(&place) != Some(killed)))?;
    assert_eq!(get(&names[5], &[])?.0, 0);
    wait::until_true("the last segments", || Ok(names[6..].iter().all(|name| held(&place).contains(name))))?;
    assert_eq!(get(&names[11], &[])?.0, 0);
    assert_eq!(get("0000000100000FFF000000FF", &[])?.0, 1, "proven absent");

    // The server is gone, and with it the reason to hold anything.
    fs::remove_file(place.join("postmaster.pid"))?;
    wait::until_true("the spool to be gone", || Ok(!place.join("pg_wal/pgproof_spool").exists()))?;
    wait::until_true("the fetcher to be gone", || Ok(fetcher(&place).is_none()))
}

/// The segments in the spool.
fn held(place: &Path) -> BTreeSet<String> {
    let sessions = fs::read_dir(place.join("pg_wal/pgproof_spool")).into_iter().flatten().flatten();
    let files = sessions.filter_map(|session| fs::read_dir(session.path()).ok()).flatten().flatten();
    files
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .filter(|name| name.len() == 24)
        .collect()
}

/// The process that fetches ahead for this data directory.
fn fetcher(place: &Path) -> Option<Pid> {
    let place = place.display().to_string();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find_map(|pid: i32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<&str> = line.split('\0').collect();
        (words.contains(&"prefetch") && words.contains(&place.as_str())).then(|| Pid::from_raw(pid)).flatten()
    })
}

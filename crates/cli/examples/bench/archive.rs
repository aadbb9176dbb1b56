//! The archive: `archive push`, one process a segment as PostgreSQL calls it, and PostgreSQL's archiver working off a queue.

use crate::measure::{self, ROUNDS, Sample};
use crate::results::Results;
use crate::site::{Encryption, PROCESSES, Site};
use anyhow::{Context, Result, ensure};
use pgproof_testkit::wait;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Segments in a row at most; CPU time is counted in hundredths of a second.
const SEGMENTS: usize = 10;

/// Full segments of pgbench's WAL, pushed by each contestant into an archive that lacks them.
pub(crate) fn push(results: &mut Results) -> Result<()> {
    let site = Site::new(Encryption::Off)?;
    let names = waiting_segments(&site)?;
    // A slow machine writes less.
    let segments = (names.len() / ROUNDS).min(SEGMENTS);
    ensure!(segments >= SEGMENTS / 2, "pgbench wrote too little WAL: {} segments", names.len());
    let work = &format!("archive push, {segments} segments");
    for names in names.chunks(segments).take(ROUNDS) {
        let names = names.join(" ");
        let each = |call: &str| format!("for f in {names}; do {call} || exit 1; done");
        let ours = site.shell(&each("$PGPROOF archive push pg_wal/$f"));
        results.add(work, "pgproof", measure::run(ours, Some(&site.repository()))?.0);
        let theirs = site.shell(&each("$PGBACKREST --compress-level=1 archive-push pg_wal/$f"));
        results.add(work, "pgbackrest", measure::run(theirs, Some(&site.pgbackrest_repository()))?.0);
        let into = site.empty("zstd")?;
        let plain =
            site.shell(&each(&format!("zstd -q -1 pg_wal/$f -o {0}/$f && sync {0}/$f {0}", into.display())));
        results.add(work, "zstd -1 and sync", measure::run(plain, Some(&into))?.0);
    }
    results.judge(format!("{work}: CPU"), results.ratio(work, "pgbackrest", |s| s.cpu_s), 0.9);
    results.judge(
        format!("{work}: wall, against zstd -1 and sync"),
        results.ratio(work, "zstd -1 and sync", |s| s.wall_s),
        1.2,
    );
    Ok(())
}

/// Writes WAL that is archived by nobody until it is measured, and tells the segments that wait.
fn waiting_segments(site: &Site) -> Result<Vec<String>> {
    site.server.sql("ALTER SYSTEM SET archive_command = '/bin/false'")?;
    // They are offered several times.
    site.server.sql("ALTER SYSTEM SET wal_keep_size = '8GB'")?;
    site.server.reload()?;
    site.server.load_pgbench(30)?;
    site.server.run_pgbench(20)?;
    let status = site.server.pgdata().join("pg_wal/archive_status");
    let mut names: Vec<String> = fs::read_dir(status)?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".ready")?.to_owned()))
        .collect();
    names.retain(|name| name.len() == 24);
    names.sort();
    Ok(names)
}

/// PostgreSQL's archiver works off the same queue with each contestant's command, each with two processes ahead of it. CPU is the whole
/// machine's, because what works ahead is nobody's child; a quiet machine is assumed.
pub(crate) fn queue(results: &mut Results) -> Result<()> {
    let site = Site::new(Encryption::Off)?;
    let ours = site.archive_command.replace('\'', "''");
    let theirs = format!(
        "{} --archive-async --process-max={PROCESSES} --compress-level=1 archive-push %p",
        site.pgbackrest_call()
    );
    let names = waiting_segments(&site)?;
    let work = &format!("queue of {} segments", names.len());
    for _ in 0..ROUNDS {
        for (contestant, command) in [("pgproof", &ours), ("pgbackrest", &theirs)] {
            site.forget_archived()?;
            offer_again(&site, &names)?;
            results.add(work, contestant, worked_off(&site, &names, command)?);
        }
    }
    results.judge(format!("{work}: wall"), results.ratio(work, "pgbackrest", |s| s.wall_s), 1.0 / 1.3);
    results.judge(format!("{work}: CPU"), results.ratio(work, "pgbackrest", |s| s.cpu_s), 0.8);
    Ok(())
}

/// A data directory that recovers asks for the same segments one after the other, each contestant reading ahead with two processes (pgproof
/// in one, with threads). Nothing replays them, so what is measured is how fast they come. CPU as for the queue.
pub(crate) fn get(results: &mut Results) -> Result<()> {
    let site = Site::new(Encryption::Off)?;
    let asynchronous = format!("--archive-async --process-max={PROCESSES}");
    let push = format!("{} {asynchronous} --compress-level=1 archive-push %p", site.pgbackrest_call());
    let names = waiting_segments(&site)?;
    for command in [&site.archive_command.replace('\'', "''"), &push] {
        offer_again(&site, &names)?;
        worked_off(&site, &names, command)?;
    }
    let work = &format!("archive get, {} segments", names.len());
    for _ in 0..ROUNDS {
        for (contestant, call) in [
            ("pgproof", "$PGPROOF archive get $f pg_wal/RECOVERYXLOG".to_owned()),
            (
                "pgbackrest",
                format!("$PGBACKREST --pg1-path=$PWD {asynchronous} archive-get $f pg_wal/RECOVERYXLOG"),
            ),
        ] {
            let place = site.recovering("recovering")?;
            let each = format!("{call} && rm pg_wal/RECOVERYXLOG || exit 1");
            let mut command = site.shell(&format!("for f in {}; do {each}; done", names.join(" ")));
            command.current_dir(&place);
            let cpu_before = machine_cpu_s()?;
            let (sample, _) = measure::run(command, None)?;
            let cpu_s = machine_cpu_s()? - cpu_before;
            // Whoever reads ahead ends.
            fs::remove_file(place.join("postmaster.pid"))?;
            results.add(work, contestant, Sample { cpu_s, ..sample });
        }
    }
    results.judge(format!("{work}: wall"), results.ratio(work, "pgbackrest", |s| s.wall_s), 1.0 / 1.3);
    results.judge(format!("{work}: CPU"), results.ratio(work, "pgbackrest", |s| s.cpu_s), 0.8);
    Ok(())
}

fn offer_again(site: &Site, names: &[String]) -> Result<()> {
    let status = site.server.pgdata().join("pg_wal/archive_status");
    for name in names {
        let done = status.join(format!("{name}.done"));
        if done.exists() {
            fs::rename(done, status.join(format!("{name}.ready")))?;
        }
    }
    Ok(())
}

fn worked_off(site: &Site, names: &[String], command: &str) -> Result<Sample> {
    let status = site.server.pgdata().join("pg_wal/archive_status");
    rustix::fs::sync();
    let (began, cpu_before) = (Instant::now(), machine_cpu_s()?);
    let set = |command: &str| {
        site.server.sql(&format!("ALTER SYSTEM SET archive_command = '{command}'"))?;
        site.server.reload()
    };
    set(command)?;
    wait::until("the queue to be worked off", wait::PATIENCE * 4, || {
        let waits = |name: &String| status.join(format!("{name}.ready")).exists();
        Ok((!names.iter().any(waits)).then_some(()))
    })?;
    let sample = Sample {
        wall_s: began.elapsed().as_secs_f64(),
        cpu_s: machine_cpu_s()? - cpu_before,
        peak_bytes: 0,
        read_bytes: 0,
        stored_bytes: 0,
    };
    set("/bin/false")?;
    Ok(sample)
}

/// What the machine's processors have worked since it was started: user, nice, system and interrupts in the first line of `/proc/stat`, in
/// hundredths of a second (proc(5)).
fn machine_cpu_s() -> Result<f64> {
    let text = fs::read_to_string(Path::new("/proc/stat"))?;
    let fields: Vec<f64> = text
        .lines()
        .next()
        .context("an empty /proc/stat")?
        .split_whitespace()
        .skip(1)
        .flat_map(str::parse)
        .collect();
    let worked = [0, 1, 2, 5, 6].iter().filter_map(|&field| fields.get(field)).sum::<f64>();
    Ok(worked / 100.0)
}

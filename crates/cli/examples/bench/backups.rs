//! Backups and restores: full and incremental, of data that compresses well and badly, of few files and many.

use crate::measure::{ROUNDS, Sample, median, size_of};
use crate::results::Results;
use crate::site::{Encryption, Site};
use anyhow::{Context, Result, ensure};
use pgproof_testkit::Postgres;
use std::fs;
use std::path::Path;
use std::process::Command;

fn scale() -> u32 {
    std::env::var("PGPROOF_BENCH_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

fn wall(sample: &Sample) -> f64 {
    sample.wall_s
}

fn cpu(sample: &Sample) -> f64 {
    sample.cpu_s
}

#[allow(clippy::cast_precision_loss, reason = "ratios")]
fn stored(sample: &Sample) -> f64 {
    sample.stored_bytes as f64
}

/// pgbench's tables with room in each page, so that updates of single rows stay in their page.
fn load_accounts(server: &Postgres, scale: u32) -> Result<()> {
    let scale = scale.to_string();
    server.run_client(
        "pgbench",
        &["--initialize", "--quiet", "--scale", &scale, "--fillfactor=90", "--no-vacuum"],
    )?;
    server.sql("VACUUM ANALYZE")?;
    server.checkpoint()
}

/// Rounds of the others with many files: pgBackRest needs minutes for each, and far more than any noise lies between them.
const PEER_ROUNDS_OF_MANY_FILES: usize = 1;

/// Everybody's full backup, in turn.
fn full_contest(site: &Site, work: &str, peer_rounds: usize, results: &mut Results) -> Result<()> {
    for round in 0..ROUNDS {
        let (sample, _) = site.backup(&["--full"])?;
        results.add(work, "pgproof", sample);
        if round >= peer_rounds {
            continue;
        }
        results.add(work, "pgbackrest", site.pgbackrest_backup("full")?);
        if site.encryption == Encryption::On {
            continue;
        }
        // These do not encrypt.
        let into = site.empty("basebackup")?;
        results.add(work, "pg_basebackup", site.pg_basebackup(&into)?);
        let into = site.empty("tar")?;
        results.add(work, "tar | zstd", site.tar_zstd(&into)?);
    }
    for name in ["basebackup", "tar"] {
        site.empty(name)?;
    }
    Ok(())
}

/// Each restores into a directory of its own, and all go at the end: a file system that has just removed many files makes new ones slowly.
fn restore_contest(site: &Site, work: &str, peer_rounds: usize, results: &mut Results) -> Result<()> {
    let mut used = Vec::new();
    let mut fresh = |contestant: &str, round: usize| {
        let name = format!("restored-{contestant}-{round}");
        let path = site.empty(&name);
        used.push(name);
        path
    };
    for round in 0..ROUNDS {
        results.add(work, "pgproof", site.restore(None, &fresh("pgproof", round)?)?);
        if round < peer_rounds {
            results.add(work, "pgbackrest", site.pgbackrest_restore(&fresh("pgbackrest", round)?)?);
        }
    }
    used.iter().try_for_each(|name| site.empty(name).map(drop))
}

pub(crate) fn compressible(results: &mut Results) -> Result<()> {
    for (encryption, name) in [(Encryption::Off, "plain"), (Encryption::On, "encrypted")] {
        let site = Site::new(encryption)?;
        load_accounts(&site.server, scale())?;
        let megabytes = size_of(site.server.pgdata())? / 1_000_000;
        results.note(format!("cluster of pgbench, {name}: {megabytes} MB, pg_wal included"));
        let work = format!("full, compressible, {name}");
        full_contest(&site, &work, ROUNDS, results)?;
        results.judge(format!("{work}: CPU"), results.ratio(&work, "pgbackrest", cpu), 0.55);
        results.judge(format!("{work}: wall"), results.ratio(&work, "pgbackrest", wall), 0.6);
        results.judge(format!("{work}: stored"), results.ratio(&work, "pgbackrest", stored), 1.05);
        judge_memory(&work, results);
        let work = format!("restore, compressible, {name}");
        restore_contest(&site, &work, ROUNDS, results)?;
        results.judge(format!("{work}: CPU"), results.ratio(&work, "pgbackrest", cpu), 0.6);
        results.judge(format!("{work}: wall"), results.ratio(&work, "pgbackrest", wall), 0.6);
        judge_memory(&work, results);
    }
    Ok(())
}

/// Some 20 GB, for the memory alone: a full backup, an incremental one, a restore. pgBackRest is spared the half hour.
pub(crate) fn large(results: &mut Results) -> Result<()> {
    let site = Site::new(Encryption::Off)?;
    load_accounts(&site.server, LARGE_SCALE)?;
    // Copies of its database: nobody waits for pgbench to think of 20 GB.
    for copy in 1..LARGE_COPIES {
        site.server.sql(&format!("CREATE DATABASE copy{copy} TEMPLATE postgres STRATEGY file_copy"))?;
    }
    site.server.checkpoint()?;
    let megabytes = size_of(&site.server.pgdata().join("base"))? / 1_000_000;
    results.note(format!("large cluster of pgbench: {megabytes} MB"));
    let steps: [(&str, &[&str]); 2] =
        [("full, 20 GB", &["--full"]), ("incremental, 1 % of a database scattered, 20 GB", &[])];
    for (work, arguments) in steps {
        results.add(work, "pgproof", site.backup(arguments)?.0);
        judge_memory(work, results);
        touch(&site, 0)?;
    }
    let work = "restore, 20 GB";
    results.add(work, "pgproof", site.restore(None, &site.empty("restored")?)?);
    judge_memory(work, results);
    site.empty("restored").map(drop)
}

/// pgbench's scale of one of the databases of the large cluster, and how many there are.
const LARGE_SCALE: u32 = 100;
const LARGE_COPIES: u32 = 13;

/// 256 MiB, whatever the size of the cluster.
fn judge_memory(work: &str, results: &mut Results) {
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let peak = results.median(work, "pgproof", |sample| sample.peak_bytes as f64 / f64::from(1 << 20));
    results.judge(format!("{work}: peak memory, MiB"), peak, 256.0);
}

pub(crate) fn badly_compressing(results: &mut Results) -> Result<()> {
    let site = Site::new(Encryption::Off)?;
    let rows = scale() * 600;
    site.server.sql("CREATE EXTENSION pgcrypto")?;
    site.server.sql(&format!(
        "CREATE TABLE noise AS SELECT g, gen_random_bytes(1000) AS a, gen_random_bytes(1000) AS b FROM generate_series(1, {rows} * 5) g"
    ))?;
    site.server.checkpoint()?;
    let work = "full, badly compressing";
    full_contest(&site, work, ROUNDS, results)?;
    results.judge(format!("{work}: CPU"), results.ratio(work, "pgbackrest", cpu), 0.9);
    results.judge(format!("{work}: wall"), results.ratio(work, "pgbackrest", wall), 0.9);
    judge_memory(work, results);
    Ok(())
}

pub(crate) fn many_tables(results: &mut Results) -> Result<()> {
    let site = Site::new(Encryption::Off)?;
    // Twenty databases of a thousand tables, each of two files: made by copying, which takes a minute, where creating each takes ten.
    site.server.sql("CREATE DATABASE many0")?;
    site.server.sql_in(
        "many0",
        "DO $$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, v char(32))', i); \
         EXECUTE format('INSERT INTO t%s SELECT g, md5(g::text) FROM generate_series(1, 20) g', i); END LOOP; END $$",
    )?;
    for copy in 1..20 {
        site.server.sql(&format!("CREATE DATABASE many{copy} TEMPLATE many0 STRATEGY file_copy"))?;
    }
    site.server.checkpoint()?;
    let work = "full, 20,000 tables";
    full_contest(&site, work, PEER_ROUNDS_OF_MANY_FILES, results)?;
    results.judge(format!("{work}: wall"), results.ratio(work, "pgbackrest", wall), 0.25);
    results.judge(format!("{work}: stored"), results.ratio(work, "pgbackrest", stored), 0.5);
    let work = "restore, 20,000 tables";
    restore_contest(&site, work, PEER_ROUNDS_OF_MANY_FILES, results)?;
    results.judge(format!("{work}: wall"), results.ratio(work, "pgbackrest", wall), 0.2);
    no_change(&site, "incremental, no change, 20,000 tables", PEER_ROUNDS_OF_MANY_FILES, results)
}

/// Incremental backups right after one another.
fn no_change(site: &Site, work: &str, peer_rounds: usize, results: &mut Results) -> Result<()> {
    for round in 0..ROUNDS {
        results.add(work, "pgproof", site.backup(&[])?.0);
        results.add(work, "the server's own part", site.start_and_stop()?);
        results.add(work, "one look at each file", site.look_at_every_file()?);
        if round < peer_rounds {
            results.add(work, "pgbackrest", site.pgbackrest_backup("incr")?);
        }
    }
    results.judge(format!("{work}: wall, s"), results.median(work, "pgproof", wall), 0.5);
    Ok(())
}

pub(crate) fn incrementals(results: &mut Results) -> Result<()> {
    let site = Site::new(Encryption::Off)?;
    load_accounts(&site.server, scale())?;
    site.backup(&["--full"])?;
    site.pgbackrest_backup("full")?;
    no_change(&site, "incremental, no change", ROUNDS, results)?;
    scattered(&site, results)?;
    half_of_the_pages(&site, results)?;
    after_thirty(&site, results)
}

/// One row in each hundredth page.
fn scattered(site: &Site, results: &mut Results) -> Result<()> {
    let work = "incremental, 1 % of pages, scattered";
    let (mut against_changed, mut reads) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let from = start_of_change(site)?;
        touch(site, u32::try_from(round)?)?;
        let (ours, report) = site.backup(&[])?;
        results.add(work, "pgproof", ours);
        results.add(work, "pgbackrest", site.pgbackrest_backup("incr")?);
        let changed = changed_pages_compressed(site, from)?;
        let logical = report
            .pointer("/report/bytes_logical")
            .and_then(serde_json::Value::as_f64)
            .context("bytes_logical")?;
        ensure!(ours.stored_bytes > 0, "nothing was stored: is it measured where backups are?");
        #[allow(clippy::cast_precision_loss, reason = "ratios")]
        against_changed.push(ours.stored_bytes as f64 / changed as f64);
        #[allow(clippy::cast_precision_loss, reason = "ratios")]
        reads.push(ours.read_bytes as f64 / logical);
    }
    results.judge(format!("{work}: wall"), results.ratio(work, "pgbackrest", wall), 0.05);
    results.judge(format!("{work}: read, part of the cluster"), median(reads), 0.03);
    results.judge(
        format!("{work}: stored, against the changed pages through zstd -3"),
        median(against_changed),
        1.5,
    );
    Ok(())
}

fn touch(site: &Site, offset: u32) -> Result<()> {
    site.server.sql(&format!(
        "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE ctid = ANY (ARRAY(SELECT format('(%s,1)', b)::tid \
         FROM generate_series({offset}, pg_relation_size('pgbench_accounts') / 8192 - 1, 100) b)) OR \
         ctid = ANY (ARRAY(SELECT format('(%s,2)', b)::tid FROM generate_series({offset}, pg_relation_size('pgbench_accounts') / 8192 - 1, 100) b))"
    ))?;
    site.server.checkpoint()
}

fn start_of_change(site: &Site) -> Result<u64> {
    site.server.checkpoint()?;
    Ok(site.server.lsn()?.0)
}

/// The pages whose LSN is later, one after the other, through `zstd -3`: what had to be stored at the least.
fn changed_pages_compressed(site: &Site, from: u64) -> Result<u64> {
    let all = site.server.ground().join("changed");
    let mut out = std::io::BufWriter::new(fs::File::create(&all)?);
    collect_changed(&site.server.pgdata().join("base"), from, &mut out)?;
    drop(out);
    let compressed = Command::new("zstd").args(["-q", "-3", "-c"]).arg(&all).output()?;
    Ok(compressed.stdout.len() as u64)
}

fn collect_changed(folder: &Path, from: u64, out: &mut impl std::io::Write) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_changed(&path, from, out)?;
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        for page in fs::read(&path)?.chunks_exact(8192) {
            // `pd_lsn`: high word, then low word (`PageXLogRecPtr` in src/include/storage/bufpage.h).
            let word = |at: usize| {
                page.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
            };
            if (u64::from(word(0)) << 32 | u64::from(word(4))) > from {
                out.write_all(page)?;
            }
        }
    }
    Ok(())
}

/// One row in a hundred at random, which touches almost every second page.
fn half_of_the_pages(site: &Site, results: &mut Results) -> Result<()> {
    let work = "incremental, 1 % of rows at random";
    for _ in 0..ROUNDS {
        // What the round before left to prune would be pruned by this one's scan, and count as changed too.
        site.server.sql("VACUUM pgbench_accounts")?;
        site.server.checkpoint()?;
        site.backup(&[])?;
        site.pgbackrest_backup("incr")?;
        site.server.sql("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE random() < 0.01")?;
        site.server.checkpoint()?;
        results.add(work, "pgproof", site.backup(&[])?.0);
        results.add(work, "pgbackrest", site.pgbackrest_backup("incr")?);
    }
    results.judge(format!("{work}: wall"), results.ratio(work, "pgbackrest", wall), 0.5);
    results.judge(format!("{work}: stored"), results.ratio(work, "pgbackrest", stored), 0.75);
    Ok(())
}

fn after_thirty(site: &Site, results: &mut Results) -> Result<()> {
    for round in 0..30 {
        touch(site, round * 3 + 7)?;
        site.backup(&[])?;
    }
    let id = |report: serde_json::Value| {
        report.pointer("/report/id").and_then(|id| id.as_str().map(str::to_owned)).context("id")
    };
    let newest = id(site.backup(&[])?.1)?;
    let fresh = id(site.backup(&["--full"])?.1)?;
    let work = "restore after 30 scattered incrementals";
    for _ in 0..ROUNDS {
        results.add(work, "pgproof", site.restore(Some(&newest), &site.empty("restored")?)?);
        results.add(work, "a fresh full", site.restore(Some(&fresh), &site.empty("restored")?)?);
    }
    results.judge(format!("{work}: wall"), results.ratio(work, "a fresh full", wall), 1.3);
    site.empty("restored").map(drop)
}

/// Transactions per second while backups follow one another without a pause.
pub(crate) fn throughput_left(results: &mut Results) -> Result<()> {
    let site = Site::new(Encryption::Off)?;
    load_accounts(&site.server, scale())?;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let alone = rate(&site, || Ok(()))?;
        let ours = rate(&site, || site.backup(&["--full"]).map(drop))?;
        let theirs = rate(&site, || site.pg_basebackup(&site.empty("basebackup")?).map(drop))?;
        results.note(format!("pgbench, transactions per second: {alone:.0} alone, {ours:.0} during pgproof, {theirs:.0} during pg_basebackup"));
        rates.push(theirs / ours);
    }
    results.judge("pgbench throughput during pg_basebackup, against during pgproof", median(rates), 1.0);
    Ok(())
}

/// pgbench for twenty seconds beside `work`, which is begun anew as long as pgbench runs.
fn rate(site: &Site, work: impl Fn() -> Result<()>) -> Result<f64> {
    site.server.checkpoint()?;
    let said = std::thread::scope(|scope| -> Result<String> {
        let pgbench =
            scope.spawn(|| site.server.run_client("pgbench", &["--no-vacuum", "--client=4", "--time=20"]));
        while !pgbench.is_finished() {
            work()?;
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        pgbench.join().map_err(|_| anyhow::anyhow!("pgbench's thread panicked"))?
    })?;
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.context("pgbench told no rate")
}

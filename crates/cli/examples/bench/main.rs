//! The benchmark behind `make bench`: pgproof beside Debian's pgBackRest, `pg_basebackup` and `tar | zstd`, on the same cluster in the same
//! run, with the same codec, level and number of processes.
//!
//! Every contestant runs in turn, three rounds (the others one where each takes minutes), with all earlier writes synced before each;
//! medians count. `bench/RESULTS.md` is written from the samples, which stand in it. `PGPROOF_BENCH=full,push` runs parts
//! and writes a file of their names; `PGPROOF_BENCH_SCALE` is pgbench's scale (100, about 1.5 GB).

#![allow(clippy::print_stdout, reason = "this is a program that shows something")]

mod archive;
mod backups;
mod measure;
mod pages;
mod receive;
mod results;
mod site;

use anyhow::{Context, Result};
use results::Results;

type Part = (&'static str, fn(&mut Results) -> Result<()>);

const PARTS: [Part; 11] = [
    ("full", backups::compressible),
    ("random", backups::badly_compressing),
    ("incremental", backups::incrementals),
    ("push", archive::push),
    ("queue", archive::queue),
    ("get", archive::get),
    ("receive", receive::commit_latency),
    ("throughput", backups::throughput_left),
    ("pages", pages::random_pages),
    // Last, because it takes as long as all the others.
    ("tables", backups::many_tables),
    (LARGE, backups::large),
];

/// Runs only when it is named: it takes a quarter of an hour and 45 GB of disk.
const LARGE: &str = "large";

fn main() -> Result<()> {
    let wanted = std::env::var("PGPROOF_BENCH").ok();
    let wanted: Option<Vec<&str>> = wanted.as_deref().map(|names| names.split(',').collect());
    let mut results = Results::new(wanted.as_deref())?;
    for (name, part) in PARTS {
        if wanted.as_ref().map_or(name != LARGE, |wanted| wanted.contains(&name)) {
            println!("\n== {name}");
            part(&mut results).with_context(|| format!("the part `{name}`"))?;
            results.write()?;
        }
    }
    results.print_judgement();
    Ok(())
}

//! Pages at random, straight from the repository.

use crate::results::Results;
use crate::site::{Encryption, Site};
use anyhow::{Context, Result};
use pgproof_pg::SystemIdentifier;
use pgproof_repo::access::AccessLimits;
use pgproof_repo::{PageReader, Repository, Unlock};
use pgproof_store::Directory;
use std::sync::Arc;
use std::time::Instant;

/// Reads of one run.
const READS: u32 = 2000;

/// Every read begins with nothing remembered but the manifest: a new file map and a new extent each time.
pub(crate) fn random_pages(results: &mut Results) -> Result<()> {
    let site = Site::new(Encryption::Off)?;
    site.server.load_pgbench(50)?;
    let (_, report) = site.backup(&["--full"])?;
    let text = |pointer: &str| {
        report
            .pointer(pointer)
            .and_then(|value| value.as_str().map(str::to_owned))
            .context("the report of backup")
    };
    let (id, system) = (text("/report/id")?, text("/report/system_identifier")?);
    let repository = Repository::open(Arc::new(Directory::open(site.repository())?), &Unlock::Nothing)?;
    let limits = AccessLimits { files: 1, extents: 1 };
    let reader = PageReader::open(&repository, system.parse::<SystemIdentifier>()?, &id.parse()?, limits)?;
    let mut places = Vec::new();
    for entry in reader.manifest().files() {
        let entry = entry?;
        if entry.path.starts_with("base/") && entry.length >= 8192 {
            places.push((entry.path, u32::try_from(entry.length / 8192)?));
        }
    }
    let blocks: u64 = places.iter().map(|(_, blocks)| u64::from(*blocks)).sum();
    let mut page = [0; 8192];
    let mut times_ms = Vec::new();
    for read in 0..READS {
        // A stride that meets every file; the golden ratio spreads it evenly.
        let mut at = (u64::from(read) * 2_654_435_769) % blocks;
        let (path, block) = places
            .iter()
            .find_map(|(path, count)| match at.checked_sub(u64::from(*count)) {
                Some(rest) => {
                    at = rest;
                    None
                }
                None => Some((path, at)),
            })
            .context("a place")?;
        let began = Instant::now();
        reader.page(path, u32::try_from(block)?, &mut page)?;
        times_ms.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times_ms.sort_by(f64::total_cmp);
    let at = |part: f64| times_ms.get((f64::from(READS) * part) as usize).copied().unwrap_or(f64::NAN);
    results.note(format!(
        "random pages from a directory, {READS} reads: median {:.3} ms, 99 % {:.3} ms",
        at(0.5),
        at(0.99)
    ));
    results.judge("random page, median, ms", at(0.5), 1.0);
    Ok(())
}

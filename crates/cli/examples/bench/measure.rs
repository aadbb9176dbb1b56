//! One run of a contestant, measured.

use anyhow::{Context, Result, ensure};
use pgproof_testkit::host::{Finished, Running};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Rounds of each contest.
pub(crate) const ROUNDS: usize = 3;

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) wall_s: f64,
    /// User and system time, of children too.
    pub(crate) cpu_s: f64,
    /// Of the process and its children together.
    pub(crate) peak_bytes: u64,
    /// Bytes that read calls returned, of children too.
    pub(crate) read_bytes: u64,
    /// Bytes that the run added to where it stores; 0 where it stores nothing.
    pub(crate) stored_bytes: u64,
}

/// Runs a command that must succeed. What was written before is on disk when it starts.
pub(crate) fn run(mut command: Command, stores_in: Option<&Path>) -> Result<(Sample, Finished)> {
    rustix::fs::sync();
    let before = stores_in.map_or(Ok(0), size_of)?;
    let done = Running::start(&mut command)?.wait()?;
    ensure!(
        done.status.success(),
        "{command:?} ended with {}:\n{}\n{}",
        done.status,
        done.stdout,
        done.stderr
    );
    let sample = Sample {
        wall_s: done.wall.as_secs_f64(),
        cpu_s: done.cpu.as_secs_f64(),
        peak_bytes: done.peak_memory_bytes,
        read_bytes: done.io.read_bytes,
        stored_bytes: stores_in.map_or(Ok(0), size_of)?.saturating_sub(before),
    };
    Ok((sample, done))
}

/// Bytes of all files below a directory.
pub(crate) fn size_of(directory: &Path) -> Result<u64> {
    let mut total = 0;
    let Ok(entries) = fs::read_dir(directory) else { return Ok(0) };
    for entry in entries {
        let entry = entry.with_context(|| format!("look into {}", directory.display()))?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() { size_of(&entry.path())? } else { metadata.len() };
    }
    Ok(total)
}

/// The middle one.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

//! The campaign: everything around pgproof misbehaves, and nothing that was acknowledged is lost, or the loss is named.
//!
//! `make campaign` runs these and the tests of killed processes (`kills`) and power cuts in their long form; every run of the tests takes each
//! in a small one. `PGPROOF_CAMPAIGN` says how many times each goes round, `PGPROOF_SEED` repeats the choices of a run.

mod clocks;
mod disks;
mod network;
mod strangers;

use crate::scene::{Ran, Scene};
use anyhow::{Context, Result, ensure};
use std::env;

/// How many times each trouble is met.
fn rounds() -> Result<u32> {
    env::var("PGPROOF_CAMPAIGN").ok().map_or(Ok(1), |text| text.parse()).context("PGPROOF_CAMPAIGN")
}

/// A failure that is told as one: not a panic, not a success.
fn failed(ran: &Ran) -> Result<()> {
    ensure!(ran.code == 3, "exit code {}\n{}\n{}", ran.code, ran.stdout, ran.stderr);
    ensure!(ran.stderr.contains("error:") && !ran.stderr.contains("panicked"), "{}", ran.stderr);
    Ok(())
}

/// Whatever the trouble does to a command, it ends by itself and says so.
fn ended_well(ran: &Ran) -> Result<()> {
    if ran.code == 0 || ran.code == 1 { Ok(()) } else { failed(ran) }
}

/// What must hold once the trouble is over: WAL goes on, nothing is damaged, the next backup succeeds, and all of it comes back.
fn all_is_well(scene: &Scene, round: &str) -> Result<()> {
    scene.server.archive_everything().context("the archive does not go on")?;
    scene.pgproof(&["verify"])?.succeeded().context("verify")?;
    scene.pgproof(&["backup"])?.succeeded().context("the next backup")?;
    scene.comes_back(&format!("restored-{round}"), &[])
}

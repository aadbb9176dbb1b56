//! `pgproof backup` as it is typed. That what it stores comes back is tested in [`crate::versions`].

use crate::scene::Scene;
use anyhow::{Context, Result, ensure};
use std::time::Instant;

#[test]
fn a_backup_keeps_to_the_rate_that_it_is_given() -> Result<()> {
    let scene = Scene::initialised()?;
    let began = Instant::now();
    let report = scene.pgproof(&["backup", "--full", "--max-rate", "16MB", "--json"])?.succeeded()?.json()?;
    let elapsed = began.elapsed();
    let read = report["report"]["bytes_read"].as_u64().context("no bytes_read")?;
    ensure!(read > 20 << 20, "a fresh cluster has more than {read} bytes");
    // The last read of each worker pays after it began.
    let at_least = (read - (1 << 20)) as f64 / f64::from(16 << 20);
    ensure!(elapsed.as_secs_f64() >= at_least, "{read} bytes in {elapsed:?}");
    scene.pgproof(&["verify"])?.succeeded().map(drop)
}

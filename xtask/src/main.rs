//! Developer tasks. One file a task; the Makefile and `.ci/run` only call them.
//!
//! Deliberately small in dependencies: it is built before anything else.

mod tasks;
mod tidy;

use anyhow::{Context, Result, bail};
use std::env;
use std::path::PathBuf;

/// The checkout. Asked for at run time: clones share a build, and the one that built this program may be gone.
fn workspace() -> Result<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR").context("run it with `cargo xtask`")?;
    PathBuf::from(package).parent().map(Into::into).context("find the workspace")
}

fn main() -> Result<()> {
    let task = env::args().nth(1).unwrap_or_default();
    match task.as_str() {
        "test" => tasks::test(),
        "ci" => tasks::ci(),
        "tidy" => tidy::run(),
        "campaign" => tasks::campaign(),
        "demo" => tasks::demo(),
        "demo-ha" => tasks::demo_ha(),
        "faults" => tasks::faults(),
        "faults-doctor" => tasks::faults_doctor(),
        "bench" => tasks::bench(),
        _ => bail!(
            "usage: cargo xtask test | ci | tidy | campaign | demo | demo-ha | faults | faults-doctor | bench"
        ),
    }
}

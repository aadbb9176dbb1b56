//! Developer tasks. One file a task; the Makefile and `.ci/run` only call them.
//!
//! Deliberately small in dependencies: it is built before anything else.

mod tasks;
mod tidy;

use anyhow::{Result, bail};
use std::env;

fn main() -> Result<()> {
    let task = env::args().nth(1).unwrap_or_default();
    match task.as_str() {
        "test" => tasks::test(),
        "ci" => tasks::ci(),
        "tidy" => tidy::run(),
        "demo" => tasks::demo(),
        "bench" => tasks::bench(),
        _ => bail!("usage: cargo xtask test | ci | tidy | demo | bench"),
    }
}

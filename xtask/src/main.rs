//! Developer tasks. One file a task; the Makefile and `.ci/run` only call them.
//!
//! Deliberately small in dependencies: it is built before anything else. A new task is a module, a line of [`Task`] and a
//! line of [`main`].

mod budgets;
mod ci;
mod install;
mod shell;
mod test;
mod tidy;

use anyhow::Result;
use clap::Parser;

/// Developer tasks of pgproof.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Installs what tests need and runs all of them.
    Test(test::Options),
    /// Everything a change has to pass: formatting, lints, tidiness, licences, tests, budgets.
    Ci,
    /// Checks what the compiler does not: lengths, module documentation, edges between crates, codes, links.
    Tidy,
    /// Measures own build times and counts dependencies.
    Budgets,
    /// Installs what tests need, and nothing else.
    Install,
}

fn main() -> Result<()> {
    match Task::parse() {
        Task::Test(options) => test::run(&options),
        Task::Ci => ci::run(),
        Task::Tidy => tidy::run(),
        Task::Budgets => budgets::run(),
        Task::Install => install::run(),
    }
}

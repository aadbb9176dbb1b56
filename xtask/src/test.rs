//! Installs what tests need and runs all of them, with nextest where it is there.

use crate::{
    install,
    shell::{output, say, succeeds},
};
use anyhow::Result;
use clap::Args;
use std::{env, time::Duration};

/// Which tests, and how.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Passed on to the test runner, after `--`: `cargo xtask test -- -p pgproof-wal`.
    #[arg(last = true)]
    pub(crate) runner: Vec<String>,
}

/// Installs, builds, tests; the runner's summary comes last.
pub(crate) fn run(options: &Options) -> Result<()> {
    test(options).map(drop)
}

/// As [`run()`]; tells how long the tests themselves took.
pub(crate) fn test(options: &Options) -> Result<Duration> {
    install::run_all(false)?;
    let whole = options.runner.is_empty();
    let nextest = succeeds("cargo", &["nextest", "--version"]);
    if whole {
        // Everything is built at once, the installer of servers among it, so that nothing is built twice. Binaries come
        // first because tests run `pgproof` itself.
        run_cargo(&["build", "--workspace", "--all-targets"], &[])?;
    }
    install::servers()?;
    say(&format!("{} tests run on {}", if whole { "all" } else { "some" }, machine()));
    let profile: &[&str] = if env::var_os("CI").is_some() { &["--profile", "ci"] } else { &[] };
    let scope: &[&str] = if whole { &["--workspace"] } else { &[] };
    let runner: &[&str] = if nextest { &["nextest", "run"] } else { &["test", "--no-fail-fast"] };
    let arguments = [runner, scope, if nextest { profile } else { &[] }].concat();
    run_cargo(&arguments, &options.runner)
}

fn run_cargo(arguments: &[&str], more: &[String]) -> Result<Duration> {
    let all: Vec<&str> = arguments.iter().copied().chain(more.iter().map(String::as_str)).collect();
    crate::shell::run("cargo", &all)
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let system = output("uname", &["-sr"]).unwrap_or_default();
    format!("{cores} cores, {}", system.trim())
}

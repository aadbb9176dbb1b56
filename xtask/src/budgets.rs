//! What the project costs those who build it. A growing number is a bug: find out why before raising a limit.
//!
//! Times depend on the machine, so they are shown and not judged; the number of dependencies is judged.

use crate::shell::{output, root, run as run_program, say};
use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Packages that building `pgproof` takes, its own included. Raise it together with the dependency that needs it, and say in
/// the commit what that brings.
const DEPENDENCIES_MAX: usize = 400;

/// The task.
pub(crate) fn run() -> Result<()> {
    measure(None)
}

/// Measures, and prints all numbers with the time that tests took, where it is known.
pub(crate) fn measure(tests: Option<Duration>) -> Result<()> {
    let dependencies = dependencies()?;
    // What was changed elsewhere must not count.
    build()?;
    touch(&own_roots()?)?;
    let own = build()?;
    touch(&[root().join("crates/cli/src/main.rs")])?;
    let leaf = build()?;
    say(&format!("own crates, rebuilt        {:>8.1} s", own.as_secs_f64()));
    say(&format!("after an edit in a leaf    {:>8.1} s", leaf.as_secs_f64()));
    if let Some(tests) = tests {
        say(&format!("tests                      {:>8.1} s", tests.as_secs_f64()));
    }
    say(&format!("packages built             {dependencies:>8}   (at most {DEPENDENCIES_MAX})"));
    ensure!(
        dependencies <= DEPENDENCIES_MAX,
        "pgproof needs {dependencies} packages, more than {DEPENDENCIES_MAX}"
    );
    Ok(())
}

fn build() -> Result<Duration> {
    run_program("cargo", &["build", "--quiet", "--workspace"])
}

/// Every package that `pgproof` is linked from or built with, on this platform.
fn dependencies() -> Result<usize> {
    let tree = output(
        "cargo",
        &[
            "tree",
            "--locked",
            "--package",
            "pgproof-cli",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ],
    )?;
    let packages: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    Ok(packages.len())
}

fn own_roots() -> Result<Vec<PathBuf>> {
    let crates = root().join("crates");
    let mut roots = Vec::new();
    for entry in fs::read_dir(&crates).with_context(|| format!("list {}", crates.display()))? {
        let source = entry?.path().join("src");
        roots.extend(
            ["lib.rs", "main.rs"].map(|name| source.join(name)).into_iter().filter(|path| path.exists()),
        );
    }
    Ok(roots)
}

/// Makes Cargo believe that files have changed.
fn touch(files: &[PathBuf]) -> Result<()> {
    let touch = |path: &Path| fs::File::options().append(true).open(path)?.set_modified(SystemTime::now());
    files.iter().try_for_each(|path| touch(path).with_context(|| format!("touch {}", path.display())))
}

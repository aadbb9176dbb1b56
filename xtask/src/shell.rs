//! Running programs from the root of the workspace, and telling people about it.

use anyhow::{Context, Result, bail};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Root of the workspace.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// Tells what is going on.
#[expect(clippy::print_stderr, reason = "this is what a person sees of a task")]
pub(crate) fn say(text: &str) {
    eprintln!("xtask: {text}");
}

/// Runs a program with its output shown; returns how long it took.
///
/// # Errors
/// Fails when it cannot be started or does not succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<Duration> {
    let line = format!("{program} {}", arguments.join(" "));
    say(&line);
    let began = Instant::now();
    let status = Command::new(program).args(arguments).current_dir(root()).status();
    let status = status.with_context(|| format!("start {program}"))?;
    if !status.success() {
        bail!("`{line}` failed with {status}");
    }
    Ok(began.elapsed())
}

/// Runs a program and returns what it printed.
///
/// # Errors
/// Fails when it cannot be started or does not succeed, with what it wrote to standard error.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).current_dir(root()).output();
    let output = output.with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{program} {}` failed with {}: {}", arguments.join(" "), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program can be started and succeeds.
pub(crate) fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

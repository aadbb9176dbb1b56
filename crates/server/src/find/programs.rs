//! Which directory holds the programs of an instance: the running one's, the last one's, or the system's of its version.

use super::process::{self, CommandLine};
use pgproof_pg::MajorVersion;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The directory of `postgres` and `pg_ctl` for a version; what serves the instance now or served it last comes first.
pub(super) fn find(version: MajorVersion, pid: Option<u32>, command_line: &CommandLine) -> Option<PathBuf> {
    let running = pid.and_then(|pid| fs::read_link(format!("/proc/{pid}/exe")).ok());
    let called = command_line.program().filter(|program| program.is_absolute()).map(Path::to_owned);
    // These are this instance's own; whatever else is on the host has to prove its version.
    let own =
        [running, called].into_iter().flatten().filter_map(|program| Some(program.parent()?.to_owned()));
    let system = [format!("/usr/lib/postgresql/{version}/bin"), format!("/usr/pgsql-{version}/bin")];
    let path = env::var_os("PATH").unwrap_or_default();
    let candidates = own
        .chain(system.into_iter().map(PathBuf::from))
        .chain(env::split_paths(&path))
        .chain(pg_config())
        // A copy of a server that runs here, of an installation in a place of its own.
        .chain(process::program_directories());
    candidates.into_iter().find(|folder| serves_version(folder, version))
}

/// Runs `postgres --version`, which prints for example `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn serves_version(folder: &Path, version: MajorVersion) -> bool {
    let program = folder.join("postgres");
    if !program.is_file() {
        return false;
    }
    let Ok(output) = Command::new(program).arg("--version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().nth(2).and_then(|found| found.parse().ok()) == Some(version)
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

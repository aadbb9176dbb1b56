//! Which directory holds the programs of an instance: the running one's, the last one's, or the system's of its version.

use super::process::{self, CommandLine};
use pgproof_pg::MajorVersion;
use std::{
    env, fs, iter,
    path::{Path, PathBuf},
    process::Command,
};

/// The directory of `postgres` and `pg_ctl` for a version; what serves the instance now or served it last comes first.
pub(super) fn find(version: MajorVersion, pid: Option<u32>, command_line: &CommandLine) -> Option<PathBuf> {
    let folder = |program: &Path| program.parent().map(Path::to_owned);
    let running = pid.and_then(|pid| fs::read_link(format!("/proc/{pid}/exe")).ok());
    // It serves this very directory. Whatever else is on the host has to prove its version, which takes a third of a second.
    if let Some(running) = running.as_deref().and_then(folder).filter(|folder| has_server(folder)) {
        return Some(running);
    }
    let called = command_line.program().filter(|program| program.is_absolute());
    let own = called.and_then(folder).into_iter();
    let system = [format!("/usr/lib/postgresql/{version}/bin"), format!("/usr/pgsql-{version}/bin")];
    let path = env::var_os("PATH").unwrap_or_default();
    let candidates = own
        .chain(system.into_iter().map(PathBuf::from))
        .chain(env::split_paths(&path))
        .chain(iter::once_with(pg_config).flatten())
        // A copy of a server that runs here, of an installation in a place of its own.
        .chain(iter::once_with(process::program_directories).flatten());
    candidates.into_iter().find(|folder| serves_version(folder, version))
}

fn has_server(folder: &Path) -> bool {
    folder.join("postgres").is_file()
}

/// Runs `postgres --version`, which prints for example `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn serves_version(folder: &Path, version: MajorVersion) -> bool {
    if !has_server(folder) {
        return false;
    }
    let Ok(output) = Command::new(folder.join("postgres")).arg("--version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().nth(2).and_then(|found| found.parse().ok()) == Some(version)
}

pub(super) fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

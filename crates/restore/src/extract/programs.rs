//! Which `pg_dump` and `pg_restore` an extraction uses.

use super::error::ExtractError;
use pgproof_pg::MajorVersion;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory of a `pg_dump` and a `pg_restore` that know the version: the server's own, else the oldest later ones, whose output older
/// servers are likeliest to take.
pub(crate) fn find_programs(version: MajorVersion, beside: Option<&Path>) -> Result<PathBuf, ExtractError> {
    let later = MajorVersion::ALL.into_iter().filter(|other| *other >= version);
    let places = later.flat_map(|v| [format!("/usr/lib/postgresql/{v}/bin"), format!("/usr/pgsql-{v}/bin")]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> = beside.map(Path::to_owned).into_iter().collect();
    candidates.extend(places.map(PathBuf::from));
    candidates.extend(std::env::split_paths(&path));
    let knows = |folder: &PathBuf| {
        ["pg_dump", "pg_restore"].iter().all(|name| version_of(&folder.join(name)) >= Some(version))
    };
    candidates
        .into_iter()
        .find(knows)
        .ok_or_else(|| ExtractError::NoPrograms { version: version.to_string() })
}

/// `pg_dump --version` prints `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn version_of(program: &Path) -> Option<MajorVersion> {
    if !program.is_file() {
        return None;
    }
    let output = Command::new(program).arg("--version").output().ok()?;
    String::from_utf8_lossy(&output.stdout).split_whitespace().nth(2)?.parse().ok()
}

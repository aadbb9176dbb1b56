//! Which `pg_dump` and `pg_restore` an extraction uses.

use super::error::ExtractError;
use pgproof_pg::MajorVersion;
use pgproof_server::find;
use std::path::{Path, PathBuf};

/// The directory of a `pg_dump` and a `pg_restore` that know the version: the server's own, else the oldest later ones, whose output older
/// servers are likeliest to take.
pub(crate) fn find_programs(version: MajorVersion, beside: Option<&Path>) -> Result<PathBuf, ExtractError> {
    let found = find::clients(version, beside).map(|clients| clients.directory);
    found.map_err(|_| ExtractError::NoPrograms { version: version.to_string() })
}

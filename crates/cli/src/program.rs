//! Where this program lies: what archive_command and restore_command call, and remedies name.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The file that was started, or what has taken its place since: an upgrade replaces it under the same name while it runs.
///
/// # Errors
/// When the system does not say (no /proc).
pub(crate) fn own_path() -> io::Result<PathBuf> {
    std::env::current_exe().map(successor)
}

/// The kernel appends this to the link /proc/self/exe when the file has lost its name: `d_path` in `fs/d_path.c`.
const REMOVED: &[u8] = b" (deleted)";

fn successor(path: PathBuf) -> PathBuf {
    let name =
        path.as_os_str().as_bytes().strip_suffix(REMOVED).map(|name| Path::new(OsStr::from_bytes(name)));
    match name {
        Some(name) if !path.exists() => name.to_owned(),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_upgraded_program_is_named_by_its_path() {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("pgproof");
        fs::write(&program, "").unwrap();
        assert_eq!(successor(program.clone()), program);

        let removed = place.path().join("pgproof (deleted)");
        assert_eq!(successor(removed.clone()), program);
        fs::write(&removed, "").unwrap();
        assert_eq!(successor(removed.clone()), removed, "somebody named it so");
    }
}

//! What waits for PostgreSQL's archiver, seen as files.

use crate::error::WalError;
use pgproof_pg::ArchiveName;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file and the state of its content: PostgreSQL does not change what it offers, but it makes new files in old ones' places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

/// Looks at a file.
pub(super) fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = fs::metadata(path)?;
    Ok(Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified_s: metadata.mtime(),
        modified_ns: metadata.mtime_nsec(),
    })
}

/// The names that wait, in the order in which PostgreSQL offers them: history files first, then by name (`ready_file_comparator` in
/// `src/backend/postmaster/pgarch.c`).
pub(super) fn list(pgdata: &Path) -> Result<Vec<String>, WalError> {
    let folder = pgdata.join("pg_wal/archive_status");
    let fail = |source| WalError::Unreadable { path: folder.clone(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        // What is no WAL file's name PostgreSQL does not offer either.
        if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".ready"))
            && let Ok(parsed) = ArchiveName::parse(name)
        {
            names.push((!matches!(parsed, ArchiveName::History(_)), name.to_owned()));
        }
    }
    names.sort_unstable();
    Ok(names.into_iter().map(|(_, name)| name).collect())
}

/// How many files wait for the archiver of this data directory.
///
/// # Errors
/// [`WalError::Unreadable`].
pub fn waiting(pgdata: &Path) -> Result<usize, WalError> {
    list(pgdata).map(|names| names.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_files_come_first_and_strangers_never() {
        let data = tempfile::tempdir().unwrap();
        let status = data.path().join("pg_wal/archive_status");
        fs::create_dir_all(&status).unwrap();
        for name in [
            "000000010000000000000003.ready",
            "000000010000000000000002.ready",
            "000000010000000000000001.done",
            "00000002.history.ready",
            "mine.ready",
        ] {
            fs::write(status.join(name), "").unwrap();
        }
        assert_eq!(
            list(data.path()).unwrap(),
            ["00000002.history", "000000010000000000000002", "000000010000000000000003"]
        );
        assert!(list(&data.path().join("absent")).is_err());
    }

    #[test]
    fn a_file_made_anew_is_another_one() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("000000010000000000000002");
        fs::write(&path, "one").unwrap();
        let before = identity(&path).unwrap();
        assert_eq!(before, identity(&path).unwrap());
        fs::write(data.path().join("new"), "two").unwrap();
        fs::rename(data.path().join("new"), &path).unwrap();
        assert_ne!(before, identity(&path).unwrap());
    }
}

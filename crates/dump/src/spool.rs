//! The temporary directory of a dump or load, and what killed ones left of theirs.

use crate::error::DumpError;
use pgproof_base::Bytes;
use rustix::fs::{FlockOperation, flock, statvfs};
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What names of these directories begin with.
const PREFIX: &str = "pgproof-dump-";

/// Whoever lives holds a lock on this file in its directory; the kernel lets go of it with the process.
const LOCK: &str = "lock";

/// A temporary directory, removed when dropped.
#[derive(Debug)]
pub(crate) struct Spool {
    directory: tempfile::TempDir,
    _lock: File,
}

impl Spool {
    /// Makes a directory below `temp`, readable by this account only: it holds what is encrypted elsewhere.
    pub(crate) fn create(temp: &Path) -> Result<Self, DumpError> {
        remove_abandoned(temp);
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(temp)
            .map_err(DumpError::host("make a directory in", temp))?;
        let path = directory.path().join(LOCK);
        let lock = File::create(&path).map_err(DumpError::host("create", &path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| DumpError::host("lock", &path)(error.into()))?;
        Ok(Self { directory, _lock: lock })
    }

    /// A new directory in it.
    pub(crate) fn dir(&self, name: &str) -> Result<PathBuf, DumpError> {
        let path = self.directory.path().join(name);
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(DumpError::host("make", &path))?;
        Ok(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Refuses where less than so many bytes are free.
    pub(crate) fn require(&self, bytes: u64) -> Result<(), DumpError> {
        let path = self.path();
        let found = statvfs(path).map_err(|error| DumpError::host("look at", path)(error.into()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        match free < bytes {
            true => Err(DumpError::NoRoom {
                directory: path.parent().unwrap_or(path).to_owned(),
                free: Bytes(free),
                needed: Bytes(bytes),
            }),
            false => Ok(()),
        }
    }
}

/// Removes directories whose process was killed. One that was made this moment and has no lock yet has no lock file either.
fn remove_abandoned(temp: &Path) {
    let Ok(entries) = fs::read_dir(temp) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Another account's is its own business; a later run tries again.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_is_removed_and_what_a_running_one_uses_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let left = temp.path().join("pgproof-dump-left");
        fs::create_dir(&left).unwrap();
        File::create(left.join(LOCK)).unwrap();
        let running = Spool::create(temp.path()).unwrap();
        let second = Spool::create(temp.path()).unwrap();
        assert!(!left.exists());
        assert!(running.path().exists() && second.path().exists());
        assert_eq!(second.require(u64::MAX).unwrap_err().code(), Some("dump-no-room"));
    }
}

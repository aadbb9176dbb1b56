//! The private directory of an extraction: made for one run, says what it is, and is removed whatever happens.
//!
//! A run that is killed leaves it, with a server that may still replay in it. Each run therefore holds a lock on the file that says what
//! the directory is, for as long as it lives; the next run stops and removes whatever is not locked.

use super::error::ExtractError;
use pgproof_server::{Owner, StopMode, find};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What names of these directories begin with.
const PREFIX: &str = "pgproof-extract-";

/// The file that says what the directory is, and that is locked.
const README: &str = "README";

/// How long a server that is stopped immediately may take.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Longest path of a socket (`sun_path` of `sockaddr_un` on Linux) without the terminating zero.
const SOCKET_BYTES_MAX: usize = 107;

/// A private directory. Dropping it stops the server in it and removes it.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes a directory below `parent`.
    pub(crate) fn create(parent: &Path) -> Result<Self, ExtractError> {
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        let socket = path.join("s/.s.PGSQL.5432");
        if socket.as_os_str().len() > SOCKET_BYTES_MAX {
            return Err(ExtractError::PathTooLong { path: socket });
        }
        DirBuilder::new().mode(0o700).create(&path).map_err(ExtractError::file("create", &path))?;
        // Locked before it has its name, so that nobody takes it for one that was left behind.
        let (unnamed, named) = (path.join("README.new"), path.join(README));
        let mut lock = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unnamed)
            .map_err(ExtractError::file("create", &unnamed))?;
        let locked = lock.try_lock().map_err(std::io::Error::from);
        locked.map_err(ExtractError::file("lock", &unnamed))?;
        lock.write_all(explanation(&path).as_bytes()).map_err(ExtractError::file("write", &unnamed))?;
        fs::rename(&unnamed, &named).map_err(ExtractError::file("rename", &unnamed))?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory in it that only its owner enters.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf, ExtractError> {
        let path = self.path.join(name);
        DirBuilder::new().mode(0o700).create(&path).map_err(ExtractError::file("create", &path))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The next run tries again and tells.
        let _ = discard(&self.path);
    }
}

/// Where the private directory of this process is, or would be.
#[must_use]
pub fn of_this_process(parent: &Path) -> PathBuf {
    parent.join(format!("{PREFIX}{}", std::process::id()))
}

/// Stops the server in a private directory and removes the directory.
///
/// # Errors
/// [`ExtractError::Server`] when it does not stop, [`ExtractError::File`] when something cannot be removed.
pub fn discard(path: &Path) -> Result<(), ExtractError> {
    if let Ok(instance) = find::at(&path.join("data"))
        && let Ok(control) = instance.control()
    {
        control
            .stop(StopMode::Immediate, STOP_LIMIT)
            .map_err(ExtractError::server("stop the private server"))?;
    }
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(ExtractError::file("remove", path)(source))
        }
        _ => Ok(()),
    }
}

/// Removes what killed runs of this account left below `parent`; says what it removed, and what it could not.
pub(crate) fn sweep(parent: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let own = Owner::current();
    let is_ours = |path: &PathBuf| {
        let named = path.file_name().and_then(|name| name.to_str()).is_some_and(|n| n.starts_with(PREFIX));
        named && fs::symlink_metadata(path).is_ok_and(|file| file.is_dir() && file.uid() == own.uid)
    };
    let left = entries.flatten().map(|entry| entry.path()).filter(is_ours).filter(|path| is_abandoned(path));
    left.map(|path| match discard(&path) {
        Ok(()) => format!("removed {}, which an interrupted run had left", path.display()),
        Err(error) => format!("{} of an interrupted run could not be removed: {error}", path.display()),
    })
    .collect()
}

fn is_abandoned(path: &Path) -> bool {
    // A directory without the file is being made, or is none of ours.
    File::open(path.join(README)).is_ok_and(|file| file.try_lock().is_ok())
}

fn explanation(path: &Path) -> String {
    let place = path.display();
    format!(
        "This is the private directory of one run of `pgproof extract` (process {}): a restored database and the server that\n\
         recovers it, from which one table is copied. It is removed when the run ends. If the run was killed, the next one\n\
         removes it, or do it by hand:\n\n    pg_ctl stop -m immediate -D {place}/data; rm -r {place}\n",
        std::process::id()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_is_removed_and_what_runs_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let alive = Scratch::create(parent.path()).unwrap();
        let killed = parent.path().join("pgproof-extract-1");
        fs::create_dir(&killed).unwrap();
        fs::write(killed.join(README), "").unwrap();
        fs::create_dir(parent.path().join("other")).unwrap();
        let told = sweep(parent.path());
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(!killed.exists() && alive.path().exists() && parent.path().join("other").exists());
        let path = alive.path().to_owned();
        drop(alive);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_before_anything_is_made() {
        let parent = tempfile::tempdir().unwrap();
        let deep = parent.path().join("x".repeat(100));
        let error = Scratch::create(&deep).unwrap_err();
        assert!(matches!(error, ExtractError::PathTooLong { .. }), "{error}");
    }
}

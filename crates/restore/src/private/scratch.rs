//! The private directory of one run: says what it is, and is removed whatever happens.
//!
//! A run that is killed leaves it, with a server that may still replay in it. Each run therefore holds a lock on the file that says what
//! the directory is, for as long as it lives; the next run stops and removes whatever is not locked.

use super::error::PrivateError;
use pgproof_server::{Owner, StopMode, find};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whose private directory it is.
#[derive(Debug, Clone, Copy)]
pub struct Purpose {
    /// What names of these directories begin with.
    pub prefix: &'static str,
    /// Which command makes it, as in "one run of `pgproof extract`".
    pub command: &'static str,
    /// What is in it, as the README says it.
    pub content: &'static str,
}

/// The file that says what the directory is, and that is locked.
const README: &str = "README";

/// How long a server that is stopped immediately may take.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Longest path of a socket (`sun_path` of `sockaddr_un` on Linux) without the terminating zero.
const SOCKET_BYTES_MAX: usize = 107;

/// A private directory. Dropping it stops the server in it and removes it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes a directory below `parent`.
    ///
    /// # Errors
    /// [`PrivateError::PathTooLong`], [`PrivateError::File`].
    pub fn create(parent: &Path, purpose: &Purpose) -> Result<Self, PrivateError> {
        let path = of_this_process(parent, purpose);
        let socket = path.join("s/.s.PGSQL.5432");
        if socket.as_os_str().len() > SOCKET_BYTES_MAX {
            return Err(PrivateError::PathTooLong { path: socket });
        }
        DirBuilder::new().mode(0o700).create(&path).map_err(PrivateError::file("create", &path))?;
        // Locked before it has its name, so that nobody takes it for one that was left behind.
        let (unnamed, named) = (path.join("README.new"), path.join(README));
        let mut lock = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unnamed)
            .map_err(PrivateError::file("create", &unnamed))?;
        let locked = lock.try_lock().map_err(std::io::Error::from);
        locked.map_err(PrivateError::file("lock", &unnamed))?;
        lock.write_all(explanation(&path, purpose).as_bytes())
            .map_err(PrivateError::file("write", &unnamed))?;
        fs::rename(&unnamed, &named).map_err(PrivateError::file("rename", &unnamed))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where the restored data directory goes.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// A path in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory in it that only its owner enters.
    ///
    /// # Errors
    /// [`PrivateError::File`].
    pub fn directory(&self, name: &str) -> Result<PathBuf, PrivateError> {
        let path = self.path.join(name);
        DirBuilder::new().mode(0o700).create(&path).map_err(PrivateError::file("create", &path))?;
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
pub fn of_this_process(parent: &Path, purpose: &Purpose) -> PathBuf {
    parent.join(format!("{}{}", purpose.prefix, std::process::id()))
}

/// Stops the server in a private directory and removes the directory.
///
/// # Errors
/// [`PrivateError::Server`] when it does not stop, [`PrivateError::File`] when something cannot be removed.
pub fn discard(path: &Path) -> Result<(), PrivateError> {
    if let Ok(instance) = find::at(&path.join("data"))
        && let Ok(control) = instance.control()
    {
        control
            .stop(StopMode::Immediate, STOP_LIMIT)
            .map_err(PrivateError::server("stop the private server"))?;
    }
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(PrivateError::file("remove", path)(source))
        }
        _ => Ok(()),
    }
}

/// Removes what killed runs of this account left below `parent`; says what it removed, and what it could not.
#[must_use]
pub fn sweep(parent: &Path, purpose: &Purpose) -> Vec<String> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let own = Owner::current();
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let named = name.is_some_and(|name| name.starts_with(purpose.prefix));
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

fn explanation(path: &Path, purpose: &Purpose) -> String {
    let (place, Purpose { command, content, .. }) = (path.display(), purpose);
    format!(
        "This is the private directory of one run of `{command}` (process {}): {content}.\n\
         It is removed when the run ends. If the run was killed, the next one removes it, or do it by hand:\n\n    \
         pg_ctl stop -m immediate -D {place}/data; rm -r {place}\n",
        std::process::id()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: Purpose =
        Purpose { prefix: "pgproof-test-", command: "pgproof test", content: "what a test made" };

    #[test]
    fn what_a_killed_run_left_is_removed_and_what_runs_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let alive = Scratch::create(parent.path(), &TEST).unwrap();
        let killed = parent.path().join("pgproof-test-1");
        fs::create_dir(&killed).unwrap();
        fs::write(killed.join(README), "").unwrap();
        fs::create_dir(parent.path().join("other")).unwrap();
        let told = sweep(parent.path(), &TEST);
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
        let error = Scratch::create(&deep, &TEST).unwrap_err();
        assert!(matches!(error, PrivateError::PathTooLong { .. }), "{error}");
    }
}

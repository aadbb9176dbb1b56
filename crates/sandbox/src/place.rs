//! Where a sandbox lies: one directory each, below one place for each account.
//!
//! The keeper holds a lock on a file in the directory for as long as it lives, so that nobody has to trust a process number. The directory
//! itself belongs to whoever made the sandbox; what the server and the file system write is in directories given to the server's
//! account, and root follows no link in those.

use crate::record::Record;
use crate::{Error, Result};
use pgproof_server::Owner;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Longest name of a sandbox: its socket's path must stay short.
const NAME_CHARS_MAX: usize = 40;

/// Longest path of a socket (`sun_path` of `sockaddr_un` on Linux) without the terminating zero.
const SOCKET_BYTES_MAX: usize = 107;

/// The port that names every sandbox's socket.
pub(crate) const PORT: u16 = 5432;

/// The directory of one sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    directory: PathBuf,
}

/// Whether a keeper lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// It holds its lock.
    Lives,
    /// Nobody holds it.
    Gone,
}

impl Place {
    /// Of the sandbox of this name.
    pub(crate) fn of(place: &Path, name: &str) -> Result<Self> {
        check_name(name)?;
        Ok(Self { directory: place.join(name) })
    }

    /// Of a directory that one of the sandbox's processes was given.
    pub(crate) fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Makes the directory and what is in it for `owner`.
    pub(crate) fn create(place: &Path, name: &str, owner: Option<Owner>) -> Result<Self> {
        let made = Self::of(place, name)?;
        let socket = made.sockets().join(format!(".s.PGSQL.{PORT}"));
        if socket.as_os_str().len() > SOCKET_BYTES_MAX {
            return Err(Error::PathTooLong { path: socket });
        }
        // The server's account passes through where root is the maker, and sees nothing.
        let mode = if owner.is_some() { 0o711 } else { 0o700 };
        fs::create_dir_all(place).map_err(Error::file("create", place))?;
        if owner.is_some() {
            fs::set_permissions(place, fs::Permissions::from_mode(mode))
                .map_err(Error::file("set the mode of", place))?;
        }
        match DirBuilder::new().mode(mode).create(&made.directory) {
            Err(source) if source.kind() == ErrorKind::AlreadyExists => {
                return Err(Error::Exists { name: name.to_owned() });
            }
            other => other.map_err(Error::file("create", &made.directory))?,
        }
        fs::set_permissions(&made.directory, fs::Permissions::from_mode(mode))
            .map_err(Error::file("set the mode of", &made.directory))?;
        for inside in [made.mount(), made.wal(), made.layer(), made.sockets(), made.run(), made.full()] {
            DirBuilder::new().mode(0o700).create(&inside).map_err(Error::file("create", &inside))?;
            if let Some(owner) = owner {
                std::os::unix::fs::chown(&inside, Some(owner.uid), Some(owner.gid))
                    .map_err(Error::file("give away", &inside))?;
            }
        }
        Ok(made)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the file system is mounted, in the keeper's namespace only.
    pub(crate) fn mount(&self) -> PathBuf {
        self.directory.join("mount")
    }

    /// Where a full sandbox is restored.
    pub(crate) fn full(&self) -> PathBuf {
        self.directory.join("full")
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.directory.join("wal")
    }

    pub(crate) fn layer(&self) -> PathBuf {
        self.directory.join("layer")
    }

    /// Directory of the server's socket; the name is short because the path has to be.
    pub(crate) fn sockets(&self) -> PathBuf {
        self.directory.join("s")
    }

    /// Logs, the desk's socket, and configuration.
    pub(crate) fn run(&self) -> PathBuf {
        self.directory.join("run")
    }

    pub(crate) fn desk(&self) -> PathBuf {
        self.run().join("desk")
    }

    pub(crate) fn server_log(&self) -> PathBuf {
        self.run().join("server.log")
    }

    /// What the keeper and its processes say when something is wrong.
    pub(crate) fn keeper_log(&self) -> PathBuf {
        self.directory.join("keeper.log")
    }

    fn state_file(&self) -> PathBuf {
        self.directory.join("state.json")
    }

    fn spec_file(&self) -> PathBuf {
        self.directory.join("spec.json")
    }

    fn lock_file(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// Takes the lock for as long as the file lives.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.lock_file();
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        file.try_lock().map_err(std::io::Error::from).map_err(Error::file("lock", &path))?;
        Ok(file)
    }

    /// Whether the keeper lives. One that has not taken its lock yet counts as gone.
    pub(crate) fn keeper(&self) -> Keeper {
        match File::open(self.lock_file()).map(|file| file.try_lock_shared()) {
            Ok(Err(_)) => Keeper::Lives,
            _ => Keeper::Gone,
        }
    }

    pub(crate) fn read_record(&self) -> Result<Record> {
        read_json(&self.state_file())
    }

    pub(crate) fn write_record(&self, record: &Record) -> Result<()> {
        write_json(&self.state_file(), record)
    }

    pub(crate) fn read_spec<T: DeserializeOwned>(&self) -> Result<T> {
        read_json(&self.spec_file())
    }

    /// For the server's account too: its processes read what they are to do.
    pub(crate) fn write_spec<T: Serialize>(&self, spec: &T) -> Result<()> {
        write_json(&self.spec_file(), spec)
    }

    /// Removes everything. What cannot be removed is told.
    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(Error::file("remove", &self.directory)(source))
            }
            _ => Ok(()),
        }
    }
}

/// The names of all sandboxes below a place.
pub(crate) fn names(place: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(place) {
        Ok(entries) => entries,
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::file("read", place)(source)),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("state.json").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

fn check_name(name: &str) -> Result<()> {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    match first && rest && name.len() <= NAME_CHARS_MAX {
        true => Ok(()),
        false => Err(Error::Name { name: name.to_owned() }),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).map_err(Error::file("read", path))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::file("understand", path)(error.into()))
}

/// Replaces the file in one step.
fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let new = path.with_extension("new");
    let text = serde_json::to_vec_pretty(value).map_err(|error| Error::file("write", path)(error.into()))?;
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o644)
        .open(&new)
        .map_err(Error::file("create", &new))?;
    file.write_all(&text).map_err(Error::file("write", &new))?;
    fs::rename(&new, path).map_err(Error::file("replace", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_plain_word() {
        for good in ["a", "drill-2026_11", "B7"] {
            check_name(good).unwrap();
        }
        for bad in ["", "7a", "../a", "a b", "a/b", &"a".repeat(41)] {
            assert_eq!(check_name(bad).unwrap_err().code(), "sandbox-name", "{bad}");
        }
    }

    #[test]
    fn the_lock_tells_whether_a_keeper_lives() {
        let ground = tempfile::tempdir().unwrap();
        let place = Place::create(ground.path(), "one", None).unwrap();
        assert_eq!(place.keeper(), Keeper::Gone);
        let held = place.lock().unwrap();
        assert_eq!(place.keeper(), Keeper::Lives);
        drop(held);
        assert_eq!(place.keeper(), Keeper::Gone);
        assert_eq!(Place::create(ground.path(), "one", None).unwrap_err().code(), "sandbox-exists");
    }
}

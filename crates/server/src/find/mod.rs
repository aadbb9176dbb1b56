//! The instances of this host: where they are, whether they run, and how to reach them, without connecting.
//!
//! Running servers are found in `/proc`, stopped ones where Debian registers them and where `PGDATA` points. What a
//! server would do is read from the files that it would read: its command line (also the last one, in `postmaster.opts`),
//! `postgresql.conf` wherever that is, `postgresql.auto.conf`, `postmaster.pid` and the control file.

mod clients;
mod conf;
mod debian;
mod process;
mod programs;

use crate::{ConnectOptions, Control, Owner, ServerError};
pub use clients::{Clients, clients};
pub use conf::Configuration;
pub use debian::DebianCluster;
use pgproof_pg::{ClusterState, ControlFile, MajorVersion};
use process::CommandLine;
pub use process::remove_lock_of_the_dead;
pub(crate) use process::{PidFile, is_alive, serves};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

/// Whether a server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// A postmaster runs.
    Running {
        /// Its process.
        pid: u32,
        /// Whether it accepts connections (`ready` or `standby` in `postmaster.pid`); else it starts, stops or recovers.
        ready: bool,
    },
    /// None runs.
    Stopped {
        /// Whether it was shut down, so that its files are consistent; else it crashed or was killed.
        clean: bool,
    },
}

/// One server with its data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// Absolute path of the data directory, without symbolic links.
    pub data_directory: PathBuf,
    /// Major version of the files in it.
    pub version: MajorVersion,
    /// Whom it belongs to.
    pub owner: Owner,
    /// Whether it runs.
    #[serde(flatten)]
    pub state: State,
    /// Port it listens on, or would.
    pub port: u16,
    /// First directory of its sockets; `None` when it listens on TCP only.
    pub socket_directory: Option<PathBuf>,
    /// Directory of the programs that serve it, if they are on this host.
    pub programs: Option<PathBuf>,
    /// Its `postgresql.conf`.
    pub config_file: PathBuf,
    /// Its `pg_hba.conf`.
    pub hba_file: PathBuf,
    /// Its `pg_ident.conf`.
    pub ident_file: PathBuf,
    /// Every configuration file that lies outside the data directory, so that a copy of that does not hold it.
    pub files_outside: BTreeSet<PathBuf>,
    /// Under which name Debian's tools know it.
    pub debian: Option<DebianCluster>,
}

impl Instance {
    /// How to reach it: through its socket where it has one.
    #[must_use]
    pub fn connect_options(&self) -> ConnectOptions {
        let host = self.socket_directory.as_ref().map(|directory| directory.display().to_string());
        ConnectOptions {
            host: Some(host.unwrap_or_else(|| "localhost".to_owned())),
            port: Some(self.port),
            ..ConnectOptions::default()
        }
    }

    /// What starts and stops it.
    ///
    /// # Errors
    /// [`ServerError::Programs`] when its programs are not on this host.
    pub fn control(&self) -> Result<Control, ServerError> {
        Control::of(self)
    }
}

/// What a search found, and what it could not look at.
#[derive(Debug, Default)]
pub struct Found {
    /// Instances, running ones first, then by data directory.
    pub instances: Vec<Instance>,
    /// Directories that look like an instance but could not be read.
    pub problems: Vec<ServerError>,
}

/// Finds the instances of this host.
#[must_use]
pub fn find_all() -> Found {
    let mut directories: BTreeSet<PathBuf> = process::data_directories().into_iter().collect();
    directories.extend(debian::data_directories());
    directories.extend(env::var_os("PGDATA").map(PathBuf::from).filter(|path| path.exists()));
    let mut found = Found::default();
    let mut seen = BTreeSet::new();
    for directory in directories {
        match at(&directory) {
            Ok(instance) if seen.insert(instance.data_directory.clone()) => found.instances.push(instance),
            Ok(_) => {}
            Err(problem) => found.problems.push(problem),
        }
    }
    found.instances.sort_by_key(|instance| {
        (matches!(instance.state, State::Stopped { .. }), instance.data_directory.clone())
    });
    found
}

/// The directory of the server programs of a version, for a data directory that nothing is known of yet.
#[must_use]
pub fn programs_of(version: MajorVersion) -> Option<PathBuf> {
    programs::find(version, None, &CommandLine::default())
}

/// Looks at the instance in a data directory, running or not.
///
/// # Errors
/// [`ServerError::NotADataDirectory`], [`ServerError::Version`], and [`ServerError::Host`] for what cannot be read.
pub fn at(directory: &Path) -> Result<Instance, ServerError> {
    let data = fs::canonicalize(directory).map_err(ServerError::host("find", directory))?;
    let version = version(&data)?;
    let owner = Owner::of(&data)?;
    let pid_file = PidFile::read(&data)?;
    let running = pid_file.as_ref().filter(|file| serves(file.pid, &data));
    let debian = debian::cluster_of(&data);
    let command_line = match running {
        Some(file) => CommandLine::of(file.pid),
        None => CommandLine::last(&data)?,
    };
    let config_file = command_line
        .setting("config_file")
        .map(PathBuf::from)
        .or_else(|| debian.as_ref().map(DebianCluster::config_file))
        .unwrap_or_else(|| data.join("postgresql.conf"));
    let configuration =
        Configuration::read(&config_file)?.and_if_exists(&data.join("postgresql.auto.conf"))?;
    let setting = |name: &str| command_line.setting(name).or_else(|| configuration.get(name));
    let file_of = |name: &str, default: &str| {
        let folder = config_file.parent().unwrap_or(&data);
        // A relative path counts from the data directory; the default lies beside postgresql.conf.
        setting(name).map_or_else(|| folder.join(default), |path| data.join(path))
    };
    let (hba_file, ident_file) = (file_of("hba_file", "pg_hba.conf"), file_of("ident_file", "pg_ident.conf"));
    let port = running.and_then(|file| file.port).or_else(|| setting("port")?.parse().ok());
    let socket_directory = match running {
        Some(file) => file.socket_directory.clone(),
        None => first_socket_directory(setting("unix_socket_directories"), debian.is_some()),
    };
    let mut files: BTreeSet<PathBuf> = configuration.files;
    files.extend([hba_file.clone(), ident_file.clone()]);
    files.extend(debian.iter().flat_map(DebianCluster::files));
    Ok(Instance {
        version,
        owner,
        state: state(&data, running)?,
        port: port.unwrap_or(5432),
        socket_directory,
        programs: programs::find(version, running.map(|file| file.pid), &command_line),
        files_outside: files.into_iter().filter(|file| file.is_file() && is_outside(file, &data)).collect(),
        config_file,
        hba_file,
        ident_file,
        debian,
        data_directory: data,
    })
}

fn version(data: &Path) -> Result<MajorVersion, ServerError> {
    let file = data.join("PG_VERSION");
    let content = match fs::read(&file) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let why = "it has no file PG_VERSION".to_owned();
            return Err(ServerError::NotADataDirectory { path: data.to_owned(), why });
        }
        Err(error) => return Err(ServerError::host("read", file)(error)),
    };
    MajorVersion::from_pg_version_file(&content).map_err(|_| ServerError::Version {
        place: data.display().to_string(),
        version: String::from_utf8_lossy(&content).trim().to_owned(),
    })
}

fn state(data: &Path, running: Option<&PidFile>) -> Result<State, ServerError> {
    match running {
        Some(file) => Ok(State::Running { pid: file.pid, ready: file.is_ready() }),
        None => Ok(State::Stopped { clean: was_shut_down(data)? }),
    }
}

/// Whether the control file says that the server was shut down.
pub(crate) fn was_shut_down(data: &Path) -> Result<bool, ServerError> {
    let state = control_file(data)?.state;
    Ok(matches!(state, ClusterState::ShutDown | ClusterState::ShutDownInRecovery))
}

/// Reads the control file of a data directory.
///
/// # Errors
/// [`ServerError::Host`] when it cannot be read, [`ServerError::NotADataDirectory`] when it is none.
pub fn control_file(data: &Path) -> Result<ControlFile, ServerError> {
    let path = data.join("global/pg_control");
    let content = fs::read(&path).map_err(ServerError::host("read", &path))?;
    ControlFile::parse(&content)
        .map_err(|error| ServerError::NotADataDirectory { path: data.to_owned(), why: error.to_string() })
}

/// `unix_socket_directories` is a list; an empty one means TCP only. Debian's build changed the default.
fn first_socket_directory(setting: Option<&str>, debian: bool) -> Option<PathBuf> {
    let default =
        if debian || Path::new("/etc/debian_version").exists() { "/var/run/postgresql" } else { "/tmp" };
    let first = setting.unwrap_or(default).split(',').next().unwrap_or_default();
    let first = first.trim().trim_matches('"');
    (!first.is_empty()).then(|| PathBuf::from(first))
}

fn is_outside(file: &Path, data: &Path) -> bool {
    let real = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    !real.starts_with(data)
}

#[cfg(test)]
mod tests;

//! Which instance of this host is meant, and where its parts are, also when it cannot start or its files are broken.

use super::{Looked, Target};
use pgproof_server::find::{self, Instance};
use pgproof_server::{Owner, Reached, ServerError, State};
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// An account of the operating system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its number.
    pub uid: u32,
    /// Its name, or its number again.
    pub name: String,
}

impl Account {
    /// Of an owner.
    #[must_use]
    pub fn of(owner: Owner) -> Self {
        Self { uid: owner.uid, name: owner.to_string() }
    }
}

/// One instance of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its data directory.
    pub data_directory: PathBuf,
    /// Whom that belongs to.
    pub owner: Account,
    /// Group of the owner.
    pub gid: u32,
    /// Major version of its files.
    pub version: Option<u32>,
    /// The running postmaster.
    pub postmaster: Option<u32>,
    /// Whether it has come up, as `postmaster.pid` says.
    pub ready: bool,
    /// Port it listens on, or would.
    pub port: u16,
    /// First directory of its sockets.
    pub socket_directory: Option<PathBuf>,
    /// Directory of its programs.
    pub programs: Option<PathBuf>,
    /// Its `postgresql.conf`.
    pub config_file: PathBuf,
    /// Its `pg_hba.conf`.
    pub hba_file: PathBuf,
    /// Its `pg_ident.conf`.
    pub ident_file: PathBuf,
    /// Version and name under which Debian's tools know it.
    pub debian: Option<(String, String)>,
    /// Its system identifier.
    pub system: Option<String>,
    /// Its timeline, as the control file has it.
    pub timeline: Option<u32>,
    /// Whether it is to be a standby (`standby.signal`).
    pub standby: bool,
    /// Bytes of address space that its processes may have; none for no limit.
    pub address_space: Option<u64>,
    /// To how much its owner may raise that (`unlimited`, or bytes).
    pub address_space_max: Option<String>,
    /// How many files each of its processes may open, soft and hard.
    pub open_files: Option<(String, String)>,
    /// What kept its files from being read as usual.
    pub trouble: Option<String>,
}

impl Place {
    pub(super) fn owner(&self) -> Owner {
        Owner { uid: self.owner.uid, gid: self.gid }
    }

    fn of(instance: Instance) -> Self {
        let (postmaster, ready) = match instance.state {
            State::Running { pid, ready } => (Some(pid), ready),
            State::Stopped { .. } => (None, false),
        };
        let limits = postmaster.and_then(|pid| limit_of(pid, "Max address space"));
        Self {
            owner: Account::of(instance.owner),
            gid: instance.owner.gid,
            version: Some(instance.version.number()),
            postmaster,
            ready,
            port: instance.port,
            socket_directory: instance.socket_directory,
            programs: instance.programs,
            config_file: instance.config_file,
            hba_file: instance.hba_file,
            ident_file: instance.ident_file,
            debian: instance.debian.map(|cluster| (cluster.version, cluster.name)),
            data_directory: instance.data_directory,
            system: None,
            timeline: None,
            standby: false,
            address_space: limits.as_ref().and_then(|(soft, _)| soft.parse().ok()),
            address_space_max: limits.map(|(_, hard)| hard),
            open_files: postmaster.and_then(|pid| limit_of(pid, "Max open files")),
            trouble: None,
        }
        .identified()
    }

    /// With what the control file tells.
    fn identified(mut self) -> Self {
        let control = find::control_file(&self.data_directory).ok();
        self.system = control.as_ref().map(|control| control.system_identifier.to_string());
        self.timeline = control.map(|control| control.timeline.0);
        self.standby = self.data_directory.join("standby.signal").exists();
        self
    }

    /// Of a directory whose files cannot be read as usual: with PostgreSQL's defaults.
    fn broken(directory: &Path, error: &ServerError) -> Result<Self, String> {
        let data = fs::canonicalize(directory).map_err(|_| said(error))?;
        let metadata = fs::metadata(&data).map_err(|_| said(error))?;
        let owner = Owner { uid: metadata.uid(), gid: metadata.gid() };
        let version = fs::read_to_string(data.join("PG_VERSION")).ok();
        let version: Option<u32> = version.and_then(|text| text.trim().parse().ok());
        let programs = version.map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
        Ok(Self {
            owner: Account::of(owner),
            gid: owner.gid,
            version,
            postmaster: None,
            ready: false,
            port: 5432,
            socket_directory: None,
            programs: last_programs(&data).or(programs.filter(|folder| folder.is_dir())),
            config_file: data.join("postgresql.conf"),
            hba_file: data.join("pg_hba.conf"),
            ident_file: data.join("pg_ident.conf"),
            debian: None,
            data_directory: data,
            system: None,
            timeline: None,
            standby: false,
            address_space: None,
            address_space_max: None,
            open_files: None,
            trouble: Some(said(error)),
        }
        .identified())
    }
}

/// A limit of a process, soft and hard (`/proc/PID/limits`).
fn limit_of(pid: u32, name: &str) -> Option<(String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = line.split_whitespace().map(str::to_owned);
    Some((words.next()?, words.next()?))
}

/// An error with its causes.
pub(super) fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

/// Where the programs lie that served this directory last (`postmaster.opts`).
fn last_programs(data: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(data.join("postmaster.opts")).ok()?;
    let program = PathBuf::from(text.lines().next()?.split(" \"").next()?);
    let folder = program.parent()?.to_owned();
    folder.join("pg_ctl").exists().then_some(folder)
}

type Placed = (Looked<Place>, Vec<Place>);

/// Finds the instance: the named data directory, else the one of this host that the parameters lead to, else the only one.
pub(super) fn find(target: &Target, reached: Option<&Reached>, local: bool) -> Result<Placed, String> {
    if !local && target.pgdata.is_none() {
        return Ok((Looked::NotLooked, Vec::new()));
    }
    let mut found: Vec<Place> = find::find_all().instances.into_iter().map(Place::of).collect();
    if let Some(directory) = &target.pgdata {
        let place = match find::at(directory) {
            Ok(instance) => Ok(Place::of(instance)),
            Err(error) => Place::broken(directory, &error),
        };
        if let Ok(place) = &place {
            found.retain(|other| other.data_directory != place.data_directory);
        }
        return Ok((place.into(), found));
    }
    let meant = reached.and_then(|reached| found.iter().position(|place| leads_to(reached, place)));
    let at = match (meant, found.len()) {
        (Some(at), _) => Some(at),
        (None, 1) => Some(0),
        _ => None,
    };
    Ok(match at {
        Some(at) => (Looked::Seen(found.remove(at)), found),
        None => (Looked::NotLooked, found),
    })
}

fn leads_to(reached: &Reached, place: &Place) -> bool {
    let socket = place.socket_directory.as_deref();
    let fits = !reached.is_socket() || socket == Some(Path::new(&reached.host));
    reached.port == place.port && fits
}

/// Whether a text is an address of the loopback.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

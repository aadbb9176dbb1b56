//! Observes the places that a restore would write to: what is there, whose it is, how much room is left.
//!
//! Reads only. What follows from it is decided in `plan.rs`.

use crate::error::{RestoreError, Result};
use crate::places::TABLESPACES;
use pgproof_pg::SystemIdentifier;
use pgproof_server::Owner;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occupancy {
    /// Nothing.
    Absent,
    /// An empty directory.
    Empty,
    /// A directory with something in it.
    Occupied,
    /// Something else than a directory.
    NotADirectory,
}

/// Free room of the file system that holds a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Room {
    /// Tells file systems apart.
    pub device: u64,
    /// Bytes available to this user.
    pub available: u64,
}

/// What is known of one place before anything is written to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlaceFacts {
    /// The place.
    pub path: PathBuf,
    /// What is there.
    pub occupancy: Occupancy,
    /// Owner of the place, or of the directory it would be made in.
    pub owner: Owner,
    /// Room on its file system.
    pub room: Room,
}

/// What is known of the data directory to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DirectoryFacts {
    /// The place itself.
    pub place: PlaceFacts,
    /// The cluster that a `global/pg_control` there belongs to.
    pub system: Option<SystemIdentifier>,
    /// Whether there is a `PG_VERSION`.
    pub has_version: bool,
    /// The postmaster that runs on it.
    pub running: Option<i32>,
    /// Links in `pg_tblspc`, by oid.
    pub tablespaces: BTreeMap<u32, PathBuf>,
    /// Where `pg_wal` leads, if it is a link.
    pub wal_link: Option<PathBuf>,
}

/// Looks at a data directory to be.
///
/// # Errors
/// [`RestoreError::File`] when something that is there cannot be read.
pub fn observe_directory(path: &Path) -> Result<DirectoryFacts> {
    let place = observe_place(path)?;
    if place.occupancy != Occupancy::Occupied {
        return Ok(DirectoryFacts {
            place,
            system: None,
            has_version: false,
            running: None,
            tablespaces: BTreeMap::new(),
            wal_link: None,
        });
    }
    Ok(DirectoryFacts {
        place,
        system: system_of(path)?,
        has_version: path.join("PG_VERSION").is_file(),
        running: running(path)?,
        tablespaces: tablespace_links(path)?,
        wal_link: fs::read_link(path.join("pg_wal")).ok(),
    })
}

/// Looks at one place.
///
/// # Errors
/// [`RestoreError::File`] when it cannot be read.
pub fn observe_place(path: &Path) -> Result<PlaceFacts> {
    let occupancy = occupancy(path)?;
    let existing = nearest_existing(path)?;
    let metadata = fs::metadata(&existing).map_err(RestoreError::file("look at", &existing))?;
    let system = rustix::fs::statvfs(&existing)
        .map_err(|errno| RestoreError::file("ask for the free space of", &existing)(errno.into()))?;
    Ok(PlaceFacts {
        path: path.to_owned(),
        occupancy,
        owner: Owner { uid: metadata.uid(), gid: metadata.gid() },
        room: Room { device: metadata.dev(), available: system.f_bavail.saturating_mul(system.f_frsize) },
    })
}

fn occupancy(path: &Path) -> Result<Occupancy> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(match entries.next() {
            None => Occupancy::Empty,
            Some(_) => Occupancy::Occupied,
        }),
        Err(source) if source.kind() == ErrorKind::NotFound => Ok(match fs::symlink_metadata(path) {
            // A link that leads nowhere is not a place to create a directory at.
            Ok(_) => Occupancy::NotADirectory,
            Err(_) => Occupancy::Absent,
        }),
        Err(source) if source.kind() == ErrorKind::NotADirectory => Ok(Occupancy::NotADirectory),
        Err(source) => Err(RestoreError::file("read", path)(source)),
    }
}

fn nearest_existing(path: &Path) -> Result<PathBuf> {
    for ancestor in path.ancestors() {
        match fs::metadata(ancestor) {
            Ok(_) => return Ok(ancestor.to_owned()),
            Err(source) if source.kind() == ErrorKind::NotFound => {}
            Err(source) if source.kind() == ErrorKind::NotADirectory => {}
            Err(source) => return Err(RestoreError::file("look at", ancestor)(source)),
        }
    }
    Ok(PathBuf::from("/"))
}

/// The system identifier is the first field of `pg_control` in every version (`src/include/catalog/pg_control.h`). The rest is not
/// looked at: an interrupted restore leaves a control file that PostgreSQL would refuse, and it is still the cluster's own.
fn system_of(directory: &Path) -> Result<Option<SystemIdentifier>> {
    let path = directory.join("global/pg_control");
    let mut file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(source) if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(RestoreError::file("open", &path)(source)),
    };
    let mut bytes = [0; 8];
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(SystemIdentifier(u64::from_ne_bytes(bytes)))),
        Err(source) if source.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(source) => Err(RestoreError::file("read", &path)(source)),
    }
}

/// The postmaster that runs on the directory.
///
/// `postmaster.pid` outlives a crash, and its number may belong to somebody else by now. The postmaster's working directory is the
/// data directory (`ChangeToDataDir`); where that cannot be read, the process is taken for the postmaster, to be safe.
fn running(directory: &Path) -> Result<Option<i32>> {
    let path = directory.join("postmaster.pid");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RestoreError::file("read", &path)(source)),
    };
    // A standalone backend writes its number negated (`CreateLockFile` in src/backend/utils/init/miscinit.c).
    let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) else {
        return Ok(None);
    };
    let pid = pid.saturating_abs();
    let process = PathBuf::from(format!("/proc/{pid}"));
    if pid == 0 || !process.exists() {
        return Ok(None);
    }
    match fs::metadata(process.join("cwd")) {
        Ok(there) => {
            let here = fs::metadata(directory).map_err(RestoreError::file("look at", directory))?;
            let same = (there.dev(), there.ino()) == (here.dev(), here.ino());
            Ok(same.then_some(pid))
        }
        Err(source) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(_) => Ok(Some(pid)),
    }
}

fn tablespace_links(directory: &Path) -> Result<BTreeMap<u32, PathBuf>> {
    let path = directory.join(TABLESPACES);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(RestoreError::file("read", &path)(source)),
    };
    let mut links = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(RestoreError::file("read", &path))?;
        let oid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let (Some(oid), Ok(target)) = (oid, fs::read_link(entry.path())) {
            links.insert(oid, target);
        }
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn absent_empty_and_occupied_places_are_told_apart() {
        let dir = scratch();
        let at = |name: &str| observe_place(&dir.path().join(name)).unwrap().occupancy;
        fs::create_dir(dir.path().join("empty")).unwrap();
        fs::write(dir.path().join("file"), b"x").unwrap();
        symlink("/nowhere/at/all", dir.path().join("dangling")).unwrap();
        assert_eq!(at("absent/below"), Occupancy::Absent);
        assert_eq!(at("empty"), Occupancy::Empty);
        assert_eq!(at("."), Occupancy::Occupied);
        assert_eq!(at("file"), Occupancy::NotADirectory);
        assert_eq!(at("dangling"), Occupancy::NotADirectory);
        assert!(observe_place(&dir.path().join("absent/below")).unwrap().room.available > 0);
    }

    #[test]
    fn a_stale_pid_file_is_not_a_running_server() {
        let dir = scratch();
        let write = |pid: i64| fs::write(dir.path().join("postmaster.pid"), format!("{pid}\n/x\n")).unwrap();
        // Nothing has this number, then a process with another working directory.
        write(i64::from(i32::MAX));
        assert_eq!(running(dir.path()).unwrap(), None);
        write(i64::from(std::process::id()));
        assert_eq!(running(dir.path()).unwrap(), None);
        let here = std::env::current_dir().unwrap();
        let mut child =
            std::process::Command::new("sleep").arg("60").current_dir(dir.path()).spawn().unwrap();
        write(i64::from(child.id()));
        assert_eq!(running(dir.path()).unwrap(), Some(child.id() as i32));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(std::env::current_dir().unwrap(), here);
    }

    #[test]
    fn data_directories_tell_their_cluster_and_links() {
        let dir = scratch();
        fs::create_dir_all(dir.path().join("global")).unwrap();
        fs::create_dir_all(dir.path().join("pg_tblspc")).unwrap();
        fs::write(dir.path().join("global/pg_control"), 77u64.to_ne_bytes()).unwrap();
        fs::write(dir.path().join("PG_VERSION"), "15\n").unwrap();
        symlink("/fast", dir.path().join("pg_tblspc/16384")).unwrap();
        symlink("/wal", dir.path().join("pg_wal")).unwrap();
        let facts = observe_directory(dir.path()).unwrap();
        assert_eq!(facts.system, Some(SystemIdentifier(77)));
        assert!(facts.has_version);
        assert_eq!(facts.tablespaces, BTreeMap::from([(16384, PathBuf::from("/fast"))]));
        assert_eq!(facts.wal_link, Some(PathBuf::from("/wal")));
    }
}

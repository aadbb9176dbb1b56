//! Observes what a backup would bring to the places chosen, and what is there already.
//!
//! One walk over the manifest and, for a delta, one over the directories; nothing is compared by content here, so this takes
//! seconds where the restore takes hours. What follows is decided in `plan.rs`.

use crate::databases::{Databases, Selection, Treatment};
use crate::dispositions::{Disposition, below, disposition, is_left_alone};
use crate::error::{Refusal, RestoreError, Result};
use crate::places::{Ancestry, Places, TABLESPACES};
use crate::twophase::{StartingXid, StateFile};
use pgproof_repo::{FileKind, Manifest, PAGE_BYTES};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A socket, a pipe or a device.
    Other,
}

/// What a backup brings to one root directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RootNeed {
    /// Bytes that its files take on disk.
    pub bytes: u64,
    /// Bytes that are there already in files of the same names.
    pub present: u64,
}

/// An entry that is in a directory and not in the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// Where it lies.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Its bytes, for a file.
    pub bytes: u64,
}

/// What there is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// Files of the backup that are restored.
    pub files: u64,
    /// Their length in bytes, holes included.
    pub bytes: u64,
    /// What is left out, when not all databases are restored.
    pub databases: Option<Databases>,
    /// State files of prepared transactions that are not restored, because WAL prepares these again.
    pub left_to_wal: u64,
    /// State files that may be of that kind, and are restored.
    pub doubtful_state_files: u64,
    /// Which of the server's configuration files the backup has in the data directory.
    pub configuration: BTreeSet<String>,
    /// By root: `None` the data directory, else the tablespace.
    pub needs: BTreeMap<Option<u32>, RootNeed>,
    /// Delta: files that are there, of the same length or not, and will be compared.
    pub files_to_compare: u64,
    /// Delta: their bytes.
    pub bytes_to_compare: u64,
    /// Delta: what is there and goes.
    pub removals: Vec<Removal>,
    /// Delta: names of files in `pg_wal`, with whether their first page is what the name says.
    pub local_wal: Vec<LocalWal>,
}

/// A segment that lies in `pg_wal` of an existing data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocalWal {
    /// Its file name.
    pub name: String,
    /// The timeline and position that its first page claims.
    pub page: Option<(u32, u64)>,
}

/// Files in the data directory without which a server does not start as it did.
const CONFIGURATION: [&str; 4] = ["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"];

/// Looks at the backup and, when `log_directory` is given (a delta), at what is there.
///
/// # Errors
/// [`Refusal::HostilePath`] for a path that no restore may follow, [`RestoreError::Repository`], [`RestoreError::File`].
pub fn survey(
    manifest: &Manifest,
    places: &Places,
    selection: &Selection,
    starting: StartingXid,
    log_directory: Option<&str>,
) -> Result<Survey> {
    let mut survey = Survey::default();
    let mut left_out: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    let mut wanted: HashMap<Box<str>, (Kind, u64)> = HashMap::new();
    let mut ancestry = Ancestry::default();
    for entry in manifest.files() {
        let entry = entry.map_err(RestoreError::repository("read the manifest"))?;
        let path = entry.path.as_str();
        let disposition = disposition(path);
        if CONFIGURATION.contains(&path) {
            survey.configuration.insert(path.to_owned());
        }
        if disposition == Disposition::Skip || is_tablespace_link(path) {
            continue;
        }
        match starting.judge(path) {
            StateFile::LeftToWal => {
                survey.left_to_wal += 1;
                continue;
            }
            StateFile::Doubtful => survey.doubtful_state_files += 1,
            StateFile::None | StateFile::Placed => {}
        }
        let hostile =
            |why| Refusal::HostilePath { backup: manifest.summary().id, path: path.to_owned(), why };
        places.resolve(path).map_err(hostile)?;
        ancestry.check(path).map_err(hostile)?;
        let kind = match entry.kind {
            FileKind::File => Kind::File,
            FileKind::Directory => Kind::Directory,
            FileKind::Link { .. } => Kind::Link,
        };
        if kind == Kind::Link {
            ancestry.link(path);
        }
        let mut bytes = entry.map.mapped_pages() * PAGE_BYTES as u64;
        if kind == Kind::File
            && let Treatment::Hollow(database) = selection.treatment(path)
        {
            let counted = left_out.entry(database).or_default();
            *counted = (counted.0 + 1, counted.1 + entry.length);
            bytes = 0;
        } else if kind == Kind::File {
            survey.files += 1;
            survey.bytes += entry.length;
            survey.needs.entry(root_of(path)).or_default().bytes += bytes;
        }
        if log_directory.is_some() {
            wanted.insert(path.into(), (kind, bytes));
        }
    }
    survey.databases = selection.describe(&left_out);
    if let Some(log_directory) = log_directory {
        let mut walk = Walk { survey: &mut survey, wanted: &wanted, places, log_directory };
        walk.data_directory(places.data())?;
        for (oid, root) in places.tablespaces() {
            walk.tablespace(*oid, root)?;
        }
    }
    Ok(survey)
}

/// The tablespace in which a path of a manifest lies.
pub fn root_of(path: &str) -> Option<u32> {
    let rest = path.strip_prefix(TABLESPACES)?.strip_prefix('/')?;
    rest.split('/').next()?.parse().ok()
}

/// `pg_tblspc/<oid>` itself: a restore makes these links by its own mapping.
pub fn is_tablespace_link(path: &str) -> bool {
    below(path, TABLESPACES) && path.matches('/').count() == 1
}

/// The walk over existing directories of a delta restore.
struct Walk<'a> {
    survey: &'a mut Survey,
    wanted: &'a HashMap<Box<str>, (Kind, u64)>,
    places: &'a Places,
    log_directory: &'a str,
}

impl Walk<'_> {
    fn data_directory(&mut self, root: &Path) -> Result<()> {
        self.directory(root, "", None)
    }

    /// Only directories that the backup has too: a tablespace may serve several major versions at once.
    fn tablespace(&mut self, oid: u32, root: &Path) -> Result<()> {
        let prefix = format!("{TABLESPACES}/{oid}");
        let versions: Vec<&str> = self
            .wanted
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix)?.strip_prefix('/'))
            .filter(|rest| !rest.contains('/'))
            .collect();
        for version in versions {
            let directory = root.join(version);
            if directory.is_dir() {
                self.directory(&directory, &format!("{prefix}/{version}"), Some(oid))?;
            }
        }
        Ok(())
    }

    /// `name` is what a manifest would call `path`.
    fn directory(&mut self, path: &Path, name: &str, root: Option<u32>) -> Result<()> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(source) if source.kind() == ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(RestoreError::file("read", path)(source)),
        };
        for entry in entries {
            let entry = entry.map_err(RestoreError::file("read", path))?;
            let below = entry.path();
            let Some(file_name) = entry.file_name().to_str().map(str::to_owned) else {
                // No backup has a name that is not text.
                self.remove(&below, &kind_of(&below)?);
                continue;
            };
            let name = if name.is_empty() { file_name } else { format!("{name}/{file_name}") };
            self.entry(&below, &name, root)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &str, root: Option<u32>) -> Result<()> {
        if root.is_none() && (is_left_alone(name, self.log_directory) || self.has_own_step(name)) {
            return Ok(());
        }
        if let Some(segment) = name.strip_prefix("pg_wal/").filter(|segment| segment.len() == 24) {
            let page = first_page(path);
            self.survey.local_wal.push(LocalWal { name: segment.to_owned(), page });
            return Ok(());
        }
        let found = kind_of(path)?;
        // WAL on a disk of its own stays there.
        let is_wal_link = name == "pg_wal" && found.0 == Kind::Link && path.is_dir();
        let wanted = self.wanted.get(name).copied();
        match wanted {
            Some((Kind::Directory, _)) if found.0 == Kind::Directory || is_wal_link => {
                self.directory(path, name, root)
            }
            Some((Kind::File, bytes)) if found.0 == Kind::File => {
                let need = self.survey.needs.entry(root).or_default();
                need.present += found.1.min(bytes);
                self.survey.files_to_compare += 1;
                self.survey.bytes_to_compare += found.1;
                Ok(())
            }
            Some((Kind::Link, _)) if found.0 == Kind::Link => Ok(()),
            _ if is_wal_link || is_required_directory(name, found.0) => self.directory(path, name, root),
            _ => {
                self.remove(path, &found);
                Ok(())
            }
        }
    }

    /// Written by steps of their own, which replace what is there: the control file, settings, links of tablespaces. The links stay until
    /// then, because a restore that is continued knows by them that the tablespaces are its own.
    fn has_own_step(&self, name: &str) -> bool {
        let link = is_tablespace_link(name)
            && root_of(name).is_some_and(|oid| self.places.tablespaces().contains_key(&oid));
        link || disposition(name) == Disposition::Special && name != crate::dispositions::EXTERNAL
    }

    fn remove(&mut self, path: &Path, found: &(Kind, u64)) {
        self.survey.removals.push(Removal { path: path.to_owned(), kind: found.0, bytes: found.1 });
    }
}

fn is_required_directory(name: &str, kind: Kind) -> bool {
    kind == Kind::Directory && crate::dispositions::REQUIRED_DIRECTORIES.contains(&name)
}

/// Kind and length of what is there, links not followed.
fn kind_of(path: &Path) -> Result<(Kind, u64)> {
    let metadata = fs::symlink_metadata(path).map_err(RestoreError::file("look at", path))?;
    Ok(match metadata.file_type() {
        kind if kind.is_file() => (Kind::File, metadata.len()),
        kind if kind.is_dir() => (Kind::Directory, 0),
        kind if kind.is_symlink() => (Kind::Link, metadata.size()),
        _ => (Kind::Other, 0),
    })
}

/// Timeline and position in the header of a segment's first page (`XLogPageHeaderData` in `src/include/access/xlog_internal.h`). A
/// segment that PostgreSQL keeps for later use still has those of its former life.
fn first_page(path: &Path) -> Option<(u32, u64)> {
    use std::io::Read;
    let mut header = [0; 16];
    fs::File::open(path).ok()?.read_exact(&mut header).ok()?;
    let timeline = u32::from_le_bytes(header[4..8].try_into().ok()?);
    let position = u64::from_le_bytes(header[8..16].try_into().ok()?);
    Some((timeline, position))
}

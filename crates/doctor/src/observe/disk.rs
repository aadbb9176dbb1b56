//! The file systems that the server writes to: space, inodes, whether they can be written, and what else lies on them.

use super::place::Place;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// What the server keeps there: `data`, `pg_wal`, `log`, `tablespace NAME`.
    pub roles: Vec<String>,
    /// One of these directories.
    pub path: PathBuf,
    /// Where it is mounted.
    pub mount: Option<PathBuf>,
    /// What kind of file system it is.
    pub kind: Option<String>,
    /// What is mounted.
    pub source: Option<String>,
    /// Bytes altogether.
    pub total: u64,
    /// Bytes that the server may still write.
    pub available: u64,
    /// Inodes altogether; 0 where the file system does not count them.
    pub inodes: u64,
    /// Inodes left.
    pub inodes_left: u64,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// The largest files at its root that are not PostgreSQL's.
    pub foreign: Vec<Foreign>,
}

/// A file that takes room beside the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// Where.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

impl Disk {
    /// How full it is, of what the server could ever have.
    #[must_use]
    pub fn used_percent(&self) -> f64 {
        percent(self.total, self.available)
    }

    /// The same for inodes.
    #[must_use]
    pub fn inodes_percent(&self) -> f64 {
        percent(self.inodes, self.inodes_left)
    }
}

fn percent(total: u64, left: u64) -> f64 {
    if total == 0 { 0.0 } else { 100.0 * (1.0 - left as f64 / total as f64) }
}

struct Mount {
    point: PathBuf,
    kind: String,
    source: String,
}

/// A file smaller than this is not what fills a disk.
const FOREIGN_MIN: u64 = 1 << 20;
const FOREIGN_MAX: usize = 5;
const ENTRIES_MAX: usize = 1000;

pub(super) fn observe(place: Place) -> Result<Vec<Disk>, String> {
    let data = place.data_directory.as_path();
    let mut paths = vec![("data".to_owned(), data.to_owned()), ("pg_wal".to_owned(), data.join("pg_wal"))];
    let values = super::settings::values(&place);
    if values.get("logging_collector").is_some_and(|value| super::directory::is_on(value)) {
        let folder = values.get("log_directory").map_or("log", String::as_str);
        paths.push(("log".to_owned(), data.join(folder)));
    }
    for entry in fs::read_dir(data.join("pg_tblspc")).into_iter().flatten().flatten().take(ENTRIES_MAX) {
        paths.push((format!("tablespace {}", entry.file_name().to_string_lossy()), entry.path()));
    }
    let mounts = mounts();
    let mut disks: BTreeMap<u64, Disk> = BTreeMap::new();
    for (role, path) in paths {
        let Ok(path) = fs::canonicalize(&path) else { continue };
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if let Some(known) = disks.get_mut(&metadata.dev()) {
            known.roles.push(role);
        } else if let Some(disk) = look(role, &path, &mounts) {
            disks.insert(metadata.dev(), disk);
        }
    }
    let mut found: Vec<Disk> = disks.into_values().collect();
    for disk in &mut found {
        disk.foreign = foreign(disk, &place);
    }
    Ok(found)
}

fn look(role: String, path: &Path, mounts: &[Mount]) -> Option<Disk> {
    let seen = rustix::fs::statvfs(path).ok()?;
    // The last one that holds it, as later mounts cover earlier ones.
    let mount = mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.as_os_str().len());
    Some(Disk {
        roles: vec![role],
        path: path.to_owned(),
        mount: mount.map(|mount| mount.point.clone()),
        kind: mount.map(|mount| mount.kind.clone()),
        source: mount.map(|mount| mount.source.clone()),
        // What only root may use is nothing to the server.
        total: (seen.f_blocks - seen.f_bfree + seen.f_bavail) * seen.f_frsize,
        available: seen.f_bavail * seen.f_frsize,
        inodes: seen.f_files,
        inodes_left: seen.f_favail,
        read_only: seen.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        foreign: Vec::new(),
    })
}

/// `/proc/self/mounts`, with the octal escapes of blanks.
fn mounts() -> Vec<Mount> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let unescape = |word: &str| word.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
    let mount = |line: &str| {
        let mut words = line.split(' ');
        let (source, point, kind) = (words.next()?, words.next()?, words.next()?);
        Some(Mount { point: unescape(point).into(), kind: kind.to_owned(), source: unescape(source) })
    };
    text.lines().filter_map(mount).collect()
}

/// Files at the root of a file system that has one of its own for the server; the system's root is everybody's.
fn foreign(disk: &Disk, place: &Place) -> Vec<Foreign> {
    let Some(root) = disk.mount.as_deref().filter(|mount| *mount != Path::new("/")) else {
        return Vec::new();
    };
    if place.data_directory == root || disk.path == root && disk.roles.iter().any(|role| role == "pg_wal") {
        return Vec::new();
    }
    let entries = fs::read_dir(root).into_iter().flatten().flatten().take(ENTRIES_MAX);
    let file = |entry: fs::DirEntry| {
        let metadata = entry.metadata().ok()?;
        let large = metadata.is_file() && metadata.blocks() * 512 >= FOREIGN_MIN;
        large.then(|| Foreign { path: entry.path(), bytes: metadata.len() })
    };
    let mut files: Vec<Foreign> = entries.filter_map(file).collect();
    files.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    files.truncate(FOREIGN_MAX);
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_counts_is_not_full() {
        assert!(percent(0, 0).abs() < f64::EPSILON);
        assert!((percent(200, 50) - 75.0).abs() < 0.01);
    }
}

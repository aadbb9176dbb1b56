//! Observes the data directory: which files there are, how long, of which relation.
//!
//! One pass over the directories and one `stat` a file; no file is opened. Entries that vanish meanwhile are passed over: a file
//! dropped after the backup's start is dropped again by replay. What a base backup never holds is left out here (see
//! `exclude.rs`), as are temporary relations and all but the init fork of unlogged ones.

use crate::error::BackupError;
use crate::exclude::{self, Verdict};
use pgproof_pg::{Fork, RelPath};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fs::{self, DirEntry};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::UNIX_EPOCH;

/// What kind of directory entry was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory; its entries follow by themselves.
    Directory,
    /// A symbolic link and its target, other than those in `pg_tblspc`.
    Link(String),
}

/// One entry of the data directory, or of a tablespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the data directory; tablespaces appear as `pg_tblspc/<oid>/PG_.../...`.
    pub path: String,
    /// File, directory or link.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// Modification time, seconds since 1970.
    pub modified: i64,
    /// Length in bytes; whole pages only for relations, as `smgrnblocks` counts them.
    pub length: u64,
    /// The relation that the file belongs to, if it is one's.
    pub relation: Option<RelPath>,
}

/// What the data directory holds.
#[derive(Debug, Default)]
pub struct Scan {
    /// Every entry, in byte order of the paths.
    pub entries: Vec<Entry>,
    /// Sockets, pipes and devices, which no backup can hold.
    pub skipped: Vec<String>,
}

/// Threads that look at the files of a directory: nearly all of it is the kernel's work on one `stat` a file, and the wait for a cold disk.
const THREADS: usize = 4;

/// So many files are looked at sooner than a thread is begun.
const FILES_A_THREAD: usize = 2_000;

/// Reads the whole tree below `pgdata` and its tablespaces.
pub fn scan(pgdata: &Path, version_directory: &str) -> Result<Scan, BackupError> {
    let mut scan = Scan::default();
    let mut pending = vec![String::new()];
    while let Some(directory) = pending.pop() {
        for found in read_directory(pgdata, &directory, version_directory)? {
            scan.entries.extend(found.scan.entries);
            scan.skipped.extend(found.scan.skipped);
            pending.extend(found.pending);
        }
    }
    // They come in sorted runs, which a stable sort merges.
    scan.entries.sort_by(by_path);
    leave_out_unlogged(&mut scan.entries);
    Ok(scan)
}

/// The order of manifests.
pub(crate) fn by_path(a: &Entry, b: &Entry) -> Ordering {
    a.path.cmp(&b.path)
}

/// What one thread found in a directory, in order of path, and the directories below it.
#[derive(Debug, Default)]
struct Found {
    scan: Scan,
    pending: Vec<String>,
}

fn read_directory(
    pgdata: &Path,
    directory: &str,
    version_directory: &str,
) -> Result<Vec<Found>, BackupError> {
    let absolute = pgdata.join(directory);
    let unreadable = |source| BackupError::Unreadable { path: absolute.clone(), source };
    let listing = match fs::read_dir(&absolute) {
        Ok(listing) => listing,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound && !directory.is_empty() => {
            return Ok(Vec::new());
        }
        Err(source) => return Err(unreadable(source)),
    };
    let items = listing.collect::<Result<Vec<DirEntry>, _>>().map_err(unreadable)?;
    let look = |items: &[DirEntry]| {
        let mut found = Found::default();
        for item in items {
            let name = item
                .file_name()
                .into_string()
                .map_err(|name| BackupError::NameNotText { directory: absolute.clone(), name })?;
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            read_entry(item, path, version_directory, &mut found)?;
        }
        found.scan.entries.sort_unstable_by(by_path);
        Ok(found)
    };
    let share = items.len().div_ceil(THREADS).max(FILES_A_THREAD);
    thread::scope(|scope| {
        let mut shares = items.chunks(share);
        let own = shares.next().unwrap_or_default();
        let others: Vec<_> = shares.map(|items| scope.spawn(move || look(items))).collect();
        let own = look(own);
        let others =
            others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        std::iter::once(own).chain(others).collect()
    })
}

fn read_entry(
    item: &DirEntry,
    path: String,
    version_directory: &str,
    found: &mut Found,
) -> Result<(), BackupError> {
    let verdict = exclude::judge(&path);
    if verdict == Verdict::Skip {
        return Ok(());
    }
    let absolute = &item.path();
    // By its name in the open directory: walking the whole path again for each file would take half as long again. Follows no link.
    let Some(mut metadata) = present(absolute, item.metadata())? else { return Ok(()) };
    // pg_wal, pg_stat_tmp and the like may be links to another disk: the copy holds a plain directory.
    if verdict == Verdict::EmptyDirectory && metadata.is_symlink() {
        let Some(target) = present(absolute, fs::metadata(absolute))? else { return Ok(()) };
        metadata = target;
    }
    if let Some(oid) = path.strip_prefix("pg_tblspc/").filter(|rest| !rest.contains('/')) {
        return read_tablespace(absolute, oid, version_directory, &metadata, found);
    }
    let kind = match metadata.file_type() {
        kind if kind.is_dir() => EntryKind::Directory,
        kind if kind.is_file() => EntryKind::File,
        kind if kind.is_symlink() => {
            let target = fs::read_link(absolute)
                .map_err(|source| BackupError::Unreadable { path: absolute.to_owned(), source })?;
            EntryKind::Link(target.to_string_lossy().into_owned())
        }
        kind => {
            debug_assert!(
                kind.is_socket() || kind.is_fifo() || kind.is_block_device() || kind.is_char_device()
            );
            found.scan.skipped.push(path);
            return Ok(());
        }
    };
    let relation = match kind {
        EntryKind::File => RelPath::parse(&path),
        _ => None,
    };
    if relation.as_ref().is_some_and(|relation| relation.temporary.is_some()) {
        return Ok(());
    }
    if kind == EntryKind::Directory && verdict == Verdict::Keep {
        found.pending.push(path.clone());
    }
    found.scan.entries.push(entry(path, kind, &metadata, relation));
    Ok(())
}

/// A tablespace is a link in `pg_tblspc`; only this major version's directory in it is ours.
fn read_tablespace(
    absolute: &Path,
    oid: &str,
    version_directory: &str,
    metadata: &fs::Metadata,
    found: &mut Found,
) -> Result<(), BackupError> {
    if oid.parse::<u32>().is_err() {
        return Ok(());
    }
    if !metadata.is_symlink() {
        return Err(BackupError::InPlaceTablespace { path: absolute.to_owned() });
    }
    let path = format!("pg_tblspc/{oid}/{version_directory}");
    let inside: PathBuf = absolute.join(version_directory);
    if let Some(metadata) = present(&inside, fs::metadata(&inside))? {
        found.scan.entries.push(entry(path.clone(), EntryKind::Directory, &metadata, None));
        found.pending.push(path);
    }
    Ok(())
}

fn entry(path: String, kind: EntryKind, metadata: &fs::Metadata, relation: Option<RelPath>) -> Entry {
    let length = match (&kind, &relation) {
        (EntryKind::File, Some(_)) => metadata.len() & !(pgproof_pg::relfile::BLOCK_SIZE as u64 - 1),
        (EntryKind::File, None) => metadata.len(),
        _ => 0,
    };
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    Entry { path, kind, mode: metadata.mode() & 0o7777, modified, length, relation }
}

fn present(path: &Path, result: std::io::Result<fs::Metadata>) -> Result<Option<fs::Metadata>, BackupError> {
    match result {
        Ok(metadata) => Ok(Some(metadata)),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BackupError::Unreadable { path: path.to_owned(), source }),
    }
}

/// An unlogged relation has an init fork; recovery empties its other forks, so they are not worth a read.
fn leave_out_unlogged(entries: &mut Vec<Entry>) {
    let unlogged: HashSet<_> = entries
        .iter()
        .filter_map(|entry| entry.relation.as_ref())
        .filter(|relation| relation.file.fork == Fork::Init)
        .map(|relation| relation.file.relation())
        .collect();
    if unlogged.is_empty() {
        return;
    }
    entries.retain(|entry| match &entry.relation {
        Some(relation) => relation.file.fork == Fork::Init || !unlogged.contains(&relation.file.relation()),
        None => true,
    });
}

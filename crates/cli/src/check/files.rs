//! Looks at a data directory as files: can all of it be read, where is its WAL, what waits for the archiver.

use super::observation::DirectoryFacts;
use super::observe::room;
use pgproof_server::Instance;
use pgproof_server::find::control_file;
use std::fs;
use std::path::{Path, PathBuf};

/// Unreadable files that are named; the rest is counted.
const NAMED_MAX: usize = 5;

pub(super) fn observe(instance: &Instance) -> anyhow::Result<DirectoryFacts> {
    let path = &instance.data_directory;
    let mut facts = DirectoryFacts {
        path: path.clone(),
        owner_uid: instance.owner.uid,
        owner: instance.owner.to_string(),
        version: instance.version.to_string(),
        system_identifier: control_file(path).ok().map(|control| control.system_identifier),
        files: 0,
        bytes: 0,
        unreadable: 0,
        unreadable_first: Vec::new(),
        in_place_tablespaces: Vec::new(),
        wal_room: room(&path.join("pg_wal")).ok(),
        ready: 0,
        ready_first: None,
        epoch: pgproof_repo::writer::read_epoch(path)?,
    };
    let mut roots = vec![path.clone()];
    for entry in fs::read_dir(path.join("pg_tblspc")).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_symlink() => roots.push(entry.path()),
            Ok(kind) if kind.is_dir() => {
                facts.in_place_tablespaces.push(entry.file_name().to_string_lossy().into_owned());
            }
            _ => {}
        }
    }
    for root in roots {
        walk(&root, &mut facts);
    }
    waiting(path, &mut facts);
    Ok(facts)
}

/// Tries every file. What vanishes meanwhile was no file to back up.
fn walk(root: &Path, facts: &mut DirectoryFacts) {
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) => {
                unreadable(&directory, &error, facts);
                continue;
            }
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                directories.push(entry.path());
            } else if metadata.is_file() {
                facts.files += 1;
                facts.bytes += metadata.len();
                if let Err(errno) = rustix::fs::access(entry.path(), rustix::fs::Access::READ_OK) {
                    unreadable(&entry.path(), &errno.into(), facts);
                }
            }
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error, facts: &mut DirectoryFacts) {
    if error.kind() == std::io::ErrorKind::NotFound {
        return;
    }
    facts.unreadable += 1;
    if facts.unreadable_first.len() < NAMED_MAX {
        let reason = error.kind().to_string();
        facts.unreadable_first.push((PathBuf::from(path), reason));
    }
}

/// Counts the archiver's queue.
fn waiting(path: &Path, facts: &mut DirectoryFacts) {
    for entry in fs::read_dir(path.join("pg_wal/archive_status")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(segment) = name.strip_suffix(".ready") {
            facts.ready += 1;
            if facts.ready_first.as_deref().is_none_or(|first| segment < first) {
                facts.ready_first = Some(segment.to_owned());
            }
        }
    }
}

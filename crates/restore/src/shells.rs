//! Looks at a server that has recovered with databases left out: which databases are shells now, and whether replay passed over
//! pages of any other.
//!
//! More can be shells than were left out: `CREATE DATABASE ... TEMPLATE` copies files, the guard among them, also in replay. And fewer: some
//! were dropped since the backup, or have another name. So the files are asked, and the server for names.

use crate::databases::{DatabaseName, GUARD, VERSION_FILE, drop_statement, invalid_page_in};
use crate::error::{RestoreError, Result};
use crate::plan::Plan;
use pgproof_server::{ConnectOptions, Session};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Lines of the log that are kept: the first ones tell enough.
const LINES_MAX: usize = 20;

/// A database that can only be dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shell {
    /// Which one, by the name it has now where the server tells it.
    #[serde(flatten)]
    pub database: DatabaseName,
    /// The SQL that removes it, where its name is known.
    pub drop: Option<String>,
}

/// What a recovery left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Aftermath {
    pub(crate) shells: Vec<Shell>,
    pub(crate) invalid_pages: Vec<String>,
}

/// When a server was started, and what its log held by then.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) time: SystemTime,
    /// What takes its standard error.
    pub(crate) log: PathBuf,
    pub(crate) log_bytes: u64,
}

/// Looks at the directory and the log of a server that recovered, and asks it for names.
///
/// # Errors
/// [`RestoreError::File`] when a directory or the log cannot be read: without it nobody knows what was passed over.
pub(crate) fn observe(plan: &Plan, connect: &ConnectOptions, start: &Start) -> Result<Aftermath> {
    if plan.databases.is_none() {
        return Ok(Aftermath::default());
    }
    let shells = guarded(plan)?;
    let mut invalid_pages = Vec::new();
    for (log, from) in logs(&plan.directory, start)? {
        read_log(&log, from, &shells, &mut invalid_pages)?;
    }
    let names = names(connect).unwrap_or_else(|| names_of_plan(plan));
    let shell = |oid: u32| {
        let name = names.get(&oid).cloned();
        Shell { drop: name.as_deref().map(drop_statement), database: DatabaseName { oid, name } }
    };
    Ok(Aftermath { shells: shells.into_iter().map(shell).collect(), invalid_pages })
}

/// Databases whose directory has the guard.
fn guarded(plan: &Plan) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    let mut parents = vec![plan.directory.join("base")];
    for tablespace in &plan.tablespaces {
        parents.extend(entries(&tablespace.directory)?.into_iter().filter(|path| path.is_dir()));
    }
    for parent in parents {
        for directory in entries(&parent)? {
            let oid: Option<u32> = directory.file_name().and_then(|name| name.to_str()?.parse().ok());
            let content = fs::read_to_string(directory.join(VERSION_FILE)).unwrap_or_default();
            found.extend(oid.filter(|_| content.trim_end() == GUARD));
        }
    }
    Ok(found)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = || RestoreError::file("read", directory);
    let entries = fs::read_dir(directory).map_err(failed())?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed())).collect()
}

/// The files that the server has written to since its start, each with where that begins: the one for its standard error, and those of
/// its collector, several if it rotates.
fn logs(data: &Path, start: &Start) -> Result<Vec<(PathBuf, u64)>> {
    let mut logs = vec![(start.log.clone(), start.log_bytes)];
    let current = fs::read_to_string(data.join("current_logfiles")).unwrap_or_default();
    let files = current.lines().filter_map(|line| Some(data.join(line.split_once(' ')?.1)));
    let directories: BTreeSet<PathBuf> = files.filter_map(|file| Some(file.parent()?.to_owned())).collect();
    for directory in directories {
        let is_recent = |path: &PathBuf| {
            path.metadata().and_then(|file| file.modified()).is_ok_and(|modified| modified >= start.time)
        };
        logs.extend(entries(&directory)?.into_iter().filter(is_recent).map(|path| (path, 0)));
    }
    logs.retain(|(log, _)| log.is_file());
    Ok(logs)
}

fn read_log(log: &Path, from: u64, shells: &BTreeSet<u32>, found: &mut Vec<String>) -> Result<()> {
    let failed = || RestoreError::file("read", log);
    let mut file = File::open(log).map_err(failed())?;
    file.seek(SeekFrom::Start(from)).map_err(failed())?;
    let mut reader = BufReader::new(file);
    let mut bytes = Vec::new();
    while found.len() < LINES_MAX && reader.read_until(b'\n', &mut bytes).map_err(failed())? > 0 {
        let line = String::from_utf8_lossy(&bytes);
        if invalid_page_in(&line).is_some_and(|database| !shells.contains(&database)) {
            found.push(line.trim().to_owned());
        }
        bytes.clear();
    }
    Ok(())
}

/// Names by number, as the server has them; nothing when it lets nobody in.
fn names(connect: &ConnectOptions) -> Option<BTreeMap<u32, String>> {
    let mut session = Session::open(connect).ok()?;
    let rows =
        session.query("list databases", "SELECT oid, datname::text FROM pg_catalog.pg_database", &[]).ok()?;
    Some(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn names_of_plan(plan: &Plan) -> BTreeMap<u32, String> {
    let left_out = plan.databases.iter().flat_map(|databases| &databases.left_out);
    left_out.filter_map(|left| Some((left.database.oid, left.database.name.clone()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_databases_that_are_no_shells_are_told() {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join("log")).unwrap();
        let line =
            |database: u32| format!("WARNING:  page 1 of relation base/{database}/2619 is uninitialized\n");
        let log = data.path().join("start.log");
        fs::write(&log, line(16_386) + &line(16_385)).unwrap();
        fs::write(data.path().join("log/a.log"), line(16_384)).unwrap();
        fs::write(data.path().join("current_logfiles"), "stderr log/b.log\n").unwrap();
        // What the first line tells is of an earlier run.
        let log_bytes = line(16_386).len() as u64;
        let start = Start { time: SystemTime::UNIX_EPOCH, log, log_bytes };
        let mut found = Vec::new();
        for (log, from) in logs(data.path(), &start).unwrap() {
            read_log(&log, from, &BTreeSet::from([16_385]), &mut found).unwrap();
        }
        assert_eq!(found, [line(16_384).trim()]);
    }
}

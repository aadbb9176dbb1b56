//! Every page of every relation file is as it was written: its checksum, or without checksums at least its header.
//!
//! The server has been stopped by then, so that every page is on disk and none is being written; replay and the checks before are in it.

use super::{Ground, Outcome};
use crate::error::DrillError;
use crate::recover::Recovered;
use pgproof_base::{Bytes, Finding, Remedy, Severity};
use pgproof_pg::RelPath;
use pgproof_pg::page::{PageVerdict, pages, verify, verify_without_checksum};
use pgproof_pg::relfile::BLOCK_SIZE;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Pages that are named; all are counted.
const NAMED_MAX: usize = 10;

/// Relations whose names are remembered: more than this would cost memory for what is rarely needed.
const NAMES_MAX: usize = 200_000;

/// Names of relations by the path of their first file.
pub(super) type Names = BTreeMap<String, String>;

/// What was read.
#[derive(Debug, Default)]
struct Seen {
    files: u64,
    pages: u64,
    damaged: Vec<Damaged>,
}

/// A page that is not as it was written.
#[derive(Debug)]
struct Damaged {
    file: String,
    block: u32,
    how: String,
}

/// Asks for names while the server still answers; a name that is missing is no matter.
pub(super) fn names(ground: &Ground<'_>) -> Names {
    const NAMES: &str = "SELECT pg_relation_filepath(oid), oid::regclass::text FROM pg_class \
        WHERE relkind IN ('r', 'i', 't', 'm', 'S') AND pg_relation_filepath(oid) IS NOT NULL";
    let mut names = Names::new();
    for database in &ground.databases {
        let Ok(mut session) = ground.recovered.open(&database.name) else { continue };
        let Ok(rows) = session.query("list files", NAMES, &[]) else { continue };
        for row in rows.iter().take(NAMES_MAX.saturating_sub(names.len())) {
            let name: String = row.get(1);
            names.insert(row.get(0), format!("{name} of database {}", database.name));
        }
    }
    names
}

pub(super) fn check(recovered: &Recovered, names: &Names, workers: usize) -> Result<Outcome, DrillError> {
    let data = recovered.scratch.data();
    let files = relation_files(&data)?;
    let checksums = recovered.summary.checksums;
    let seen = Mutex::new(Ok(Seen::default()));
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..workers.clamp(1, files.len().max(1)) {
            scope.spawn(|| {
                while let Some((path, relative)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let read = read(path, relative, checksums);
                    let Ok(mut all) = seen.lock() else { return };
                    match (all.as_mut(), read) {
                        (Ok(all), Ok(read)) => {
                            all.files += 1;
                            all.pages += read.pages;
                            all.damaged.extend(read.damaged);
                        }
                        (Ok(_), Err(error)) => *all = Err(error),
                        (Err(_), _) => return,
                    }
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)?;
    Ok(judge(&seen, names, checksums))
}

/// The relation files below a data directory, with their paths in it.
fn relation_files(data: &Path) -> Result<Vec<(PathBuf, String)>, DrillError> {
    let mut found = Vec::new();
    for folder in ["global", "base", "pg_tblspc"] {
        walk(&data.join(folder), folder, &mut found)?;
    }
    Ok(found)
}

fn walk(directory: &Path, relative: &str, found: &mut Vec<(PathBuf, String)>) -> Result<(), DrillError> {
    let entries = fs::read_dir(directory).map_err(DrillError::file("read", directory))?;
    for entry in entries {
        let path = entry.map_err(DrillError::file("read", directory))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let relative = format!("{relative}/{name}");
        // Links of tablespaces are followed.
        if path.is_dir() {
            walk(&path, &relative, found)?;
        } else if RelPath::parse(&relative).is_some_and(|file| file.temporary.is_none()) {
            found.push((path, relative));
        }
    }
    Ok(())
}

fn read(path: &Path, relative: &str, checksums: bool) -> Result<Seen, DrillError> {
    let failed = || DrillError::file("read", path);
    let mut seen = Seen::default();
    let mut block = RelPath::parse(relative).map_or(0, |file| file.first_block());
    let mut file = File::open(path).map_err(failed())?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = fill(&mut file, &mut chunk).map_err(failed())?;
        let whole = length - length % BLOCK_SIZE;
        for page in pages(&chunk[..whole]).unwrap_or_default() {
            let verdict = if checksums { verify(page, block) } else { verify_without_checksum(page) };
            seen.pages += 1;
            if !verdict.is_good() {
                seen.damaged.push(Damaged { file: relative.to_owned(), block, how: describe(verdict) });
            }
            block += 1;
        }
        if whole < length {
            let how = format!("it ends after {} bytes", length - whole);
            seen.damaged.push(Damaged { file: relative.to_owned(), block, how });
        }
        if length < CHUNK_BYTES {
            return Ok(seen);
        }
    }
}

/// Reads until the chunk is full or the file ends.
fn fill(file: &mut File, chunk: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < chunk.len() {
        match file.read(&mut chunk[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn describe(verdict: PageVerdict) -> String {
    match verdict {
        PageVerdict::Checksum { stored, computed } => {
            format!("its checksum is {stored:#06x} and should be {computed:#06x}")
        }
        _ => "its header cannot be one".to_owned(),
    }
}

fn judge(seen: &Seen, names: &Names, checksums: bool) -> Outcome {
    let bytes = Bytes(seen.pages * BLOCK_SIZE as u64);
    let what = if checksums { "checksums" } else { "headers only, because checksums are off," };
    let covered = format!("{what} of all {} pages in {} files ({bytes})", seen.pages, seen.files);
    if seen.damaged.is_empty() {
        return Outcome::Looked { covered, findings: Vec::new() };
    }
    let name = |damaged: &Damaged| {
        let first = damaged.file.split(['.', '_']).next().unwrap_or_default();
        names.get(&damaged.file).or_else(|| names.get(first)).cloned().unwrap_or_default()
    };
    let places: Vec<String> = seen
        .damaged
        .iter()
        .take(NAMED_MAX)
        .map(|one| format!("block {} of {} {}: {}", one.block, one.file, name(one), one.how))
        .collect();
    let more = match seen.damaged.len() - places.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let finding = Finding::new(
        "drill-page-damaged",
        Severity::Critical,
        format!("{} pages are damaged: {}{more}", seen.damaged.len(), places.join("; ")),
        "rows in these pages are lost, or queries fail on them",
    )
    .with(Remedy::safe(
        "see whether the backup noted them: then the primary had them already",
        "pgproof show latest",
    ))
    .with(Remedy::safe("see whether the repository holds what was stored", "pgproof verify"));
    Outcome::Looked { covered, findings: vec![finding] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_page_is_named_by_relation_and_block_and_a_torn_file_is_damage() {
        let data = tempfile::tempdir().unwrap();
        for folder in ["global", "base/5", "pg_tblspc"] {
            fs::create_dir_all(data.path().join(folder)).unwrap();
        }
        let mut bytes = vec![0; 2 * BLOCK_SIZE];
        bytes[BLOCK_SIZE + 14] = 1;
        fs::write(data.path().join("base/5/16384"), &bytes).unwrap();
        fs::write(data.path().join("base/5/16385_fsm"), [0; 100]).unwrap();
        fs::write(data.path().join("base/5/PG_VERSION"), "15").unwrap();
        let files = relation_files(data.path()).unwrap();
        assert_eq!(files.len(), 2);
        let mut seen = Seen::default();
        for (path, relative) in &files {
            let read = read(path, relative, true).unwrap();
            seen.pages += read.pages;
            seen.damaged.extend(read.damaged);
        }
        seen.damaged.sort_by(|one, other| one.file.cmp(&other.file));
        assert_eq!((seen.pages, seen.damaged.len()), (2, 2));
        assert_eq!((seen.damaged[0].block, seen.damaged[1].block), (1, 0));
        let names = Names::from([("base/5/16384".to_owned(), "public.orders of database shop".to_owned())]);
        let Outcome::Looked { findings, .. } = judge(&seen, &names, true) else { panic!("it looked") };
        assert!(findings[0].seen.contains("block 1 of base/5/16384 public.orders"), "{}", findings[0].seen);
        assert!(findings[0].seen.contains("it ends after 100 bytes"), "{}", findings[0].seen);
    }
}

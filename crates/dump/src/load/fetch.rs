//! Brings files of a dump out of the repository, each checked whole.

use crate::error::DumpError;
use pgproof_base::Progress;
use pgproof_repo::{ExtentReader, FileEntry, Lineage, Manifest, Repository};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Longest file that is read into memory: roles and other globals.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// A file of a dump and its chunks, in order.
#[derive(Debug)]
struct Stored {
    name: String,
    chunks: Vec<FileEntry>,
}

/// Reads a small file of the dump.
pub(crate) fn text(
    repository: &Repository,
    lineage: Lineage,
    manifest: &Manifest,
    name: &str,
) -> Result<String, DumpError> {
    let mut content = Vec::new();
    let mut reader = reader(repository, lineage)?;
    for file in files(manifest, &format!("{name}/"))? {
        if file.chunks.iter().map(|chunk| chunk.length).sum::<u64>() > TEXT_BYTES_MAX {
            return Err(not_whole(manifest, name, "it is longer than any"));
        }
        write(&mut reader, manifest, &file, &mut content, &mut |_| {})
            .map_err(|error| error.into_dump(Path::new(name)))?;
    }
    String::from_utf8(content).map_err(|_| not_whole(manifest, name, "it is no text"))
}

/// Writes all files of a folder of the dump into a directory; there must be `expected` of them.
pub(crate) fn folder(
    repository: &Repository,
    lineage: Lineage,
    manifest: &Manifest,
    (folder, expected): (&str, u64),
    (directory, threads): (&Path, usize),
    progress: &dyn Progress,
) -> Result<(), DumpError> {
    let files = files(manifest, &format!("{folder}/"))?;
    if files.len() as u64 != expected {
        let what = format!("it has {} files instead of {expected}", files.len());
        return Err(not_whole(manifest, folder, &what));
    }
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), DumpError> {
        let mut reader = reader(repository, lineage)?;
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let name = file.name.rsplit('/').next().unwrap_or(&file.name);
            let path = directory.join(name);
            let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let mut out = written.map_err(DumpError::host("create", &path))?;
            write(&mut reader, manifest, file, &mut out, &mut |bytes| progress.advance(bytes)).map_err(
                |error| {
                    // The others stop at their next file.
                    next.store(usize::MAX / 2, Ordering::Relaxed);
                    error.into_dump(&path)
                },
            )?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(DumpError::WorkerPanicked)))
    })
}

fn reader(repository: &Repository, lineage: Lineage) -> Result<ExtentReader, DumpError> {
    ExtentReader::new(repository, lineage).map_err(DumpError::repo("read the dump"))
}

/// The files below a folder, or the one of this name, from their chunks.
fn files(manifest: &Manifest, below: &str) -> Result<Vec<Stored>, DumpError> {
    let mut files: Vec<Stored> = Vec::new();
    for entry in manifest.files() {
        let entry = entry.map_err(DumpError::repo("read the manifest"))?;
        if !entry.path.starts_with(below) {
            continue;
        }
        let Some((name, number)) = entry.path.rsplit_once('/') else { continue };
        let begins = files.last().is_none_or(|file| file.name != name);
        let expected = if begins { 0 } else { files.last().map_or(0, |file| file.chunks.len()) };
        if number.parse() != Ok(expected) {
            return Err(not_whole(manifest, name, "a chunk of it is missing"));
        }
        match files.last_mut().filter(|_| !begins) {
            Some(file) => file.chunks.push(entry),
            None => files.push(Stored { name: name.to_owned(), chunks: vec![entry] }),
        }
    }
    Ok(files)
}

fn not_whole(manifest: &Manifest, file: &str, what: &str) -> DumpError {
    let dump = manifest.summary().id.to_string();
    DumpError::NotWhole { dump, file: file.to_owned(), what: what.to_owned() }
}

/// Why a file was not written.
enum WriteError {
    Read(DumpError),
    Write(std::io::Error),
}

impl WriteError {
    fn into_dump(self, path: &Path) -> DumpError {
        match self {
            Self::Read(error) => error,
            Self::Write(error) => DumpError::host("write", path)(error),
        }
    }
}

/// Writes the chunks of a file one behind the other. Reading authenticates each.
fn write(
    reader: &mut ExtentReader,
    manifest: &Manifest,
    file: &Stored,
    out: &mut dyn Write,
    written: &mut dyn FnMut(u64),
) -> Result<(), WriteError> {
    let mut pages = Vec::new();
    for chunk in &file.chunks {
        pages.clear();
        for extent in chunk.map.extents() {
            let pack = manifest.packs().get(extent.pack);
            let read = pack.and_then(|pack| reader.read(pack, extent, &mut pages));
            read.map_err(|source| WriteError::Read(DumpError::Repo { operation: "read the dump", source }))?;
        }
        let Some(content) = pages.get(..chunk.length as usize) else {
            let error = not_whole(manifest, &chunk.path, "it is shorter than it was");
            return Err(WriteError::Read(error));
        };
        out.write_all(content).map_err(WriteError::Write)?;
        written(chunk.length);
    }
    Ok(())
}

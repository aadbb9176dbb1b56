//! Where workers get their work and the files that it is about.
//!
//! A backup of a data directory knows all of it before it begins; one that a server sends learns of each file when it has come. Nothing here
//! reads a page.

use crate::error::BackupError;
use crate::scan::Entry;
use crate::worker::Task;
use std::borrow::Cow;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Gives work to several workers.
pub(crate) trait Feed: Sync {
    /// The next batch, when there is one; none when there will be none.
    fn next(&self) -> Option<Cow<'_, [Task]>>;

    /// A file by its number.
    fn entry(&self, file: usize) -> Cow<'_, Entry>;

    /// Opens it, with a name for messages; none when it is gone, which replay will explain.
    fn open(&self, file: usize) -> Result<Option<(File, PathBuf)>, BackupError>;

    /// A task is done, and its file needed no more for it.
    fn done(&self, task: &Task);
}

/// Work that is known from the beginning.
#[derive(Debug)]
pub(crate) struct Planned<'a> {
    pgdata: &'a Path,
    entries: &'a [Entry],
    batches: Vec<Vec<Task>>,
    next: AtomicUsize,
}

impl<'a> Planned<'a> {
    pub(crate) fn new(pgdata: &'a Path, entries: &'a [Entry], batches: Vec<Vec<Task>>) -> Self {
        Self { pgdata, entries, batches, next: AtomicUsize::new(0) }
    }
}

impl Feed for Planned<'_> {
    fn next(&self) -> Option<Cow<'_, [Task]>> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.batches.get(next).map(|batch| Cow::Borrowed(batch.as_slice()))
    }

    fn entry(&self, file: usize) -> Cow<'_, Entry> {
        Cow::Borrowed(&self.entries[file])
    }

    fn open(&self, file: usize) -> Result<Option<(File, PathBuf)>, BackupError> {
        let path = self.pgdata.join(&self.entries[file].path);
        match File::open(&path) {
            Ok(file) => Ok(Some((file, path))),
            Err(source) if source.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(BackupError::Unreadable { path, source }),
        }
    }

    fn done(&self, _: &Task) {}
}

//! Files on their way from the connection to the workers, each in a nameless temporary file.
//!
//! Pages cannot be compared as they pass: what the earlier backup stored together may lie anywhere in a file, so a file is compared as a whole. What is
//! here is bounded in bytes and in files; whoever receives waits for the workers. A nameless file is gone with the process, however that ends.

use crate::error::BackupError;
use crate::feed::Feed;
use crate::scan::Entry;
use crate::worker::{Compare, Task, whole};
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that may be here: a relation's file of a gigabyte is received while another one is stored.
const BYTES_MAX: u64 = 2 << 30;

/// Files that may be here: each is an open one of the process, which may have 1024 by default.
const FILES_MAX: usize = 256;

/// How often those who wait look whether somebody failed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug)]
pub(crate) struct Spool {
    /// How workers treat each file.
    compare: Compare,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    waiting: VecDeque<Task>,
    /// Received and not opened yet.
    files: HashMap<usize, File>,
    /// What is here, opened or not, by file.
    held: HashMap<usize, u64>,
    bytes: u64,
    ended: bool,
}

impl Spool {
    pub(crate) fn new(compare: Compare) -> Self {
        Self { compare, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Adds what needs no work: a directory, a link, a file whose content is kept elsewhere. Returns its number.
    pub(crate) fn note(&self, entry: Entry) -> usize {
        let mut state = self.state();
        state.entries.push(entry);
        state.entries.len() - 1
    }

    /// Waits until a file of so many bytes may be received; false when a worker failed.
    pub(crate) fn wait_for_room(&self, bytes: u64, failed: &AtomicBool) -> bool {
        let mut state = self.state();
        loop {
            if failed.load(Ordering::Relaxed) {
                return false;
            }
            let is_room = state.bytes + bytes <= BYTES_MAX && state.held.len() < FILES_MAX;
            if is_room || state.held.is_empty() {
                return true;
            }
            state = self.wait(state);
        }
    }

    /// Adds a file that was received.
    pub(crate) fn add(&self, entry: Entry, content: File, bytes: u64) {
        let mut state = self.state();
        let file = state.entries.len();
        let ranges = whole(entry.length);
        state.entries.push(entry);
        if ranges.is_empty() {
            return;
        }
        state.waiting.push_back(Task { file, ranges, compare: self.compare.clone() });
        state.files.insert(file, content);
        state.held.insert(file, bytes);
        state.bytes += bytes;
        self.changed.notify_all();
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }

    /// All entries, in the order in which they came.
    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).entries
    }

    /// A panic elsewhere leaves whole entries behind: each change is one statement.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, LOOK_EVERY);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Feed for Spool {
    fn next(&self) -> Option<Cow<'_, [Task]>> {
        let mut state = self.state();
        loop {
            if let Some(task) = state.waiting.pop_front() {
                return Some(Cow::Owned(vec![task]));
            }
            if state.ended {
                return None;
            }
            state = self.wait(state);
        }
    }

    fn entry(&self, file: usize) -> Cow<'_, Entry> {
        Cow::Owned(self.state().entries[file].clone())
    }

    fn open(&self, file: usize) -> Result<Option<(File, PathBuf)>, BackupError> {
        let mut state = self.state();
        let name = PathBuf::from(&state.entries[file].path);
        Ok(state.files.remove(&file).map(|content| (content, name)))
    }

    fn done(&self, task: &Task) {
        let mut state = self.state();
        let bytes = state.held.remove(&task.file).unwrap_or(0);
        state.bytes -= bytes;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::EntryKind;

    fn entry(path: &str, length: u64) -> Entry {
        let kind = EntryKind::File;
        Entry { path: path.to_owned(), kind, mode: 0o600, modified: 0, length, relation: None }
    }

    #[test]
    fn whoever_receives_waits_until_there_is_room_or_a_worker_failed() {
        let spool = Spool::new(Compare::Nothing);
        let failed = AtomicBool::new(false);
        // One file alone may be larger than what fits.
        assert!(spool.wait_for_room(BYTES_MAX + 1, &failed));
        spool.add(entry("a", 8192), tempfile::tempfile().unwrap(), BYTES_MAX + 1);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| spool.wait_for_room(1, &failed));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!waiting.is_finished());
            let batch = spool.next().unwrap();
            assert!(spool.open(batch[0].file).unwrap().is_some());
            spool.done(&batch[0]);
            assert!(waiting.join().unwrap());
        });
        failed.store(true, Ordering::Relaxed);
        assert!(!spool.wait_for_room(1, &failed));
        spool.end();
        assert!(spool.next().is_none());
        assert_eq!(spool.into_entries().len(), 1);
    }
}

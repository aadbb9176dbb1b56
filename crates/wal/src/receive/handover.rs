//! Brings received files to the repository, and removes them from the place once they are durable there.

use super::place::Place;
use super::{Handed, ReceiveEvent, ReceiveRequest};
use crate::error::{WalError, with_causes};
use crate::push::store;
use pgproof_pg::{ArchiveName, WalSegmentSize};
use pgproof_repo::walobject::{PushSource, Stored};
use pgproof_repo::{Error, Lineage, Repository, writer};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// A repository that does not take a file is asked again after so long, then after twice as long, up to a minute.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// How soon a request to end is noticed.
const LISTEN: Duration = Duration::from_millis(200);

pub(super) struct Handover<'a> {
    pub(super) repository: &'a Repository,
    pub(super) lineage: Lineage,
    /// The epoch in which receiving began: whoever takes over later ends it.
    pub(super) epoch: u64,
    pub(super) place: &'a Place,
    pub(super) request: &'a ReceiveRequest,
    pub(super) size: WalSegmentSize,
    pub(super) stop: &'a AtomicBool,
    pub(super) tell: &'a (dyn Fn(ReceiveEvent<'_>) + Sync),
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Files that the repository took.
    pub(super) stored: u64,
    /// Files that it did not take yet.
    pub(super) waiting: u64,
}

impl Handover<'_> {
    /// Takes files until their sender is gone. Once asked to end it tries each file that is left once.
    pub(super) fn run(&self, files: Receiver<Handed>) -> Result<Taken, WalError> {
        let mut taken = Taken::default();
        loop {
            match files.recv_timeout(LISTEN) {
                Ok(file) => match self.store(file)? {
                    true => taken.stored += 1,
                    false => taken.waiting += 1,
                },
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(taken),
            }
        }
    }

    /// Stores a file; false when it was not stored before the end was asked for.
    fn store(&self, file: Handed) -> Result<bool, WalError> {
        let (name, path) = self.describe(file);
        let mut again_in = AGAIN_FIRST;
        loop {
            match self.put(&name, &path) {
                // The server that was promoted archived its own: the same WAL, with something else behind its end. Which is
                // the better one is not decided here, and both stay.
                Err(Error::WalConflict { .. }) if matches!(file, Handed::Partial(_)) => return Ok(false),
                Ok(_) => {
                    let removed = self.place.remove(&path);
                    removed.map_err(|source| WalError::Spool { operation: "remove from", path, source })?;
                    (self.tell)(ReceiveEvent::Stored { name: &name.to_string() });
                    return Ok(true);
                }
                Err(source @ (Error::WriterSuperseded { .. } | Error::WalConflict { .. })) => {
                    return Err(WalError::Repo { operation: "archive received WAL", source });
                }
                Err(source) => {
                    let error = WalError::Repo { operation: "archive received WAL", source };
                    (self.tell)(ReceiveEvent::NotStored {
                        name: &name.to_string(),
                        why: with_causes(&error),
                        again_in,
                    });
                }
            }
            if !self.pause(again_in) {
                return Ok(false);
            }
            again_in = (again_in * 2).min(AGAIN_MAX);
        }
    }

    fn describe(&self, file: Handed) -> (ArchiveName, PathBuf) {
        match file {
            Handed::Segment(name) => (ArchiveName::Segment(name.file_name(self.size)), self.place.path(name)),
            Handed::Partial(name) => {
                (ArchiveName::Partial(name.file_name(self.size)), self.place.partial_path(name))
            }
            Handed::History(timeline) => (ArchiveName::History(timeline), self.place.history_path(timeline)),
        }
    }

    fn put(&self, name: &ArchiveName, path: &Path) -> Result<Stored, Error> {
        // Of one that was made anew in the same place nothing must be stored with the old keys.
        self.repository.confirm()?;
        writer::check_epoch(self.repository, self.lineage, self.epoch)?;
        let source = PushSource { path, name, segment_size: self.size };
        let ReceiveRequest { spool, options, .. } = self.request;
        let stored = store(self.repository, self.lineage, source, spool, self.epoch, *options)?;
        // The file here, which goes now, may be the only other copy.
        self.repository.confirm()?;
        Ok(stored)
    }

    /// Waits; false when the end was asked for.
    fn pause(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        while Instant::now() < until {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            thread::sleep(LISTEN.min(until.saturating_duration_since(Instant::now())));
        }
        !self.stop.load(Ordering::Relaxed)
    }
}

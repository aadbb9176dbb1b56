//! Brings received files to the repositories, and removes them from the place once every one that is required holds them.

use super::place::Place;
use super::{Handed, ReceiveEvent, ReceiveRequest};
use crate::error::{WalError, with_causes};
use crate::push::store;
use crate::repositories::{NamedRepository, Rests, Withdrawn, in_each};
use crate::resident::is_replaced;
use pgproof_pg::{ArchiveName, WalSegmentSize};
use pgproof_repo::walobject::{PushSource, StoreOptions};
use pgproof_repo::{Error, Lineage, Repository, writer};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A repository that does not take a file is asked again after so long, then after twice as long, up to a minute.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// How soon a request to end is noticed.
const LISTEN: Duration = Duration::from_millis(200);

pub(super) struct Handover<'a> {
    pub(super) repositories: &'a [NamedRepository],
    pub(super) epochs: Arc<Epochs>,
    /// Repositories that are not required and failed.
    pub(super) rests: Rests,
    pub(super) place: &'a Place,
    pub(super) request: &'a ReceiveRequest,
    pub(super) size: WalSegmentSize,
    pub(super) stop: &'a AtomicBool,
    pub(super) tell: &'a (dyn Fn(ReceiveEvent<'_>) + Sync),
}

/// By repository the epoch in which receiving began there: whoever takes over later ends it.
#[derive(Debug)]
pub(super) struct Epochs {
    lineage: Lineage,
    known: Mutex<BTreeMap<String, u64>>,
}

impl Epochs {
    /// Looks into every repository that is required. The others are looked at when something is stored there first.
    pub(super) fn observe(lineage: Lineage, repositories: &[NamedRepository]) -> Result<Self, WalError> {
        let epochs = Self { lineage, known: Mutex::default() };
        for repository in repositories.iter().filter(|repository| repository.required) {
            epochs.of(repository, &repository.open()?)?;
        }
        Ok(epochs)
    }

    fn of(&self, named: &NamedRepository, repository: &Repository) -> Result<u64, WalError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(epoch) = known().get(&named.name) {
            return Ok(*epoch);
        }
        let epoch = writer::current(repository, self.lineage)
            .map_err(|source| WalError::Repo { operation: "tell who archives", source })?
            .map_or(0, |writer| writer.value.epoch);
        Ok(*known().entry(named.name.clone()).or_insert(epoch))
    }
}

/// A file on its way, with all that storing it takes.
struct Parcel {
    name: ArchiveName,
    path: PathBuf,
    spool: PathBuf,
    size: WalSegmentSize,
    options: StoreOptions,
    epochs: Arc<Epochs>,
}

impl Parcel {
    fn put(&self, named: &NamedRepository, withdrawn: &Withdrawn) -> Result<(), WalError> {
        let failed = |source| WalError::Repo { operation: "archive received WAL", source };
        let repository = named.open()?;
        // Of one that was made anew in the same place nothing must be stored with the old keys.
        repository.confirm().map_err(failed)?;
        let (epoch, lineage) = (self.epochs.of(named, &repository)?, self.epochs.lineage);
        writer::check_epoch(&repository, lineage, epoch).map_err(failed)?;
        let source = PushSource { path: &self.path, name: &self.name, segment_size: self.size };
        store(&repository, lineage, source, &self.spool, epoch, self.options, withdrawn).map_err(failed)?;
        // The file here, which goes now, may be the only other copy.
        repository.confirm().map_err(failed)
    }
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
        let parcel = self.parcel(file);
        let (name, path) = (parcel.name.to_string(), parcel.path.clone());
        let parcel = Arc::new(parcel);
        let mut held = BTreeSet::new();
        let mut again_in = AGAIN_FIRST;
        loop {
            match self.put(&parcel, &mut held) {
                Ok(()) => {
                    let removed = self.place.remove(&path);
                    removed.map_err(|source| WalError::Spool { operation: "remove from", path, source })?;
                    (self.tell)(ReceiveEvent::Stored { name: &name });
                    return Ok(true);
                }
                // The server that was promoted archived its own: the same WAL, with something else behind its end. Which is
                // the better one is not decided here, and both stay.
                Err(WalError::Repo { source: Error::WalConflict { .. }, .. })
                    if matches!(file, Handed::Partial(_)) =>
                {
                    return Ok(false);
                }
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => {
                    let why = with_causes(&error);
                    (self.tell)(ReceiveEvent::NotStored { name: &name, why, again_in });
                }
            }
            if !self.pause(again_in) {
                return Ok(false);
            }
            again_in = (again_in * 2).min(AGAIN_MAX);
        }
    }

    /// Stores it in the repositories that do not hold it yet. Fails with what keeps a required one from holding it; what no later attempt
    /// can change goes first.
    fn put(&self, parcel: &Arc<Parcel>, held: &mut BTreeSet<String>) -> Result<(), WalError> {
        let now = Instant::now();
        let awake = self.rests.awake(self.repositories, now);
        let lacking: Vec<_> = awake.into_iter().filter(|named| !held.contains(&named.name)).collect();
        let own = Arc::clone(parcel);
        let results = in_each(&lacking, Arc::new(move |named, withdrawn| own.put(named, withdrawn)));
        let mut failed: Option<WalError> = None;
        for (named, result) in lacking.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    self.rests.worked(&named.name);
                    held.insert(named.name.clone());
                }
                Err(error) if !named.required => self.note(named, &parcel.name.to_string(), &error),
                Err(error) if failed.as_ref().is_none_or(|first| !is_final(first) && is_final(&error)) => {
                    failed = Some(error);
                }
                Err(_) => {}
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// A repository that is not required failed: nobody waits for it, and it rests.
    fn note(&self, named: &NamedRepository, name: &str, error: &WalError) {
        if is_replaced(error) {
            named.forget();
        }
        let again_in = self.rests.failed(&named.name, Instant::now());
        let (repository, why) = (named.name.as_str(), with_causes(error));
        (self.tell)(ReceiveEvent::Behind { repository, name, why, again_in });
    }

    fn parcel(&self, file: Handed) -> Parcel {
        let (name, path) = self.describe(file);
        let ReceiveRequest { spool, options, .. } = self.request;
        let (spool, epochs) = (spool.clone(), Arc::clone(&self.epochs));
        Parcel { name, path, spool, size: self.size, options: *options, epochs }
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

/// No later attempt ends otherwise.
fn is_final(error: &WalError) -> bool {
    matches!(error, WalError::Repo { source: Error::WriterSuperseded { .. } | Error::WalConflict { .. }, .. })
}

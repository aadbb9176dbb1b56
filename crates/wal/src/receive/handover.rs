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
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
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

/// A file that is not in every repository that has to hold it.
struct Pending {
    file: Handed,
    parcel: Arc<Parcel>,
    /// The repositories that hold it.
    held: BTreeSet<String>,
    again_at: Instant,
    again_in: Duration,
}

impl Pending {
    fn new(file: Handed, parcel: Parcel) -> Self {
        let (parcel, held) = (Arc::new(parcel), BTreeSet::new());
        Self { file, parcel, held, again_at: Instant::now(), again_in: AGAIN_FIRST }
    }
}

/// What came of an attempt.
enum Attempt {
    /// Every required repository holds it, and the place no longer does.
    Stored,
    /// It stays in the place for good.
    Kept,
    /// It is tried again.
    NotYet,
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
    /// Takes files until their sender is gone, and tries what is left once more then. A file that waits for one repository keeps the next
    /// ones from none of the others.
    pub(super) fn run(&self, files: Receiver<Handed>) -> Result<Taken, WalError> {
        let mut taken = Taken::default();
        let mut pending: Vec<Pending> = Vec::new();
        loop {
            let next = files.recv_timeout(LISTEN);
            let is_over = matches!(next, Err(RecvTimeoutError::Disconnected));
            if is_over {
                self.rests.clear();
            }
            pending.extend(next.ok().map(|file| Pending::new(file, self.parcel(file))));
            // Where one was stored at last, the others need not wait for their time.
            let mut is_back = is_over;
            for mut file in std::mem::take(&mut pending) {
                if !is_back && Instant::now() < file.again_at {
                    pending.push(file);
                    continue;
                }
                match self.attempt(&mut file)? {
                    Attempt::Stored => {
                        is_back = true;
                        taken.stored += 1;
                    }
                    Attempt::Kept => taken.waiting += 1,
                    Attempt::NotYet => pending.push(file),
                }
            }
            if is_over {
                taken.waiting += pending.len() as u64;
                return Ok(taken);
            }
        }
    }

    /// Tries to store a file.
    fn attempt(&self, pending: &mut Pending) -> Result<Attempt, WalError> {
        let name = pending.parcel.name.to_string();
        match self.put(&pending.parcel, &mut pending.held) {
            Ok(()) => {
                let path = pending.parcel.path.clone();
                let noted = match pending.file {
                    Handed::Segment(name) => self.place.note_handed_over(name),
                    Handed::Partial(_) | Handed::History(_) => Ok(()),
                };
                let removed = noted.and_then(|()| self.place.remove(&path));
                removed.map_err(|source| WalError::Spool { operation: "remove from", path, source })?;
                (self.tell)(ReceiveEvent::Stored { name: &name });
                return Ok(Attempt::Stored);
            }
            // The server that was promoted archived its own: the same WAL, with something else behind its end. Which is
            // the better one is not decided here, and both stay.
            Err(WalError::Repo { source: Error::WalConflict { .. }, .. })
                if matches!(pending.file, Handed::Partial(_)) =>
            {
                return Ok(Attempt::Kept);
            }
            Err(error) if is_final(&error) => return Err(error),
            Err(WalError::Resting) => {}
            Err(error) => {
                let (why, again_in) = (with_causes(&error), pending.again_in);
                (self.tell)(ReceiveEvent::NotStored { name: &name, why, again_in });
            }
        }
        pending.again_at = Instant::now() + pending.again_in;
        pending.again_in = (pending.again_in * 2).min(AGAIN_MAX);
        Ok(Attempt::NotYet)
    }

    /// Stores it in the repositories that do not hold it yet. Fails with what keeps a required one from holding it; what no later attempt
    /// can change goes first.
    fn put(&self, parcel: &Arc<Parcel>, held: &mut BTreeSet<String>) -> Result<(), WalError> {
        let now = Instant::now();
        let lacking = self.repositories.iter().filter(|named| !held.contains(&named.name));
        let (resting, tried): (Vec<_>, Vec<_>) =
            lacking.partition(|named| self.rests.is_resting(&named.name, now));
        let own = Arc::clone(parcel);
        let results = in_each(&tried, Arc::new(move |named, withdrawn| own.put(named, withdrawn)));
        let is_needed = |named: &&NamedRepository| named.required;
        let mut failed = resting.into_iter().any(|named| is_needed(&named)).then_some(WalError::Resting);
        for (named, result) in tried.into_iter().zip(results) {
            let Err(error) = result else {
                self.rests.worked(&named.name);
                held.insert(named.name.clone());
                continue;
            };
            let again_in = self.rests.failed(named, now);
            if !named.required {
                self.note(named, &parcel.name.to_string(), &error, again_in);
            } else if failed
                .as_ref()
                .is_none_or(|first| is_final(&error) || matches!(first, WalError::Resting))
            {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// A repository that is not required failed: nobody waits for it, and it rests.
    fn note(&self, named: &NamedRepository, name: &str, error: &WalError, again_in: Duration) {
        if is_replaced(error) {
            named.forget();
        }
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
}

/// No later attempt ends otherwise.
fn is_final(error: &WalError) -> bool {
    matches!(error, WalError::Repo { source: Error::WriterSuperseded { .. } | Error::WalConflict { .. }, .. })
}

//! The thread that renews a lease.
//!
//! A renewal replaces exactly the version that the one before wrote, so that a lease taken over by someone else is noticed instead of
//! being overwritten. Where the store has no conditional replacement it overwrites.

use crate::record;
use crate::repository::Repository;
use crate::{Error, Result};
use pgproof_store::{ObjectMeta, ObjectPath, PutMode, StoreError, Version};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A record that carries the token of its writer.
pub(crate) trait Renewable: Clone + Send + Serialize + DeserializeOwned + 'static {
    /// Whether both are of one lease.
    fn same_lease(&self, other: &Self) -> bool;
}

/// A lease that a thread keeps alive until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Beat<R: Renewable> {
    shared: Arc<Shared<R>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared<R> {
    repository: Repository,
    path: ObjectPath,
    state: Mutex<State<R>>,
    wake: Condvar,
}

#[derive(Debug)]
struct State<R> {
    record: R,
    version: Version,
    stopped: bool,
    /// Somebody else's record lies at the lease's place, or none does any more.
    lost: bool,
}

impl<R: Renewable> Beat<R> {
    /// Puts the first record and starts the thread.
    pub(crate) fn start(
        repository: &Repository,
        path: ObjectPath,
        record: R,
        mode: PutMode,
        every: Duration,
    ) -> Result<Self> {
        let meta = record::write(repository, &path, &record, mode)?;
        let state = State { record, version: meta.version, stopped: false, lost: false };
        let shared = Arc::new(Shared {
            repository: repository.clone(),
            path,
            state: Mutex::new(state),
            wake: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        let spawned = std::thread::Builder::new().name("lease".into()).spawn(move || for_thread.run(every));
        let thread = spawned.map_err(|source| Error::Thread { operation: "renew a lease", source })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Changes what the lease says, and has it stored before it returns.
    pub(crate) fn change(&self, change: impl FnOnce(&mut R)) -> Result<()> {
        let mut state = self.shared.lock();
        change(&mut state.record);
        self.shared.renew(&mut state)
    }

    /// Renews the lease now.
    pub(crate) fn renew(&self) -> Result<()> {
        self.shared.renew(&mut self.shared.lock())
    }

    /// Whether the lease is known to be somebody else's by now.
    pub(crate) fn is_lost(&self) -> bool {
        self.shared.lock().lost
    }

    /// What it says.
    pub(crate) fn record(&self) -> R {
        self.shared.lock().record.clone()
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &ObjectPath {
        &self.shared.path
    }

    /// Ends the thread; the lease stays as it is.
    pub(crate) fn stop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // The thread holds nothing but its share of the lease; a panic in it says that renewing ended, which is what is wanted.
            drop(thread.join());
        }
    }
}

impl<R: Renewable> Drop for Beat<R> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<R: Renewable> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, every: Duration) {
        let mut state = self.lock();
        while !state.stopped && !state.lost {
            let waited = self.wake.wait_timeout(state, every).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            if !state.stopped && waited.1.timed_out() {
                // A store that is away for a moment is tried again at the next beat; publication decides in the end.
                drop(self.renew(&mut state));
            }
        }
    }

    fn renew(&self, state: &mut State<R>) -> Result<()> {
        if state.lost {
            return Err(self.lost());
        }
        let replaced = PutMode::IfMatch(state.version.clone());
        let written = match record::write(&self.repository, &self.path, &state.record, replaced) {
            Err(error) if error.is_conflict() => self.after_conflict(state),
            Err(Error::Store { source: StoreError::Unsupported { .. }, .. }) => self.overwrite(state),
            written => written,
        };
        state.version = written?.version;
        Ok(())
    }

    /// Another version lies there. It is our own when the answer to a renewal was lost.
    fn after_conflict(&self, state: &mut State<R>) -> Result<ObjectMeta> {
        match record::read::<R>(&self.repository, &self.path)? {
            Some(found) if found.value.same_lease(&state.record) => {
                let mode = PutMode::IfMatch(found.meta.version);
                record::write(&self.repository, &self.path, &state.record, mode)
            }
            _ => {
                state.lost = true;
                Err(self.lost())
            }
        }
    }

    fn overwrite(&self, state: &State<R>) -> Result<ObjectMeta> {
        record::write(&self.repository, &self.path, &state.record, PutMode::Overwrite)
    }

    fn lost(&self) -> Error {
        Error::LeaseLost { object: self.path.to_string() }
    }
}

//! The store in memory: the twin that the contract is checked against, with several nodes on one store.

use super::{Before, Dcs, DcsError, Entry, Keep, Revision, Session, Snapshot, Swapped, Write};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

type Notify = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Inner {
    revision: i64,
    entries: BTreeMap<String, (Entry, Option<u64>)>,
    sessions: BTreeMap<u64, Instant>,
    last_session: u64,
    watchers: Vec<Arc<Notify>>,
}

impl Inner {
    fn expire(&mut self, now: Instant) {
        self.sessions.retain(|_, until| *until > now);
        let sessions = &self.sessions;
        self.entries.retain(|_, (_, session)| session.is_none_or(|session| sessions.contains_key(&session)));
    }

    fn holds(&self, write: &Write) -> bool {
        let now = self.entries.get(&write.key).map(|(entry, _)| entry.revision);
        match write.before {
            Before::Any => true,
            Before::Absent => now.is_none(),
            Before::Revision(revision) => now == Some(revision),
        }
    }
}

/// What all nodes share.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Inner>>);

impl MemoryStore {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store as one node sees it, with sessions of this length.
    #[must_use]
    pub fn node(&self, session: Duration) -> MemoryDcs {
        MemoryDcs { store: self.clone(), length: session, own: Mutex::new(None) }
    }
}

/// One node's view of a [`MemoryStore`].
pub struct MemoryDcs {
    store: MemoryStore,
    length: Duration,
    own: Mutex<Option<u64>>,
}

impl Dcs for MemoryDcs {
    fn read(&self) -> Result<Snapshot, DcsError> {
        let mut inner = self.store.inner();
        inner.expire(Instant::now());
        let entries = inner.entries.iter().map(|(key, (entry, _))| (key.clone(), entry.clone())).collect();
        Ok(Snapshot { revision: Revision(inner.revision), entries })
    }

    fn swap(&self, writes: &[Write]) -> Result<Swapped, DcsError> {
        let own = *self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.store.inner();
        inner.expire(Instant::now());
        if !writes.iter().all(|write| inner.holds(write)) {
            return Ok(Swapped::Changed);
        }
        inner.revision += 1;
        let revision = Revision(inner.revision);
        for write in writes {
            let Some(value) = write.value.clone() else { continue };
            let session = (write.keep == Keep::Session).then_some(own.unwrap_or_default());
            inner.entries.insert(write.key.clone(), (Entry { value, revision }, session));
        }
        let watchers = inner.watchers.clone();
        drop(inner);
        watchers.iter().for_each(|notify| notify());
        Ok(Swapped::Done)
    }

    fn keep_session(&self) -> Result<Session, DcsError> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.store.inner();
        let now = Instant::now();
        inner.expire(now);
        if let Some(until) = own.and_then(|own| inner.sessions.get_mut(&own)) {
            *until = now + self.length;
            return Ok(Session::Kept);
        }
        inner.last_session += 1;
        let id = inner.last_session;
        inner.sessions.insert(id, now + self.length);
        *own = Some(id);
        Ok(Session::New)
    }

    fn end_session(&self) -> Result<(), DcsError> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut inner = self.store.inner();
        if let Some(own) = own {
            inner.sessions.remove(&own);
        }
        inner.expire(Instant::now());
        Ok(())
    }

    fn watch(&self, notify: Notify) {
        self.store.inner().watchers.push(Arc::new(notify));
    }
}

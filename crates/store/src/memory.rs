//! A store in memory: the model other backends are compared with, and the fast place for tests.

use crate::counters::Meter;
use crate::{Counters, ObjectMeta, ObjectPath, ObjectWriter, PutMode, Result, Store, StoreError, Version};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Objects in this process's memory. Clones share the objects.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    meter: Meter,
}

#[derive(Debug, Clone, Default)]
struct State {
    objects: BTreeMap<ObjectPath, Stored>,
    writes: u64,
    ahead: SignedDuration,
}

#[derive(Debug, Clone)]
struct Stored {
    body: Arc<[u8]>,
    modified: Timestamp,
    version: Version,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store of its own that holds the same now and whose clock shows the same, so that a test can go on in several ways from one
    /// state.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.state().clone();
        Self { shared: Arc::new(Shared { state: Mutex::new(state), meter: Meter::default() }) }
    }

    /// Moves the store's clock forward, so that a test of ages need not wait.
    pub fn advance_clock(&self, by: Duration) {
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        let mut state = self.state();
        state.ahead = state.ahead.saturating_add(by);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, and every change is one insert or remove.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, path: &ObjectPath) -> Result<Stored> {
        self.shared.meter.get();
        self.state().objects.get(path).cloned().ok_or_else(|| StoreError::NotFound { object: place(path) })
    }

    fn insert(&self, path: &ObjectPath, body: Vec<u8>, mode: &PutMode) -> Result<ObjectMeta> {
        self.shared.meter.put();
        self.shared.meter.wrote(body.len());
        let mut state = self.state();
        let present = state.objects.get(path).map(|stored| &stored.version);
        match (mode, present) {
            (PutMode::IfAbsent, Some(_)) => return Err(StoreError::AlreadyExists { object: place(path) }),
            (PutMode::IfMatch(wanted), found) if found != Some(wanted) => {
                return Err(StoreError::VersionMismatch { object: place(path), found: found.cloned() });
            }
            _ => {}
        }
        state.writes += 1;
        let stored = Stored {
            body: body.into(),
            modified: state.now(),
            version: Version::new(state.writes.to_string()),
        };
        let meta = stored.meta(path);
        state.objects.insert(path.clone(), stored);
        Ok(meta)
    }
}

impl State {
    fn now(&self) -> Timestamp {
        Timestamp::now().saturating_add(self.ahead).unwrap_or(Timestamp::MAX)
    }
}

impl Stored {
    fn meta(&self, path: &ObjectPath) -> ObjectMeta {
        ObjectMeta {
            path: path.clone(),
            size: self.body.len() as u64,
            modified: self.modified,
            version: self.version.clone(),
        }
    }
}

fn place(path: &ObjectPath) -> String {
    format!("memory:{path}")
}

impl Store for Memory {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn put(&self, path: &ObjectPath, body: &[&[u8]], mode: PutMode) -> Result<ObjectMeta> {
        self.insert(path, body.concat(), &mode)
    }

    fn writer(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(MemoryWriter { store: self.clone(), path: path.clone(), body: Vec::new() }))
    }

    fn get_with_meta(&self, path: &ObjectPath) -> Result<(Vec<u8>, ObjectMeta)> {
        let stored = self.object(path)?;
        self.shared.meter.read(stored.body.len());
        Ok((stored.body.to_vec(), stored.meta(path)))
    }

    fn get_range(&self, path: &ObjectPath, offset: u64, buf: &mut [u8]) -> Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        let stored = self.object(path)?;
        let rest = usize::try_from(offset).ok().and_then(|offset| stored.body.get(offset..)).unwrap_or(&[]);
        let Some(found) = rest.get(..buf.len()) else {
            return Err(StoreError::Truncated {
                object: place(path),
                offset,
                wanted: buf.len() as u64,
                got: rest.len() as u64,
            });
        };
        buf.copy_from_slice(found);
        self.shared.meter.read(buf.len());
        Ok(())
    }

    fn get_tail(&self, path: &ObjectPath, len_max: u64) -> Result<(Vec<u8>, u64)> {
        let stored = self.object(path)?;
        let start = stored.body.len().saturating_sub(usize::try_from(len_max).unwrap_or(usize::MAX));
        let tail = stored.body[start..].to_vec();
        self.shared.meter.read(tail.len());
        Ok((tail, stored.body.len() as u64))
    }

    fn head(&self, path: &ObjectPath) -> Result<Option<ObjectMeta>> {
        self.shared.meter.get();
        Ok(self.state().objects.get(path).map(|stored| stored.meta(path)))
    }

    fn list(&self, dir: Option<&ObjectPath>, start_after: Option<&str>) -> Result<Vec<ObjectMeta>> {
        self.shared.meter.list();
        Ok(self
            .state()
            .objects
            .iter()
            .filter(|(path, _)| path.is_below(dir) && start_after.is_none_or(|after| path.as_str() > after))
            .map(|(path, stored)| stored.meta(path))
            .collect())
    }

    fn list_dirs(&self, dir: Option<&ObjectPath>) -> Result<Vec<String>> {
        self.shared.meter.list();
        let skipped = dir.map_or(0, |dir| dir.as_str().len() + 1);
        let names: BTreeSet<String> = self
            .state()
            .objects
            .keys()
            .filter(|path| path.is_below(dir))
            .filter_map(|path| path.as_str()[skipped..].split_once('/').map(|(name, _)| name.to_owned()))
            .collect();
        Ok(names.into_iter().collect())
    }

    fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.shared.meter.delete();
        self.state().objects.remove(path);
        Ok(())
    }

    fn now(&self) -> Result<Timestamp> {
        Ok(self.state().now())
    }

    fn clean(&self, _age: Duration) -> Result<u64> {
        Ok(0)
    }

    fn counters(&self) -> Counters {
        self.shared.meter.snapshot()
    }
}

#[derive(Debug)]
struct MemoryWriter {
    store: Memory,
    path: ObjectPath,
    body: Vec<u8>,
}

impl ObjectWriter for MemoryWriter {
    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    fn size(&self) -> u64 {
        self.body.len() as u64
    }

    fn finish(self: Box<Self>, mode: PutMode) -> Result<ObjectMeta> {
        self.store.insert(&self.path, self.body, &mode)
    }
}

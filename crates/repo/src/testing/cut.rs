//! A store that a process loses after so many writes, as if it were killed there.

use jiff::Timestamp;
use pgproof_store::{
    Counters, Memory, ObjectMeta, ObjectPath, ObjectWriter, Operation, PutMode, Result, Store, StoreError,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A view of a store in memory that goes away after some writes.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    inner: Memory,
    left: Arc<AtomicI64>,
}

impl Cut {
    pub(crate) fn after(inner: &Memory, writes: i64) -> Self {
        Self { inner: inner.clone(), left: Arc::new(AtomicI64::new(writes)) }
    }

    /// Whether more writes were tried than allowed.
    pub(crate) fn happened(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    fn spend(&self, path: &ObjectPath) -> Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        let (operation, object) = (Operation::Put, path.to_string());
        self.left.store(-1, Ordering::SeqCst);
        Err(StoreError::Unreachable { operation, object, source: "killed".into() })
    }
}

impl Store for Cut {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn put(&self, path: &ObjectPath, body: &[&[u8]], mode: PutMode) -> Result<ObjectMeta> {
        self.spend(path)?;
        self.inner.put(path, body, mode)
    }

    fn writer(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>> {
        let inner = self.inner.writer(path)?;
        Ok(Box::new(CutWriter { cut: self.clone(), path: path.clone(), inner }))
    }

    fn get_with_meta(&self, path: &ObjectPath) -> Result<(Vec<u8>, ObjectMeta)> {
        self.inner.get_with_meta(path)
    }

    fn get_range(&self, path: &ObjectPath, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.inner.get_range(path, offset, buf)
    }

    fn get_tail(&self, path: &ObjectPath, len_max: u64) -> Result<(Vec<u8>, u64)> {
        self.inner.get_tail(path, len_max)
    }

    fn head(&self, path: &ObjectPath) -> Result<Option<ObjectMeta>> {
        self.inner.head(path)
    }

    fn list(&self, dir: Option<&ObjectPath>, start_after: Option<&str>) -> Result<Vec<ObjectMeta>> {
        self.inner.list(dir, start_after)
    }

    fn list_dirs(&self, dir: Option<&ObjectPath>) -> Result<Vec<String>> {
        self.inner.list_dirs(dir)
    }

    fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.spend(path)?;
        self.inner.delete(path)
    }

    fn now(&self) -> Result<Timestamp> {
        self.inner.now()
    }

    fn clean(&self, age: Duration) -> Result<u64> {
        self.inner.clean(age)
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }
}

#[derive(Debug)]
struct CutWriter {
    cut: Cut,
    path: ObjectPath,
    inner: Box<dyn ObjectWriter>,
}

impl ObjectWriter for CutWriter {
    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.inner.write_all(bytes)
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn finish(self: Box<Self>, mode: PutMode) -> Result<ObjectMeta> {
        self.cut.spend(&self.path)?;
        self.inner.finish(mode)
    }
}

//! Big objects, written in pieces.

use super::{Place, publish::TempFile};
use crate::sync::SyncPoint;
use crate::{ObjectMeta, ObjectPath, ObjectWriter, Operation, PutMode, Result};
use rustix::fs::Advice;
use std::{num::NonZeroU64, sync::Arc};

/// How much is written before the disk is asked to begin. Large enough for sequential writes, small enough that the final sync
/// finds little left and PostgreSQL's own writes are not stuck behind a burst.
const WRITEBACK_BYTES: u64 = 8 << 20;

#[derive(Debug)]
pub(super) struct DirectoryWriter {
    place: Arc<Place>,
    path: ObjectPath,
    temp: TempFile,
    size: u64,
    /// Up to where the disk was asked to begin.
    begun: u64,
}

impl DirectoryWriter {
    pub(super) fn new(place: Arc<Place>, path: &ObjectPath) -> Result<Self> {
        place.meter.put();
        let temp = TempFile::create(Arc::clone(&place), Operation::Put)?;
        Ok(Self { place, path: path.clone(), temp, size: 0, begun: 0 })
    }

    /// Asks the kernel to start writing. `POSIX_FADV_DONTNEED` does what `sync_file_range(2)` with `SYNC_FILE_RANGE_WRITE`
    /// does (mm/fadvise.c starts asynchronous writeback of the range), and is reachable without unsafe code. Pages under
    /// writeback stay cached. It is advice: a file system that ignores it costs time, not safety.
    fn begin_writeback(&mut self) {
        let length = NonZeroU64::new(self.size - self.begun);
        let _ = rustix::fs::fadvise(self.temp.file(), self.begun, length, Advice::DontNeed);
        self.begun = self.size;
    }
}

impl ObjectWriter for DirectoryWriter {
    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.temp
            .append(&[bytes])
            .map_err(|error| self.place.failed(Operation::Put, Some(&self.path), error))?;
        self.size += bytes.len() as u64;
        if self.size - self.begun >= WRITEBACK_BYTES {
            self.begin_writeback();
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn finish(self: Box<Self>, mode: PutMode) -> Result<ObjectMeta> {
        self.temp.publish(SyncPoint::WriterData, &self.path, &mode)
    }
}

//! One file of the clone: what the backup has of it, and what was written since.
//!
//! Written pages lie in a sparse local file at their own offsets; a set of page numbers says which. Whatever is in neither place reads as
//! zeroes. A page that is written in part is first taken over from the backup as a whole. Nothing is ever synced, so that a full disk
//! shows when something is written (ENOSPC) and never at an fsync, which PostgreSQL answers with a PANIC.

use super::base::Base;
use super::bits::Bits;
use rustix::fs::{FallocateFlags, fallocate};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

const PAGE: u64 = pgproof_repo::PAGE_BYTES as u64;

/// Where written pages go, shared by all files.
#[derive(Debug)]
pub(crate) struct Layer {
    directory: PathBuf,
    bytes_max: u64,
    bytes: AtomicU64,
    pages_written: AtomicU64,
}

impl Layer {
    pub(crate) fn new(directory: &Path, bytes_max: u64) -> Self {
        let directory = directory.to_owned();
        Self { directory, bytes_max, bytes: AtomicU64::new(0), pages_written: AtomicU64::new(0) }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn pages_written(&self) -> u64 {
        self.pages_written.load(Ordering::Relaxed)
    }

    /// Takes room for bytes before they are written.
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let taken = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if bytes > 0 && taken.saturating_add(bytes) > self.bytes_max {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(ErrorKind::StorageFull.into());
        }
        self.pages_written.fetch_add(bytes / PAGE, Ordering::Relaxed);
        Ok(())
    }

    fn release(&self, pages: u64) {
        self.bytes.fetch_sub(pages * PAGE, Ordering::Relaxed);
    }

    fn open(&self, number: u64) -> io::Result<File> {
        let path = self.directory.join(number.to_string());
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
    }
}

/// What the backup has of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// Its path in the manifest.
    pub(crate) path: String,
    /// Its length there.
    pub(crate) length: u64,
}

/// A file.
#[derive(Debug)]
pub(crate) struct Leaf {
    number: u64,
    pub(crate) origin: Option<Origin>,
    state: RwLock<State>,
    /// Pages of the backup that were read.
    seen: Mutex<Bits>,
}

#[derive(Debug, Default)]
struct State {
    size: u64,
    /// What of the backup's content still counts, in bytes: truncating takes away, nothing gives back.
    origin_end: u64,
    written: Bits,
    local: Option<Arc<File>>,
}

/// What of a file is to be kept when it is not served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedLeaf {
    pub(crate) origin: Option<Origin>,
    pub(crate) size: u64,
    pub(crate) origin_end: u64,
    pub(crate) written: Vec<Range<u64>>,
}

/// Where a part of a file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Local,
    Backup,
    Nowhere,
}

impl Leaf {
    /// A file of the backup.
    pub(crate) fn of(number: u64, origin: Origin) -> Self {
        let state = State { size: origin.length, origin_end: origin.length, ..State::default() };
        Self { number, origin: Some(origin), state: RwLock::new(state), seen: Mutex::default() }
    }

    /// A new file.
    pub(crate) fn new(number: u64) -> Self {
        Self { number, origin: None, state: RwLock::default(), seen: Mutex::default() }
    }

    /// One that was served before.
    pub(crate) fn restored(number: u64, saved: SavedLeaf, layer: &Layer) -> io::Result<Self> {
        let written = Bits::of(&saved.written);
        layer.reserve(written.count() * PAGE)?;
        let local = match written.count() {
            0 => None,
            _ => Some(Arc::new(layer.open(number)?)),
        };
        let state = State { size: saved.size, origin_end: saved.origin_end, written, local };
        Ok(Self { number, origin: saved.origin, state: RwLock::new(state), seen: Mutex::default() })
    }

    pub(crate) fn save(&self) -> SavedLeaf {
        let state = self.state();
        SavedLeaf {
            origin: self.origin.clone(),
            size: state.size,
            origin_end: state.origin_end,
            written: state.written.ranges(),
        }
    }

    fn state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn state_mut(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn size(&self) -> u64 {
        self.state().size
    }

    /// Bytes from `offset` on, fewer at the end of the file.
    ///
    /// The lock is not held while the repository is read: the kernel keeps its own pages locked until they are filled, so nothing that is
    /// being read is written meanwhile.
    pub(crate) fn read(&self, base: Option<&Base>, offset: u64, size: u32) -> io::Result<Vec<u8>> {
        let (length, parts, local, origin_end) = {
            let state = self.state();
            let length = state.size.saturating_sub(offset).min(size.into());
            (length, state.parts(offset, length), state.local.clone(), state.origin_end)
        };
        // From the page that holds the first byte to the one that holds the last.
        let start = offset / PAGE * PAGE;
        let mut buffer = vec![0; ((offset + length).div_ceil(PAGE) * PAGE - start) as usize];
        for (pages, source) in parts {
            let bytes =
                &mut buffer[(pages.start * PAGE - start) as usize..(pages.end * PAGE - start) as usize];
            match source {
                Source::Nowhere => {}
                Source::Local => read_local(local.as_deref(), pages.start * PAGE, bytes)?,
                Source::Backup => self.read_origin(base, pages, origin_end, bytes)?,
            }
        }
        buffer.drain(..(offset - start) as usize);
        buffer.truncate(length as usize);
        Ok(buffer)
    }

    /// Pages of the backup, zeroes behind the end of what still counts of it.
    fn read_origin(
        &self,
        base: Option<&Base>,
        pages: Range<u64>,
        end: u64,
        bytes: &mut [u8],
    ) -> io::Result<()> {
        let (Some(base), Some(origin)) = (base, &self.origin) else { return Err(ErrorKind::NotFound.into()) };
        let first = u32::try_from(pages.start).map_err(io::Error::other)?;
        base.read(&origin.path, first, bytes, &self.seen).map_err(io::Error::other)?;
        let counts = end.saturating_sub(pages.start * PAGE).min(bytes.len() as u64);
        bytes[counts as usize..].fill(0);
        Ok(())
    }

    /// Writes bytes, all of them or none that counts.
    pub(crate) fn write(
        &self,
        base: Option<&Base>,
        layer: &Layer,
        offset: u64,
        data: &[u8],
    ) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(data.len() as u64).ok_or(ErrorKind::FileTooLarge)?;
        let pages = offset / PAGE..end.div_ceil(PAGE);
        let mut state = self.state_mut();
        let local = self.local(&mut state, layer)?;
        let new = pages.clone().filter(|page| !state.written.contains(*page)).count() as u64;
        layer.reserve(new * PAGE)?;
        let written = self
            .take_over_edges(&state, base, &local, offset, end)
            .and_then(|()| local.write_all_at(data, offset));
        if let Err(error) = written {
            layer.release(new);
            return Err(error);
        }
        state.written.insert(pages);
        state.size = state.size.max(end);
        Ok(())
    }

    /// Before a page is written in part, the rest of it is put in place.
    fn take_over_edges(
        &self,
        state: &State,
        base: Option<&Base>,
        local: &File,
        offset: u64,
        end: u64,
    ) -> io::Result<()> {
        let mut edges = vec![offset / PAGE];
        if (end - 1) / PAGE != offset / PAGE {
            edges.push((end - 1) / PAGE);
        }
        for page in edges {
            let whole = offset <= page * PAGE && end >= (page + 1) * PAGE;
            if whole || state.source(page) != Source::Backup {
                continue;
            }
            let mut bytes = vec![0; PAGE as usize];
            self.read_origin(base, page..page + 1, state.origin_end, &mut bytes)?;
            local.write_all_at(&bytes, page * PAGE)?;
        }
        Ok(())
    }

    fn local(&self, state: &mut State, layer: &Layer) -> io::Result<Arc<File>> {
        if let Some(local) = &state.local {
            return Ok(Arc::clone(local));
        }
        let local = Arc::new(layer.open(self.number)?);
        state.local = Some(Arc::clone(&local));
        Ok(local)
    }

    /// Sets the length.
    pub(crate) fn truncate(&self, layer: &Layer, size: u64) -> io::Result<()> {
        let mut state = self.state_mut();
        if size < state.size {
            if let Some(local) = &state.local
                && local.metadata()?.len() > size
            {
                local.set_len(size)?;
            }
            let before = state.written.count();
            state.written.cut(size.div_ceil(PAGE));
            layer.release(before - state.written.count());
            state.origin_end = state.origin_end.min(size);
        }
        state.size = size;
        Ok(())
    }

    /// Takes room for bytes that will be written, as `posix_fallocate` does: they read as zeroes until then, and the disk cannot be full for
    /// them. What the file has already stays.
    pub(crate) fn allocate(&self, layer: &Layer, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.checked_add(length).ok_or(ErrorKind::FileTooLarge)?;
        let mut state = self.state_mut();
        let behind = state.size.max(state.origin_end).max(offset).div_ceil(PAGE)..end.div_ceil(PAGE);
        if behind.start < behind.end {
            let local = self.local(&mut state, layer)?;
            let new = behind.clone().filter(|page| !state.written.contains(*page)).count() as u64;
            layer.reserve(new * PAGE)?;
            let (from, bytes) = (behind.start * PAGE, (behind.end - behind.start) * PAGE);
            match fallocate(&*local, FallocateFlags::empty(), from, bytes) {
                // Without it room is found when the pages are written, which may fail then.
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
                Err(errno) => {
                    layer.release(new);
                    return Err(errno.into());
                }
            }
            state.written.insert(behind);
        }
        state.size = state.size.max(end);
        Ok(())
    }

    /// Frees its room. Whoever has it open goes on with the file that has lost its name.
    pub(crate) fn forget(&self, layer: &Layer) {
        let state = self.state();
        if state.local.is_some() {
            // What cannot be removed goes with the sandbox.
            let _ = std::fs::remove_file(layer.directory.join(self.number.to_string()));
        }
        layer.release(state.written.count());
    }
}

impl State {
    fn source(&self, page: u64) -> Source {
        if self.written.contains(page) {
            Source::Local
        } else if page * PAGE < self.origin_end {
            Source::Backup
        } else {
            Source::Nowhere
        }
    }

    /// Runs of pages by where they come from.
    fn parts(&self, offset: u64, length: u64) -> Vec<(Range<u64>, Source)> {
        let mut parts: Vec<(Range<u64>, Source)> = Vec::new();
        for page in offset / PAGE..(offset + length).div_ceil(PAGE) {
            let source = self.source(page);
            match parts.last_mut() {
                Some((pages, last)) if *last == source => pages.end = page + 1,
                _ => parts.push((page..page + 1, source)),
            }
        }
        parts
    }
}

/// A sparse file may be shorter than what is read of it.
fn read_local(local: Option<&File>, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
    let Some(local) = local else { return Ok(()) };
    let mut filled = 0;
    while filled < bytes.len() {
        match local.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => return Ok(()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

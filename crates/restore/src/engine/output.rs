//! Files as a restore writes them: created once, written in place by any number of threads, never synced one by one.
//!
//! A file that exists (delta) is opened for reading too and compared before it is written. It is never followed through a
//! symbolic link, and a file with several hard links is replaced: the other name may be somebody's snapshot.

use crate::error::{RestoreError, Result};
use pgproof_server::Owner;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// `O_NOFOLLOW`, as an integer for [`OpenOptionsExt::custom_flags`].
const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

/// Whether files that are there already are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writing {
    /// Nothing is there; meeting something is an error.
    Fresh,
    /// What is there is compared and corrected.
    Delta,
}

/// How many files fared how. Counted when a file is closed.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) created: AtomicU64,
    pub(crate) changed: AtomicU64,
    pub(crate) unchanged: AtomicU64,
}

/// A file to be restored, opened when the first page of it comes.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) path: PathBuf,
    /// As the manifest names it, for messages.
    pub(crate) name: String,
    pub(crate) length: u64,
    mode: u32,
    owner: Option<Owner>,
    writing: Writing,
    /// Whether the last page written ends the file; else its length must be set.
    ends_with_page: bool,
    opened: OnceLock<Opened>,
    opening: Mutex<()>,
    written: AtomicU64,
    tally: Arc<Tally>,
}

/// A file that is open.
#[derive(Debug)]
pub(crate) struct Opened {
    file: File,
    /// How long it was when it was met; `None` when it was made.
    pub(crate) found: Option<u64>,
}

/// What to make.
#[derive(Debug)]
pub(crate) struct OutputSpec {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) length: u64,
    pub(crate) mode: u32,
    pub(crate) ends_with_page: bool,
}

impl Output {
    pub(crate) fn new(spec: OutputSpec, owner: Option<Owner>, writing: Writing, tally: Arc<Tally>) -> Self {
        let OutputSpec { path, name, length, mode, ends_with_page } = spec;
        Self {
            path,
            name,
            length,
            mode,
            owner,
            writing,
            ends_with_page,
            opened: OnceLock::new(),
            opening: Mutex::new(()),
            written: AtomicU64::new(0),
            tally,
        }
    }

    /// The open file; the first caller opens it.
    pub(crate) fn open(&self) -> Result<&Opened> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let _one = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if self.opened.get().is_none() {
            // Only the holder of the lock sets it, so this cannot fail.
            drop(self.opened.set(self.open_now()?));
        }
        self.opened.get().ok_or(RestoreError::Worker)
    }

    fn open_now(&self) -> Result<Opened> {
        if self.writing == Writing::Delta
            && let Some(opened) = self.open_existing()?
        {
            return Ok(opened);
        }
        let file = create(&self.path, self.mode, self.owner)?;
        if !self.ends_with_page && self.length > 0 {
            file.set_len(self.length).map_err(RestoreError::file("set the length of", &self.path))?;
        }
        Ok(Opened { file, found: None })
    }

    fn open_existing(&self) -> Result<Option<Opened>> {
        let opened = OpenOptions::new().read(true).write(true).custom_flags(NOFOLLOW).open(&self.path);
        let file = match opened {
            Ok(file) => file,
            Err(source) if source.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RestoreError::file("open", &self.path)(source)),
        };
        let metadata = file.metadata().map_err(RestoreError::file("look at", &self.path))?;
        if metadata.nlink() > 1 {
            fs::remove_file(&self.path).map_err(RestoreError::file("replace", &self.path))?;
            return Ok(None);
        }
        if metadata.mode() & 0o7777 != self.mode {
            let mode = fs::Permissions::from_mode(self.mode);
            file.set_permissions(mode).map_err(RestoreError::file("set the mode of", &self.path))?;
        }
        own(
            &file,
            &self.path,
            self.owner.filter(|owner| (metadata.uid(), metadata.gid()) != (owner.uid, owner.gid)),
        )?;
        if metadata.len() != self.length {
            file.set_len(self.length).map_err(RestoreError::file("set the length of", &self.path))?;
        }
        Ok(Some(Opened { file, found: Some(metadata.len()) }))
    }

    /// Writes pages from `block` on; what lies behind the end of the file is padding and is not written. Returns the bytes written.
    pub(crate) fn write(&self, opened: &Opened, block: u32, pages: &[u8]) -> Result<u64> {
        let offset = offset_of(block);
        let length = self.length.saturating_sub(offset).min(pages.len() as u64);
        let bytes = &pages[..length as usize];
        opened.file.write_all_at(bytes, offset).map_err(RestoreError::file("write", &self.path))?;
        self.written.fetch_add(length, Ordering::Relaxed);
        Ok(length)
    }

    /// Fills `pages` with what the file holds from `block` on, zeroes behind its end.
    pub(crate) fn read(&self, opened: &Opened, block: u32, pages: &mut [u8]) -> Result<()> {
        let offset = offset_of(block);
        let mut filled = 0;
        while filled < pages.len() {
            match opened.file.read_at(&mut pages[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(source) if source.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(RestoreError::file("read", &self.path)(source)),
            }
        }
        pages[filled..].fill(0);
        Ok(())
    }

    /// Makes blocks zeroes without taking room for them.
    pub(crate) fn clear(&self, opened: &Opened, block: u32, blocks: u32) -> Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let length = u64::from(blocks) * pgproof_repo::PAGE_BYTES as u64;
        match fallocate(&opened.file, punch, offset_of(block), length) {
            Ok(()) => {
                self.written.fetch_add(length, Ordering::Relaxed);
                Ok(())
            }
            // A file system without holes: write the zeroes.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                let zeroes = vec![0; pgproof_repo::PAGE_BYTES];
                (block..block + blocks).try_for_each(|block| self.write(opened, block, &zeroes).map(drop))
            }
            Err(errno) => Err(RestoreError::file("clear a part of", &self.path)(errno.into())),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let Some(opened) = self.opened.get() else { return };
        let fared = match opened.found {
            None => &self.tally.created,
            Some(found) if found != self.length || self.written.load(Ordering::Relaxed) > 0 => {
                &self.tally.changed
            }
            Some(_) => &self.tally.unchanged,
        };
        fared.fetch_add(1, Ordering::Relaxed);
    }
}

fn offset_of(block: u32) -> u64 {
    u64::from(block) * pgproof_repo::PAGE_BYTES as u64
}

/// Makes a file that must not exist, with exactly this mode whatever the umask is.
fn create(path: &Path, mode: u32, owner: Option<Owner>) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode & 0o777)
        .custom_flags(NOFOLLOW)
        .open(path)
        .map_err(RestoreError::file("create", path))?;
    // A umask takes away bits of group and others only, on every system where PostgreSQL can run; 0600 needs no second call.
    if mode & 0o7077 != 0 {
        let mode = fs::Permissions::from_mode(mode);
        file.set_permissions(mode).map_err(RestoreError::file("set the mode of", path))?;
    }
    own(&file, path, owner)?;
    Ok(file)
}

/// Gives a file away, when there is somebody to give it to.
pub(crate) fn own(file: &File, path: &Path, owner: Option<Owner>) -> Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    std::os::unix::fs::fchown(file, Some(owner.uid), Some(owner.gid))
        .map_err(RestoreError::file("give away", path))
}

/// Makes a directory, or takes one that is there (delta), with exactly this mode and owner.
pub(crate) fn directory(path: &Path, mode: u32, owner: Option<Owner>) -> Result<()> {
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(source) if source.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(source) => return Err(RestoreError::file("create", path)(source)),
    }
    let mode = fs::Permissions::from_mode(mode & 0o7777);
    fs::set_permissions(path, mode).map_err(RestoreError::file("set the mode of", path))?;
    if let Some(owner) = owner {
        std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid))
            .map_err(RestoreError::file("give away", path))?;
    }
    Ok(())
}

//! Objects as files below a directory of a local or network file system.
//!
//! Durability: content is written to a temporary file in `.tmp` below the root, synced, and only then given its name; the
//! directory that holds the name is synced, and those above it the first time this process uses them. Only after that is success
//! reported. Each wait has a name in [`SyncPoint`](crate::sync::SyncPoint).
//!
//! Conditions: [`PutMode::IfAbsent`] is a rename that refuses to replace, or `link(2)` where the file system lacks it.
//! [`PutMode::IfMatch`], [`PutMode::Overwrite`] and removal hold a lock (`.lock` below the root) while they look and
//! rename, never while they wait for the disk.
//!
//! Absence: "no such file" proves nothing where the disk may have been unmounted. Then the root is opened again, found to hold
//! the [`MARKER`], and the file is looked up once more below that very root, which cannot be unmounted meanwhile.
//!
//! Directories are never removed: another process may be about to put an object there, and knows it synced.
//!
//! `object_store`'s own local backend was not used because it does not sync.

mod lock;
mod publish;
mod walk;
mod writer;

use crate::counters::Meter;
use crate::sync::{SyncPoint, Syncs};
use crate::{
    Counters, MARKER, ObjectMeta, ObjectPath, ObjectWriter, Operation, PutMode, Result, Store, StoreError,
    Version,
};
use jiff::{SignedDuration, Timestamp};
use lock::{Held, ReplaceLock};
use publish::TempFile;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;
use std::{
    collections::{BTreeSet, HashSet},
    fs::{DirBuilder, File},
    io,
    os::fd::OwnedFd,
    os::unix::fs::{DirBuilderExt, FileExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Where temporary files live below the root. [`ObjectPath`] excludes dot names, so no object can be here.
const TEMP_DIR: &str = ".tmp";

/// Nobody but the owner reads a repository, encrypted or not.
const DIR_MODE: RawMode = 0o700;

/// A directory of objects. Clones share everything.
#[derive(Debug, Clone)]
pub struct Directory {
    place: Arc<Place>,
}

/// One opened root.
#[derive(Debug)]
struct Place {
    root: PathBuf,
    /// The root's device and inode when this process made the repository, which until the marker is put is all there is to
    /// recognise it by.
    created: Option<(u64, u64)>,
    /// Whom new files are given to when root works in somebody else's repository, so that the archiver can go on using it.
    owner: Option<(u32, u32)>,
    syncs: Syncs,
    meter: Meter,
    lock: ReplaceLock,
    /// Directories whose names this process knows to be on the disk.
    durable_dirs: Mutex<HashSet<PathBuf>>,
}

impl Directory {
    /// Opens the store of an existing repository.
    ///
    /// # Errors
    /// [`StoreError::NoRepository`] when the directory does not hold the [`MARKER`].
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(root.into(), Syncs::default())
    }

    fn open_with(root: PathBuf, syncs: Syncs) -> Result<Self> {
        let place = Place::new(root, syncs);
        match place.root_fd(Operation::Open) {
            Ok(_) => Ok(Self { place: Arc::new(place.with_owner()?) }),
            Err(StoreError::Unreachable { source, .. })
                if source
                    .downcast_ref::<io::Error>()
                    .is_some_and(|error| error.kind() == io::ErrorKind::NotFound) =>
            {
                Err(StoreError::NoRepository { place: place.root.display().to_string() })
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the place of a new repository, making the directory if necessary. It becomes a repository when the [`MARKER`] is put.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self> {
        Self::create_with(root.into(), Syncs::default())
    }

    fn create_with(root: PathBuf, syncs: Syncs) -> Result<Self> {
        let mut place = Place::new(root, syncs);
        place.make_root().map_err(|error| place.failed(Operation::Create, None, error))?;
        let stat = rustix::fs::stat(&place.root)
            .map_err(|error| place.failed(Operation::Create, None, error.into()))?;
        place.created = Some((stat.st_dev, stat.st_ino));
        Ok(Self { place: Arc::new(place.with_owner()?) })
    }

    /// The root of the store.
    pub fn root(&self) -> &Path {
        &self.place.root
    }

    /// As [`Self::open`], without some sync points, so that a test can see them missed.
    #[cfg(feature = "fault-injection")]
    pub fn open_without(root: impl Into<PathBuf>, skipped: &[SyncPoint]) -> Result<Self> {
        Self::open_with(root.into(), Syncs::without(skipped))
    }

    /// As [`Self::create`], without some sync points, so that a test can see them missed.
    #[cfg(feature = "fault-injection")]
    pub fn create_without(root: impl Into<PathBuf>, skipped: &[SyncPoint]) -> Result<Self> {
        Self::create_with(root.into(), Syncs::without(skipped))
    }
}

impl Place {
    fn new(root: PathBuf, syncs: Syncs) -> Self {
        Self {
            lock: ReplaceLock::new(root.join(".lock")),
            root,
            created: None,
            owner: None,
            syncs,
            meter: Meter::default(),
            durable_dirs: Mutex::default(),
        }
    }

    fn with_owner(mut self) -> Result<Self> {
        let stat =
            rustix::fs::stat(&self.root).map_err(|error| self.failed(Operation::Open, None, error.into()))?;
        if rustix::process::geteuid().is_root() && stat.st_uid != 0 {
            self.owner = Some((stat.st_uid, stat.st_gid));
            self.lock.owned_by(self.owner);
        }
        Ok(self)
    }

    fn make_root(&self) -> io::Result<()> {
        let missing: Vec<&Path> = self.root.ancestors().take_while(|path| !path.exists()).collect();
        for dir in missing.iter().rev() {
            make_dir(dir)?;
        }
        for dir in &missing {
            self.syncs.directory(SyncPoint::RootName, parent_of(dir))?;
        }
        Ok(())
    }

    fn file(&self, path: &ObjectPath) -> PathBuf {
        self.root.join(path.as_str())
    }

    /// The full name for messages.
    fn name(&self, path: Option<&ObjectPath>) -> String {
        path.map_or_else(|| self.root.clone(), |path| self.file(path)).display().to_string()
    }

    fn failed(&self, operation: Operation, path: Option<&ObjectPath>, error: io::Error) -> StoreError {
        StoreError::from_io(operation, self.name(path), error)
    }

    /// Opens the root and proves that it is the repository's. While the descriptor is open nothing can be unmounted below it.
    fn root_fd(&self, operation: Operation) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let unreachable = |error: Errno| match error {
            Errno::NOENT | Errno::NOTDIR => StoreError::Unreachable {
                operation,
                object: self.name(None),
                source: Box::new(io::Error::from(error)),
            },
            error => self.failed(operation, None, error.into()),
        };
        let root = rustix::fs::openat(CWD, &self.root, flags, Mode::empty()).map_err(unreachable)?;
        match rustix::fs::statat(&root, MARKER, AtFlags::empty()) {
            Ok(_) => Ok(root),
            Err(error @ (Errno::NOENT | Errno::NOTDIR)) => {
                let stat = rustix::fs::fstat(&root).map_err(unreachable)?;
                if self.created == Some((stat.st_dev, stat.st_ino)) {
                    Ok(root)
                } else {
                    Err(unreachable(error))
                }
            }
            Err(error) => Err(unreachable(error)),
        }
    }

    fn hold_lock(&self, operation: Operation) -> Result<Held<'_>> {
        self.lock.hold(operation, || self.root_fd(operation).map(drop))
    }

    /// Opens an object for reading; `None` is proof of absence.
    fn open(&self, operation: Operation, path: &ObjectPath) -> Result<Option<(File, Stat)>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = match rustix::fs::openat(CWD, self.file(path), flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let root = self.root_fd(operation)?;
                match rustix::fs::openat(&root, path.as_str(), flags, Mode::empty()) {
                    Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                    opened => opened,
                }
            }
            opened => opened,
        };
        let file = opened.map_err(|error| self.failed(operation, Some(path), error.into()))?;
        let stat =
            rustix::fs::fstat(&file).map_err(|error| self.failed(operation, Some(path), error.into()))?;
        Ok(is_object(&stat).then(|| (File::from(file), stat)))
    }

    fn open_to_read(&self, path: &ObjectPath) -> Result<(File, Stat)> {
        self.meter.get();
        self.open(Operation::Get, path)?.ok_or_else(|| StoreError::NotFound { object: self.name(Some(path)) })
    }

    /// The state of an object; `None` is proof of absence.
    fn stat(&self, operation: Operation, path: &ObjectPath) -> Result<Option<Stat>> {
        let found = match rustix::fs::stat(self.file(path)) {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let root = self.root_fd(operation)?;
                match rustix::fs::statat(&root, path.as_str(), AtFlags::empty()) {
                    Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                    found => found,
                }
            }
            found => found,
        };
        let stat = found.map_err(|error| self.failed(operation, Some(path), error.into()))?;
        Ok(is_object(&stat).then_some(stat))
    }

    /// Fills `buf` from `offset`.
    fn read(&self, path: &ObjectPath, file: &File, offset: u64, buf: &mut [u8]) -> Result<()> {
        let mut got = 0;
        while got < buf.len() {
            match file.read_at(&mut buf[got..], offset + got as u64) {
                Ok(0) => {
                    return Err(StoreError::Truncated {
                        object: self.name(Some(path)),
                        offset,
                        wanted: buf.len() as u64,
                        got: got as u64,
                    });
                }
                Ok(bytes) => got += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(Operation::Get, Some(path), error)),
            }
        }
        self.meter.read(got);
        Ok(())
    }

    /// Removes names, then waits once for each directory they were in.
    fn remove(&self, paths: &[ObjectPath]) -> Result<()> {
        let mut dirs = BTreeSet::new();
        {
            let _lock = self.hold_lock(Operation::Delete)?;
            for path in paths {
                self.meter.delete();
                let file = self.file(path);
                match rustix::fs::unlink(&file) {
                    Ok(()) => {}
                    // An earlier removal may have been interrupted before its sync, so the directory is synced all the same.
                    Err(Errno::NOENT | Errno::NOTDIR) => {
                        self.root_fd(Operation::Delete)?;
                    }
                    Err(error) => return Err(self.failed(Operation::Delete, Some(path), error.into())),
                }
                dirs.insert(parent_of(&file).to_owned());
            }
        }
        for dir in dirs {
            match self.syncs.directory(SyncPoint::RemovedName, &dir) {
                Err(error)
                    if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
                {
                    return Err(StoreError::from_io(Operation::Delete, dir.display().to_string(), error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Remembers that the name of a directory is on the disk; tells whether it was known before.
    fn knows_durable(&self, dir: &Path) -> bool {
        self.durable_dirs.lock().unwrap_or_else(PoisonError::into_inner).contains(dir)
    }

    fn note_durable(&self, dir: &Path) {
        self.durable_dirs.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.to_owned());
    }
}

impl Store for Directory {
    fn describe(&self) -> String {
        format!("directory {}", self.place.root.display())
    }

    fn put(&self, path: &ObjectPath, body: &[&[u8]], mode: PutMode) -> Result<ObjectMeta> {
        let place = &self.place;
        place.meter.put();
        let mut temp = TempFile::create(Arc::clone(place), Operation::Put)?;
        temp.append(body).map_err(|error| place.failed(Operation::Put, Some(path), error))?;
        temp.publish(SyncPoint::PutData, path, &mode)
    }

    fn writer(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(writer::DirectoryWriter::new(Arc::clone(&self.place), path)?))
    }

    fn get_with_meta(&self, path: &ObjectPath) -> Result<(Vec<u8>, ObjectMeta)> {
        let (file, stat) = self.place.open_to_read(path)?;
        let meta = meta(path.clone(), &stat);
        let mut body = vec![0; usize::try_from(meta.size).unwrap_or(usize::MAX)];
        self.place.read(path, &file, 0, &mut body)?;
        Ok((body, meta))
    }

    fn get_range(&self, path: &ObjectPath, offset: u64, buf: &mut [u8]) -> Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        let (file, _) = self.place.open_to_read(path)?;
        self.place.read(path, &file, offset, buf)
    }

    fn get_tail(&self, path: &ObjectPath, len_max: u64) -> Result<(Vec<u8>, u64)> {
        let (file, stat) = self.place.open_to_read(path)?;
        let size = meta(path.clone(), &stat).size;
        let wanted = size.min(len_max);
        let mut tail = vec![0; usize::try_from(wanted).unwrap_or(usize::MAX)];
        self.place.read(path, &file, size - wanted, &mut tail)?;
        Ok((tail, size))
    }

    fn head(&self, path: &ObjectPath) -> Result<Option<ObjectMeta>> {
        self.place.meter.get();
        Ok(self.place.stat(Operation::Head, path)?.map(|stat| meta(path.clone(), &stat)))
    }

    fn list(&self, dir: Option<&ObjectPath>, start_after: Option<&str>) -> Result<Vec<ObjectMeta>> {
        self.place.meter.list();
        walk::objects(&self.place, dir, start_after)
    }

    fn list_dirs(&self, dir: Option<&ObjectPath>) -> Result<Vec<String>> {
        self.place.meter.list();
        walk::dirs(&self.place, dir)
    }

    fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.place.remove(std::slice::from_ref(path))
    }

    fn delete_all(&self, paths: &[ObjectPath]) -> Result<()> {
        self.place.remove(paths)
    }

    fn now(&self) -> Result<Timestamp> {
        let temp = match TempFile::create(Arc::clone(&self.place), Operation::Clock) {
            // Where nothing can be written nothing is removed for its age, and a host's clock will do for looking at it.
            Err(StoreError::ReadOnly { .. }) => return Ok(Timestamp::now()),
            temp => temp?,
        };
        let stat = temp.stat().map_err(|error| self.place.failed(Operation::Clock, None, error))?;
        Ok(modified(&stat))
    }

    fn clean(&self, age: Duration) -> Result<u64> {
        let now = self.now()?;
        let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
        let before = now.saturating_sub(age).unwrap_or(Timestamp::MIN);
        walk::remove_temporary(&self.place, before)
    }

    fn counters(&self) -> Counters {
        self.place.meter.snapshot()
    }
}

/// Makes a directory that may exist already.
fn make_dir(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(DIR_MODE).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// The directory that holds a name. The root of the file system holds itself.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

fn is_object(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

fn meta(path: ObjectPath, stat: &Stat) -> ObjectMeta {
    ObjectMeta { path, size: size(stat), modified: modified(stat), version: version(stat) }
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn modified(stat: &Stat) -> Timestamp {
    let nanoseconds = i32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Timestamp::new(stat.st_mtime, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Inode, time and size name a version: each write makes a new file, and [`TempFile::publish`] makes the time unlike any other
/// even when an inode is used again within one tick of the clock.
fn version(stat: &Stat) -> Version {
    Version::new(format!("{:x}-{:x}-{:x}", stat.st_ino, modified(stat).as_nanosecond(), size(stat)))
}

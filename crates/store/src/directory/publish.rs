//! How a file becomes an object: written aside, synced, then named.

use super::{Place, TEMP_DIR, make_dir, meta, parent_of, version};
use crate::sync::SyncPoint;
use crate::{ObjectMeta, ObjectPath, Operation, PutMode, Result, StoreError};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::{
    fs::File,
    io::{self, IoSlice, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A file that nobody sees yet. Dropping it removes it.
#[derive(Debug)]
pub(super) struct TempFile {
    place: Arc<Place>,
    file: File,
    path: PathBuf,
    named: bool,
}

impl TempFile {
    pub(super) fn create(place: Arc<Place>, operation: Operation) -> Result<Self> {
        let dir = place.root.join(TEMP_DIR);
        let path = dir.join(format!("{:016x}", rand::random::<u64>()));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let open = || rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR);
        let opened = match open() {
            Err(Errno::NOENT) => {
                // Never create anything where the repository's disk is not mounted.
                place.root_fd(operation)?;
                place
                    .make_owned_dir(&dir)
                    .map_err(|error| StoreError::from_io(operation, dir.display().to_string(), error))?;
                open()
            }
            opened => opened,
        };
        let failed = |error: Errno| StoreError::from_io(operation, path.display().to_string(), error.into());
        let file = File::from(opened.map_err(failed)?);
        let temp = Self { place, file, path: path.clone(), named: false };
        if let Some((uid, gid)) = temp.place.owner {
            rustix::fs::fchown(&temp.file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(failed)?;
        }
        Ok(temp)
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn stat(&self) -> io::Result<Stat> {
        rustix::fs::fstat(&self.file).map_err(io::Error::from)
    }

    pub(super) fn append(&mut self, body: &[&[u8]]) -> io::Result<()> {
        let total: usize = body.iter().map(|part| part.len()).sum();
        let mut parts: Vec<IoSlice<'_>> = body.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut parts[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.file.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.place.meter.wrote(total);
        Ok(())
    }

    /// Syncs the content and gives the file its name.
    pub(super) fn publish(
        mut self,
        data: SyncPoint,
        path: &ObjectPath,
        mode: &PutMode,
    ) -> Result<ObjectMeta> {
        let place = Arc::clone(&self.place);
        let failed = |error: io::Error| place.failed(Operation::Put, Some(path), error);
        self.make_time_unique().map_err(failed)?;
        place.syncs.file(data, &self.file).map_err(failed)?;
        let stat = self.stat().map_err(failed)?;
        let target = place.file(path);
        let mut named = self.name(path, &target, mode);
        if matches!(named, Err(Unnamed::NoParent)) {
            place.root_fd(Operation::Put)?;
            place.make_parents(&target).map_err(failed)?;
            named = self.name(path, &target, mode);
        }
        match named {
            Ok(()) => {
                self.named = true;
                place.sync_name(SyncPoint::ObjectName, &target).map_err(failed)?;
                Ok(meta(path.clone(), &stat))
            }
            Err(Unnamed::Exists) => {
                // Its writer may have been killed before it synced the name, and our caller will build on its existence.
                place.sync_name(SyncPoint::ExistingName, &target).map_err(failed)?;
                Err(StoreError::AlreadyExists { object: place.name(Some(path)) })
            }
            Err(Unnamed::NoParent) => Err(failed(Errno::NOENT.into())),
            Err(Unnamed::Failed(error)) => Err(error),
        }
    }

    /// Moves the modification time back by a random part of at most two milliseconds.
    ///
    /// The kernel's clock for files ticks every few milliseconds and inodes are used again at once, so two versions could
    /// otherwise look alike. Back, never forward: no object is younger than the store's clock.
    fn make_time_unique(&self) -> io::Result<()> {
        const MILLISECOND: i64 = 1_000_000;
        let stat = self.stat()?;
        let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let earlier =
            nanoseconds / MILLISECOND * MILLISECOND - MILLISECOND + rand::random_range(0..MILLISECOND);
        let borrow = i64::from(earlier < 0);
        let time = Timespec { tv_sec: stat.st_mtime - borrow, tv_nsec: earlier + borrow * 1_000_000_000 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(&self.file, &times).map_err(io::Error::from)
    }

    fn name(&self, path: &ObjectPath, target: &Path, mode: &PutMode) -> Result<(), Unnamed> {
        match mode {
            PutMode::IfAbsent => self.name_if_absent(path, target),
            PutMode::Overwrite => {
                let _lock = self.place.hold_lock(Operation::Put)?;
                self.rename(path, target, RenameFlags::empty())
            }
            PutMode::IfMatch(wanted) => {
                let _lock = self.place.hold_lock(Operation::Put)?;
                let found = self.place.stat(Operation::Put, path)?.map(|stat| version(&stat));
                if found.as_ref() != Some(wanted) {
                    let object = self.place.name(Some(path));
                    return Err(StoreError::VersionMismatch { object, found }.into());
                }
                self.rename(path, target, RenameFlags::empty())
            }
        }
    }

    fn name_if_absent(&self, path: &ObjectPath, target: &Path) -> Result<(), Unnamed> {
        // EINVAL: the file system does not know the flag (NFS, most of FUSE). ENOSYS: the kernel does not know the call.
        match rustix::fs::renameat_with(CWD, &self.path, CWD, target, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            renamed => return self.sorted(path, renamed),
        }
        match rustix::fs::linkat(CWD, &self.path, CWD, target, AtFlags::empty()) {
            // A network file system repeats a request whose reply was lost, and then meets its own link.
            Err(Errno::EXIST) if self.stat().is_ok_and(|stat| stat.st_nlink > 1) => self.unlink_temp(),
            Ok(()) => self.unlink_temp(),
            // No links either (FAT, some network shares): look and rename under the lock, which excludes all but foreign software.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
                let _lock = self.place.hold_lock(Operation::Put)?;
                match self.place.stat(Operation::Put, path)? {
                    Some(_) => Err(Unnamed::Exists),
                    None => self.rename(path, target, RenameFlags::empty()),
                }
            }
            linked => self.sorted(path, linked),
        }
    }

    fn unlink_temp(&self) -> Result<(), Unnamed> {
        // The object is there under its name; a second name in `.tmp` is swept by the next cleaning.
        let _ = rustix::fs::unlink(&self.path);
        Ok(())
    }

    fn rename(&self, path: &ObjectPath, target: &Path, flags: RenameFlags) -> Result<(), Unnamed> {
        self.sorted(path, rustix::fs::renameat_with(CWD, &self.path, CWD, target, flags))
    }

    fn sorted(&self, path: &ObjectPath, named: rustix::io::Result<()>) -> Result<(), Unnamed> {
        named.map_err(|error| match error {
            Errno::EXIST => Unnamed::Exists,
            Errno::NOENT => Unnamed::NoParent,
            error => Unnamed::Failed(self.place.failed(Operation::Put, Some(path), error.into())),
        })
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.named {
            // What cannot be removed now is swept by the next cleaning.
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}

/// Why a file did not get its name.
#[derive(Debug)]
enum Unnamed {
    Exists,
    NoParent,
    Failed(StoreError),
}

impl From<StoreError> for Unnamed {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl Place {
    fn make_owned_dir(&self, dir: &Path) -> io::Result<()> {
        make_dir(dir)?;
        match self.owner {
            Some((uid, gid)) => std::os::unix::fs::chown(dir, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// The directories between the root and an object, uppermost first.
    fn dirs_above<'a>(&self, target: &'a Path) -> Vec<&'a Path> {
        let mut dirs: Vec<&Path> = target.ancestors().skip(1).take_while(|dir| *dir != self.root).collect();
        dirs.reverse();
        dirs
    }

    fn make_parents(&self, target: &Path) -> io::Result<()> {
        self.dirs_above(target).into_iter().try_for_each(|dir| self.make_owned_dir(dir))
    }

    /// Waits until an object's name is on the disk, and the names of all directories above it. That one exists does not mean
    /// that it will survive: another process may have made it a moment ago and not synced it yet.
    fn sync_name(&self, point: SyncPoint, target: &Path) -> io::Result<()> {
        self.syncs.directory(point, parent_of(target))?;
        for dir in self.dirs_above(target).into_iter().rev() {
            if !self.knows_durable(dir) {
                self.syncs.directory(SyncPoint::ParentNames, parent_of(dir))?;
                self.note_durable(dir);
            }
        }
        Ok(())
    }
}

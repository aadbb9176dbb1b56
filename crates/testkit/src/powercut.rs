//! A file system that loses what was not synced when its power is cut.
//!
//! [`PowerCutFs::mount`] mounts it (FUSE, without libfuse) on a directory; the program under test works there;
//! [`PowerCutFs::cut`] or [`PowerCutFs::cut_after`] switches it off, after which everything fails with `EIO`; and
//! [`PowerCutFs::restart`] switches it on again with what survived. Programs must then open everything anew, as after a reboot.
//!
//! Everything is in memory, and nothing is cached by the kernel, so each system call is seen here. The rules of survival are in
//! `disk`. Not modelled: owners and modes (they change at once), symbolic links, `O_SYNC`, and `syncfs`.
//!
//! Mounting needs root, or `fusermount3` and access to `/dev/fuse`.

mod disk;

use anyhow::{Context, Result, bail};
use disk::{Content, Dir, Disk, File, Node};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, SessionACL,
    TimeOrNow, WriteFlags,
};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

/// What survives of that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survivors {
    /// Everything: not the system fails but the program, killed before its next change.
    Everything,
    /// Nothing.
    OnlySynced,
    /// Each change by chance, drawn from this seed.
    Random(u64),
}

/// What the file system can do: by default everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// `renameat2` with `RENAME_NOREPLACE`; NFS lacks it.
    pub rename_noreplace: bool,
    /// Hard links; FAT lacks them.
    pub links: bool,
    /// Whether anything can be changed.
    pub writable: bool,
    /// How many bytes all files may hold.
    pub capacity_bytes: u64,
}

impl Default for Features {
    fn default() -> Self {
        Self { rename_noreplace: true, links: true, writable: true, capacity_bytes: u64::MAX }
    }
}

/// How many times the power is cut in one test: `PGPROOF_CUTS`, or few enough for every run of the tests.
///
/// # Panics
/// When the variable holds no number.
#[must_use]
pub fn cuts() -> u32 {
    std::env::var("PGPROOF_CUTS").map_or(50, |text| text.parse().expect("PGPROOF_CUTS is a number"))
}

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct PowerCutFs {
    path: PathBuf,
    shared: Arc<Mutex<State>>,
    _session: BackgroundSession,
}

#[derive(Debug)]
struct State {
    disk: Disk,
    off: bool,
    operations: u64,
    cut_at: Option<(u64, Survivors)>,
    features: Features,
}

impl PowerCutFs {
    /// Mounts an empty file system on a directory.
    ///
    /// # Errors
    /// Fails, with the reason, where FUSE cannot be used.
    pub fn mount(dir: &Path) -> Result<Self> {
        Self::mount_with(dir, Features::default())
    }

    /// As [`Self::mount`], with less than everything supported.
    ///
    /// # Errors
    /// As [`Self::mount`].
    pub fn mount_with(dir: &Path, features: Features) -> Result<Self> {
        if !Path::new("/dev/fuse").exists() {
            bail!("power cuts need FUSE, and /dev/fuse does not exist: run `modprobe fuse` as root");
        }
        let root = Node {
            mode: 0o755,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            modified: SystemTime::now(),
            content: Content::Dir(Dir::default()),
        };
        let state = State { disk: Disk::new(root), off: false, operations: 0, cut_at: None, features };
        let shared = Arc::new(Mutex::new(state));
        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::FSName("powercut".to_owned()), MountOption::DefaultPermissions];
        if rustix::process::geteuid().is_root() {
            config.acl = SessionACL::All;
        }
        let session = fuser::spawn_mount(Served(Arc::clone(&shared)), dir, &config).with_context(|| {
            format!("could not mount on {}: are you root, or is fusermount3 installed?", dir.display())
        })?;
        Ok(Self { path: dir.to_owned(), shared, _session: session })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers nothing until the value is dropped, as a disk that hangs.
    #[must_use]
    pub fn hang(&self) -> impl Sized + use<'_> {
        state(&self.shared)
    }

    /// Cuts the power now.
    pub fn cut(&self, survivors: Survivors) {
        state(&self.shared).cut(survivors);
    }

    /// Cuts the power before the given number of further changes and syncs has been done.
    pub fn cut_after(&self, operations: u64, survivors: Survivors) {
        let mut state = state(&self.shared);
        state.cut_at = Some((state.operations + operations, survivors));
    }

    /// Whether the power is off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        state(&self.shared).off
    }

    /// Switches the power on again, and forgets a cut that was planned and did not come.
    pub fn restart(&self) {
        let mut state = state(&self.shared);
        state.off = false;
        state.cut_at = None;
    }

    /// Changes what the file system can do, as a remount or a filling disk would.
    pub fn set_features(&self, features: Features) {
        state(&self.shared).features = features;
    }

    /// Changes and syncs so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        state(&self.shared).operations
    }
}

fn state(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn cut(&mut self, survivors: Survivors) {
        if !self.off {
            self.off = true;
            self.disk.cut(survivors);
        }
    }

    /// The disk, to look at.
    fn look(&self) -> disk::Result<&Disk> {
        if self.off { Err(Errno::EIO) } else { Ok(&self.disk) }
    }

    /// The disk, to change; this is where a planned cut comes.
    fn change(&mut self) -> disk::Result<&mut Disk> {
        if let Some((at, survivors)) = self.cut_at
            && self.operations >= at
        {
            self.cut(survivors);
        }
        if self.off {
            return Err(Errno::EIO);
        }
        if !self.features.writable {
            return Err(Errno::EROFS);
        }
        self.operations += 1;
        Ok(&mut self.disk)
    }

    fn attributes(&self, id: u64) -> disk::Result<FileAttr> {
        let disk = self.look()?;
        let node = disk.node(id)?;
        let (kind, size) = match &node.content {
            Content::File(file) => (FileType::RegularFile, file.now.len() as u64),
            Content::Dir(_) => (FileType::Directory, 4096),
        };
        Ok(FileAttr {
            ino: INodeNo(id),
            size,
            blocks: size.div_ceil(512),
            atime: node.modified,
            mtime: node.modified,
            ctime: node.modified,
            crtime: node.modified,
            kind,
            perm: u16::try_from(node.mode & 0o7777).unwrap_or(0),
            nlink: disk.links(id),
            uid: node.uid,
            gid: node.gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn create(
        &mut self,
        request: &Request,
        parent: u64,
        name: &OsStr,
        mode: u32,
        content: Content,
    ) -> disk::Result<FileAttr> {
        let node =
            Node { mode, uid: request.uid(), gid: request.gid(), modified: SystemTime::now(), content };
        let id = self.change()?.create(parent, text(name)?, node)?;
        self.attributes(id)
    }
}

/// Nothing is cached, so that the kernel never answers for a disk that lost its memory.
const NO_CACHE: Duration = Duration::ZERO;

struct Served(Arc<Mutex<State>>);

impl Served {
    fn state(&self) -> MutexGuard<'_, State> {
        state(&self.0)
    }
}

fn text(name: &OsStr) -> disk::Result<&str> {
    name.to_str().ok_or(Errno::EINVAL)
}

fn position(offset: u64) -> disk::Result<usize> {
    // A test that writes further has a bug, and memory is finite.
    usize::try_from(offset).ok().filter(|offset| *offset < 1 << 34).ok_or(Errno::EFBIG)
}

fn entry(found: disk::Result<FileAttr>, reply: ReplyEntry) {
    match found {
        Ok(attributes) => reply.entry(&NO_CACHE, &attributes, Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn empty(done: disk::Result<()>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Served {
    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = self.state();
        let found = text(name)
            .and_then(|name| state.look()?.lookup(parent.0, name))
            .and_then(|id| state.attributes(id));
        entry(found, reply);
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.state().attributes(ino.0) {
            Ok(attributes) => reply.attr(&NO_CACHE, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.state();
        let set = |state: &mut State| {
            let disk = state.change()?;
            if let Some(size) = size {
                disk.truncate(ino.0, position(size)?)?;
            }
            let node = disk.node_mut(ino.0)?;
            node.mode = mode.unwrap_or(node.mode);
            node.uid = uid.unwrap_or(node.uid);
            node.gid = gid.unwrap_or(node.gid);
            match mtime {
                Some(TimeOrNow::SpecificTime(time)) => node.modified = time,
                Some(TimeOrNow::Now) => node.modified = SystemTime::now(),
                None => {}
            }
            state.attributes(ino.0)
        };
        match set(&mut state) {
            Ok(attributes) => reply.attr(&NO_CACHE, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let content = Content::Dir(Dir::default());
        entry(self.state().create(request, parent.0, name, mode & !umask, content), reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let content = Content::File(File::default());
        match self.state().create(request, parent.0, name, mode & !umask, content) {
            Ok(attributes) => {
                let flags = FopenFlags::FOPEN_DIRECT_IO;
                reply.created(&NO_CACHE, &attributes, Generation(0), FileHandle(0), flags);
            }
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = self.state();
        empty(text(name).and_then(|name| state.change()?.unlink(parent.0, name)), reply);
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = self.state();
        empty(text(name).and_then(|name| state.change()?.rmdir(parent.0, name)), reply);
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.state();
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        if !(RenameFlags::RENAME_NOREPLACE.contains(flags) && (replace || state.features.rename_noreplace)) {
            return reply.error(Errno::EINVAL);
        }
        let renamed = text(name).and_then(|name| Ok((name, text(newname)?))).and_then(|(name, newname)| {
            state.change()?.rename((parent.0, name), (newparent.0, newname), replace)
        });
        empty(renamed, reply);
    }

    fn link(&self, _request: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        if !state.features.links {
            return reply.error(Errno::EPERM);
        }
        let linked = text(newname)
            .and_then(|name| state.change()?.link(ino.0, newparent.0, name))
            .and_then(|()| state.attributes(ino.0));
        entry(linked, reply);
    }

    fn open(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.state().look().and_then(|disk| disk.file(ino.0)) {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.state();
        match state.look().and_then(|disk| disk.file(ino.0)) {
            Ok(file) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.now.len());
                let end = (start + size as usize).min(file.now.len());
                reply.data(&file.now[start..end]);
            }
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.state();
        let written = position(offset).and_then(|offset| {
            let capacity = state.features.capacity_bytes;
            let disk = state.change()?;
            if capacity < u64::MAX && disk.bytes().saturating_add(data.len() as u64) > capacity {
                return Err(Errno::ENOSPC);
            }
            disk.write(ino.0, offset, data)?;
            disk.node_mut(ino.0)?.modified = SystemTime::now();
            Ok(())
        });
        match written {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(0)),
            Err(error) => reply.error(error),
        }
    }

    fn flush(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsync(&self, _request: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let mut state = self.state();
        empty(state.change().and_then(|disk| disk.sync_file(ino.0)), reply);
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let mut state = self.state();
        empty(state.change().and_then(|disk| disk.sync_dir(ino.0)), reply);
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let state = self.state();
        let dir = match state.look().and_then(|disk| disk.dir(ino.0)) {
            Ok(dir) => dir,
            Err(error) => return reply.error(error),
        };
        let own = [(".", ino.0), ("..", ino.0)].into_iter();
        let names = own.chain(dir.now.iter().map(|(name, id)| (name.as_str(), *id)));
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (number, (name, id)) in (1..).zip(names).skip(skipped) {
            let is_dir = state.look().is_ok_and(|disk| disk.dir(id).is_ok());
            let kind = if is_dir { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(id), number, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let blocks = 1 << 22;
        reply.statfs(blocks, blocks, blocks, blocks, blocks, 4096, 255, 4096);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_mounted_disk_forgets_what_was_not_synced() {
        let dir = tempfile::tempdir().unwrap();
        let disk = PowerCutFs::mount(dir.path()).unwrap();
        let file = |name: &str| disk.path().join(name);
        fs::write(file("safe"), b"safe").unwrap();
        fs::File::open(file("safe")).unwrap().sync_all().unwrap();
        fs::File::open(disk.path()).unwrap().sync_all().unwrap();
        fs::write(file("lost"), b"lost").unwrap();
        assert_eq!(fs::read(file("lost")).unwrap(), b"lost");
        disk.cut(Survivors::OnlySynced);
        assert!(disk.is_off());
        assert_eq!(fs::read(file("safe")).unwrap_err().raw_os_error(), Some(5), "EIO while the power is off");
        disk.restart();
        assert_eq!(fs::read(file("safe")).unwrap(), b"safe");
        assert!(!file("lost").exists());
    }

    #[test]
    fn a_cut_comes_after_the_planned_number_of_changes() {
        let dir = tempfile::tempdir().unwrap();
        let disk = PowerCutFs::mount(dir.path()).unwrap();
        disk.cut_after(2, Survivors::OnlySynced);
        fs::create_dir(disk.path().join("one")).unwrap();
        fs::create_dir(disk.path().join("two")).unwrap();
        fs::create_dir(disk.path().join("three")).unwrap_err();
        assert!(disk.is_off());
    }
}

//! Answers the kernel.
//!
//! What the kernel may remember it is told to remember for long: nobody else changes this file system. Opening is not answered at all
//! (ENOSYS), which the kernel takes for "always, and keep the cache" (`fuse_file_open` in `fs/fuse/file.c`): every backend opens
//! each relation anew. Neither is syncing, which then succeeds without a request: there is nothing to be synced.

use super::base::{Base, lock};
use super::layer::{Layer, Leaf};
use super::tree::{Content, Found, ROOT, Tree};
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use pgproof_server::Owner;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

/// How long names and attributes are good: until the kernel forgets them.
const FOR_LONG: Duration = Duration::from_secs(24 * 3600);

/// Longest read and write: more saves nothing, and each thread has a buffer of this size.
const REQUEST_BYTES: u32 = 1 << 20;

/// What is served, shared with the desk.
pub(crate) struct Volume {
    pub(crate) base: Option<Base>,
    pub(crate) layer: Layer,
    pub(crate) tree: RwLock<Tree>,
    pub(crate) owner: Owner,
    listings: Mutex<HashMap<u64, Arc<Listing>>>,
    next_listing: AtomicU64,
}

/// A directory as it was when it was opened: whoever removes what he lists misses nothing.
type Listing = Vec<(u64, FileType, String)>;

impl Volume {
    pub(crate) fn new(base: Option<Base>, layer: Layer, tree: Tree, owner: Owner) -> Self {
        let (tree, listings) = (RwLock::new(tree), Mutex::default());
        Self { base, layer, tree, owner, listings, next_listing: AtomicU64::new(1) }
    }

    pub(crate) fn tree(&self) -> RwLockReadGuard<'_, Tree> {
        self.tree.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tree_mut(&self) -> RwLockWriteGuard<'_, Tree> {
        self.tree.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn attributes(&self, tree: &Tree, number: u64) -> Found<FileAttr> {
        let node = tree.node(number)?;
        let (kind, size) = match &node.content {
            Content::Directory(_) => (FileType::Directory, 4096),
            Content::Link(target) => (FileType::Symlink, target.len() as u64),
            Content::File(leaf) => (FileType::RegularFile, leaf.size()),
        };
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: node.modified,
            mtime: node.modified,
            ctime: node.modified,
            crtime: node.modified,
            kind,
            perm: (node.mode & 0o7777) as u16,
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid: self.owner.uid,
            gid: self.owner.gid,
            rdev: 0,
            blksize: 8192,
            flags: 0,
        })
    }

    fn make(
        &self,
        parent: u64,
        name: &OsStr,
        mode: u32,
        content: impl FnOnce(u64) -> Content,
    ) -> Found<FileAttr> {
        let mut tree = self.tree_mut();
        let content = content(tree.next());
        let number = tree.add(parent, text(name)?, content, mode & 0o7777, SystemTime::now())?;
        tree.tell(number);
        self.attributes(&tree, number)
    }

    fn list(&self, number: u64) -> Found<Listing> {
        let tree = self.tree();
        let parent = tree.node(number)?.parent;
        let kind = |node: u64| match tree.node(node).map(|node| &node.content) {
            Ok(Content::Directory(_)) => FileType::Directory,
            Ok(Content::Link(_)) => FileType::Symlink,
            _ => FileType::RegularFile,
        };
        let own = [(number, ".".to_owned()), (parent, "..".to_owned())];
        let all = own.into_iter().chain(tree.names(number)?.iter().map(|(name, node)| (*node, name.clone())));
        Ok(all.map(|(node, name)| (node, kind(node), name)).collect())
    }

    fn change(
        &self,
        number: u64,
        mode: Option<u32>,
        size: Option<u64>,
        modified: Option<SystemTime>,
    ) -> io::Result<FileAttr> {
        if let Some(size) = size {
            let leaf = self.tree().leaf(number)?;
            leaf.truncate(&self.layer, size)?;
        }
        let mut tree = self.tree_mut();
        let node = tree.node_mut(number)?;
        node.mode = mode.map_or(node.mode, |mode| mode & 0o7777);
        node.modified = modified.unwrap_or(node.modified);
        Ok(self.attributes(&tree, number)?)
    }

    fn write(&self, number: u64, offset: u64, data: &[u8]) -> io::Result<()> {
        let leaf = self.tree().leaf(number)?;
        leaf.write(self.base.as_ref(), &self.layer, offset, data)
    }
}

fn text(name: &OsStr) -> Found<&str> {
    name.to_str().ok_or(rustix::io::Errno::INVAL)
}

/// A system's error as it is; everything else, the repository's foremost, is EIO.
fn code(error: &io::Error) -> Errno {
    let raw = match error.kind() {
        io::ErrorKind::StorageFull => Some(rustix::io::Errno::NOSPC.raw_os_error()),
        _ => error.raw_os_error(),
    };
    raw.map_or(Errno::EIO, Errno::from_i32)
}

fn found_code(errno: rustix::io::Errno) -> Errno {
    Errno::from_i32(errno.raw_os_error())
}

fn entry(found: Found<FileAttr>, reply: ReplyEntry) {
    match found {
        Ok(attributes) => reply.entry(&FOR_LONG, &attributes, Generation(0)),
        Err(errno) => reply.error(found_code(errno)),
    }
}

fn empty(done: Found<()>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(found_code(errno)),
    }
}

/// The volume as fuser wants it.
pub(crate) struct Served(pub(crate) Arc<Volume>);

impl Filesystem for Served {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What the kernel is too old for it does without.
        let _ = config.set_max_write(REQUEST_BYTES);
        let _ = config.set_max_readahead(REQUEST_BYTES);
        let _ = config.set_max_background(64);
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = text(name).and_then(|name| {
            let mut tree = self.0.tree_mut();
            let number = tree.lookup(parent.0, name)?;
            tree.tell(number);
            self.0.attributes(&tree, number)
        });
        entry(found, reply);
    }

    fn forget(&self, _request: &Request, ino: INodeNo, times: u64) {
        if ino.0 != ROOT {
            self.0.tree_mut().forget(ino.0, times);
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.attributes(&self.0.tree(), ino.0) {
            Ok(attributes) => reply.attr(&FOR_LONG, &attributes),
            Err(errno) => reply.error(found_code(errno)),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
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
        let modified = mtime.map(|time| match time {
            TimeOrNow::SpecificTime(time) => time,
            TimeOrNow::Now => SystemTime::now(),
        });
        match self.0.change(ino.0, mode, size, modified) {
            Ok(attributes) => reply.attr(&FOR_LONG, &attributes),
            Err(error) => reply.error(code(&error)),
        }
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        match self.0.tree().node(ino.0).map(|node| &node.content) {
            Ok(Content::Link(target)) => reply.data(target.as_bytes()),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(errno) => reply.error(found_code(errno)),
        }
    }

    fn mkdir(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        entry(self.0.make(parent.0, name, mode & !umask, |_| Content::Directory(BTreeMap::new())), reply);
    }

    fn symlink(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &std::path::Path,
        reply: ReplyEntry,
    ) {
        let made = text(target.as_os_str()).and_then(|target| {
            let target = target.to_owned();
            self.0.make(parent.0, name, 0o777, |_| Content::Link(target))
        });
        entry(made, reply);
    }

    fn create(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let new = |number| Content::File(Arc::new(Leaf::new(number)));
        match self.0.make(parent.0, name, mode & !umask, new) {
            Ok(attributes) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE;
                reply.created(&FOR_LONG, &attributes, Generation(0), FileHandle(0), flags);
            }
            Err(errno) => reply.error(found_code(errno)),
        }
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(text(name).and_then(|name| self.0.tree_mut().unlink(&self.0.layer, parent.0, name)), reply);
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed =
            text(name).and_then(|name| self.0.tree_mut().remove_directory(&self.0.layer, parent.0, name));
        empty(removed, reply);
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
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        if !RenameFlags::RENAME_NOREPLACE.contains(flags) {
            return reply.error(Errno::EINVAL);
        }
        let renamed = text(name).and_then(|name| Ok((name, text(newname)?))).and_then(|(name, newname)| {
            self.0.tree_mut().rename(&self.0.layer, (parent.0, name), (newparent.0, newname), replace)
        });
        empty(renamed, reply);
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
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
        let leaf = self.0.tree().leaf(ino.0);
        match leaf.map_err(io::Error::from).and_then(|leaf| leaf.read(self.0.base.as_ref(), offset, size)) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(code(&error)),
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
        match self.0.write(ino.0, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(code(&error)),
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
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _request: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        // Holes and moved ranges are nothing that PostgreSQL asks for.
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let leaf = self.0.tree().leaf(ino.0).map_err(io::Error::from);
        match leaf.and_then(|leaf| leaf.allocate(&self.0.layer, offset, length)) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(code(&error)),
        }
    }

    fn opendir(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.0.list(ino.0) {
            Ok(listing) => {
                let handle = self.0.next_listing.fetch_add(1, Ordering::Relaxed);
                lock(&self.0.listings).insert(handle, Arc::new(listing));
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(errno) => reply.error(found_code(errno)),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some(listing) = lock(&self.0.listings).get(&fh.0).cloned() else {
            return reply.error(Errno::EBADF);
        };
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (number, (node, kind, name)) in (1..).zip(listing.iter()).skip(skipped) {
            if reply.add(INodeNo(*node), number, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        lock(&self.0.listings).remove(&fh.0);
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match rustix::fs::statvfs(self.0.layer.directory()) {
            Ok(seen) => {
                let size = u32::try_from(seen.f_frsize).unwrap_or(4096);
                reply.statfs(
                    seen.f_blocks,
                    seen.f_bfree,
                    seen.f_bavail,
                    seen.f_files,
                    seen.f_ffree,
                    size,
                    255,
                    size,
                );
            }
            Err(errno) => reply.error(found_code(errno)),
        }
    }
}

//! The lock under which objects are compared and replaced.
//!
//! `flock(2)` belongs to an open file, so it is released when its holder dies, excludes other processes, and on network file
//! systems other hosts. A holder that was stopped keeps it, so waiting for it ends after [`WAIT_MAX`].

use crate::{Operation, Result, StoreError};
use rustix::fs::{FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The lock covers two system calls, so even a queue of hundreds is served in this time on a slow network file system.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How long to sleep between attempts; `flock` itself cannot wait with a limit.
const WAIT_STEP: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(super) struct ReplaceLock {
    path: PathBuf,
    owner: Option<(u32, u32)>,
    /// Threads of this process queue here, in order, before they compete with other processes.
    threads: Mutex<()>,
}

/// Holds the lock until dropped.
#[derive(Debug)]
pub(super) struct Held<'a> {
    // Fields are dropped in order: the file first, else the next thread would find it still locked.
    _file: OwnedFd,
    _threads: MutexGuard<'a, ()>,
}

impl ReplaceLock {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, owner: None, threads: Mutex::default() }
    }

    /// Makes the lock file, which another process may be doing too.
    fn make(&self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let file = rustix::fs::open(&self.path, flags, Mode::RUSR | Mode::WUSR)?;
        if let Some((uid, gid)) = self.owner {
            rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        Ok(file)
    }

    pub(super) fn owned_by(&mut self, owner: Option<(u32, u32)>) {
        self.owner = owner;
    }

    /// Waits for the lock. `prove` says whether the root is really the repository's, before anything is made in it.
    pub(super) fn hold(&self, operation: Operation, prove: impl FnOnce() -> Result<()>) -> Result<Held<'_>> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error: Errno| match error {
            Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK => StoreError::Unsupported {
                operation,
                object: self.path.display().to_string(),
                what: "file locks",
            },
            error => StoreError::from_io(operation, self.path.display().to_string(), error.into()),
        };
        let file = match rustix::fs::open(&self.path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => {
                prove()?;
                self.make().map_err(failed)?
            }
            opened => opened.map_err(failed)?,
        };
        let start = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Held { _file: file, _threads: threads }),
                Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < WAIT_MAX => {
                    std::thread::sleep(WAIT_STEP);
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    return Err(StoreError::Timeout {
                        operation,
                        object: self.path.display().to_string(),
                        after: WAIT_MAX,
                    });
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

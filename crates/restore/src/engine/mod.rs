//! Puts the files of a backup into place: the part of a restore that moves bytes.
//!
//! One thread walks the manifest, makes directories and links and cuts files into batches; workers read extents and write pages
//! (`worker.rs`). What is held is bounded by the workers, never by the backup: one chunk of the manifest and two batches for each
//! worker. Nothing is synced here: one `syncfs` for each file system follows when all is written (`finish.rs`).
//!
//! Where paths of the backup lie is [`Places`]' business, and what is left out is the caller's, so that a sandbox can place the same
//! files elsewhere.

mod batch;
mod content;
mod output;
#[cfg(test)]
mod tests;
mod worker;

pub use content::{content, content_of};
pub(crate) use output::{directory, own};
pub use worker::Work;

use crate::error::{Refusal, RestoreError, Result};
use crate::places::Places;
use batch::{Batch, Batcher};
use output::{Output, OutputSpec, Tally, Writing};
use pgproof_base::Progress;
use pgproof_repo::{
    BackupId, ContentId, FileEntry, FileKind, FileMap, Manifest, PieceIdentities, Repository,
};
use pgproof_server::Owner;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use worker::{Failure, Worker};

/// Packs whose piece identities are remembered while comparing: 4 GiB of stored extents, about 4 MB of memory.
const IDENTITY_PACKS: usize = 64;

/// How files that exist are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Existing {
    /// There are none; meeting one is an error.
    None,
    /// They are compared by content, and only what differs is written.
    Compare,
}

/// What to place, and how.
pub struct Placement<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// The backup's manifest.
    pub manifest: &'a Manifest,
    /// Where its paths lie.
    pub places: &'a Places,
    /// What is done about files that exist.
    pub existing: Existing,
    /// To whom everything is given; `None` when this process' user is to own it.
    pub owner: Option<Owner>,
    /// Threads that read and write.
    pub workers: usize,
    /// Which entries are placed; the others are passed over.
    pub admits: &'a (dyn Fn(&FileEntry) -> bool + Sync),
    /// Which files get their length and no content.
    pub hollow: &'a (dyn Fn(&FileEntry) -> bool + Sync),
    /// Told of every byte that is in place.
    pub progress: &'a dyn Progress,
    /// A backup to name when this one turns out to be damaged.
    pub other_backup: Option<BackupId>,
}

/// What placing did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Placed {
    /// Directories.
    pub directories: u64,
    /// Files that were not there before.
    pub files_created: u64,
    /// Files that were there and differed.
    pub files_changed: u64,
    /// Files that were there and were right.
    pub files_unchanged: u64,
    /// Bytes read, compared and written.
    pub work: Work,
}

impl Placement<'_> {
    /// Places every admitted entry of the manifest. Directories that hold them are made in the order of the manifest; those above
    /// the first entries (the data directory, tablespaces) must exist.
    ///
    /// # Errors
    /// [`RestoreError::Damage`] names the file and block that could not be had; [`RestoreError::DiskFull`] and
    /// [`RestoreError::File`] the file that could not be written. What was written until then stays.
    pub fn perform(&self) -> Result<Placed> {
        let workers = self.workers.max(1);
        let shared = Shared::default();
        // Two batches for each worker: one being done, one waiting.
        let (sender, receiver) = sync_channel::<Batch>(workers);
        // Owned by the workers alone: when the last of them is gone, sending fails instead of waiting for ever.
        let receiver = Arc::new(Mutex::new(receiver));
        let tally = Arc::new(Tally::default());
        let mut placed = Placed::default();
        std::thread::scope(|scope| {
            let spawn = |_| {
                let receiver = receiver.clone();
                let shared = &shared;
                scope.spawn(move || self.work(&receiver, shared))
            };
            let running: Vec<_> = (0..workers).map(spawn).collect();
            drop(receiver);
            match self.walk(sender, &shared, &tally) {
                Ok(directories) => placed.directories = directories,
                Err(error) => shared.fail(Failure::Error(error)),
            }
            for worker in running {
                if worker.join().is_err() {
                    shared.fail(Failure::Error(RestoreError::Worker));
                }
            }
        });
        let (failure, work) = shared.into_inner();
        if let Some(failure) = failure {
            return Err(self.explain(failure));
        }
        placed.work = work;
        placed.files_created = tally.created.load(Ordering::Relaxed);
        placed.files_changed = tally.changed.load(Ordering::Relaxed);
        placed.files_unchanged = tally.unchanged.load(Ordering::Relaxed);
        Ok(placed)
    }

    fn explain(&self, failure: Failure) -> RestoreError {
        match failure {
            Failure::Error(error) => error,
            Failure::Damaged(damaged) => RestoreError::Damage {
                backup: self.manifest.summary().id,
                what: damaged.what,
                other: self.other_backup,
                source: damaged.source,
            },
        }
    }

    /// A worker's life: batches until there are no more, or somebody failed.
    fn work(&self, receiver: &Mutex<Receiver<Batch>>, shared: &Shared) {
        let system = self.manifest.summary().system;
        let mut worker = match Worker::new(self.repository, system, self.manifest.packs()) {
            Ok(worker) => worker,
            Err(error) => return shared.fail(error.into()),
        };
        loop {
            let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(batch) = next else { break };
            // The queue is drained even after a failure, so that the walk never waits for a place in it.
            if shared.failed() {
                continue;
            }
            match worker.perform(batch) {
                Ok(bytes) => self.progress.advance(bytes),
                Err(failure) => shared.fail(failure),
            }
        }
        shared.add(&worker.work);
    }

    /// Walks the manifest; returns the number of directories.
    fn walk(&self, sender: SyncSender<Batch>, shared: &Shared, tally: &Arc<Tally>) -> Result<u64> {
        let system = self.manifest.summary().system;
        let identities = PieceIdentities::new(self.repository, system, IDENTITY_PACKS);
        let mut batcher = Batcher::default();
        let mut ready = Vec::new();
        let mut directories = 0;
        for entry in self.manifest.files() {
            let entry = entry.map_err(RestoreError::repository("read the manifest"))?;
            if shared.failed() {
                return Ok(directories);
            }
            if !(self.admits)(&entry) {
                continue;
            }
            let path = self.resolve(&entry)?;
            match &entry.kind {
                FileKind::Directory => {
                    output::directory(&path, entry.mode, self.owner)?;
                    directories += 1;
                }
                FileKind::Link { target } => self.link(&path, target)?,
                FileKind::File if (self.hollow)(&entry) => {
                    self.add_hollow(&entry, path, tally, &mut batcher, &mut ready)?;
                }
                FileKind::File => {
                    self.add_file(&entry, path, &identities, tally, &mut batcher, &mut ready)?;
                }
            }
            for batch in ready.drain(..) {
                sender.send(batch).map_err(|_| RestoreError::Worker)?;
            }
        }
        if let Some(last) = batcher.finish() {
            sender.send(last).map_err(|_| RestoreError::Worker)?;
        }
        Ok(directories)
    }

    fn resolve(&self, entry: &FileEntry) -> Result<std::path::PathBuf> {
        self.places.resolve(&entry.path).map_err(|why| {
            let backup = self.manifest.summary().id;
            Refusal::HostilePath { backup, path: entry.path.clone(), why }.into()
        })
    }

    fn add_file(
        &self,
        entry: &FileEntry,
        path: std::path::PathBuf,
        identities: &PieceIdentities,
        tally: &Arc<Tally>,
        batcher: &mut Batcher,
        ready: &mut Vec<Batch>,
    ) -> Result<()> {
        let spec = OutputSpec {
            path,
            name: entry.path.clone(),
            length: entry.length,
            mode: entry.mode,
            ends_with_page: batch::ends_with_page(&entry.map, entry.length),
        };
        let (writing, compared, holes) = match self.existing {
            Existing::None => (Writing::Fresh, Vec::new(), Vec::new()),
            Existing::Compare => {
                let compared = self.identities(entry, &spec.path, identities)?;
                (Writing::Delta, compared, batch::holes(&entry.map, entry.length))
            }
        };
        let output = Arc::new(Output::new(spec, self.owner, writing, tally.clone()));
        batcher.add(&output, &entry.map, &compared, holes, ready);
        Ok(())
    }

    /// A file of zeroes that takes no room. One that is there is made anew: what it holds is not worth being read.
    fn add_hollow(
        &self,
        entry: &FileEntry,
        path: std::path::PathBuf,
        tally: &Arc<Tally>,
        batcher: &mut Batcher,
        ready: &mut Vec<Batch>,
    ) -> Result<()> {
        if self.existing == Existing::Compare {
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(RestoreError::file("replace", &path)(source));
                }
                _ => {}
            }
        }
        let (name, length, mode) = (entry.path.clone(), entry.length, entry.mode);
        let spec = OutputSpec { path, name, length, mode, ends_with_page: false };
        let output = Arc::new(Output::new(spec, self.owner, Writing::Fresh, tally.clone()));
        batcher.add(&output, &FileMap::new(), &[], Vec::new(), ready);
        Ok(())
    }

    /// Identities of a file's pieces; none are looked up for a file that is not there.
    fn identities(
        &self,
        entry: &FileEntry,
        path: &std::path::Path,
        identities: &PieceIdentities,
    ) -> Result<Vec<Option<ContentId>>> {
        if entry.map.runs().is_empty() || std::fs::symlink_metadata(path).is_err() {
            return Ok(Vec::new());
        }
        identities
            .of(self.manifest.packs(), &entry.map)
            .map_err(RestoreError::repository("read the index of a pack"))
    }

    fn link(&self, path: &std::path::Path, target: &str) -> Result<()> {
        if self.existing == Existing::Compare {
            match std::fs::read_link(path) {
                Ok(present) if present.as_os_str() == target => return Ok(()),
                Ok(_) => std::fs::remove_file(path).map_err(RestoreError::file("replace", path))?,
                Err(_) => {}
            }
        }
        symlink(target.as_ref(), path, self.owner)
    }
}

/// Makes a symbolic link and gives it away.
pub(crate) fn symlink(target: &std::path::Path, path: &std::path::Path, owner: Option<Owner>) -> Result<()> {
    std::os::unix::fs::symlink(target, path).map_err(RestoreError::file("create", path))?;
    let Some(owner) = owner else { return Ok(()) };
    std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid))
        .map_err(RestoreError::file("give away", path))
}

/// What workers share: the first failure, and the sum of what they did.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    failure: Mutex<Option<Failure>>,
    work: Mutex<Work>,
}

impl Shared {
    fn failed(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn fail(&self, failure: Failure) {
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(failure);
        self.stop.store(true, Ordering::Relaxed);
    }

    fn add(&self, work: &Work) {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).add(work);
    }

    fn into_inner(self) -> (Option<Failure>, Work) {
        let failure = self.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        (failure, self.work.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

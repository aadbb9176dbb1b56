//! `archive prefetch`: fills the spool ahead of replay, as a process of its own that `archive get` starts.
//!
//! Nothing depends on it: whatever it does not bring, `archive get` fetches itself, and it may be killed at any point. It ends and
//! clears the spool when the server no longer recovers, is gone, or has asked for nothing for a while; the next `archive get` starts another
//! one. Where no repository has a further segment it waits until replay has come on; it never says that a segment is absent.

use crate::cluster::read_control;
use crate::error::WalError;
use crate::repositories::NamedRepository;
use crate::sources::Sources;
use crate::spool::{Spool, plan};
use pgproof_pg::{ArchiveName, ClusterState, ControlFile, SegmentName};
use pgproof_repo::walobject::{self, Fetched};
use pgproof_repo::{Lineage, Repository};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

/// Between two looks at what replay asked for: short against replaying a segment.
const PAUSE: Duration = Duration::from_millis(100);

/// A replay that asks for nothing for so long waits for something, or is over.
const IDLE: Duration = Duration::from_secs(60);

/// Fetches at a time: each waits for the store and decompresses; replay itself keeps a core busy.
const PARALLEL: usize = 4;

/// Failures in a row after which the fetcher leaves: `archive get` meets the same trouble, and says so.
const FAILURES_MAX: u32 = 3;

/// What is fetched ahead.
#[derive(Debug, Clone)]
pub struct PrefetchRequest {
    /// The data directory whose replay is served.
    pub pgdata: PathBuf,
    /// How many segments may wait.
    pub count: usize,
}

/// Whether a server replays archived WAL in this data directory. A signal file counts too: until the first checkpoint record is read the
/// control file is the backup's own. Both are gone once a server was promoted (`StartupXLOG` in
/// `src/backend/access/transam/xlog.c`).
pub fn is_recovering(pgdata: &Path, control: &ControlFile) -> bool {
    let signalled = ["recovery.signal", "standby.signal"].iter().any(|name| pgdata.join(name).exists());
    let recovers = signalled || control.state == ClusterState::InArchiveRecovery;
    recovers && pgdata.join("postmaster.pid").exists()
}

/// Fills the spool until replay is over. Does nothing when somebody else fills it.
///
/// # Errors
/// [`WalError`] when the data directory cannot be looked at. A spool that cannot be used, or a repository that cannot be reached, only
/// ends it: `archive get` fetches for itself then.
pub fn prefetch(repositories: &[NamedRepository], request: &PrefetchRequest) -> Result<(), WalError> {
    let control = read_control(&request.pgdata)?;
    let mut sources = Sources::new(repositories, Some(&request.pgdata));
    let Some(first) = sources.first() else { return Ok(()) };
    let Some(spool) = Spool::of(&request.pgdata, &control, first) else { return Ok(()) };
    let Ok(Some(lock)) = spool.lock() else { return Ok(()) };
    if spool.sweep().is_ok() {
        // One that does not open now is left out: what only it has `archive get` asks it for.
        let opened = (0..sources.len()).filter_map(|at| sources.open(at).ok()).collect();
        let mut fetcher =
            Fetcher { repositories: opened, request, control, spool: &spool, end: None, failures: 0 };
        while fetcher.goes_on() {
            if !fetcher.step() {
                thread::sleep(PAUSE);
            }
        }
    }
    spool.clear();
    drop(lock);
    Ok(())
}

struct Fetcher<'a> {
    /// In the order in which they are asked.
    repositories: Vec<Repository>,
    request: &'a PrefetchRequest,
    control: ControlFile,
    spool: &'a Spool,
    /// What replay was given when no repository had more, and the first segment that none had.
    end: Option<(SegmentName, SegmentName)>,
    failures: u32,
}

impl Fetcher<'_> {
    fn goes_on(&self) -> bool {
        let Ok(control) = read_control(&self.request.pgdata) else { return false };
        let Ok((_, since)) = self.spool.requested() else { return false };
        let idle = SystemTime::now().duration_since(since).unwrap_or_default();
        is_recovering(&self.request.pgdata, &control)
            && control.system_identifier == self.control.system_identifier
            && idle < IDLE
            && self.failures < FAILURES_MAX
    }

    /// Fetches a few segments; false when there was nothing to do.
    fn step(&mut self) -> bool {
        let (Ok((requested, _)), Ok(held)) = (self.spool.requested(), self.spool.held()) else {
            return false;
        };
        // What was absent may be there by now, once replay has come on.
        self.end = self.end.filter(|(seen_at, _)| *seen_at == requested);
        let end = self.end.map(|(_, end)| end);
        let count = self.request.count.min(held.len().saturating_add(self.spool.room()));
        let plan = plan(requested, &held, count, self.control.wal_segment_size, end);
        for name in plan.remove {
            self.spool.remove(name);
        }
        let batch = &plan.fetch[..plan.fetch.len().min(PARALLEL)];
        let fetched = self.fetch(batch);
        for (name, fetched) in batch.iter().zip(fetched) {
            match fetched {
                Some(Fetched::Delivered { .. }) => self.failures = 0,
                Some(Fetched::Absent) => {
                    let nearest = end.into_iter().chain(self.end.map(|(_, end)| end)).fold(*name, Ord::min);
                    self.end = Some((requested, nearest));
                }
                None => self.failures += 1,
            }
        }
        !batch.is_empty()
    }

    /// Fetches in parallel; none where that failed.
    fn fetch(&self, batch: &[SegmentName]) -> Vec<Option<Fetched>> {
        let size = self.control.wal_segment_size;
        let lineage = Lineage::new(self.control.system_identifier);
        let one = |name: SegmentName| {
            let archived = ArchiveName::Segment(name.file_name(size));
            let mut fetched = Some(Fetched::Absent);
            for repository in &self.repositories {
                match walobject::fetch_segment(
                    repository,
                    lineage,
                    &archived,
                    size,
                    &self.spool.path(name),
                    1,
                ) {
                    Ok(Fetched::Absent) => {}
                    Ok(delivered) => return Some(delivered),
                    Err(_) => fetched = None,
                }
            }
            fetched
        };
        thread::scope(|scope| {
            let threads: Vec<_> = batch.iter().map(|&name| scope.spawn(move || one(name))).collect();
            threads.into_iter().map(|thread| thread.join().ok().flatten()).collect()
        })
    }
}

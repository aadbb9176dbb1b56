//! Segments that were fetched ahead of replay, waiting in `pg_wal/pgproof_spool`.
//!
//! Promises that a file is delivered from here only when it is what the repository would give now: it lies in a directory named
//! after cluster, repository and boot, got its name when it was complete, and has a segment's length. The boot counts because files are not
//! synced: after a power cut a name may stand for zeroes. That a segment is absent is never noted here.
//!
//! The place is on PostgreSQL's own disk, so delivery is a rename. PostgreSQL looks in `pg_wal` only for names of its own
//! (`RemoveOldXlogFiles` in `src/backend/access/transam/xlog.c`), and backups leave out all of `pg_wal`, ours and `pg_basebackup`'s.

use pgproof_pg::{ControlFile, SegmentName, SegmentNumber, WalSegmentSize};
use pgproof_repo::Repository;
use pgproof_repo::lease::Holder;
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The directory, below the data directory.
pub(crate) const SPOOL: &str = "pg_wal/pgproof_spool";

/// Whoever fills the spool holds it locked.
const LOCK: &str = "lock";

/// Names the segment that replay was given last.
const REQUESTED: &str = "requested";

/// Bytes that may wait, whatever the count allows: segments may have 1 GB.
const BYTES_MAX: u64 = 1 << 30;

/// An eighth of what is free on the disk may be taken.
const ROOM_SHARE: u64 = 8;

/// The spool of one data directory, for one cluster, repository and boot.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    root: PathBuf,
    session: PathBuf,
    size: WalSegmentSize,
}

/// What to do about the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpoolPlan {
    /// Segments to fetch, in the order of replay.
    pub(crate) fetch: Vec<SegmentName>,
    /// Segments that replay will not ask for any more.
    pub(crate) remove: Vec<SegmentName>,
}

/// Decides what the spool should hold once replay was given `requested`: the next `count` segments of its timeline, within bounds, and
/// nothing from `end` on, which the repository did not have.
pub(crate) fn plan(
    requested: SegmentName,
    held: &BTreeSet<SegmentName>,
    count: usize,
    size: WalSegmentSize,
    end: Option<SegmentName>,
) -> SpoolPlan {
    let fitting = (BYTES_MAX / u64::from(size.bytes())).max(1);
    let count = u64::try_from(count).unwrap_or(u64::MAX).min(fitting);
    let first = requested.number.next().0;
    let behind_end = |name: &SegmentName| {
        end.is_some_and(|end| end.timeline == name.timeline && name.number >= end.number)
    };
    let wanted: BTreeSet<SegmentName> = (first..first.saturating_add(count))
        .map(|number| SegmentName::new(requested.timeline, SegmentNumber(number)))
        .collect();
    SpoolPlan {
        fetch: wanted.difference(held).copied().filter(|name| !behind_end(name)).collect(),
        remove: held.difference(&wanted).copied().collect(),
    }
}

impl Spool {
    /// The spool of this data directory; none where the boot cannot be told.
    pub(crate) fn of(pgdata: &Path, control: &ControlFile, repository: &Repository) -> Option<Self> {
        let boot = Holder::this_process().boot;
        if boot.is_empty() {
            return None;
        }
        let root = pgdata.join(SPOOL);
        let session = root.join(format!("{}-{}-{boot}", control.system_identifier, repository.id()));
        Some(Self { root, session, size: control.wal_segment_size })
    }

    /// Where a segment is put.
    pub(crate) fn path(&self, name: SegmentName) -> PathBuf {
        self.session.join(name.file_name(self.size))
    }

    /// Moves a segment to where replay wants it; false when it is not here.
    ///
    /// # Errors
    /// What the system says; nothing incomplete lies at the destination then.
    pub(crate) fn deliver(&self, name: SegmentName, destination: &Path) -> io::Result<bool> {
        let path = self.path(name);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == u64::from(self.size.bytes()) => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        match fs::rename(&path, destination) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                copy(&path, destination)?;
                fs::remove_file(&path)?;
            }
            moved => moved?,
        }
        Ok(true)
    }

    /// Notes that replay was given this segment, so that what follows is fetched.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn note_request(&self, name: SegmentName) -> io::Result<()> {
        fs::create_dir_all(&self.session)?;
        let temporary = self.session.join(format!("{REQUESTED}.{}", std::process::id()));
        fs::write(&temporary, name.file_name(self.size))?;
        fs::rename(&temporary, self.session.join(REQUESTED))
    }

    /// The segment that replay was given last, and when.
    pub(crate) fn requested(&self) -> io::Result<(SegmentName, SystemTime)> {
        let path = self.session.join(REQUESTED);
        let text = fs::read_to_string(&path)?;
        let name = SegmentName::parse(&text, self.size)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok((name, fs::metadata(&path)?.modified()?))
    }

    /// Segments that lie here.
    pub(crate) fn held(&self) -> io::Result<BTreeSet<SegmentName>> {
        let mut held = BTreeSet::new();
        for entry in fs::read_dir(&self.session)? {
            held.extend(SegmentName::parse(&entry?.file_name().to_string_lossy(), self.size));
        }
        Ok(held)
    }

    /// How many more segments its disk has room for: the server that recovers needs it more.
    pub(crate) fn room(&self) -> usize {
        let Ok(disk) = rustix::fs::statvfs(&self.session) else { return 0 };
        let spare = disk.f_bavail * disk.f_frsize / ROOM_SHARE;
        usize::try_from(spare / u64::from(self.size.bytes())).unwrap_or(usize::MAX)
    }

    pub(crate) fn remove(&self, name: SegmentName) {
        // Delivered meanwhile, which is as good.
        drop(fs::remove_file(self.path(name)));
    }

    /// Locks the spool for the one that fills it; none when somebody else does.
    pub(crate) fn lock(&self) -> io::Result<Option<File>> {
        fs::create_dir_all(&self.session)?;
        lock(&self.root)
    }

    /// Whether somebody fills it.
    pub(crate) fn is_being_filled(&self) -> bool {
        let Ok(file) = File::open(self.root.join(LOCK)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Removes what others than this session left: another boot, another repository, killed fetchers. The caller holds the lock.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            if path != self.session && path.is_dir() {
                fs::remove_dir_all(&path)?;
            }
        }
        for entry in fs::read_dir(&self.session)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != REQUESTED && SegmentName::parse(&name, self.size).is_err() && !is_note_of_other(&name)
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes the whole spool. The caller holds the lock.
    pub(crate) fn clear(&self) {
        // What cannot be removed now is swept by the next one; nobody reads it without its being complete.
        drop(fs::remove_dir_all(&self.root));
    }
}

/// A note that somebody is just writing.
fn is_note_of_other(name: &str) -> bool {
    name.strip_prefix(REQUESTED).is_some_and(|rest| rest.starts_with('.'))
}

/// Removes a spool that nobody fills: a server that writes WAL of its own needs none. Costs one look where there is none.
pub(crate) fn clear_abandoned(pgdata: &Path) {
    let root = pgdata.join(SPOOL);
    if root.is_dir() && matches!(lock(&root), Ok(Some(_))) {
        drop(fs::remove_dir_all(&root));
    }
}

fn lock(root: &Path) -> io::Result<Option<File>> {
    use std::os::unix::fs::MetadataExt;
    let path = root.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).read(true).open(&path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Whoever held it before may have removed it: a lock on a file without a name excludes nobody.
    let is_there =
        fs::metadata(&path).is_ok_and(|there| there.ino() == file.metadata().map_or(0, |own| own.ino()));
    Ok(is_there.then_some(file))
}

/// Copies, to another file system too; the name appears when all is there.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(format!(".pgproof-{}.tmp", std::process::id()));
    let temporary = to.with_file_name(name);
    let copied = fs::copy(from, &temporary).and_then(|_| fs::rename(&temporary, to));
    if copied.is_err() {
        drop(fs::remove_file(&temporary));
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use pgproof_pg::TimelineId;

    const SIZE: WalSegmentSize = WalSegmentSize::DEFAULT;

    fn segment(timeline: u32, number: u64) -> SegmentName {
        SegmentName::new(TimelineId(timeline), SegmentNumber(number))
    }

    fn check(requested: u64, held: &[(u32, u64)], count: usize, end: Option<u64>, expected: Expect) {
        let held = held.iter().map(|&(timeline, number)| segment(timeline, number)).collect();
        let plan = plan(segment(1, requested), &held, count, SIZE, end.map(|end| segment(1, end)));
        let show = |names: &[SegmentName]| -> Vec<String> {
            names.iter().map(|name| format!("{}/{}", name.timeline, name.number.0)).collect()
        };
        expected.assert_eq(&format!(
            "fetch {} remove {}",
            show(&plan.fetch).join(" "),
            show(&plan.remove).join(" ")
        ));
    }

    #[test]
    fn what_follows_is_fetched_and_what_was_passed_is_removed() {
        check(5, &[], 3, None, expect!["fetch 1/6 1/7 1/8 remove "]);
        check(5, &[(1, 6), (1, 7)], 3, None, expect!["fetch 1/8 remove "]);
        check(5, &[(1, 4), (1, 5), (1, 6), (1, 9)], 3, None, expect!["fetch 1/7 1/8 remove 1/4 1/5 1/9"]);
    }

    #[test]
    fn another_timelines_segments_are_of_no_use() {
        check(5, &[(2, 6), (1, 6)], 2, None, expect!["fetch 1/7 remove 2/6"]);
    }

    #[test]
    fn nothing_is_fetched_behind_the_end_of_the_archive() {
        check(5, &[], 4, Some(7), expect!["fetch 1/6 remove "]);
        check(6, &[], 4, Some(7), expect!["fetch  remove "]);
    }

    #[test]
    fn count_and_bytes_are_bounds() {
        check(5, &[], 0, None, expect!["fetch  remove "]);
        let huge = WalSegmentSize::new(1 << 30).unwrap();
        assert_eq!(plan(segment(1, 5), &BTreeSet::new(), 64, huge, None).fetch.len(), 1);
        assert_eq!(plan(segment(1, 5), &BTreeSet::new(), 200, SIZE, None).fetch.len(), 64);
    }

    fn spool(directory: &Path) -> Spool {
        let root = directory.join(SPOOL);
        let spool = Spool { session: root.join("now"), root, size: WalSegmentSize::new(1 << 20).unwrap() };
        fs::create_dir_all(&spool.session).unwrap();
        spool
    }

    #[test]
    fn only_whole_segments_of_this_session_are_delivered() {
        let directory = tempfile::tempdir().unwrap();
        let spool = spool(directory.path());
        let destination = directory.path().join("RECOVERYXLOG");
        assert!(!spool.deliver(segment(1, 3), &destination).unwrap());
        fs::write(spool.path(segment(1, 3)), b"half").unwrap();
        assert!(!spool.deliver(segment(1, 3), &destination).unwrap());
        fs::create_dir(spool.root.join("before")).unwrap();
        let name = spool.path(segment(1, 4)).file_name().unwrap().to_owned();
        fs::write(spool.root.join("before").join(name), vec![1; 1 << 20]).unwrap();
        assert!(!spool.deliver(segment(1, 4), &destination).unwrap());
        assert!(!destination.exists());
        fs::write(spool.path(segment(1, 4)), vec![7; 1 << 20]).unwrap();
        assert!(spool.deliver(segment(1, 4), &destination).unwrap());
        assert_eq!(fs::read(&destination).unwrap(), vec![7; 1 << 20]);
        assert!(!spool.deliver(segment(1, 4), &destination).unwrap(), "it was moved, not copied");
    }

    #[test]
    fn one_fills_it_and_the_next_one_sweeps_up() {
        let directory = tempfile::tempdir().unwrap();
        let spool = spool(directory.path());
        assert!(!spool.is_being_filled());
        let held = spool.lock().unwrap().unwrap();
        assert!(spool.is_being_filled() && spool.lock().unwrap().is_none());
        clear_abandoned(directory.path());
        assert!(spool.root.exists(), "it is being filled");
        drop(held);
        fs::create_dir(spool.root.join("before")).unwrap();
        fs::write(spool.session.join("000000010000000000000005.pgproof-1.tmp"), b"half").unwrap();
        spool.note_request(segment(1, 4)).unwrap();
        fs::write(spool.path(segment(1, 5)), b"kept").unwrap();
        let held = spool.lock().unwrap().unwrap();
        spool.sweep().unwrap();
        assert_eq!(spool.held().unwrap(), [segment(1, 5)].into());
        assert_eq!(spool.requested().unwrap().0, segment(1, 4));
        assert_eq!(fs::read_dir(&spool.session).unwrap().count(), 2);
        assert!(!spool.root.join("before").exists());
        drop(held);
        clear_abandoned(directory.path());
        assert!(!spool.root.exists());
    }
}

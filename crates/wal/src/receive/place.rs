//! Where received WAL lies until the repository holds it: one directory a cluster, on a disk that is synced before anything is
//! acknowledged.
//!
//! What the names in it mean is told by [`pgproof_repo::received`], because a restore reads them too. Unlike the spool of `archive get` it
//! outlives boots: it may hold the only copy of a commit.

use super::sync::{SyncPoint, Syncs};
use pgproof_pg::{Lsn, SegmentName, SegmentNumber, SystemIdentifier, TimelineId, WalSegmentSize};
use pgproof_repo::received::{self, Holdings, PARTIAL};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const LOCK: &str = "lock";
const HANDED_OVER: &str = "handed-over";
const TEMPORARY: &str = ".tmp";

/// The place of one cluster, held by this process.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    size: WalSegmentSize,
    /// How many spares were made: each has a name of its own.
    spares: AtomicU64,
    syncs: Syncs,
    _lock: File,
}

/// A durable segment of zeroes without a name yet. One that is left behind is swept by the next [`Place::take`].
#[derive(Debug)]
pub(crate) struct Spare {
    file: File,
    path: PathBuf,
}

impl Place {
    /// Takes the place of a cluster, making it where there is none; none when another process holds it.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn take(
        spool: &Path,
        system: SystemIdentifier,
        size: WalSegmentSize,
        syncs: Syncs,
    ) -> io::Result<Option<Self>> {
        let folder = received::folder(spool, system);
        if !folder.is_dir() {
            // Not its parents: a disk that is not mounted must not be taken for one.
            fs::create_dir(&folder)?;
        }
        // Also when it is there: whoever made it may have been killed before this, and WAL in it is acknowledged from now on.
        syncs.directory(SyncPoint::PlaceName, spool)?;
        let lock = File::options().create(true).truncate(false).write(true).open(folder.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == &TEMPORARY[1..]) {
                fs::remove_file(path)?;
            }
        }
        // The names in it decide where receiving goes on. One that a killed receiver gave last may be in memory only; what is received
        // under it or behind it would be acknowledged, and lost with it.
        syncs.directory(SyncPoint::HeldNames, &folder)?;
        Ok(Some(Self { folder, size, spares: AtomicU64::new(0), syncs, _lock: lock }))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn holdings(&self) -> io::Result<Holdings> {
        Holdings::look(&self.folder, self.size)
    }

    pub(crate) fn path(&self, name: SegmentName) -> PathBuf {
        self.folder.join(name.file_name(self.size))
    }

    pub(crate) fn partial_path(&self, name: SegmentName) -> PathBuf {
        self.folder.join(format!("{}{PARTIAL}", name.file_name(self.size)))
    }

    pub(crate) fn history_path(&self, timeline: TimelineId) -> PathBuf {
        self.folder.join(timeline.history_file_name())
    }

    /// Keeps a timeline history file, durably.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn keep_history(&self, timeline: TimelineId, content: &[u8]) -> io::Result<()> {
        let path = self.history_path(timeline);
        let temporary = self.folder.join(format!("{}{TEMPORARY}", timeline.history_file_name()));
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        self.syncs.file(SyncPoint::HistoryData, &file)?;
        fs::rename(&temporary, &path)?;
        self.syncs.directory(SyncPoint::HistoryName, &self.folder)
    }

    /// Makes a segment of zeroes that some [`Self::open`] will take.
    ///
    /// # Errors
    /// What the system says; a full disk now, rather than in the middle of the segment.
    pub(crate) fn make_spare(&self) -> io::Result<Spare> {
        let number = self.spares.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("spare-{number}{TEMPORARY}"));
        let file = File::create(&path)?;
        // Written, not only allocated: then syncing what is received needs no change of metadata.
        let zeroes = vec![0; 1 << 20];
        for offset in (0..u64::from(self.size.bytes())).step_by(zeroes.len()) {
            file.write_all_at(&zeroes, offset)?;
        }
        self.syncs.file(SyncPoint::SpareData, &file)?;
        Ok(Spare { file, path })
    }

    /// Opens a segment to receive it: what was received of it before stays until the same bytes come again, else it becomes what
    /// `spare` gives.
    ///
    /// # Errors
    /// What the system says, and what `spare` does.
    pub(crate) fn open(
        &self,
        name: SegmentName,
        spare: impl FnOnce() -> io::Result<Spare>,
    ) -> io::Result<OpenSegment> {
        let path = self.partial_path(name);
        let length = u64::from(self.size.bytes());
        let file = match File::options().write(true).open(&path) {
            Ok(file) if file.metadata()?.len() == length => file,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.give_name(spare()?, &path)?,
        };
        Ok(OpenSegment {
            file,
            name,
            start: name.start(self.size),
            end: name.end(self.size),
            is_synced: true,
            syncs: self.syncs,
        })
    }

    fn give_name(&self, spare: Spare, path: &Path) -> io::Result<File> {
        fs::rename(&spare.path, path)?;
        self.syncs.directory(SyncPoint::SegmentName, &self.folder)?;
        Ok(spare.file)
    }

    /// Begins the first segment of a new timeline with what the old one's has before the switch.
    ///
    /// The new timeline's file comes before the old one's in a recovery, and is received from its first byte. Until that has come
    /// to the switch again it would hide what was acknowledged of the old one.
    ///
    /// # Errors
    /// What the system says, and what `spare` does.
    pub(crate) fn inherit(
        &self,
        old: SegmentName,
        name: SegmentName,
        switch: Lsn,
        spare: impl FnOnce() -> io::Result<Spare>,
    ) -> io::Result<()> {
        let length = usize::try_from(switch.bytes_since(name.start(self.size))).unwrap_or(usize::MAX);
        let mut content = fs::read(self.partial_path(old))?;
        content.truncate(length);
        let spare = spare()?;
        spare.file.write_all_at(&content, 0)?;
        self.syncs.file(SyncPoint::InheritedData, &spare.file)?;
        self.give_name(spare, &self.partial_path(name)).map(drop)
    }

    /// Gives a segment that was received to its end its own name, durably.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn complete(&self, mut segment: OpenSegment) -> io::Result<SegmentName> {
        segment.sync()?;
        fs::rename(self.partial_path(segment.name), self.path(segment.name))?;
        self.syncs.directory(SyncPoint::CompleteName, &self.folder)?;
        Ok(segment.name)
    }

    /// Notes a segment that the repositories hold and that is about to be removed.
    ///
    /// Not synced: a power cut that loses the note lets the next receiver begin with WAL that the repositories hold already, which
    /// matters only where the server has removed it.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn note_handed_over(&self, name: SegmentName) -> io::Result<()> {
        if self.handed_over().is_some_and(|newest| age(newest) >= age(name)) {
            return Ok(());
        }
        let temporary = self.folder.join(format!("{HANDED_OVER}{TEMPORARY}"));
        fs::write(&temporary, name.file_name(self.size))?;
        fs::rename(&temporary, self.folder.join(HANDED_OVER))
    }

    /// The newest segment that was noted.
    pub(crate) fn handed_over(&self) -> Option<SegmentName> {
        let text = fs::read_to_string(self.folder.join(HANDED_OVER)).ok()?;
        SegmentName::parse(&text, self.size).ok()
    }

    /// Removes a file that the repository holds durably. It must not come back after files behind it are gone: the next receiver would
    /// begin behind it, with WAL that was acknowledged long ago and that the server has removed.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        debug_assert!(path.starts_with(&self.folder));
        fs::remove_file(path)?;
        self.syncs.directory(SyncPoint::RemovedName, &self.folder)
    }
}

/// What was received later is greater: a new timeline may begin before the place that the old one had come to.
pub(super) fn age(name: SegmentName) -> (TimelineId, SegmentNumber) {
    (name.timeline, name.number)
}

/// The segment that is being received.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    file: File,
    pub(crate) name: SegmentName,
    start: Lsn,
    end: Lsn,
    is_synced: bool,
    syncs: Syncs,
}

impl OpenSegment {
    /// Writes as much as belongs to this segment, and returns how much that was.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn write(&mut self, at: Lsn, data: &[u8]) -> io::Result<usize> {
        let room = usize::try_from(self.end.bytes_since(at)).unwrap_or(usize::MAX);
        let data = &data[..data.len().min(room)];
        self.file.write_all_at(data, at.bytes_since(self.start))?;
        self.is_synced &= data.is_empty();
        Ok(data.len())
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// What the system says. The caller must not go on with this file then: a second sync of pages that a first one failed to write
    /// succeeds without writing them.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if !self.is_synced {
            self.syncs.file(SyncPoint::ReceivedData, &self.file)?;
            self.is_synced = true;
        }
        Ok(())
    }

    /// Is this the position behind its last byte?
    pub(crate) fn ends_at(&self, lsn: Lsn) -> bool {
        lsn == self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: SystemIdentifier = SystemIdentifier(7);

    fn taken(directory: &Path, system: SystemIdentifier) -> io::Result<Option<Place>> {
        Place::take(directory, system, WalSegmentSize::new(1 << 20).unwrap(), Syncs::default())
    }

    fn place(directory: &Path) -> Place {
        taken(directory, SYSTEM).unwrap().unwrap()
    }

    fn segment(number: u64) -> SegmentName {
        SegmentName::new(TimelineId(1), SegmentNumber(number))
    }

    fn begin(place: &Place, number: u64) -> io::Result<OpenSegment> {
        place.open(segment(number), || place.make_spare())
    }

    #[test]
    fn what_was_received_of_a_segment_stays_until_it_comes_again() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        let start = segment(3).start(place.size);
        let mut open = begin(&place, 3).unwrap();
        assert_eq!(open.write(start.plus(10), b"abc").unwrap(), 3);
        open.sync().unwrap();
        drop(open);
        let content = fs::read(place.partial_path(segment(3))).unwrap();
        assert_eq!((content.len(), &content[9..14]), (1 << 20, &b"\0abc\0"[..]));
        begin(&place, 3).unwrap();
        assert_eq!(fs::read(place.partial_path(segment(3))).unwrap(), content);
    }

    #[test]
    fn a_segment_takes_only_its_own_bytes_and_then_gets_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        let mut open = begin(&place, 3).unwrap();
        let near_end = Lsn(segment(3).end(place.size).0 - 2);
        assert_eq!(open.write(near_end, b"abcd").unwrap(), 2);
        assert!(open.ends_at(near_end.plus(2)));
        place.complete(open).unwrap();
        let holdings = place.holdings().unwrap();
        assert_eq!(holdings.complete, [segment(3)].into());
        assert!(holdings.partial.is_empty());
        assert_eq!(
            holdings,
            Holdings::look(&received::folder(directory.path(), SYSTEM), place.size).unwrap()
        );
        assert!(fs::read(place.path(segment(3))).unwrap().ends_with(b"ab"));
    }

    #[test]
    fn a_new_timeline_begins_with_what_the_old_one_has_before_the_switch() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        let start = segment(3).start(place.size);
        let mut open = begin(&place, 3).unwrap();
        open.write(start, b"before").unwrap();
        open.write(start.plus(6), b"after").unwrap();
        let new = SegmentName { timeline: TimelineId(2), ..segment(3) };
        place.inherit(segment(3), new, start.plus(6), || place.make_spare()).unwrap();
        let content = fs::read(place.partial_path(new)).unwrap();
        assert_eq!((content.len(), &content[..11]), (1 << 20, &b"before\0\0\0\0\0"[..]));
    }

    #[test]
    fn the_segment_handed_over_last_is_known_to_the_next_receiver() {
        let directory = tempfile::tempdir().unwrap();
        let held = place(directory.path());
        assert_eq!(held.handed_over(), None);
        let next_timeline = SegmentName { timeline: TimelineId(2), ..segment(3) };
        for (handed, newest) in
            [(segment(5), segment(5)), (segment(4), segment(5)), (next_timeline, next_timeline)]
        {
            held.note_handed_over(handed).unwrap();
            assert_eq!(held.handed_over(), Some(newest));
        }
        fs::write(held.folder.join(HANDED_OVER), b"").unwrap();
        drop(held);
        assert_eq!(place(directory.path()).handed_over(), None, "a power cut may leave it empty");
    }

    #[test]
    fn two_receivers_do_not_share_a_place() {
        let directory = tempfile::tempdir().unwrap();
        let held = place(directory.path());
        assert!(taken(directory.path(), SYSTEM).unwrap().is_none());
        assert!(taken(directory.path(), SystemIdentifier(8)).unwrap().is_some());
        drop(held);
        assert!(taken(directory.path(), SYSTEM).unwrap().is_some());
    }

    #[test]
    fn a_place_is_not_made_where_its_disk_is_not_mounted() {
        let directory = tempfile::tempdir().unwrap();
        let error = taken(&directory.path().join("absent"), SYSTEM).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn half_made_files_are_swept_and_a_short_one_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let held = place(directory.path());
        fs::write(held.folder.join("000000010000000000000009.tmp"), b"half").unwrap();
        fs::write(held.partial_path(segment(3)), b"short").unwrap();
        drop(held);
        let place = place(directory.path());
        begin(&place, 3).unwrap();
        assert_eq!(fs::metadata(place.partial_path(segment(3))).unwrap().len(), 1 << 20);
        assert_eq!(fs::read_dir(&place.folder).unwrap().count(), 2);
    }

    #[test]
    fn a_spare_serves_a_new_segment_only_and_is_made_before() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path());
        let spare = place.make_spare().unwrap();
        assert_eq!(fs::metadata(&spare.path).unwrap().len(), 1 << 20);
        place.open(segment(3), || Ok(spare)).unwrap();
        place.open(segment(3), || panic!("what is there goes on")).unwrap();
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = place.open(segment(4), || Err(full)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(place.holdings().unwrap().partial, [segment(3)].into());
    }
}

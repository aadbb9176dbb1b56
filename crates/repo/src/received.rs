//! WAL that `archive receive` holds in its spool until the repository has it, as a recovery reads it.
//!
//! Names are those of `pg_receivewal` (`src/bin/pg_basebackup/receivelog.c`), so what lies there can also be used by hand: in a directory for each
//! cluster complete segments under their names, the one being received as `<segment>.partial`, as long as a segment and zero where nothing was
//! received yet, and history files. A complete segment always beats a partial one, and a partial one counts only where it is the last of its
//! timeline: in the middle of a timeline it would look like the timeline's end. Who writes there is `pgproof-wal`; nothing here does.

use pgproof_pg::wal::{SegmentSummary, Summarizer};
use pgproof_pg::{ArchiveName, SegmentName, SystemIdentifier, TimelineHistory, TimelineId, WalSegmentSize};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What the name of a segment ends with while it is being received.
pub const PARTIAL: &str = ".partial";

/// Bytes of a segment that are read at a time.
const READ_BYTES: usize = 256 << 10;

/// Where in a spool the WAL of a cluster lies.
pub fn folder(spool: &Path, system: SystemIdentifier) -> PathBuf {
    spool.join(system.to_string())
}

/// What lies there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Segments that are complete and durable.
    pub complete: BTreeSet<SegmentName>,
    /// Segments of which a beginning is there.
    pub partial: BTreeSet<SegmentName>,
    /// Timelines whose history file is there.
    pub histories: BTreeSet<TimelineId>,
}

impl Holdings {
    /// Looks into a folder; nothing where there is none. Names of other kinds are passed over.
    ///
    /// # Errors
    /// What the system says.
    pub fn look(folder: &Path, size: WalSegmentSize) -> io::Result<Self> {
        let mut holdings = Self::default();
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(holdings),
            entries => entries?,
        };
        for entry in entries {
            if let Some(name) = entry?.file_name().to_str() {
                holdings.add(name, size);
            }
        }
        Ok(holdings)
    }

    fn add(&mut self, name: &str, size: WalSegmentSize) {
        if let Ok(segment) = SegmentName::parse(name, size) {
            self.complete.insert(segment);
        } else if let Some(Ok(segment)) =
            name.strip_suffix(PARTIAL).map(|stem| SegmentName::parse(stem, size))
        {
            self.partial.insert(segment);
        } else if let Ok(ArchiveName::History(timeline)) = ArchiveName::parse(name) {
            self.histories.insert(timeline);
        }
    }

    /// Whether recovery is given what is there of the segment.
    fn gives(&self, segment: SegmentName) -> Option<Extent> {
        if self.complete.contains(&segment) {
            return Some(Extent::Complete);
        }
        let goes_on = self
            .complete
            .iter()
            .chain(&self.partial)
            .any(|other| other.timeline == segment.timeline && other.number > segment.number);
        (self.partial.contains(&segment) && !goes_on).then_some(Extent::Partial)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Complete,
    Partial,
}

/// The received WAL of one cluster.
#[derive(Debug, Clone)]
pub struct Received {
    folder: PathBuf,
    size: WalSegmentSize,
    held: Holdings,
}

impl Received {
    /// Looks into a spool; nothing where it has nothing of the cluster.
    ///
    /// # Errors
    /// What the system says.
    pub fn look(spool: &Path, system: SystemIdentifier, size: WalSegmentSize) -> io::Result<Self> {
        let folder = folder(spool, system);
        let held = Holdings::look(&folder, size)?;
        Ok(Self { folder, size, held })
    }

    /// Segments that are complete.
    pub fn complete(&self) -> impl Iterator<Item = SegmentName> + '_ {
        self.held.complete.iter().copied()
    }

    /// Beginnings of segments that a recovery is given.
    pub fn last_partials(&self) -> impl Iterator<Item = SegmentName> + '_ {
        let is_given = |segment: &SegmentName| self.held.gives(*segment) == Some(Extent::Partial);
        self.held.partial.iter().copied().filter(is_given)
    }

    /// The file that a recovery is given for a segment.
    pub fn segment(&self, segment: SegmentName) -> Option<PathBuf> {
        let name = segment.file_name(self.size);
        match self.held.gives(segment)? {
            Extent::Complete => Some(self.folder.join(name)),
            Extent::Partial => Some(self.folder.join(format!("{name}{PARTIAL}"))),
        }
    }

    /// The history file of a timeline.
    pub fn history(&self, timeline: TimelineId) -> Option<PathBuf> {
        let is_held = self.held.histories.contains(&timeline);
        is_held.then(|| self.folder.join(timeline.history_file_name()))
    }

    /// The histories that can be read.
    pub fn histories(&self) -> Vec<TimelineHistory> {
        let read = |timeline: &TimelineId| {
            let content = fs::read(self.history(*timeline)?).ok()?;
            TimelineHistory::parse(*timeline, &content).ok()
        };
        self.held.histories.iter().filter_map(read).collect()
    }

    /// What a segment tells; `None` for one that is not there, or went to the repository this moment.
    ///
    /// # Errors
    /// What the system says.
    pub fn summary(&self, segment: SegmentName) -> io::Result<Option<SegmentSummary>> {
        let Some(path) = self.segment(segment) else { return Ok(None) };
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut summarizer = Summarizer::new(segment, self.size);
        let mut buffer = vec![0; READ_BYTES];
        while !summarizer.is_done() {
            match file.read(&mut buffer)? {
                0 => break,
                length => summarizer.push(&buffer[..length]),
            }
        }
        Ok(Some(summarizer.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgproof_pg::SegmentNumber;

    fn segment(timeline: u32, number: u64) -> SegmentName {
        SegmentName::new(TimelineId(timeline), SegmentNumber(number))
    }

    #[test]
    fn a_partial_segment_is_given_only_at_the_end_of_its_timeline() {
        let held = Holdings {
            complete: [segment(1, 5), segment(2, 7)].into(),
            partial: [segment(1, 5), segment(1, 6), segment(2, 6), segment(2, 8)].into(),
            ..Holdings::default()
        };
        assert_eq!(held.gives(segment(1, 5)), Some(Extent::Complete));
        assert_eq!(held.gives(segment(1, 6)), Some(Extent::Partial));
        assert_eq!(held.gives(segment(2, 6)), None);
        assert_eq!(held.gives(segment(2, 8)), Some(Extent::Partial));
        assert_eq!(held.gives(segment(1, 7)), None);
    }

    #[test]
    fn a_complete_segment_wins_and_other_names_are_passed_over() {
        let size = WalSegmentSize::DEFAULT;
        let mut held = Holdings::default();
        let five = "000000010000000000000005";
        let partial = format!("{five}{PARTIAL}");
        for name in [five, &partial, "00000002.history", "lock", "spare-0.tmp", "0000000\u{e4}.partial"] {
            held.add(name, size);
        }
        assert_eq!((held.complete.len(), held.partial.len(), held.histories.len()), (1, 1, 1));
        let received = Received { folder: "/spool/7".into(), size, held };
        assert_eq!(received.segment(segment(1, 5)), Some(Path::new("/spool/7").join(five)));
        assert_eq!(received.last_partials().count(), 0);
    }
}

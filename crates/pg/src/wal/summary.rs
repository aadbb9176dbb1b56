//! What one WAL segment changed and told, small enough to keep for ever.
//!
//! Promises that a [`Summarizer`] takes any bytes, in pieces of any size, in constant memory, and never fails: what it cannot read becomes
//! part of the summary. Records that cross the segment's borders are kept as fragments; [`crate::wal::join`] puts them together.

use super::{
    changes::Changes,
    marks::Marks,
    problem::Problem,
    record::{Record, RecordParts},
    rules::{Applier, Rules},
    walker::{Ending, FirstRecord, Head, RawRecord, RecordSink, Tail, Walker},
};
use crate::{
    lsn::{Lsn, SegmentName, SystemIdentifier, WalSegmentSize},
    version::MajorVersion,
};

/// Problems kept of one segment: the first ones and the last. Any makes a gap.
pub(crate) const PROBLEMS_MAX: usize = 16;

/// What one segment changed and told. See [`SegmentSummary::encode`] for its stored form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSummary {
    /// The segment.
    pub name: SegmentName,
    /// Its size.
    pub segment_size: WalSegmentSize,
    /// Version that wrote it; `None` when its first page cannot be read.
    pub version: Option<MajorVersion>,
    /// Cluster that wrote it; `None` as well.
    pub system_identifier: Option<SystemIdentifier>,
    /// Where valid data end: behind the last complete record, or at the start of one that goes on in the next segment.
    pub valid_end: Lsn,
    /// Why they end there.
    pub ending: Ending,
    /// The first record that starts here.
    pub first_record: Option<FirstRecord>,
    /// Start of the last complete record that starts here.
    pub last_record: Option<Lsn>,
    /// The end of a record that began earlier.
    pub(crate) head: Option<Head>,
    /// The record that began earlier was lost, and replaced.
    pub(crate) head_overwritten: bool,
    /// The beginning of a record that ends later.
    pub(crate) tail: Option<Tail>,
    /// Records whose changes are unknown; the first few.
    pub problems: Vec<Problem>,
    /// What records that lie here whole changed.
    pub changes: Changes,
    /// What records that lie here whole told.
    pub marks: Marks,
}

impl SegmentSummary {
    /// Position of the segment's first byte.
    pub fn start(&self) -> Lsn {
        self.name.start(self.segment_size)
    }

    /// Position after the segment's last byte.
    pub fn end(&self) -> Lsn {
        self.name.end(self.segment_size)
    }
}

/// Makes a [`SegmentSummary`] from a segment's bytes.
pub struct Summarizer {
    name: SegmentName,
    segment_size: WalSegmentSize,
    walker: Walker,
    taker: Taker,
}

impl Summarizer {
    /// Starts on a segment.
    pub fn new(name: SegmentName, segment_size: WalSegmentSize) -> Self {
        Self::with_rules_until(name, segment_size, Lsn::MAX, Rules::ALL)
    }

    /// Starts on a segment that is still being written: records that start at `stop` or later are left alone. Bytes behind `stop` may be
    /// anything.
    pub fn until(name: SegmentName, segment_size: WalSegmentSize, stop: Lsn) -> Self {
        Self::with_rules_until(name, segment_size, stop, Rules::ALL)
    }

    /// Starts with other rules than all of them, to see that the lack of one is noticed.
    #[cfg(any(test, feature = "mutations"))]
    pub fn with_rules(name: SegmentName, segment_size: WalSegmentSize, stop: Lsn, rules: Rules) -> Self {
        Self::with_rules_until(name, segment_size, stop, rules)
    }

    fn with_rules_until(name: SegmentName, segment_size: WalSegmentSize, stop: Lsn, rules: Rules) -> Self {
        let walker = Walker::new(name.start(segment_size), segment_size, name.timeline, stop);
        Self { name, segment_size, walker, taker: Taker::new(rules) }
    }

    /// Takes the next bytes, in order from the segment's first. Bytes beyond the segment's size are ignored.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = self.name.end(self.segment_size).bytes_since(self.walker.position());
        let take = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        self.walker.push(&bytes[..take], &mut self.taker);
    }

    /// Whether further bytes cannot add anything: the caller may stop reading.
    pub fn is_done(&self) -> bool {
        self.walker.is_done()
    }

    /// The summary. Fewer bytes than the segment's size are no error: it ends where they end.
    pub fn finish(mut self) -> SegmentSummary {
        let walked = self.walker.finish(&mut self.taker);
        SegmentSummary {
            name: self.name,
            segment_size: self.segment_size,
            version: walked.version,
            system_identifier: walked.system_identifier,
            valid_end: walked.valid_end,
            ending: walked.ending,
            first_record: walked.first_record,
            last_record: walked.last_record,
            head: walked.head,
            head_overwritten: walked.head_overwritten,
            tail: walked.tail,
            problems: self.taker.problems,
            changes: self.taker.applier.changes,
            marks: self.taker.applier.marks,
        }
    }
}

/// Decodes records and applies the rules to them.
pub(crate) struct Taker {
    pub(crate) applier: Applier,
    parts: RecordParts,
    pub(crate) problems: Vec<Problem>,
}

impl Taker {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { applier: Applier::new(rules), parts: RecordParts::default(), problems: Vec::new() }
    }
}

impl RecordSink for Taker {
    fn record(&mut self, raw: RawRecord<'_>) {
        let total_len = raw.header.total_len;
        let read = self.parts.read(raw.version, raw.bytes, total_len);
        let record = Record {
            lsn: raw.lsn,
            end: raw.end,
            header: raw.header,
            blocks: &self.parts.blocks,
            main: self.parts.main(raw.bytes, total_len),
            main_len: self.parts.main_len,
        };
        let applied = read.and_then(|()| self.applier.apply(raw.version, &record));
        if let Err(defect) = applied {
            self.problems.truncate(PROBLEMS_MAX - 1);
            self.problems.push(Problem { at: raw.lsn, defect });
        }
    }
}

//! Every record of a stretch of WAL, one by one.
//!
//! For questions that summaries do not answer: was this page imaged in full before anything else changed it? Promises the same
//! checks and the same constant memory as a [`Summarizer`](super::Summarizer), over any number of segments.

use super::{
    problem::Defect,
    record::{Record, RecordParts},
    walker::{Ending, RawRecord, RecordSink, Walker},
};
use crate::{
    lsn::{Lsn, TimelineId, WalSegmentSize},
    version::MajorVersion,
};

/// What is called with each record: the version that wrote it, the record, and what is wrong with its parts, if anything.
pub type TakeRecord<'a> = dyn FnMut(MajorVersion, &Record<'_>, Option<Defect>) + 'a;

/// Reads records from contiguous segments.
pub struct WalReader {
    walker: Walker,
    parts: RecordParts,
    from: Lsn,
}

impl WalReader {
    /// Reads records that start at `from` or later and before `to`. Bytes must be given from the start of `from`'s segment on.
    pub fn new(segment_size: WalSegmentSize, from: Lsn, to: Lsn) -> Self {
        let start = from.segment(segment_size).start(segment_size);
        let walker = Walker::new(start, segment_size, TimelineId(u32::MAX), to);
        Self { walker, parts: RecordParts::default(), from }
    }

    /// Takes the next bytes and gives the records that end in them.
    pub fn push(&mut self, bytes: &[u8], take: &mut TakeRecord<'_>) {
        let mut giver = Giver { parts: &mut self.parts, from: self.from, take };
        self.walker.push(bytes, &mut giver);
    }

    /// Whether no further record can come: the end was reached, or something that cannot be read. After a switch record, that
    /// means until the next segment.
    pub fn is_done(&self) -> bool {
        self.walker.is_done()
    }

    /// No more bytes come: gives what may still end in the last ones. Where valid data ended, and why.
    pub fn finish(mut self, take: &mut TakeRecord<'_>) -> (Lsn, Ending) {
        let mut giver = Giver { parts: &mut self.parts, from: self.from, take };
        let walked = self.walker.finish(&mut giver);
        (walked.valid_end, walked.ending)
    }
}

struct Giver<'a, 'b> {
    parts: &'a mut RecordParts,
    from: Lsn,
    take: &'a mut TakeRecord<'b>,
}

impl RecordSink for Giver<'_, '_> {
    fn record(&mut self, raw: RawRecord<'_>) {
        if raw.lsn < self.from {
            return;
        }
        let read = self.parts.read(raw.version, raw.bytes, raw.header.total_len);
        let record = Record {
            lsn: raw.lsn,
            end: raw.end,
            header: raw.header,
            blocks: &self.parts.blocks,
            main: self.parts.main(raw.bytes, raw.header.total_len),
            main_len: self.parts.main_len,
        };
        (self.take)(raw.version, &record, read.err());
    }
}

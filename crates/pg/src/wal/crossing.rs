//! A record that crosses segments, put together from the fragments that summaries keep.
//!
//! Promises that a record is believed only when its CRC holds. The CRC of the whole is combined from those of the parts, so that parts
//! too long to be kept are checked all the same; only if references lie in what was not kept is the WAL itself needed.

use super::{
    page::end_of_head,
    problem::Defect,
    record::{HEADER_BEFORE_CRC, RECORD_HEADER, RecordHeader},
    summary::{SegmentSummary, Taker},
    walker::{Fragment, RawRecord, RecordSink, Tail},
};
use crate::{lsn::Lsn, version::MajorVersion};

/// Bytes kept while fragments are joined; more than any two summaries keep.
const PREFIX_MAX: usize = 16 << 20;

/// A record on its way from one segment to a later one.
#[derive(Debug, Clone)]
pub(crate) struct Crossing {
    pub(crate) version: MajorVersion,
    pub(crate) start: Lsn,
    previous: Option<Lsn>,
    total_len: u32,
    got: u32,
    crc: u32,
    prefix: Vec<u8>,
}

/// What adding a segment's head makes of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// The record is complete and sound.
    Complete,
    /// It goes on behind this segment too.
    GoesOn,
    /// The segment does not continue it, or its CRC does not hold.
    Broken(Defect),
}

impl Crossing {
    /// Begins with the record at the end of a segment; `previous` is the start of the record before it, if known.
    pub(crate) fn begin(summary: &SegmentSummary, tail: &Tail, previous: Option<Lsn>) -> Option<Self> {
        Some(Self {
            version: summary.version?,
            start: tail.start,
            previous,
            total_len: tail.total_len,
            got: tail.fragment.len,
            crc: tail.fragment.crc,
            prefix: tail.fragment.kept.clone(),
        })
    }

    /// Adds what the next segment begins with.
    pub(crate) fn add(&mut self, next: &SegmentSummary) -> Added {
        let Some(head) = &next.head else { return Added::Broken(Defect::NoContinuation) };
        if head.remaining != self.total_len - self.got {
            return Added::Broken(Defect::NoContinuation);
        }
        if let Err(defect) = self.append(&head.fragment) {
            return Added::Broken(defect);
        }
        if self.got < self.total_len {
            return Added::GoesOn;
        }
        match self.header() {
            Some(header) if self.has_crc_of(&header) => {}
            _ => return Added::Broken(Defect::RecordCrc),
        }
        if let (Some(header), Some(previous)) = (self.header(), self.previous)
            && header.prev != previous
        {
            return Added::Broken(Defect::RecordLink { found: header.prev });
        }
        Added::Complete
    }

    /// Hands the complete record on. `last` is the segment it ends in.
    pub(crate) fn give(&self, last: &SegmentSummary, taker: &mut Taker) {
        let Some(header) = self.header() else { return };
        let len = last.head.as_ref().map_or(0, |head| head.fragment.len);
        let end = end_of_head(last.start(), len).aligned();
        taker.record(RawRecord { lsn: self.start, end, version: self.version, header, bytes: &self.prefix });
    }

    fn header(&self) -> Option<RecordHeader> {
        self.prefix.first_chunk::<RECORD_HEADER>().map(RecordHeader::read)
    }

    fn has_crc_of(&self, header: &RecordHeader) -> bool {
        crc32c::crc32c_append(self.crc, &self.prefix[..HEADER_BEFORE_CRC]) == header.crc
    }

    fn append(&mut self, fragment: &Fragment) -> Result<(), Defect> {
        let of_header = RECORD_HEADER.saturating_sub(self.got as usize);
        let rest = (fragment.len as usize).checked_sub(of_header).ok_or(Defect::RecordLayout)?;
        let header_part = fragment.kept.get(..of_header).ok_or(Defect::RecordLayout)?;
        // crc(ab) is combine(crc(a), crc(b), |b|), which is shift(crc(a), |b|) ^ crc(b): so the CRC without the header's part follows
        // from the CRC of all.
        let body_crc = if of_header == 0 {
            fragment.crc
        } else {
            fragment.crc ^ crc32c::crc32c_combine(crc32c::crc32c(header_part), 0, rest)
        };
        self.crc = crc32c::crc32c_combine(self.crc, if rest == 0 { 0 } else { body_crc }, rest);
        if self.prefix.len() == self.got as usize {
            let room = PREFIX_MAX.saturating_sub(self.prefix.len());
            self.prefix.extend_from_slice(&fragment.kept[..fragment.kept.len().min(room)]);
        }
        self.got += fragment.len;
        Ok(())
    }
}

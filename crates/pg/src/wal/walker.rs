//! From bytes to records: pages are checked, records put together across them, CRCs verified.
//!
//! Promises constant memory: a record that ends on the page it begins on is read in place, a longer one is gathered in one
//! reused buffer of which only the front is kept once it grows long, while its CRC runs on. Follows `XLogDecodeNextRecord` in PostgreSQL's
//! `src/backend/access/transam/xlogreader.c`: what that refuses ends the valid data here too. Never fails; see [`Ending`].

use super::{
    page::WalPageHeader,
    problem::{Defect, Problem},
    record::{HEADER_BEFORE_CRC, RECORD_HEADER, RECORD_MAX, RecordHeader},
};
use crate::{
    bytes::u32_at,
    lsn::{Lsn, SystemIdentifier, TimelineId, WAL_PAGE_SIZE, WalSegmentSize},
    version::MajorVersion,
};
use serde::{Deserialize, Serialize};

/// Bytes of an incomplete record that a summary keeps at each end of a segment. Nearly every record that crosses a border fits;
/// of the rest (bulk index builds log 32 pages at once) the front is enough, since references lie there.
pub(crate) const FRAGMENT_MAX: usize = 64 << 10;
/// Bytes kept of a record whose main data names relations: a commit that drops more than a million is beyond any lock table.
const KEPT_MAX: usize = 16 << 20;

/// How the valid data of a segment end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// With the segment.
    Full,
    /// With a switch record: the rest of the segment is void (`pg_switch_wal`, `archive_timeout`, end of a backup).
    Switch,
    /// Where the server stopped writing: zeros, a recycled page, or the end of the bytes given follow.
    EndOfData,
    /// Where the caller said to stop.
    Stopped,
    /// Where something cannot be read.
    Problem(Problem),
}

/// A complete record, its CRC verified, its parts not yet decoded.
pub(crate) struct RawRecord<'a> {
    pub(crate) lsn: Lsn,
    pub(crate) end: Lsn,
    pub(crate) version: MajorVersion,
    pub(crate) header: RecordHeader,
    /// The record from its header on: all of it, or only the front of a very long one.
    pub(crate) bytes: &'a [u8],
}

/// The first record that starts in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstRecord {
    /// Where it starts.
    pub lsn: Lsn,
    /// Where the record before it starts.
    pub previous: Lsn,
}

/// Takes records one by one.
pub(crate) trait RecordSink {
    fn record(&mut self, record: RawRecord<'_>);
}

/// Bytes of a record that lie in this segment while others lie elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// Bytes of the record in this segment.
    pub(crate) len: u32,
    /// CRC-32C of those the record's CRC covers first: all but the record's own header.
    pub(crate) crc: u32,
    /// The first of them, up to [`FRAGMENT_MAX`].
    pub(crate) kept: Vec<u8>,
}

/// A record that begins in a segment and does not end there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) start: Lsn,
    pub(crate) total_len: u32,
    pub(crate) fragment: Fragment,
}

/// The end of a record that began in an earlier segment. `remaining` exceeds the fragment when it does not end here either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) remaining: u32,
    pub(crate) fragment: Fragment,
}

enum Pending {
    /// A record may start.
    Nothing,
    /// A record began; its bytes are gathered in `buffer`.
    Record { start: Lsn, total_len: u32, got: u32, crc: u32 },
    /// The first page continued a record of before.
    Head,
}

/// What the walker saw apart from records.
#[derive(Debug, Clone)]
pub(crate) struct Walked {
    pub(crate) version: Option<MajorVersion>,
    pub(crate) system_identifier: Option<SystemIdentifier>,
    pub(crate) first_record: Option<FirstRecord>,
    pub(crate) last_record: Option<Lsn>,
    pub(crate) head: Option<Head>,
    pub(crate) head_overwritten: bool,
    pub(crate) tail: Option<Tail>,
    pub(crate) valid_end: Lsn,
    pub(crate) ending: Ending,
}

/// Reads contiguous WAL from the start of a segment on.
pub(crate) struct Walker {
    size: WalSegmentSize,
    timeline_max: TimelineId,
    stop: Lsn,
    start: Lsn,
    /// Position of the next page.
    at: Lsn,
    /// Bytes of an incomplete page.
    page: Vec<u8>,
    /// End of the bytes given, when it lies inside the last page.
    fed_end: Lsn,
    version: Option<MajorVersion>,
    system_identifier: Option<SystemIdentifier>,
    timeline: TimelineId,
    pending: Pending,
    buffer: Vec<u8>,
    head: Option<Head>,
    head_overwritten: bool,
    first_record: Option<FirstRecord>,
    last_record: Option<Lsn>,
    valid_end: Lsn,
    ending: Option<Ending>,
}

impl Walker {
    /// Reads from `start`, the start of a segment. Records that start at `stop` or later are left alone.
    pub(crate) fn new(start: Lsn, size: WalSegmentSize, timeline_max: TimelineId, stop: Lsn) -> Self {
        Self {
            size,
            timeline_max,
            stop,
            start,
            at: start,
            page: Vec::new(),
            fed_end: Lsn::MAX,
            version: None,
            system_identifier: None,
            timeline: TimelineId(0),
            pending: Pending::Nothing,
            buffer: Vec::new(),
            head: None,
            head_overwritten: false,
            first_record: None,
            last_record: None,
            valid_end: start,
            ending: None,
        }
    }

    /// Position after the bytes taken so far.
    pub(crate) fn position(&self) -> Lsn {
        self.at.plus(self.page.len() as u64)
    }

    /// Whether nothing more can come of further bytes of this segment.
    pub(crate) fn is_done(&self) -> bool {
        self.ending.is_some()
    }

    /// Takes the next bytes.
    pub(crate) fn push<S: RecordSink>(&mut self, mut bytes: &[u8], sink: &mut S) {
        if !self.page.is_empty() {
            let missing = WAL_PAGE_SIZE - self.page.len();
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.page.extend_from_slice(now);
            bytes = later;
            if self.page.len() < WAL_PAGE_SIZE {
                return;
            }
            let page = std::mem::take(&mut self.page);
            self.take_page(&page, sink);
            self.page = page;
            self.page.clear();
        }
        let (pages, rest) = bytes.as_chunks::<WAL_PAGE_SIZE>();
        for page in pages {
            self.take_page(page, sink);
        }
        self.page.extend_from_slice(rest);
    }

    /// No more bytes come. What was seen is returned; records were given to the sink.
    pub(crate) fn finish<S: RecordSink>(mut self, sink: &mut S) -> Walked {
        if !self.page.is_empty() {
            self.fed_end = self.at.plus(self.page.len() as u64);
            let mut page = std::mem::take(&mut self.page);
            page.resize(WAL_PAGE_SIZE, 0);
            self.take_page(&page, sink);
        }
        let complete =
            self.at.offset_in_segment(self.size) == 0 && self.at > self.start && self.fed_end == Lsn::MAX;
        let tail = match self.pending {
            Pending::Record { start, total_len, got, crc } if complete && self.ending.is_none() => {
                let kept = self.buffer[..self.buffer.len().min(FRAGMENT_MAX)].to_vec();
                Some(Tail { start, total_len, fragment: Fragment { len: got, crc, kept } })
            }
            _ => None,
        };
        if complete && self.ending.is_none() && tail.is_none() {
            self.valid_end = self.at;
        }
        let ending = self.ending.unwrap_or(if complete { Ending::Full } else { Ending::EndOfData });
        Walked {
            version: self.version,
            system_identifier: self.system_identifier,
            first_record: self.first_record,
            last_record: self.last_record,
            head: self.head,
            head_overwritten: self.head_overwritten,
            tail,
            valid_end: self.valid_end,
            ending,
        }
    }

    fn take_page<S: RecordSink>(&mut self, page: &[u8], sink: &mut S) {
        let lsn = self.at;
        self.at = lsn.plus(WAL_PAGE_SIZE as u64);
        if self.ending == Some(Ending::Switch) && lsn.offset_in_segment(self.size) == 0 {
            self.ending = None;
        }
        if self.ending.is_some() {
            return;
        }
        if let Err(defect) = self.take_sound_page(page, lsn, sink) {
            self.end(lsn, defect);
        }
    }

    fn take_sound_page<S: RecordSink>(&mut self, page: &[u8], lsn: Lsn, sink: &mut S) -> Result<(), Defect> {
        let header = self.check_page(page, lsn)?;
        let body = header.size;
        let at = match (&self.pending, header.continues) {
            (_, None) if header.overwrites => {
                self.head_overwritten |= lsn == self.start;
                self.pending = Pending::Nothing;
                body
            }
            (Pending::Nothing, None) => body,
            (Pending::Nothing, Some(remaining)) if lsn == self.start && remaining > 0 => {
                self.head = Some(Head { remaining, fragment: Fragment::default() });
                self.pending = Pending::Head;
                body + self.continue_head(&page[body..])
            }
            (Pending::Nothing, Some(_)) => return Err(Defect::UnexpectedContinuation),
            (Pending::Head, Some(remaining)) if self.head_missing() == remaining => {
                body + self.continue_head(&page[body..])
            }
            (Pending::Record { total_len, got, .. }, Some(remaining)) if total_len - got == remaining => {
                body + self.continue_record(&page[body..], lsn.plus(body as u64), sink)?
            }
            (Pending::Head | Pending::Record { .. }, _) => return Err(Defect::NoContinuation),
        };
        if matches!(self.pending, Pending::Nothing) && self.ending.is_none() {
            self.take_records(page, at, lsn, sink);
        }
        Ok(())
    }

    fn check_page(&mut self, page: &[u8], lsn: Lsn) -> Result<WalPageHeader, Defect> {
        let header = WalPageHeader::read(page, lsn, self.size)?;
        if header.version != *self.version.get_or_insert(header.version) {
            return Err(Defect::PageVersion { found: header.version.number() });
        }
        if header.timeline < self.timeline || header.timeline > self.timeline_max {
            return Err(Defect::PageTimeline { found: header.timeline.0 });
        }
        self.timeline = header.timeline;
        self.system_identifier = self.system_identifier.or(header.system_identifier);
        Ok(header)
    }

    /// Bytes of the head still to come.
    fn head_missing(&self) -> u32 {
        self.head.as_ref().map_or(0, |head| head.remaining - head.fragment.len)
    }

    /// Takes the head's bytes on this page; how many there were.
    fn continue_head(&mut self, bytes: &[u8]) -> usize {
        let Some(head) = &mut self.head else { return 0 };
        let take = ((head.remaining - head.fragment.len) as usize).min(bytes.len());
        let part = &bytes[..take];
        let fragment = &mut head.fragment;
        fragment.len += take as u32;
        fragment.crc = crc32c::crc32c_append(fragment.crc, part);
        let room = FRAGMENT_MAX - fragment.kept.len();
        fragment.kept.extend_from_slice(&part[..take.min(room)]);
        if fragment.len == head.remaining {
            self.pending = Pending::Nothing;
        }
        take
    }

    /// Takes the pending record's bytes on this page; how many there were.
    fn continue_record<S: RecordSink>(
        &mut self,
        bytes: &[u8],
        at: Lsn,
        sink: &mut S,
    ) -> Result<usize, Defect> {
        let Pending::Record { start, total_len, got, crc } = self.pending else { return Ok(0) };
        let take = ((total_len - got) as usize).min(bytes.len());
        if at.plus(take as u64) > self.fed_end {
            self.ending = Some(Ending::EndOfData);
            return Ok(take);
        }
        let crc = self.gather(got, crc, &bytes[..take])?;
        let got = got + take as u32;
        self.pending = Pending::Record { start, total_len, got, crc };
        if got == total_len {
            self.pending = Pending::Nothing;
            let buffer = std::mem::take(&mut self.buffer);
            self.emit(start, at.plus(take as u64), crc, &buffer, sink);
            self.buffer = buffer;
        }
        Ok(take)
    }

    /// Appends to the buffered record, which has `got` bytes; the CRC of its body so far.
    fn gather(&mut self, got: u32, crc: u32, part: &[u8]) -> Result<u32, Defect> {
        let before = got as usize;
        // Until the header is whole, all of it is kept.
        let kept_max = match self.buffer.first_chunk::<RECORD_HEADER>() {
            Some(header) if !names_relations_in_main(RecordHeader::read(header).manager) => FRAGMENT_MAX,
            _ => KEPT_MAX,
        };
        let room = kept_max.saturating_sub(self.buffer.len());
        self.buffer.extend_from_slice(&part[..part.len().min(room)]);
        if before < RECORD_HEADER && self.buffer.len() >= RECORD_HEADER {
            let Pending::Record { start, .. } = self.pending else { return Ok(crc) };
            let header = self.buffer.first_chunk().map(RecordHeader::read).ok_or(Defect::RecordLayout)?;
            self.check_header(&header, start)?;
        }
        let header_left = RECORD_HEADER.saturating_sub(before).min(part.len());
        Ok(crc32c::crc32c_append(crc, &part[header_left..]))
    }

    fn take_records<S: RecordSink>(&mut self, page: &[u8], mut at: usize, page_lsn: Lsn, sink: &mut S) {
        loop {
            at = at.next_multiple_of(8);
            if at >= WAL_PAGE_SIZE {
                return;
            }
            let lsn = page_lsn.plus(at as u64);
            self.valid_end = lsn;
            if lsn >= self.stop {
                self.ending = Some(Ending::Stopped);
                return;
            }
            let rest = &page[at..];
            let total_len = u32_at(rest, 0).unwrap_or(0);
            let end = lsn.plus(total_len.into());
            if total_len == 0 || (end.min(self.at) > self.fed_end) {
                self.ending = Some(Ending::EndOfData);
                return;
            }
            let taken = match rest.get(..total_len as usize) {
                Some(_) if (total_len as usize) < RECORD_HEADER => {
                    Err(Defect::RecordLength { found: total_len })
                }
                Some(bytes) => self.take_whole(bytes, lsn, end, sink),
                None => self.begin_record(rest, lsn, total_len),
            };
            if let Err(defect) = taken {
                self.end(lsn, defect);
            }
            if self.ending.is_some() || matches!(self.pending, Pending::Record { .. }) {
                return;
            }
            at += total_len as usize;
        }
    }

    /// A record that lies on one page, read where it is.
    #[inline]
    fn take_whole<S: RecordSink>(
        &mut self,
        bytes: &[u8],
        lsn: Lsn,
        end: Lsn,
        sink: &mut S,
    ) -> Result<(), Defect> {
        let header = bytes.first_chunk().map(RecordHeader::read).ok_or(Defect::RecordLayout)?;
        self.check_header(&header, lsn)?;
        let crc = crc32c::crc32c(&bytes[RECORD_HEADER..]);
        self.emit(lsn, end, crc, bytes, sink);
        Ok(())
    }

    /// A record that goes on behind this page.
    fn begin_record(&mut self, bytes: &[u8], start: Lsn, total_len: u32) -> Result<(), Defect> {
        if total_len > RECORD_MAX || (total_len as usize) < RECORD_HEADER {
            return Err(Defect::RecordLength { found: total_len });
        }
        self.buffer.clear();
        self.pending = Pending::Record { start, total_len, got: 0, crc: 0 };
        let crc = self.gather(0, 0, bytes)?;
        self.pending = Pending::Record { start, total_len, got: bytes.len() as u32, crc };
        Ok(())
    }

    fn check_header(&self, header: &RecordHeader, lsn: Lsn) -> Result<(), Defect> {
        let follows = match self.last_record {
            Some(last) => header.prev == last,
            None => header.prev < lsn,
        };
        if !follows {
            return Err(Defect::RecordLink { found: header.prev });
        }
        match self.version {
            Some(version) if header.has_manager_of(version) => Ok(()),
            _ => Err(Defect::ResourceManager { found: header.manager }),
        }
    }

    /// A record is complete: verify its CRC and hand it on.
    #[inline]
    fn emit<S: RecordSink>(&mut self, lsn: Lsn, end: Lsn, body_crc: u32, bytes: &[u8], sink: &mut S) {
        let (Some(chunk), Some(version)) = (bytes.first_chunk(), self.version) else { return };
        let header = RecordHeader::read(chunk);
        if crc32c::crc32c_append(body_crc, &bytes[..HEADER_BEFORE_CRC]) != header.crc {
            self.end(lsn, Defect::RecordCrc);
            return;
        }
        let end = end.aligned();
        self.first_record.get_or_insert(FirstRecord { lsn, previous: header.prev });
        self.last_record = Some(lsn);
        self.valid_end = end;
        sink.record(RawRecord { lsn, end, version, header, bytes });
        if header.manager == 0 && header.kind() == XLOG_SWITCH {
            self.ending = Some(Ending::Switch);
            self.valid_end = end.previous_segment(self.size).end(self.size);
        }
    }

    /// Reading ends: where the server stopped writing if it looks so, else with a problem. A pending record never came to be.
    fn end(&mut self, at: Lsn, defect: Defect) {
        if let Pending::Record { start, .. } = self.pending {
            self.valid_end = start;
        }
        let unwritten = match defect {
            Defect::PageMagic { found } => found == 0,
            Defect::PageAddress { found } => found < at,
            _ => false,
        };
        self.ending =
            Some(if unwritten { Ending::EndOfData } else { Ending::Problem(Problem { at, defect }) });
    }
}

/// `XLOG_SWITCH` of resource manager XLOG.
const XLOG_SWITCH: u8 = 0x40;

/// Whether records of this resource manager say in their main data which relations change: XLOG, Transaction, Storage, Database.
fn names_relations_in_main(manager: u8) -> bool {
    matches!(manager, 0 | 1 | 2 | 4)
}

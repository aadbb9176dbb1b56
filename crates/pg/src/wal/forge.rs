//! Writes WAL for tests, as `CopyXLogRecordToWAL` does: records across pages and segments, linked, with CRCs.

use super::page::{LONG_HEADER, SHORT_HEADER};
use crate::{
    Fork, Lsn, MajorVersion, Relation, SegmentName, SegmentNumber, TimelineId, WalSegmentSize,
    lsn::WAL_PAGE_SIZE,
};

pub(crate) const IDENTIFIER: u64 = 7_711_107_031_806_502_601;

/// A reference to a block, without data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) relation: Relation,
    pub(crate) fork: Fork,
    pub(crate) block: u32,
    /// Bytes of a page image without hole; 0 for none.
    pub(crate) image: bool,
}

/// WAL under construction, from the start of a segment on.
#[derive(Clone)]
pub(crate) struct Forge {
    pub(crate) size: WalSegmentSize,
    pub(crate) version: MajorVersion,
    pub(crate) timeline: TimelineId,
    pub(crate) start: Lsn,
    pub(crate) bytes: Vec<u8>,
    /// Start of the last record.
    pub(crate) last: Lsn,
    /// Starts of all records, but for those lost.
    pub(crate) records: Vec<Lsn>,
    overwrite_next_page: bool,
}

impl Forge {
    pub(crate) fn new(version: MajorVersion) -> Self {
        let size = WalSegmentSize::new(1 << 20).unwrap();
        Self {
            size,
            version,
            timeline: TimelineId(1),
            start: SegmentNumber(3).start(size),
            bytes: Vec::new(),
            last: Lsn(0x20_0028),
            records: Vec::new(),
            overwrite_next_page: false,
        }
    }

    /// Where the next byte goes.
    pub(crate) fn at(&self) -> Lsn {
        self.start.plus(self.bytes.len() as u64)
    }

    /// Appends a record; where it starts.
    pub(crate) fn record(&mut self, manager: u8, info: u8, xid: u32, blocks: &[Block], main: &[u8]) -> Lsn {
        let bytes = self.encode(manager, info, xid, blocks, main);
        self.raw(&bytes)
    }

    /// Appends a record's bytes; where they start.
    pub(crate) fn raw(&mut self, record: &[u8]) -> Lsn {
        let start = self.next_record();
        self.last = start;
        self.records.push(start);
        self.put(record);
        start
    }

    /// Where the next record will start; writes the page header that may be due before.
    pub(crate) fn next_record(&mut self) -> Lsn {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.page_header(0);
        self.at()
    }

    /// Encodes a record that will start at the next position.
    pub(crate) fn encode(&self, manager: u8, info: u8, xid: u32, blocks: &[Block], main: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for (id, block) in blocks.iter().enumerate() {
            body.extend([id as u8, block.fork.number() | if block.image { 0x10 } else { 0 }, 0, 0]);
            if block.image {
                let applied = if self.version == MajorVersion::V14 { 4 } else { 2 };
                body.extend([0, 0x20, 0, 0, applied]);
            }
            let Relation { tablespace, database, relnumber } = block.relation;
            for word in [tablespace, database, relnumber, block.block] {
                body.extend(word.to_le_bytes());
            }
        }
        match main.len() {
            0 => {}
            len @ 1..=255 => body.extend([255, len as u8]),
            len => {
                body.push(254);
                body.extend((len as u32).to_le_bytes());
            }
        }
        for (index, _) in blocks.iter().enumerate().filter(|(_, block)| block.image) {
            body.extend(vec![index as u8 + 1; 8192]);
        }
        body.extend(main);
        let mut record = Vec::new();
        record.extend((24 + body.len() as u32).to_le_bytes());
        record.extend(xid.to_le_bytes());
        record.extend(self.last.0.to_le_bytes());
        record.extend([info, manager, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&body), &record);
        record.extend(crc.to_le_bytes());
        record.extend(body);
        record
    }

    fn put(&mut self, mut record: &[u8]) {
        while !record.is_empty() {
            let room = WAL_PAGE_SIZE - self.bytes.len() % WAL_PAGE_SIZE;
            let (now, later) = record.split_at(room.min(record.len()));
            self.bytes.extend_from_slice(now);
            record = later;
            if !record.is_empty() {
                self.page_header(record.len() as u32);
            }
        }
    }

    /// Writes a page header if a page starts here.
    fn page_header(&mut self, remaining: u32) {
        if !self.bytes.len().is_multiple_of(WAL_PAGE_SIZE) {
            return;
        }
        let at = self.at();
        let is_long = at.offset_in_segment(self.size) == 0;
        let mut flags = u16::from(remaining > 0) | u16::from(is_long) << 1;
        if std::mem::take(&mut self.overwrite_next_page) {
            flags |= 8;
        }
        self.bytes.extend(self.version.wal_page_magic().to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(self.timeline.0.to_le_bytes());
        self.bytes.extend(at.0.to_le_bytes());
        self.bytes.extend(u64::from(remaining).to_le_bytes());
        if is_long {
            self.bytes.extend(IDENTIFIER.to_le_bytes());
            self.bytes.extend(self.size.bytes().to_le_bytes());
            self.bytes.extend((WAL_PAGE_SIZE as u32).to_le_bytes());
        }
    }

    /// Fills with small records until fewer than `left` bytes of the segment are left.
    pub(crate) fn fill_segment(&mut self, left: u32) {
        while self.size.bytes() - self.at().offset_in_segment(self.size) >= left.max(64) {
            self.record(21, 0, 0, &[], &[7; 6]);
        }
    }

    /// Fills until exactly `left` bytes (a multiple of 8, at least 8) of the segment are left for the next record.
    pub(crate) fn fill_to(&mut self, left: u32) {
        self.fill_segment(2048 + left);
        let at = self.next_record().offset_in_segment(self.size);
        let target = self.size.bytes() - left;
        let page = WAL_PAGE_SIZE as u32;
        let room = target - at - SHORT_HEADER as u32 * (target / page - at / page);
        // Header 24, long data header 5: all of the room, in one record.
        self.record(21, 0, 0, &[], &vec![7; room as usize - 29]);
        assert_eq!(self.size.bytes() - self.next_record().offset_in_segment(self.size), left);
    }

    /// The crash that loses a record: it was begun, but what lies on later pages was never written. The server goes on at the next
    /// page, which says so, with `XLOG_OVERWRITE_CONTRECORD`.
    pub(crate) fn lose_record(&mut self, record: &[u8]) -> Lsn {
        let lost = self.next_record();
        let room = WAL_PAGE_SIZE - self.bytes.len() % WAL_PAGE_SIZE;
        assert!(record.len() > room);
        self.bytes.extend_from_slice(&record[..room]);
        self.overwrite_next_page = true;
        let mut main = lost.0.to_le_bytes().to_vec();
        main.extend(0_u64.to_le_bytes());
        self.record(0, 0xD0, 0, &[], &main);
        lost
    }

    /// A switch record, and the void behind it.
    pub(crate) fn switch(&mut self) {
        self.record(0, 0x40, 0, &[], &[]);
        let size = self.size.bytes() as usize;
        self.bytes.resize(self.bytes.len().next_multiple_of(size), 0);
    }

    /// The segments, the last one filled up with zeros.
    pub(crate) fn segments(&self) -> Vec<(SegmentName, Vec<u8>)> {
        let size = self.size.bytes() as usize;
        let first = self.start.segment(self.size).0;
        let name = |index: usize| SegmentName::new(self.timeline, SegmentNumber(first + index as u64));
        let padded = |chunk: &[u8]| {
            let mut bytes = chunk.to_vec();
            bytes.resize(size, 0);
            bytes
        };
        self.bytes.chunks(size).enumerate().map(|(index, chunk)| (name(index), padded(chunk))).collect()
    }
}

/// The header sizes that the forge writes are those the reader expects.
const _: () = assert!(LONG_HEADER == 40 && SHORT_HEADER == 24);

//! Headers of WAL pages (`src/include/access/xlog_internal.h`).

use super::problem::Defect;
use crate::{
    bytes::{u16_at, u32_at, u64_at},
    lsn::{Lsn, SystemIdentifier, TimelineId, WAL_PAGE_SIZE, WalSegmentSize},
    version::MajorVersion,
};

/// `SizeOfXLogShortPHD`.
pub(crate) const SHORT_HEADER: usize = 24;
/// `SizeOfXLogLongPHD`: the first page of a segment has this.
pub const LONG_HEADER: usize = 40;

const FIRST_IS_CONTRECORD: u16 = 0x0001;
const LONG: u16 = 0x0002;
const FIRST_IS_OVERWRITE_CONTRECORD: u16 = 0x0008;
const ALL_FLAGS: u16 = 0x000F;

/// The header of a WAL page, checked against where the page lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalPageHeader {
    /// Version that wrote the page.
    pub version: MajorVersion,
    /// Timeline of the page's first record.
    pub timeline: TimelineId,
    /// Bytes of a record begun earlier that continue on this page and later ones; `None` when a record starts the page.
    pub continues: Option<u32>,
    /// The record begun before this page was lost in a crash and is replaced by what starts here.
    pub overwrites: bool,
    /// Bytes of the header.
    pub size: usize,
    /// The cluster, in the first page of a segment.
    pub system_identifier: Option<SystemIdentifier>,
}

impl WalPageHeader {
    /// Reads the header of the page that should lie at `lsn`.
    ///
    /// # Errors
    /// The [`Defect`] that makes PostgreSQL refuse the page (`XLogReaderValidatePageHeader`).
    pub fn read(page: &[u8], lsn: Lsn, segment_size: WalSegmentSize) -> Result<Self, Defect> {
        let short = |at| u16_at(page, at).unwrap_or(0);
        let version =
            MajorVersion::from_wal_page_magic(short(0)).ok_or(Defect::PageMagic { found: short(0) })?;
        let flags = short(2);
        if flags & !ALL_FLAGS != 0 {
            return Err(Defect::PageFlags { found: flags });
        }
        let address = Lsn(u64_at(page, 8).unwrap_or(0));
        if address != lsn {
            return Err(Defect::PageAddress { found: address });
        }
        let is_long = flags & LONG != 0;
        // Only the first page of a segment has the long header, and it always does.
        if is_long != (lsn.offset_in_segment(segment_size) == 0) {
            return Err(Defect::PageFlags { found: flags });
        }
        if is_long {
            let (size, block) = (u32_at(page, 32).unwrap_or(0), u32_at(page, 36).unwrap_or(0));
            if size != segment_size.bytes() || block as usize != WAL_PAGE_SIZE {
                return Err(Defect::SegmentSize { found: size });
            }
        }
        let remaining = u32_at(page, 16).unwrap_or(0);
        Ok(Self {
            version,
            timeline: TimelineId(u32_at(page, 4).unwrap_or(0)),
            continues: (flags & FIRST_IS_CONTRECORD != 0).then_some(remaining),
            overwrites: flags & FIRST_IS_OVERWRITE_CONTRECORD != 0,
            size: if is_long { LONG_HEADER } else { SHORT_HEADER },
            system_identifier: is_long.then(|| SystemIdentifier(u64_at(page, 24).unwrap_or(0))),
        })
    }
}

/// What the first page of a segment says of the file: enough to refuse a segment of another cluster before reading on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Version that wrote it.
    pub version: MajorVersion,
    /// Timeline of the first page. Pages copied by a promotion keep the old one.
    pub timeline: TimelineId,
    /// Position of the first byte.
    pub start: Lsn,
    /// The cluster it belongs to.
    pub system_identifier: SystemIdentifier,
    /// Segment size of that cluster.
    pub segment_size: WalSegmentSize,
}

impl SegmentHeader {
    /// Reads the first bytes of a segment file, at least [`LONG_HEADER`] of them.
    ///
    /// # Errors
    /// The [`Defect`] found.
    pub fn read(bytes: &[u8]) -> Result<Self, Defect> {
        let found = u32_at(bytes, 32).unwrap_or(0);
        let version = MajorVersion::from_wal_page_magic(u16_at(bytes, 0).unwrap_or(0));
        version.ok_or(Defect::PageMagic { found: u16_at(bytes, 0).unwrap_or(0) })?;
        let segment_size = WalSegmentSize::new(found.into()).map_err(|_| Defect::SegmentSize { found })?;
        let start = Lsn(u64_at(bytes, 8).unwrap_or(0));
        let page = WalPageHeader::read(bytes, start, segment_size)?;
        Ok(Self {
            version: page.version,
            timeline: page.timeline,
            start,
            system_identifier: SystemIdentifier(u64_at(bytes, 24).unwrap_or(0)),
            segment_size,
        })
    }
}

/// Where the record bytes end that fill `len` bytes from the start of a segment on, page headers left out.
pub(crate) fn end_of_head(segment_start: Lsn, len: u32) -> Lsn {
    let len = len as usize;
    let first = WAL_PAGE_SIZE - LONG_HEADER;
    if len <= first {
        return segment_start.plus((LONG_HEADER + len) as u64);
    }
    // The last page is never left empty: a continuation that fills a page exactly ends at its end.
    let rest = len - first - 1;
    let pages = rest / (WAL_PAGE_SIZE - SHORT_HEADER);
    let on_last = rest % (WAL_PAGE_SIZE - SHORT_HEADER) + 1;
    segment_start.plus(((pages + 1) * WAL_PAGE_SIZE + SHORT_HEADER + on_last) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuations_end_behind_the_headers_between() {
        assert_eq!(end_of_head(Lsn(0), 10), Lsn(50));
        assert_eq!(end_of_head(Lsn(0), 8152), Lsn(8192));
        assert_eq!(end_of_head(Lsn(0), 8153), Lsn(8192 + 25));
        assert_eq!(end_of_head(Lsn(0), 8152 + 8168), Lsn(2 * 8192));
        assert_eq!(end_of_head(Lsn(0), 8152 + 8169), Lsn(2 * 8192 + 25));
    }
}

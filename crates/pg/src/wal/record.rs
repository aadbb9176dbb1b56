//! WAL records: header, block references, main data (`src/include/access/xlogrecord.h`).
//!
//! Promises what `DecodeXLogRecord` in PostgreSQL's `src/backend/access/transam/xlogreader.c` promises: parts that do not add up
//! are refused. A record may be given by its first bytes only: references lie in front, so very long records need not be kept.

use super::problem::Defect;
use crate::{
    bytes::{u16_at, u32_at, u64_at},
    lsn::Lsn,
    relfile::{BLOCK_SIZE, Fork, RelFork, Relation},
    version::MajorVersion,
};
use std::fmt;

/// Bytes of the fixed header (`SizeOfXLogRecord`).
pub(crate) const RECORD_HEADER: usize = 24;
/// Bytes of the header that its CRC covers, after the rest of the record.
pub(crate) const HEADER_BEFORE_CRC: usize = 20;
/// `XLogRecordMaxSize` of version 16; earlier ones are bounded by `MaxAllocSize`, a little more.
pub(crate) const RECORD_MAX: u32 = 1 << 30;
/// The last resource manager of versions 14 to 18 (`RM_LOGICALMSG_ID`).
const BUILTIN_MANAGER_MAX: u8 = 21;
/// `RM_MIN_CUSTOM_ID`: extensions register theirs from here (15+).
pub(crate) const CUSTOM_MANAGER_MIN: u8 = 128;

const DATA_SHORT: u8 = 255;
const DATA_LONG: u8 = 254;
const ORIGIN: u8 = 253;
const TOPLEVEL_XID: u8 = 252;
const BLOCK_ID_MAX: u8 = 32;

const FORK_MASK: u8 = 0x0F;
const HAS_IMAGE: u8 = 0x10;
const HAS_DATA: u8 = 0x20;
const WILL_INIT: u8 = 0x40;
const SAME_REL: u8 = 0x80;

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of the whole record, this header included.
    pub total_len: u32,
    /// Transaction that wrote it, or 0.
    pub xid: u32,
    /// Start of the record before.
    pub prev: Lsn,
    /// Kind of record in the upper four bits, flags below.
    pub info: u8,
    /// Resource manager.
    pub manager: u8,
    /// CRC-32C of the record.
    pub crc: u32,
}

impl RecordHeader {
    /// Reads the first [`RECORD_HEADER`] bytes of a record.
    pub fn read(bytes: &[u8; RECORD_HEADER]) -> Self {
        // Reads inside the array cannot fail.
        Self {
            total_len: u32_at(bytes, 0).unwrap_or(0),
            xid: u32_at(bytes, 4).unwrap_or(0),
            prev: Lsn(u64_at(bytes, 8).unwrap_or(0)),
            info: bytes[16],
            manager: bytes[17],
            crc: u32_at(bytes, 20).unwrap_or(0),
        }
    }

    /// The kind of record, without PostgreSQL's general flags (`xl_info & ~XLR_INFO_MASK`).
    pub fn kind(&self) -> u8 {
        self.info & 0xF0
    }

    /// Whether the record says that it changes files beyond its block references (`XLR_SPECIAL_REL_UPDATE`).
    pub fn changes_files(&self) -> bool {
        self.info & 0x01 != 0
    }

    /// Whether `version` has the record's resource manager (`RmgrIdIsValid`).
    pub fn has_manager_of(&self, version: MajorVersion) -> bool {
        match version {
            MajorVersion::V14 => self.manager <= BUILTIN_MANAGER_MAX,
            MajorVersion::V15 | MajorVersion::V16 | MajorVersion::V17 | MajorVersion::V18 => {
                self.manager <= BUILTIN_MANAGER_MAX || self.manager >= CUSTOM_MANAGER_MIN
            }
        }
    }
}

/// The image of a page inside a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockImage {
    /// Bytes in the record.
    pub len: u16,
    /// Where the hole of zeros begins that was left out.
    pub hole_offset: u16,
    /// Bytes of the hole.
    pub hole_len: u16,
    /// Whether the image is compressed.
    pub is_compressed: bool,
    /// Whether replay restores the page from it; otherwise it is there for consistency checks only.
    pub is_applied: bool,
}

/// A block that a record refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRef {
    /// Number of the reference in the record.
    pub id: u8,
    /// The relation.
    pub relation: Relation,
    /// Which fork.
    pub fork: Fork,
    /// Block of the fork.
    pub block: u32,
    /// Image of the page, if the record carries one.
    pub image: Option<BlockImage>,
    /// Whether replay starts from an empty page.
    pub will_init: bool,
    /// Bytes of data for this block.
    pub data_len: u16,
}

impl BlockRef {
    /// The fork referred to.
    pub fn rel_fork(&self) -> RelFork {
        self.relation.fork(self.fork)
    }

    /// Whether replay needs nothing of the page's old content.
    pub fn replaces_page(&self) -> bool {
        self.will_init || self.image.is_some_and(|image| image.is_applied)
    }
}

/// The parts of a record after its fixed header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RecordParts {
    /// Blocks referred to, in the record's order.
    pub(crate) blocks: Vec<BlockRef>,
    /// Bytes of the main data.
    pub(crate) main_len: u32,
    /// Top-level transaction of a subtransaction's first record (14+).
    pub(crate) toplevel_xid: Option<u32>,
}

/// A record, its parts decoded.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Where it starts.
    pub lsn: Lsn,
    /// Where the next one may start, before alignment and page headers.
    pub end: Lsn,
    /// The fixed header.
    pub header: RecordHeader,
    /// Blocks referred to.
    pub blocks: &'a [BlockRef],
    /// Main data; shorter than `main_len` when the record was too long to be kept.
    pub main: &'a [u8],
    /// Bytes of the main data.
    pub main_len: u32,
}

impl fmt::Display for Record<'_> {
    /// Position, link, transaction, length and blocks, in the words of `pg_waldump`:
    /// `0/1741608 prev 0/17415D0 tx 724 len 150 #0 1663/5/2840 fork vm blk 0 FPW`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecordHeader { prev, xid, total_len, .. } = self.header;
        write!(f, "{} prev {prev} tx {xid} len {total_len}", self.lsn)?;
        for block in self.blocks {
            write!(f, " #{} {}", block.id, block.relation)?;
            if block.fork != Fork::Main {
                write!(f, " fork {}", block.fork)?;
            }
            write!(f, " blk {}", block.block)?;
            match block.image {
                Some(image) if image.is_applied => f.write_str(" FPW")?,
                Some(_) => f.write_str(" FPW for WAL verification")?,
                None => {}
            }
        }
        Ok(())
    }
}

impl Record<'_> {
    /// Whether the main data are all there.
    pub fn has_all_main(&self) -> bool {
        self.main.len() == self.main_len as usize
    }
}

impl RecordParts {
    /// Reads a record's parts, reusing the allocation. `bytes` are the first ones of the record, up to all of them.
    ///
    /// # Errors
    /// [`Defect::RecordLayout`] when the parts do not add up to `total_len`; [`Defect::TooLong`] when `bytes` end too early.
    pub(crate) fn read(&mut self, version: MajorVersion, bytes: &[u8], total_len: u32) -> Result<(), Defect> {
        self.blocks.clear();
        self.main_len = 0;
        self.toplevel_xid = None;
        let short_of = if bytes.len() < total_len as usize { Defect::TooLong } else { Defect::RecordLayout };
        let mut cursor = Cursor { bytes, at: RECORD_HEADER, short_of };
        let mut data_total = 0;
        // As in PostgreSQL: headers go on while there is more left than the data they announced.
        while (total_len as usize).saturating_sub(cursor.at) > data_total {
            match cursor.byte()? {
                DATA_SHORT => {
                    self.main_len = cursor.byte()?.into();
                    data_total += self.main_len as usize;
                    break;
                }
                DATA_LONG => {
                    self.main_len = cursor.word()?;
                    data_total += self.main_len as usize;
                    break;
                }
                ORIGIN => {
                    cursor.short()?;
                }
                TOPLEVEL_XID => self.toplevel_xid = Some(cursor.word()?),
                id if id <= BLOCK_ID_MAX => {
                    let block = read_block(&mut cursor, version, id, self.blocks.last())?;
                    data_total +=
                        usize::from(block.data_len) + block.image.map_or(0, |image| image.len.into());
                    self.blocks.push(block);
                }
                _ => return Err(Defect::RecordLayout),
            }
        }
        if cursor.at + data_total == total_len as usize { Ok(()) } else { Err(Defect::RecordLayout) }
    }

    /// The main data among the record's first `bytes`: they are its last part.
    pub(crate) fn main<'a>(&self, bytes: &'a [u8], total_len: u32) -> &'a [u8] {
        bytes.get((total_len - self.main_len) as usize..).unwrap_or(&[])
    }
}

fn read_block(
    cursor: &mut Cursor<'_>,
    version: MajorVersion,
    id: u8,
    before: Option<&BlockRef>,
) -> Result<BlockRef, Defect> {
    if before.is_some_and(|before| id <= before.id) {
        return Err(Defect::RecordLayout);
    }
    let flags = cursor.byte()?;
    let data_len = cursor.short()?;
    let fork = Fork::from_number(flags & FORK_MASK).ok_or(Defect::RecordLayout)?;
    if (flags & HAS_DATA != 0) != (data_len > 0) {
        return Err(Defect::RecordLayout);
    }
    let image = if flags & HAS_IMAGE != 0 { Some(read_image(cursor, version)?) } else { None };
    let relation = if flags & SAME_REL != 0 {
        before.ok_or(Defect::RecordLayout)?.relation
    } else {
        Relation { tablespace: cursor.word()?, database: cursor.word()?, relnumber: cursor.word()? }
    };
    let block = cursor.word()?;
    Ok(BlockRef { id, relation, fork, block, image, will_init: flags & WILL_INIT != 0, data_len })
}

fn read_image(cursor: &mut Cursor<'_>, version: MajorVersion) -> Result<BlockImage, Defect> {
    let len = cursor.short()?;
    let hole_offset = cursor.short()?;
    let info = cursor.byte()?;
    // 15 moved the flags to make room for more compression methods.
    let (is_compressed, is_applied) = match version {
        MajorVersion::V14 => (info & 0x02 != 0, info & 0x04 != 0),
        MajorVersion::V15 | MajorVersion::V16 | MajorVersion::V17 | MajorVersion::V18 => {
            (info & 0x1C != 0, info & 0x02 != 0)
        }
    };
    let has_hole = info & 0x01 != 0;
    let page = BLOCK_SIZE as u16;
    let hole_len = match (is_compressed, has_hole) {
        (true, true) => cursor.short()?,
        (true, false) => 0,
        (false, _) => page.checked_sub(len).ok_or(Defect::RecordLayout)?,
    };
    let adds_up = if has_hole {
        hole_offset > 0
            && hole_len > 0
            && len < page
            && u32::from(hole_offset) + u32::from(hole_len) <= u32::from(page)
    } else {
        hole_offset == 0 && hole_len == 0
    };
    if !adds_up || (is_compressed && len >= page) {
        return Err(Defect::RecordLayout);
    }
    Ok(BlockImage { len, hole_offset, hole_len, is_compressed, is_applied })
}

/// Reads fields one after the other.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// What it means when the bytes end: a wrong record, or one of which only the front was kept.
    short_of: Defect,
}

impl Cursor<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, Defect> {
        let value = *self.bytes.get(self.at).ok_or(self.short_of)?;
        self.at += 1;
        Ok(value)
    }

    #[inline]
    fn short(&mut self) -> Result<u16, Defect> {
        let value = u16_at(self.bytes, self.at).ok_or(self.short_of)?;
        self.at += 2;
        Ok(value)
    }

    #[inline]
    fn word(&mut self) -> Result<u32, Defect> {
        let value = u32_at(self.bytes, self.at).ok_or(self.short_of)?;
        self.at += 4;
        Ok(value)
    }
}

//! The stored form of a [`SegmentSummary`], version 1.
//!
//! Promises that what was written is read back equal, that a changed bit is noticed (CRC-32C at the end), and that hostile bytes
//! cost neither panic nor more memory than the segment's own size justifies. Layout, all numbers LEB128 unless said otherwise:
//!
//! ```text
//! "pgws" | 1 (byte) | timeline | segment number | log2 of segment size (byte) | major version (byte, 0 unknown)
//! [system identifier] | valid end, from segment start | ending | [first record: offset, distance to the one before]
//! [last record: offset] | head overwritten | [head: remaining, fragment] | [tail: offset, total, fragment]
//! problems | marks | changes | CRC-32C of all before (4 bytes, little-endian)
//! ```
//!
//! `[x]` is a flag byte, then x if it is 1. A list is its length and its items. A fragment is its length, CRC and kept bytes.
//! Changes are the rewritten databases, then the relations in order: a number whose lowest bit says that the directory is the one
//! before, and whose rest is the distance of relation numbers (or tablespace, database and number follow); then three bits per fork
//! (see [`ForkForm`]); then what these announce. A set of blocks is its runs: gap to the run before times two, plus one if longer than
//! one block; then length less two.

use super::{
    block_set::BlockSet,
    changes::{Changes, ForkChange, RelationChange},
    codec::{Reader, WHAT, Writer, damaged},
    marks::{
        Checkpoint, FullPageWritesMark, LevelMark, Marks, PgTime, RestorePoint, TimelineSwitch,
        TransactionEnd,
    },
    problem::{Defect, Problem},
    rules::HEAP_BLOCKS_PER_VM_PAGE,
    summary::SegmentSummary,
    walker::{Ending, FRAGMENT_MAX, FirstRecord, Fragment, Head, Tail},
};
use crate::{
    bytes::u32_at,
    control::WalLevel,
    error::PgError,
    lsn::{Lsn, SegmentName, SegmentNumber, SystemIdentifier, TimelineId, WalSegmentSize},
    relfile::{DatabaseDir, Fork, Relation},
    version::MajorVersion,
};

const MAGIC: &[u8; 4] = b"pgws";
const FORMAT: u8 = 1;

impl SegmentSummary {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.bytes.extend_from_slice(MAGIC);
        out.bytes.push(FORMAT);
        out.number(self.name.timeline.0);
        out.number(self.name.number.0);
        out.bytes.push(self.segment_size.bytes().trailing_zeros() as u8);
        out.bytes.push(self.version.map_or(0, |version| version.number() as u8));
        out.option(&self.system_identifier, |out, identifier| out.number(identifier.0));
        let start = self.start();
        out.number(self.valid_end.bytes_since(start));
        write_ending(&mut out, &self.ending);
        out.option(&self.first_record, |out, first| {
            out.number(first.lsn.bytes_since(start));
            out.number(first.lsn.bytes_since(first.previous));
        });
        out.option(&self.last_record, |out, lsn| out.number(lsn.bytes_since(start)));
        out.flag(self.head_overwritten);
        out.option(&self.head, |out, head| {
            out.number(head.remaining);
            write_fragment(out, &head.fragment);
        });
        out.option(&self.tail, |out, tail| {
            out.number(tail.start.bytes_since(start));
            out.number(tail.total_len);
            write_fragment(out, &tail.fragment);
        });
        out.list(&self.problems, write_problem);
        write_marks(&mut out, &self.marks);
        write_changes(&mut out, &self.changes);
        let crc = crc32c::crc32c(&out.bytes);
        out.bytes.extend_from_slice(&crc.to_le_bytes());
        out.bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`PgError::Checksum`] for changed bytes, [`PgError::Malformed`] for another format or values that cannot be.
    pub fn decode(bytes: &[u8]) -> Result<Self, PgError> {
        let body = bytes.len().checked_sub(4).ok_or_else(|| damaged("it ends too early"))?;
        let (stored, computed) = (u32_at(bytes, body).unwrap_or(0), crc32c::crc32c(&bytes[..body]));
        if stored != computed {
            return Err(PgError::Checksum { what: WHAT, stored, computed });
        }
        Self::decode_checked(&bytes[..body])
    }

    /// Reads the stored form without its CRC; a fuzzer would never get past that.
    #[doc(hidden)]
    pub fn decode_checked(bytes: &[u8]) -> Result<Self, PgError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("it is none"))?;
        let mut input = Reader { bytes: rest };
        let input = &mut input;
        let format = input.byte()?;
        if format != FORMAT {
            return Err(PgError::malformed(WHAT, format!("format {format} is newer than this program")));
        }
        let name = SegmentName::new(TimelineId(input.word()?), SegmentNumber(input.number()?));
        let segment_size = WalSegmentSize::new(1_u64.checked_shl(input.byte()?.into()).unwrap_or(0))?;
        let version = match input.byte()? {
            0 => None,
            major => Some(MajorVersion::new(major.into())?),
        };
        let system_identifier = input.option(|input| input.number().map(SystemIdentifier))?;
        let start = name.start(segment_size);
        let lsn = |input: &mut Reader<'_>| Ok(start.plus(input.number()?.min(segment_size.bytes().into())));
        let valid_end = lsn(input)?;
        let ending = read_ending(input)?;
        let first_record = input.option(|input| {
            let lsn = lsn(input)?;
            Ok(FirstRecord { lsn, previous: Lsn(lsn.0.saturating_sub(input.number()?)) })
        })?;
        let last_record = input.option(lsn)?;
        let head_overwritten = input.flag()?;
        let head = input.option(|input| {
            let head = Head { remaining: input.word()?, fragment: read_fragment(input)? };
            if head.fragment.len > head.remaining { Err(damaged("a fragment is too long")) } else { Ok(head) }
        })?;
        let tail = input.option(|input| {
            let tail = Tail { start: lsn(input)?, total_len: input.word()?, fragment: read_fragment(input)? };
            if tail.fragment.len >= tail.total_len {
                Err(damaged("a fragment is too long"))
            } else {
                Ok(tail)
            }
        })?;
        let problems = input.list(read_problem)?;
        let marks = read_marks(input)?;
        let changes = read_changes(input, segment_size)?;
        if !input.bytes.is_empty() {
            return Err(damaged("it goes on after its end"));
        }
        Ok(Self {
            name,
            segment_size,
            version,
            system_identifier,
            valid_end,
            ending,
            first_record,
            last_record,
            head,
            head_overwritten,
            tail,
            problems,
            changes,
            marks,
        })
    }
}

fn write_fragment(out: &mut Writer, fragment: &Fragment) {
    out.number(fragment.len);
    out.number(fragment.crc);
    out.bytes(&fragment.kept);
}

fn read_fragment(input: &mut Reader<'_>) -> Result<Fragment, PgError> {
    let (len, crc, kept) = (input.word()?, input.word()?, input.bytes()?.to_vec());
    // The CRC of what is joined later relies on this.
    if kept.len() != (len as usize).min(FRAGMENT_MAX) {
        return Err(damaged("a fragment's length is wrong"));
    }
    Ok(Fragment { len, crc, kept })
}

fn write_ending(out: &mut Writer, ending: &Ending) {
    match ending {
        Ending::Full => out.bytes.push(0),
        Ending::Switch => out.bytes.push(1),
        Ending::EndOfData => out.bytes.push(2),
        Ending::Stopped => out.bytes.push(3),
        Ending::Problem(problem) => {
            out.bytes.push(4);
            write_problem(out, problem);
        }
    }
}

fn read_ending(input: &mut Reader<'_>) -> Result<Ending, PgError> {
    Ok(match input.byte()? {
        0 => Ending::Full,
        1 => Ending::Switch,
        2 => Ending::EndOfData,
        3 => Ending::Stopped,
        4 => Ending::Problem(read_problem(input)?),
        _ => return Err(damaged("its ending is unknown")),
    })
}

fn write_problem(out: &mut Writer, problem: &Problem) {
    let (tag, value) = match problem.defect {
        Defect::PageMagic { found } => (0, found.into()),
        Defect::PageFlags { found } => (1, found.into()),
        Defect::PageAddress { found } => (2, found.0),
        Defect::SegmentSize { found } => (3, found.into()),
        Defect::PageTimeline { found } => (4, found.into()),
        Defect::PageVersion { found } => (5, found.into()),
        Defect::NoContinuation => (6, 0),
        Defect::UnexpectedContinuation => (7, 0),
        Defect::RecordLength { found } => (8, found.into()),
        Defect::RecordLink { found } => (9, found.0),
        Defect::RecordCrc => (10, 0),
        Defect::RecordLayout => (11, 0),
        Defect::ResourceManager { found } => (12, found.into()),
        Defect::FileChange { manager, kind } => (13, u64::from(manager) << 8 | u64::from(kind)),
        Defect::TooLong => (14, 0),
        Defect::Truncated => (15, 0),
    };
    out.number(problem.at.0);
    out.bytes.push(tag);
    out.number(value);
}

fn read_problem(input: &mut Reader<'_>) -> Result<Problem, PgError> {
    let at = Lsn(input.number()?);
    let (tag, value) = (input.byte()?, input.number()?);
    let defect = match tag {
        0 => Defect::PageMagic { found: value as u16 },
        1 => Defect::PageFlags { found: value as u16 },
        2 => Defect::PageAddress { found: Lsn(value) },
        3 => Defect::SegmentSize { found: value as u32 },
        4 => Defect::PageTimeline { found: value as u32 },
        5 => Defect::PageVersion { found: value as u32 },
        6 => Defect::NoContinuation,
        7 => Defect::UnexpectedContinuation,
        8 => Defect::RecordLength { found: value as u32 },
        9 => Defect::RecordLink { found: Lsn(value) },
        10 => Defect::RecordCrc,
        11 => Defect::RecordLayout,
        12 => Defect::ResourceManager { found: value as u8 },
        13 => Defect::FileChange { manager: (value >> 8) as u8, kind: value as u8 },
        14 => Defect::TooLong,
        15 => Defect::Truncated,
        _ => return Err(damaged("a problem in it is unknown")),
    };
    Ok(Problem { at, defect })
}

fn write_marks(out: &mut Writer, marks: &Marks) {
    out.option(&marks.first_commit, write_end);
    out.option(&marks.last_commit, write_end);
    out.option(&marks.newest_end, write_end);
    out.option(&marks.highest_xid, |out, xid| out.number(*xid));
    out.list(&marks.restore_points, |out, point| {
        out.number(point.lsn.0);
        out.number(point.end.0);
        out.signed(point.time.0);
        out.bytes(point.name.as_bytes());
    });
    out.list(&marks.checkpoints, |out, checkpoint| {
        out.number(checkpoint.lsn.0);
        out.number(checkpoint.redo.0);
        out.flag(checkpoint.is_shutdown);
        out.number(checkpoint.timeline.0);
        out.number(checkpoint.previous_timeline.0);
        out.signed(checkpoint.time.0);
        out.number(checkpoint.next_xid);
        out.flag(checkpoint.full_page_writes);
    });
    out.list(&marks.switches, |out, switch| {
        out.number(switch.lsn.0);
        out.number(switch.timeline.0);
        out.number(switch.previous.0);
        out.signed(switch.time.0);
    });
    out.list(&marks.levels, |out, mark| {
        out.number(mark.lsn.0);
        out.bytes.push(mark.level as u8);
    });
    out.list(&marks.full_page_writes, |out, mark| {
        out.number(mark.lsn.0);
        out.flag(mark.is_on);
    });
    out.flag(marks.is_cut);
}

fn read_marks(input: &mut Reader<'_>) -> Result<Marks, PgError> {
    Ok(Marks {
        first_commit: input.option(read_end)?,
        last_commit: input.option(read_end)?,
        newest_end: input.option(read_end)?,
        highest_xid: input.option(Reader::word)?,
        restore_points: input.list(|input| {
            let (lsn, end, time) = (Lsn(input.number()?), Lsn(input.number()?), PgTime(input.signed()?));
            Ok(RestorePoint { lsn, end, time, name: String::from_utf8_lossy(input.bytes()?).into_owned() })
        })?,
        checkpoints: input.list(|input| {
            Ok(Checkpoint {
                lsn: Lsn(input.number()?),
                redo: Lsn(input.number()?),
                is_shutdown: input.flag()?,
                timeline: TimelineId(input.word()?),
                previous_timeline: TimelineId(input.word()?),
                time: PgTime(input.signed()?),
                next_xid: input.number()?,
                full_page_writes: input.flag()?,
            })
        })?,
        switches: input.list(|input| {
            Ok(TimelineSwitch {
                lsn: Lsn(input.number()?),
                timeline: TimelineId(input.word()?),
                previous: TimelineId(input.word()?),
                time: PgTime(input.signed()?),
            })
        })?,
        levels: input.list(|input| {
            let lsn = Lsn(input.number()?);
            let level =
                WalLevel::from_number(input.byte()?.into()).ok_or_else(|| damaged("a level is unknown"))?;
            Ok(LevelMark { lsn, level })
        })?,
        full_page_writes: input
            .list(|input| Ok(FullPageWritesMark { lsn: Lsn(input.number()?), is_on: input.flag()? }))?,
        is_cut: input.flag()?,
    })
}

fn write_end(out: &mut Writer, end: &TransactionEnd) {
    out.number(end.lsn.0);
    out.number(end.end.bytes_since(end.lsn));
    out.signed(end.time.0);
    out.number(end.xid);
    out.flag(end.committed);
}

fn read_end(input: &mut Reader<'_>) -> Result<TransactionEnd, PgError> {
    let lsn = Lsn(input.number()?);
    Ok(TransactionEnd {
        lsn,
        end: lsn.plus(input.number()?),
        time: PgTime(input.signed()?),
        xid: input.word()?,
        committed: input.flag()?,
    })
}

/// How the change of a fork is written: three bits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ForkForm {
    None = 0,
    Whole = 1,
    Blocks = 2,
    Limit = 3,
    BlocksAndLimit = 4,
    /// The visibility map pages of the main fork's blocks, and nothing else: the usual case, worth no bytes.
    OfMain = 5,
}

impl ForkForm {
    fn of(change: &ForkChange) -> Self {
        match (change.limit, change.blocks.is_empty()) {
            (None, true) => Self::None,
            (Some(0), _) => Self::Whole,
            (None, false) => Self::Blocks,
            (Some(_), true) => Self::Limit,
            (Some(_), false) => Self::BlocksAndLimit,
        }
    }

    fn from_bits(bits: u64) -> Result<Self, PgError> {
        let all = [Self::None, Self::Whole, Self::Blocks, Self::Limit, Self::BlocksAndLimit, Self::OfMain];
        all.get(bits as usize).copied().ok_or_else(|| damaged("the form of a fork is unknown"))
    }
}

/// The visibility map pages of some heap blocks.
fn map_pages(main: &BlockSet) -> BlockSet {
    let mut pages = BlockSet::new();
    for run in main.ranges() {
        pages.insert_range(run.start / HEAP_BLOCKS_PER_VM_PAGE..(run.end - 1) / HEAP_BLOCKS_PER_VM_PAGE + 1);
    }
    pages
}

fn write_changes(out: &mut Writer, changes: &Changes) {
    let databases: Vec<_> = changes.rewritten_databases().collect();
    out.list(&databases, |out, directory| {
        out.number(directory.tablespace);
        out.number(directory.database);
    });
    let mut before: Option<Relation> = None;
    out.list(&changes.sorted(), |out, (relation, forks)| {
        match before {
            Some(before) if before.directory() == relation.directory() => {
                out.number(u64::from(relation.relnumber - before.relnumber) << 1 | 1);
            }
            _ => {
                out.number(0_u64);
                out.number(relation.tablespace);
                out.number(relation.database);
                out.number(relation.relnumber);
            }
        }
        before = Some(*relation);
        write_forks(out, forks);
    });
}

fn write_forks(out: &mut Writer, forks: &RelationChange) {
    let mut forms = forks.each_ref().map(ForkForm::of);
    let [main, _, map, _] = forks;
    if forms[2] == ForkForm::Blocks && map.blocks == map_pages(&main.blocks) {
        forms[2] = ForkForm::OfMain;
    }
    out.number(forms.iter().enumerate().map(|(i, form)| (*form as u64) << (3 * i)).sum::<u64>());
    for (change, form) in forks.iter().zip(forms) {
        if let (ForkForm::Limit | ForkForm::BlocksAndLimit, Some(limit)) = (form, change.limit) {
            out.number(limit);
        }
        if matches!(form, ForkForm::Blocks | ForkForm::BlocksAndLimit) {
            write_blocks(out, &change.blocks);
        }
    }
}

fn write_blocks(out: &mut Writer, blocks: &BlockSet) {
    out.number(blocks.ranges().count() as u64);
    let mut end = 0;
    for run in blocks.ranges() {
        let len = run.end - run.start;
        out.number(u64::from(run.start - end) << 1 | u64::from(len > 1));
        if len > 1 {
            out.number(len - 2);
        }
        end = run.end;
    }
}

fn read_changes(input: &mut Reader<'_>, segment_size: WalSegmentSize) -> Result<Changes, PgError> {
    let mut changes = Changes::default();
    for _ in 0..input.count()? {
        changes.rewrite_database(DatabaseDir { tablespace: input.word()?, database: input.word()? });
    }
    // A reference takes at least 8 bytes of WAL and names at most two blocks. Runs are short to write and long to hold, so without
    // this bound a few bytes could stand for gigabytes.
    let mut budget = u64::from(segment_size.bytes()) / 4;
    let mut before: Option<Relation> = None;
    for _ in 0..input.count()? {
        let relation = read_relation(input, before)?;
        if before.is_some_and(|before| before >= relation) {
            return Err(damaged("its relations are out of order"));
        }
        before = Some(relation);
        read_forks(input, &mut changes, relation, &mut budget)?;
    }
    Ok(changes)
}

fn read_relation(input: &mut Reader<'_>, before: Option<Relation>) -> Result<Relation, PgError> {
    let number = input.number()?;
    match before {
        Some(before) if number & 1 == 1 => {
            let relnumber = u64::from(before.relnumber).checked_add(number >> 1);
            let relnumber = relnumber.and_then(|number| u32::try_from(number).ok());
            let relnumber = relnumber.ok_or_else(|| damaged("a relation number is too large"))?;
            Ok(Relation { relnumber, ..before })
        }
        _ if number == 0 => {
            Ok(Relation { tablespace: input.word()?, database: input.word()?, relnumber: input.word()? })
        }
        _ => Err(damaged("a relation is not told")),
    }
}

fn read_forks(
    input: &mut Reader<'_>,
    changes: &mut Changes,
    relation: Relation,
    budget: &mut u64,
) -> Result<(), PgError> {
    let bits = input.number()?;
    if bits >> 12 != 0 {
        return Err(damaged("the form of a fork is unknown"));
    }
    let slot = changes.slot(relation);
    for fork in Fork::ALL {
        let form = ForkForm::from_bits(bits >> (3 * fork.number()) & 7)?;
        let limit = match form {
            ForkForm::Whole => Some(0),
            ForkForm::Limit | ForkForm::BlocksAndLimit => Some(input.word()?),
            ForkForm::None | ForkForm::Blocks | ForkForm::OfMain => None,
        };
        let blocks = match form {
            ForkForm::Blocks | ForkForm::BlocksAndLimit => read_blocks(input, budget)?,
            ForkForm::OfMain if fork == Fork::Vm => map_pages(&changes.fork_mut(slot, Fork::Main).blocks),
            ForkForm::OfMain => return Err(damaged("the form of a fork is unknown")),
            ForkForm::None | ForkForm::Whole | ForkForm::Limit => BlockSet::new(),
        };
        let change = changes.fork_mut(slot, fork);
        change.blocks = blocks;
        if let Some(limit) = limit {
            change.limit_to(limit);
        }
    }
    Ok(())
}

fn read_blocks(input: &mut Reader<'_>, budget: &mut u64) -> Result<BlockSet, PgError> {
    let mut blocks = BlockSet::new();
    let mut end = 0_u64;
    for _ in 0..input.count()? {
        let number = input.number()?;
        let len = if number & 1 == 1 { input.number()?.saturating_add(2) } else { 1 };
        let start = end + (number >> 1);
        end = start.saturating_add(len);
        if end > u64::from(u32::MAX) {
            return Err(damaged("a block number is too large"));
        }
        *budget =
            budget.checked_sub(len).ok_or_else(|| damaged("it names more blocks than its segment can"))?;
        blocks.insert_range(start as u32..end as u32);
    }
    Ok(blocks)
}

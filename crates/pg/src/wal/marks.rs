//! What WAL tells besides changed blocks: commits, restore points, checkpoints, timelines. With it a target that cannot be
//! reached is refused without replay.
//!
//! Layouts from PostgreSQL's `src/include/catalog/pg_control.h` and `src/include/access/xlog_internal.h`. Versions 17 and 18 add a
//! `wal_level` to checkpoints, redo marks and ends of recovery.

use super::record::Record;
use crate::{
    bytes::{i64_at, u32_at, u64_at},
    control::WalLevel,
    lsn::{Lsn, TimelineId},
    version::MajorVersion,
};
use serde::{Deserialize, Serialize};

/// Entries of each kind kept of one segment; a 1 GB segment can hold millions of restore points.
pub(crate) const MARKS_MAX: usize = 4096;
/// `MAXFNAMELEN`: bytes of a restore point's name with its end.
const NAME_BYTES: usize = 64;

/// A moment as PostgreSQL writes it (`TimestampTz`): microseconds since the start of 2000, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PgTime(pub i64);

/// Microseconds from 1970 to 2000.
const PG_EPOCH_MICROS: i64 = 946_684_800_000_000;

impl PgTime {
    /// Microseconds since 1970, UTC; saturates, as PostgreSQL's `infinity` does.
    pub fn unix_micros(self) -> i64 {
        self.0.saturating_add(PG_EPOCH_MICROS)
    }

    /// The moment so many microseconds after 1970.
    pub fn from_unix_micros(micros: i64) -> Self {
        Self(micros.saturating_sub(PG_EPOCH_MICROS))
    }

    /// The moment so many seconds after 1970 (`pg_time_t`, as checkpoints have).
    pub fn from_unix_seconds(seconds: i64) -> Self {
        Self::from_unix_micros(seconds.saturating_mul(1_000_000))
    }
}

/// The end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionEnd {
    /// Start of its record.
    pub lsn: Lsn,
    /// End of its record.
    pub end: Lsn,
    /// When, by the clock of the server.
    pub time: PgTime,
    /// The transaction; of a prepared one its own, not that of the session that ended it.
    pub xid: u32,
    /// Whether it committed; otherwise it aborted.
    pub committed: bool,
}

/// A point named with `pg_create_restore_point`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePoint {
    /// Start of its record.
    pub lsn: Lsn,
    /// End of its record.
    pub end: Lsn,
    /// When it was made.
    pub time: PgTime,
    /// Its name; bytes that are no UTF-8 are replaced.
    pub name: String,
}

/// A checkpoint record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Start of its record.
    pub lsn: Lsn,
    /// Where recovery from it starts.
    pub redo: Lsn,
    /// Whether the server was shut down, or ended recovery, with it.
    pub is_shutdown: bool,
    /// Timeline from here on.
    pub timeline: TimelineId,
    /// The timeline before; the same unless this is a promotion.
    pub previous_timeline: TimelineId,
    /// When it began.
    pub time: PgTime,
    /// Next transaction, with its epoch.
    pub next_xid: u64,
    /// Whether pages are imaged in full after it.
    pub full_page_writes: bool,
}

/// A promotion: WAL after it belongs to another timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineSwitch {
    /// Start of the end-of-recovery record, or of the shutdown checkpoint that serves as one.
    pub lsn: Lsn,
    /// The new timeline.
    pub timeline: TimelineId,
    /// The one before.
    pub previous: TimelineId,
    /// When.
    pub time: PgTime,
}

/// The level of WAL from some position on, as a record states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelMark {
    /// Start of the record.
    pub lsn: Lsn,
    /// The level.
    pub level: WalLevel,
}

/// Whether full pages are written from some position on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullPageWritesMark {
    /// Start of the record.
    pub lsn: Lsn,
    /// On or off.
    pub is_on: bool,
}

/// What a stretch of WAL tells besides changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// First commit.
    pub first_commit: Option<TransactionEnd>,
    /// Last commit.
    pub last_commit: Option<TransactionEnd>,
    /// The end of a transaction, committed or not, with the latest time: recovery to a time stops only when it sees one later
    /// than its target (`recoveryStopsBefore`).
    pub newest_end: Option<TransactionEnd>,
    /// Highest transaction seen, in PostgreSQL's circular order.
    pub highest_xid: Option<u32>,
    /// Restore points, in order.
    pub restore_points: Vec<RestorePoint>,
    /// Checkpoints, in order.
    pub checkpoints: Vec<Checkpoint>,
    /// Promotions, in order.
    pub switches: Vec<TimelineSwitch>,
    /// Statements of `wal_level`, in order; neighbours that say the same are one.
    pub levels: Vec<LevelMark>,
    /// Changes of `full_page_writes`, in order.
    pub full_page_writes: Vec<FullPageWritesMark>,
    /// Whether some list above has more entries than were kept (4096).
    pub is_cut: bool,
}

impl Marks {
    /// Notes the transaction a record belongs to.
    #[inline]
    pub(crate) fn note_xid(&mut self, xid: u32) {
        // 0 to 2 are no transactions. The difference is read as signed: numbers wrap around (`TransactionIdFollows`).
        if xid >= 3 && self.highest_xid.is_none_or(|highest| (xid.wrapping_sub(highest) as i32) > 0) {
            self.highest_xid = Some(xid);
        }
    }

    pub(crate) fn note_end(&mut self, end: TransactionEnd) {
        if end.committed {
            self.first_commit.get_or_insert(end);
            self.last_commit = Some(end);
        }
        if self.newest_end.is_none_or(|newest| end.time >= newest.time) {
            self.newest_end = Some(end);
        }
    }

    /// Notes a record of resource manager XLOG. Kinds that tell nothing are passed over; short data are, too: nothing depends on
    /// them but what can be reached.
    pub(crate) fn note_xlog(&mut self, version: MajorVersion, record: &Record<'_>) {
        match record.header.kind() {
            CHECKPOINT_SHUTDOWN => self.note_checkpoint(version, record, true).unwrap_or(()),
            CHECKPOINT_ONLINE => self.note_checkpoint(version, record, false).unwrap_or(()),
            PARAMETER_CHANGE => self.note_level(record.lsn, u32_at(record.main, 20)),
            CHECKPOINT_REDO if has_level_in_checkpoints(version) => {
                self.note_level(record.lsn, u32_at(record.main, 0));
            }
            RESTORE_POINT => self.note_restore_point(record).unwrap_or(()),
            END_OF_RECOVERY => self.note_end_of_recovery(version, record).unwrap_or(()),
            FPW_CHANGE => {
                if let Some(&flag) = record.main.first() {
                    let mark = FullPageWritesMark { lsn: record.lsn, is_on: flag != 0 };
                    push(&mut self.full_page_writes, mark, &mut self.is_cut);
                }
            }
            _ => {}
        }
    }

    /// Adds what another stretch told, in whatever order they come.
    pub(crate) fn union(&mut self, other: &Self) {
        let lsn = |end: &TransactionEnd| end.lsn;
        self.first_commit = self.first_commit.into_iter().chain(other.first_commit).min_by_key(lsn);
        self.last_commit = self.last_commit.into_iter().chain(other.last_commit).max_by_key(lsn);
        let time = |end: &TransactionEnd| (end.time, end.lsn);
        self.newest_end = self.newest_end.into_iter().chain(other.newest_end).max_by_key(time);
        if let Some(xid) = other.highest_xid {
            self.note_xid(xid);
        }
        self.is_cut |= other.is_cut;
        merge(&mut self.restore_points, &other.restore_points, |point| point.lsn, &mut self.is_cut);
        merge(&mut self.checkpoints, &other.checkpoints, |checkpoint| checkpoint.lsn, &mut self.is_cut);
        merge(&mut self.switches, &other.switches, |switch| switch.lsn, &mut self.is_cut);
        merge(&mut self.levels, &other.levels, |mark| mark.lsn, &mut self.is_cut);
        merge(&mut self.full_page_writes, &other.full_page_writes, |mark| mark.lsn, &mut self.is_cut);
    }

    fn note_checkpoint(
        &mut self,
        version: MajorVersion,
        record: &Record<'_>,
        is_shutdown: bool,
    ) -> Option<()> {
        let main = record.main;
        let checkpoint = Checkpoint {
            lsn: record.lsn,
            redo: Lsn(u64_at(main, 0)?),
            is_shutdown,
            timeline: TimelineId(u32_at(main, 8)?),
            previous_timeline: TimelineId(u32_at(main, 12)?),
            full_page_writes: *main.get(16)? != 0,
            next_xid: u64_at(main, 24)?,
            time: PgTime::from_unix_seconds(i64_at(main, 64)?),
        };
        if checkpoint.timeline != checkpoint.previous_timeline {
            let Checkpoint { lsn, timeline, previous_timeline: previous, time, .. } = checkpoint;
            push(&mut self.switches, TimelineSwitch { lsn, timeline, previous, time }, &mut self.is_cut);
        }
        push(&mut self.checkpoints, checkpoint, &mut self.is_cut);
        if has_level_in_checkpoints(version) {
            self.note_level(record.lsn, u32_at(main, 20));
        }
        Some(())
    }

    fn note_restore_point(&mut self, record: &Record<'_>) -> Option<()> {
        let time = PgTime(i64_at(record.main, 0)?);
        let field = &record.main[8..record.main.len().min(8 + NAME_BYTES)];
        let name = field.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        let point = RestorePoint { lsn: record.lsn, end: record.end, time, name };
        push(&mut self.restore_points, point, &mut self.is_cut);
        Some(())
    }

    fn note_end_of_recovery(&mut self, version: MajorVersion, record: &Record<'_>) -> Option<()> {
        let main = record.main;
        let switch = TimelineSwitch {
            lsn: record.lsn,
            time: PgTime(i64_at(main, 0)?),
            timeline: TimelineId(u32_at(main, 8)?),
            previous: TimelineId(u32_at(main, 12)?),
        };
        push(&mut self.switches, switch, &mut self.is_cut);
        if has_level_in_checkpoints(version) {
            self.note_level(record.lsn, u32_at(main, 16));
        }
        Some(())
    }

    fn note_level(&mut self, lsn: Lsn, number: Option<u32>) {
        let Some(level) = number.and_then(WalLevel::from_number) else { return };
        if self.levels.last().is_none_or(|last| last.level != level) {
            push(&mut self.levels, LevelMark { lsn, level }, &mut self.is_cut);
        }
    }
}

fn push<T>(list: &mut Vec<T>, item: T, is_cut: &mut bool) {
    if list.len() < MARKS_MAX {
        list.push(item);
    } else {
        *is_cut = true;
    }
}

fn merge<T: Clone>(list: &mut Vec<T>, other: &[T], lsn: impl Fn(&T) -> Lsn, is_cut: &mut bool) {
    list.extend_from_slice(other);
    list.sort_by_key(lsn);
    *is_cut |= list.len() > MARKS_MAX;
    list.truncate(MARKS_MAX);
}

/// Version 17 put the level into what was padding, so that WAL summarisation can stop at `minimal`.
fn has_level_in_checkpoints(version: MajorVersion) -> bool {
    match version {
        MajorVersion::V14 | MajorVersion::V15 | MajorVersion::V16 => false,
        MajorVersion::V17 | MajorVersion::V18 => true,
    }
}

const CHECKPOINT_SHUTDOWN: u8 = 0x00;
const CHECKPOINT_ONLINE: u8 = 0x10;
const PARAMETER_CHANGE: u8 = 0x60;
const RESTORE_POINT: u8 = 0x70;
const FPW_CHANGE: u8 = 0x80;
const END_OF_RECOVERY: u8 = 0x90;
/// 17+.
const CHECKPOINT_REDO: u8 = 0xE0;

//! The end of valid WAL in `pg_wal`: how far a node really is, whether its server runs or not.
//!
//! `pg_last_wal_receive_lsn()` is NULL after a restart, and before one may lie in the middle of a record. Here records are read one by one,
//! their checksums verified, from one that is known until one is not whole. Of several files for one segment the one of the newest timeline
//! counts: on a standby and after a promotion it begins with a copy of what came before.

use crate::HaError;
use pgproof_pg::{
    Lsn, SegmentName, TimelineId, WalSegmentSize,
    wal::{Ending, WalReader},
};
use std::{fs, path::Path};

/// Where valid WAL ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndOfWal {
    /// The timeline of the last segment.
    pub timeline: TimelineId,
    /// The first position after the last whole record.
    pub lsn: Lsn,
}

/// Reads from the record that begins at `from` (or, where it is the end of one, after it).
///
/// # Errors
/// [`HaError::NotSeen`] when `from` itself is not there, [`HaError::Host`].
pub fn end_of_wal(data: &Path, size: WalSegmentSize, from: Lsn) -> Result<EndOfWal, HaError> {
    let folder = data.join("pg_wal");
    let names = segments(&folder, size)?;
    let newest_of =
        |number| names.iter().filter(|name| name.number == number).map(|name| name.timeline).max();
    // The next record would be the first of a segment that was never begun.
    if from.offset_in_segment(size) == 0
        && newest_of(from.segment(size)).is_none()
        && let Some(timeline) = newest_of(from.previous_segment(size))
    {
        return Ok(EndOfWal { timeline, lsn: from });
    }
    let mut reader = WalReader::new(size, from, Lsn::MAX);
    let mut number = from.segment(size);
    let mut timeline = None;
    let mut last = from;
    loop {
        let newest = newest_of(number);
        let Some(found) = newest.filter(|&found| timeline.is_none_or(|before| found >= before)) else {
            break;
        };
        let path = folder.join(SegmentName::new(found, number).file_name(size));
        let bytes = fs::read(&path).map_err(HaError::host("read", &path))?;
        let mut count = 0_u64;
        reader.push(&bytes, &mut |_, record, _| {
            count += 1;
            last = last.max(record.end.aligned());
        });
        if count > 0 || timeline.is_none() {
            timeline = Some(found);
        }
        if reader.is_done() {
            let (_, ending) = reader.finish(&mut |_, record, _| last = last.max(record.end.aligned()));
            if ending != Ending::Switch {
                return found_end(data, timeline, from, last);
            }
            reader = WalReader::new(size, number.next().start(size), Lsn::MAX);
        }
        number = number.next();
    }
    found_end(data, timeline, from, last)
}

fn found_end(data: &Path, timeline: Option<TimelineId>, from: Lsn, lsn: Lsn) -> Result<EndOfWal, HaError> {
    let missing = || HaError::NotSeen {
        operation: "find the end of WAL",
        why: format!("{} has no segment that holds {from}", data.join("pg_wal").display()),
    };
    Ok(EndOfWal { timeline: timeline.ok_or_else(missing)?, lsn })
}

fn segments(folder: &Path, size: WalSegmentSize) -> Result<Vec<SegmentName>, HaError> {
    let entries = fs::read_dir(folder).map_err(HaError::host("list", folder))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter_map(|name| SegmentName::parse(&name, size).ok()).collect())
}

//! Positions in the write-ahead log and the names made of them.
//!
//! Promises that every position, timeline and segment is a type that reads and writes as PostgreSQL does (`16/B374D848`,
//! `0000000100000016000000B3`, `00000002.history`). Which timeline holds a position is the business of [`TimelineHistory`]. Formats
//! come from PostgreSQL's `src/include/access/xlog_internal.h` and `src/backend/access/transam/timeline.c`.

mod history;
mod segment;

pub use history::{Ancestor, TimelineHistory};
pub use segment::{ArchiveName, SegmentName, SegmentNumber, WalSegmentSize};

use crate::error::PgError;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// Bytes of a WAL page (`XLOG_BLCKSZ`); other values are refused by [`crate::control`].
pub const WAL_PAGE_SIZE: usize = 8192;

/// A byte position in the WAL of a cluster (`XLogRecPtr`). Reads and writes as `X/Y` in hexadecimal.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// PostgreSQL's `InvalidXLogRecPtr`: no record starts here.
    pub const INVALID: Self = Self(0);
    /// The greatest position; the end of a range without an end.
    pub const MAX: Self = Self(u64::MAX);

    /// Whether this is a position at all (not 0).
    pub fn is_valid(self) -> bool {
        self != Self::INVALID
    }

    /// The position `bytes` later; saturates at [`Lsn::MAX`].
    #[must_use]
    pub fn plus(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }

    /// Bytes from `earlier` to here; 0 when `earlier` is not earlier.
    pub fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Number of the segment that holds the byte at this position (`XLByteToSeg`).
    pub fn segment(self, size: WalSegmentSize) -> SegmentNumber {
        SegmentNumber(self.0 / u64::from(size.bytes()))
    }

    /// Number of the segment that holds the byte before this position (`XLByteToPrevSeg`): the last one needed to read up to here.
    pub fn previous_segment(self, size: WalSegmentSize) -> SegmentNumber {
        SegmentNumber(self.0.saturating_sub(1) / u64::from(size.bytes()))
    }

    /// Bytes from the start of the segment to here (`XLogSegmentOffset`).
    pub fn offset_in_segment(self, size: WalSegmentSize) -> u32 {
        (self.0 % u64::from(size.bytes())) as u32
    }

    /// Bytes from the start of the WAL page to here.
    pub fn offset_in_page(self) -> usize {
        (self.0 % WAL_PAGE_SIZE as u64) as usize
    }

    /// This position rounded up to the alignment of records (8 bytes, `MAXALIGN`).
    #[must_use]
    pub fn aligned(self) -> Self {
        Self(self.0.saturating_add(7) & !7)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 as u32)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Lsn {
    type Err = PgError;

    /// Reads `X/Y`, each one to eight hexadecimal digits, as `pg_lsn` does.
    fn from_str(text: &str) -> Result<Self, PgError> {
        let half = |digits: &str| {
            let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        let (high, low) = text.split_once('/').ok_or_else(|| PgError::not_a("an LSN", text))?;
        match (half(high), half(low)) {
            (Some(high), Some(low)) => Ok(Self(high << 32 | low)),
            _ => Err(PgError::not_a("an LSN", text)),
        }
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A timeline of a cluster; the first is 1. Displays in decimal, as PostgreSQL's messages do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimelineId(pub u32);

impl TimelineId {
    /// The timeline of a cluster that was never promoted.
    pub const FIRST: Self = Self(1);

    /// Name of its history file: `00000002.history`. Timeline 1 has none.
    pub fn history_file_name(self) -> String {
        format!("{:08X}.history", self.0)
    }
}

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TimelineId {
    type Err = PgError;

    /// Reads the decimal number; 0 is no timeline.
    fn from_str(text: &str) -> Result<Self, PgError> {
        match text.parse() {
            Ok(number) if number > 0 => Ok(Self(number)),
            _ => Err(PgError::not_a("a timeline", text)),
        }
    }
}

/// The number initdb gives a cluster; every copy of it carries the same. Serialised as text: it exceeds what JSON numbers hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemIdentifier(pub u64);

impl fmt::Display for SystemIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SystemIdentifier {
    type Err = PgError;

    fn from_str(text: &str) -> Result<Self, PgError> {
        text.parse().map(Self).map_err(|_| PgError::not_a("a system identifier", text))
    }
}

impl Serialize for SystemIdentifier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SystemIdentifier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_reads_and_writes_as_postgresql_does() {
        assert_eq!("16/B374D848".parse(), Ok(Lsn(0x16_B374_D848)));
        assert_eq!(Lsn(0x16_0000_0028).to_string(), "16/28");
        for wrong in ["", "16", "16/", "/0", "1/123456789", "+1/0", "1/ 2", "g/0"] {
            assert!(wrong.parse::<Lsn>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn lsn_knows_its_segment_and_the_one_before() {
        let size = WalSegmentSize::DEFAULT;
        let boundary = Lsn(3 * 16 * 1024 * 1024);
        assert_eq!(boundary.segment(size), SegmentNumber(3));
        assert_eq!(boundary.previous_segment(size), SegmentNumber(2));
        assert_eq!(boundary.plus(5).offset_in_segment(size), 5);
        assert_eq!(Lsn(9).aligned(), Lsn(16));
    }
}

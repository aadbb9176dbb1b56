//! WAL segments, and the names of everything that passes through `archive_command`.

use super::{Lsn, TimelineId};
use crate::error::PgError;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// Bytes of one WAL segment: a power of two from 1 MB to 1 GB, fixed when the cluster is created (`initdb --wal-segsize`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct WalSegmentSize(u32);

impl WalSegmentSize {
    /// 16 MB, what initdb takes unless told otherwise.
    pub const DEFAULT: Self = Self(16 << 20);

    /// Checks a size in bytes (`IsValidWalSegSize`).
    ///
    /// # Errors
    /// [`PgError::WalSegmentSize`] when it is no power of two from 1 MB to 1 GB.
    pub fn new(bytes: u64) -> Result<Self, PgError> {
        match u32::try_from(bytes) {
            Ok(size) if size.is_power_of_two() && (1 << 20..=1 << 30).contains(&size) => Ok(Self(size)),
            _ => Err(PgError::WalSegmentSize { bytes }),
        }
    }

    /// The size in bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }

    /// Segments in one "log id", the 4 GB that the middle eight digits of a segment name count.
    fn segments_per_log(self) -> u64 {
        (1 << 32) / u64::from(self.0)
    }
}

impl<'de> Deserialize<'de> for WalSegmentSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Number of a segment (`XLogSegNo`): its start divided by the segment size, the same on every timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentNumber(pub u64);

impl SegmentNumber {
    /// Position of its first byte.
    pub fn start(self, size: WalSegmentSize) -> Lsn {
        Lsn(self.0.saturating_mul(u64::from(size.bytes())))
    }

    /// Position after its last byte.
    pub fn end(self, size: WalSegmentSize) -> Lsn {
        self.next().start(size)
    }

    /// The segment after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The segment before this one; none before segment 0.
    pub fn previous(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }
}

/// One segment of one timeline: what a file in `pg_wal` with 24 hexadecimal digits is.
///
/// Ordered by number first: reading order along a history, not the order of the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SegmentName {
    /// Timeline that wrote it.
    pub timeline: TimelineId,
    /// Its number.
    pub number: SegmentNumber,
}

impl SegmentName {
    /// Names a segment.
    pub fn new(timeline: TimelineId, number: SegmentNumber) -> Self {
        Self { timeline, number }
    }

    /// Its file name (`XLogFileName`): timeline, log id and segment of the log id, eight digits each.
    pub fn file_name(self, size: WalSegmentSize) -> String {
        let per_log = size.segments_per_log();
        format!("{:08X}{:08X}{:08X}", self.timeline.0, self.number.0 / per_log, self.number.0 % per_log)
    }

    /// Reads a file name.
    ///
    /// # Errors
    /// [`PgError::NotA`] unless it is 24 upper-case hexadecimal digits of a timeline from 1, whose last eight fit the segment size.
    pub fn parse(name: &str, size: WalSegmentSize) -> Result<Self, PgError> {
        let fail = || PgError::not_a("a WAL segment name", name);
        if name.len() != 24 || !name.bytes().all(is_upper_hex) {
            return Err(fail());
        }
        let part = |at: usize| u32::from_str_radix(&name[at..at + 8], 16).map_err(|_| fail());
        let (timeline, log, segment) = (part(0)?, u64::from(part(8)?), u64::from(part(16)?));
        if timeline == 0 || segment >= size.segments_per_log() {
            return Err(fail());
        }
        Ok(Self::new(TimelineId(timeline), SegmentNumber(log * size.segments_per_log() + segment)))
    }

    /// Position of its first byte.
    pub fn start(self, size: WalSegmentSize) -> Lsn {
        self.number.start(size)
    }

    /// Position after its last byte.
    pub fn end(self, size: WalSegmentSize) -> Lsn {
        self.number.end(size)
    }

    /// The next segment on the same timeline.
    #[must_use]
    pub fn next(self) -> Self {
        Self::new(self.timeline, self.number.next())
    }
}

impl Ord for SegmentName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.number, self.timeline).cmp(&(other.number, other.timeline))
    }
}

impl PartialOrd for SegmentName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// PostgreSQL formats names with `%08X` only; lower case would be another file on a case-sensitive store.
fn is_upper_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte)
}

/// What a file offered by `archive_command` or asked for by `restore_command` is, told by its name alone
/// (`xlog_internal.h`: `IsXLogFileName` and its neighbours).
///
/// Segment names stay text here because their number needs the segment size; [`ArchiveName::segment`] reads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ArchiveName {
    /// A complete segment.
    Segment(String),
    /// `<segment>.partial`: the last segment of a timeline that ended; promotion archives it.
    Partial(String),
    /// `<timeline>.history`.
    History(TimelineId),
    /// `<segment>.<offset>.backup`: written at the end of an online backup that started in this segment.
    Backup {
        /// Name of the segment in which the backup started.
        segment: String,
        /// Offset of the start in the segment.
        offset: u32,
    },
}

impl ArchiveName {
    /// Classifies a file name (no directory).
    ///
    /// # Errors
    /// [`PgError::NotA`] when PostgreSQL archives nothing by this name.
    pub fn parse(name: &str) -> Result<Self, PgError> {
        let fail = || PgError::not_a("the name of a WAL file", name);
        if !name.is_ascii() {
            return Err(fail());
        }
        let digits = name.bytes().take_while(|&b| is_upper_hex(b)).count();
        let timeline = name.get(..8).and_then(|text| u32::from_str_radix(text, 16).ok()).filter(|&t| t > 0);
        let timeline = timeline.ok_or_else(fail)?;
        let (stem, rest) = name.split_at(digits);
        match (digits, rest) {
            (24, "") => Ok(Self::Segment(stem.to_owned())),
            (24, ".partial") => Ok(Self::Partial(stem.to_owned())),
            (8, ".history") => Ok(Self::History(TimelineId(timeline))),
            (24, _) => {
                let offset =
                    rest.strip_prefix('.').and_then(|r| r.strip_suffix(".backup")).ok_or_else(fail)?;
                if offset.len() != 8 || !offset.bytes().all(is_upper_hex) {
                    return Err(fail());
                }
                let offset = u32::from_str_radix(offset, 16).map_err(|_| fail())?;
                Ok(Self::Backup { segment: stem.to_owned(), offset })
            }
            _ => Err(fail()),
        }
    }

    /// The segment meant, for all but history files.
    ///
    /// # Errors
    /// [`PgError::NotA`] when the digits do not fit the segment size.
    pub fn segment(&self, size: WalSegmentSize) -> Result<Option<SegmentName>, PgError> {
        match self {
            Self::Segment(name) | Self::Partial(name) | Self::Backup { segment: name, .. } => {
                SegmentName::parse(name, size).map(Some)
            }
            Self::History(_) => Ok(None),
        }
    }
}

impl fmt::Display for ArchiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(name) => f.write_str(name),
            Self::Partial(name) => write!(f, "{name}.partial"),
            Self::History(timeline) => f.write_str(&timeline.history_file_name()),
            Self::Backup { segment, offset } => write!(f, "{segment}.{offset:08X}.backup"),
        }
    }
}

impl FromStr for ArchiveName {
    type Err = PgError;

    fn from_str(text: &str) -> Result<Self, PgError> {
        Self::parse(text)
    }
}

impl Serialize for ArchiveName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ArchiveName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_names_follow_the_segment_size() {
        let sixteen = WalSegmentSize::DEFAULT;
        let name = SegmentName::new(TimelineId(1), SegmentNumber(0x16B3));
        assert_eq!(name.file_name(sixteen), "0000000100000016000000B3");
        assert_eq!(SegmentName::parse("0000000100000016000000B3", sixteen), Ok(name));
        let one_gb = WalSegmentSize::new(1 << 30).unwrap();
        let name = SegmentName::new(TimelineId(0xA), SegmentNumber(7));
        assert_eq!(name.file_name(one_gb), "0000000A0000000100000003");
        assert_eq!(name.start(one_gb), Lsn(7 << 30));
        assert!(SegmentName::parse("0000000A0000000100000004", one_gb).is_err());
        let one_mb = WalSegmentSize::new(1 << 20).unwrap();
        assert!(SegmentName::parse("000000010000000000000FFF", one_mb).is_ok());
    }

    #[test]
    fn wrong_segment_sizes_are_refused() {
        for bytes in [0, 1 << 19, (1 << 20) + 1, 1 << 31, u64::MAX] {
            assert_eq!(WalSegmentSize::new(bytes), Err(PgError::WalSegmentSize { bytes }));
        }
    }

    #[test]
    fn archive_names_are_told_apart() {
        let check = |text: &str, expected: ArchiveName| {
            let parsed = ArchiveName::parse(text).unwrap();
            assert_eq!(parsed, expected);
            assert_eq!(parsed.to_string(), text);
        };
        let segment = "0000000100000016000000B3".to_owned();
        check(&segment, ArchiveName::Segment(segment.clone()));
        check("0000000100000016000000B3.partial", ArchiveName::Partial(segment.clone()));
        check("00000002.history", ArchiveName::History(TimelineId(2)));
        check("0000000100000016000000B3.00000028.backup", ArchiveName::Backup { segment, offset: 0x28 });
    }

    #[test]
    fn foreign_names_are_refused() {
        for name in [
            "",
            "base",
            "0000000100000016000000b3",
            "0000000100000016000000B3.gz",
            "0000000100000016000000B3.0028.backup",
            "00000000.history",
            "00000002.history.tmp",
            "../0000000100000016000000B3",
            "0000000100000016000000B34",
            "00000001é00000016000000B",
        ] {
            assert!(ArchiveName::parse(name).is_err(), "{name}");
        }
    }
}

//! What can be wrong with WAL, and the gaps that follow.
//!
//! WAL that cannot be read is no error of ours: it is archived all the same, and a backup compares contents where changes are
//! unknown. So a [`Defect`] is data, kept in the summary and shown when someone asks why a backup read everything.

use crate::lsn::Lsn;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a page or record cannot be read, or what it changes is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Defect {
    /// The page does not start as one of a supported version does.
    PageMagic {
        /// What it starts with.
        found: u16,
    },
    /// Flags of the page header are wrong for its place.
    PageFlags {
        /// The flags.
        found: u16,
    },
    /// The page belongs elsewhere: the file was recycled, and nothing new was written here.
    PageAddress {
        /// Where it says it belongs.
        found: Lsn,
    },
    /// The file belongs to a cluster with another segment size.
    SegmentSize {
        /// The size it states.
        found: u32,
    },
    /// The page's timeline is newer than the segment's, or older than the page before.
    PageTimeline {
        /// The timeline.
        found: u32,
    },
    /// A page of another version than the first.
    PageVersion {
        /// The version.
        found: u32,
    },
    /// The record that began earlier does not continue here.
    NoContinuation,
    /// A continuation starts where a record should.
    UnexpectedContinuation,
    /// No record can be as long.
    RecordLength {
        /// The length it states.
        found: u32,
    },
    /// The record does not follow the one before.
    RecordLink {
        /// Where it says the one before starts.
        found: Lsn,
    },
    /// The record's CRC does not hold.
    RecordCrc,
    /// Block references or data do not add up.
    RecordLayout,
    /// A resource manager that this version does not have.
    ResourceManager {
        /// Its number.
        found: u8,
    },
    /// The record changes files in a way that is not known (`XLR_SPECIAL_REL_UPDATE`).
    FileChange {
        /// Resource manager.
        manager: u8,
        /// Its kind of record.
        kind: u8,
    },
    /// The record is too long to be kept whole, and the part that names relations was not kept.
    TooLong,
    /// Bytes are missing at the end of the segment.
    Truncated,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageMagic { found } => {
                write!(f, "the page starts with {found:04X}, as in no supported version")
            }
            Self::PageFlags { found } => write!(f, "the page has flags {found:04X}"),
            Self::PageAddress { found } => write!(f, "the page belongs at {found}"),
            Self::SegmentSize { found } => write!(f, "the segment says its size is {found}"),
            Self::PageTimeline { found } => write!(f, "the page is of timeline {found}"),
            Self::PageVersion { found } => write!(f, "the page is of version {found}"),
            Self::NoContinuation => f.write_str("the record before is not continued"),
            Self::UnexpectedContinuation => f.write_str("the page continues a record that did not begin"),
            Self::RecordLength { found } => write!(f, "the record says it has {found} bytes"),
            Self::RecordLink { found } => write!(f, "the record says it follows one at {found}"),
            Self::RecordCrc => f.write_str("the record's CRC does not hold"),
            Self::RecordLayout => f.write_str("the record's parts do not add up"),
            Self::ResourceManager { found } => {
                write!(f, "the record belongs to unknown resource manager {found}")
            }
            Self::FileChange { manager, kind } => {
                write!(
                    f,
                    "the record (resource manager {manager}, kind {kind:02X}) changes files in an unknown way"
                )
            }
            Self::TooLong => f.write_str("the record is too long to be kept"),
            Self::Truncated => f.write_str("the segment is cut off"),
        }
    }
}

/// A defect and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Start of the page or record.
    pub at: Lsn,
    /// What is wrong.
    pub defect: Defect,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.defect, self.at)
    }
}

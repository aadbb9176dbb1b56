//! What can be wrong with bytes and names that claim to be PostgreSQL's.
//!
//! One enum for the crate. Nothing here is an I/O failure: the caller read the bytes and knows where they came from, so it adds
//! the path. Findings inside WAL are not errors but gaps (see [`crate::wal`]): a segment that cannot be parsed must never stop a
//! push.

use thiserror::Error;

/// Why bytes or a name are not what PostgreSQL writes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PgError {
    /// A text is not a value of the named kind.
    #[error("`{text}` is not {kind}")]
    NotA {
        /// What was expected, with its article: `an LSN`.
        kind: &'static str,
        /// What was found, shortened to what a message can show.
        text: String,
    },
    /// A WAL segment size is no power of two between 1 MB and 1 GB.
    #[error("{bytes} bytes is not a WAL segment size")]
    WalSegmentSize {
        /// The size found.
        bytes: u64,
    },
    /// A major version outside 14 to 18.
    #[error("PostgreSQL {major} is not supported")]
    UnsupportedVersion {
        /// The major version found.
        major: u32,
    },
    /// A block size other than 8192.
    #[error("{what} has {bytes} bytes, and only 8192 are supported")]
    UnsupportedBlockSize {
        /// Which size: `block size`, `WAL block size`.
        what: &'static str,
        /// The size found.
        bytes: u32,
    },
    /// A structure ends before its last field.
    #[error("{what} has {found} bytes where {needed} are needed")]
    TooShort {
        /// The structure.
        what: &'static str,
        /// Bytes needed.
        needed: usize,
        /// Bytes found.
        found: usize,
    },
    /// A stored CRC or checksum differs from the one computed.
    #[error("{what} has checksum {stored:08X} but its content gives {computed:08X}")]
    Checksum {
        /// The structure.
        what: &'static str,
        /// The value stored in it.
        stored: u32,
        /// The value computed from its bytes.
        computed: u32,
    },
    /// A field holds a value PostgreSQL never writes.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// The structure.
        what: &'static str,
        /// Which field, and its value.
        why: String,
    },
}

impl PgError {
    /// A text that is no value of `kind`; long texts are cut, since they may come from hostile files.
    pub(crate) fn not_a(kind: &'static str, text: &str) -> Self {
        Self::NotA { kind, text: text.chars().take(80).collect() }
    }

    pub(crate) fn malformed(what: &'static str, why: impl Into<String>) -> Self {
        Self::Malformed { what, why: why.into() }
    }

    /// What an operator can do about it, as a question or an action.
    pub fn hint(&self) -> String {
        match self {
            Self::NotA { kind: "an LSN", .. } => {
                "write an LSN as PostgreSQL does, for example 16/B374D848".into()
            }
            Self::NotA { .. } => "was this file or value written by PostgreSQL, and is it complete?".into(),
            Self::WalSegmentSize { .. } => {
                "WAL segments are 1 MB to 1 GB, a power of two (initdb --wal-segsize)".into()
            }
            Self::UnsupportedVersion { .. } => "PostgreSQL 14 to 18 are supported".into(),
            Self::UnsupportedBlockSize { .. } => {
                "this server was compiled with another block size; only the default of 8 kB is supported"
                    .into()
            }
            Self::TooShort { .. } | Self::Checksum { .. } | Self::Malformed { .. } => {
                "was the file read while it was being written, or is the disk damaged? Read it again first"
                    .into()
            }
        }
    }
}

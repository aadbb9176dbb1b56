//! Major versions of PostgreSQL, 14 to 18, and the names that carry them.
//!
//! What differs between versions is decided by matching on [`MajorVersion`], so that a new version does not compile until every
//! difference was looked at.

use crate::error::PgError;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// A supported major version. Serialised as its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MajorVersion {
    /// PostgreSQL 14.
    V14,
    /// PostgreSQL 15.
    V15,
    /// PostgreSQL 16.
    V16,
    /// PostgreSQL 17.
    V17,
    /// PostgreSQL 18.
    V18,
}

impl MajorVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 5] = [Self::V14, Self::V15, Self::V16, Self::V17, Self::V18];

    /// Takes a major version number.
    ///
    /// # Errors
    /// [`PgError::UnsupportedVersion`] outside 14 to 18.
    pub fn new(major: u32) -> Result<Self, PgError> {
        match major {
            14 => Ok(Self::V14),
            15 => Ok(Self::V15),
            16 => Ok(Self::V16),
            17 => Ok(Self::V17),
            18 => Ok(Self::V18),
            _ => Err(PgError::UnsupportedVersion { major }),
        }
    }

    /// Takes `server_version_num`: 150018 is 15.18.
    ///
    /// # Errors
    /// As [`Self::new`]; versions before 10 count differently and come out as what their first two digits say.
    pub fn from_server_version_num(number: u32) -> Result<Self, PgError> {
        Self::new(number / 10_000)
    }

    /// Reads the content of a `PG_VERSION` file.
    ///
    /// # Errors
    /// [`PgError::NotA`] for something else than a number, and as [`Self::new`].
    pub fn from_pg_version_file(content: &[u8]) -> Result<Self, PgError> {
        let text = String::from_utf8_lossy(content);
        text.trim_end().parse()
    }

    /// Takes `pg_control_version` of the control file. Versions 14 to 16 share 1300, so it answers which are possible.
    pub fn from_control_version(version: u32) -> &'static [Self] {
        match version {
            1300 => &[Self::V14, Self::V15, Self::V16],
            1700 => &[Self::V17],
            1800 => &[Self::V18],
            _ => &[],
        }
    }

    /// The number: 14 to 18.
    pub fn number(self) -> u32 {
        match self {
            Self::V14 => 14,
            Self::V15 => 15,
            Self::V16 => 16,
            Self::V17 => 17,
            Self::V18 => 18,
        }
    }

    /// `XLOG_PAGE_MAGIC` of the version (`src/include/access/xlog_internal.h`): the first two bytes of every WAL page.
    pub fn wal_page_magic(self) -> u16 {
        match self {
            Self::V14 => 0xD10D,
            Self::V15 => 0xD110,
            Self::V16 => 0xD113,
            Self::V17 => 0xD116,
            Self::V18 => 0xD118,
        }
    }

    /// The version whose WAL pages start with `magic`.
    pub fn from_wal_page_magic(magic: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.wal_page_magic() == magic)
    }

    /// Name of the directory that PostgreSQL makes inside a tablespace's location (`TABLESPACE_VERSION_DIRECTORY`):
    /// `PG_15_202209061`.
    pub fn tablespace_directory(self, catalog_version: u32) -> String {
        format!("PG_{}_{catalog_version}", self.number())
    }
}

impl fmt::Display for MajorVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

impl FromStr for MajorVersion {
    type Err = PgError;

    /// Reads `15`, and `9.6` to say that it is not supported.
    fn from_str(text: &str) -> Result<Self, PgError> {
        let major = text.split('.').next().unwrap_or_default();
        let major = major.parse().map_err(|_| PgError::not_a("a PostgreSQL version", text))?;
        Self::new(major)
    }
}

impl Serialize for MajorVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.number())
    }
}

impl<'de> Deserialize<'de> for MajorVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u32::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Reads a tablespace version directory's name, `PG_15_202209061`, into version number and catalog version.
///
/// The version may be one that is not supported: pg_upgrade leaves old directories beside new ones.
pub fn parse_tablespace_directory(name: &str) -> Option<(u32, u32)> {
    let (major, catalog) = name.strip_prefix("PG_")?.split_once('_')?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    Some((number(major)?, number(catalog)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_every_place_that_states_one() {
        assert_eq!(MajorVersion::from_server_version_num(150_018), Ok(MajorVersion::V15));
        assert_eq!(MajorVersion::from_pg_version_file(b"18\n"), Ok(MajorVersion::V18));
        assert_eq!(
            MajorVersion::from_pg_version_file(b"9.6\n"),
            Err(PgError::UnsupportedVersion { major: 9 })
        );
        assert_eq!(
            MajorVersion::from_server_version_num(190_000),
            Err(PgError::UnsupportedVersion { major: 19 })
        );
        for version in MajorVersion::ALL {
            assert_eq!(MajorVersion::from_wal_page_magic(version.wal_page_magic()), Some(version));
        }
    }

    #[test]
    fn tablespace_directories_carry_both_versions() {
        assert_eq!(MajorVersion::V15.tablespace_directory(202_209_061), "PG_15_202209061");
        assert_eq!(parse_tablespace_directory("PG_15_202209061"), Some((15, 202_209_061)));
        assert_eq!(parse_tablespace_directory("PG_15"), None);
        assert_eq!(parse_tablespace_directory("pgsql_tmp"), None);
    }
}

//! Relation files: which fork of which relation a path below the data directory holds.
//!
//! Promises that [`RelPath::parse`] and its `Display` are exact inverses, that a name PostgreSQL would not use is no relation file,
//! and that nothing is guessed: a file is `None` here when it must always be copied. Names come from PostgreSQL's
//! `src/common/relpath.c`, `src/backend/storage/file/reinit.c` (`parse_filename_for_nontemp_relation`) and
//! `src/backend/storage/file/fd.c` (`looks_like_temp_rel_name`).

use crate::version::parse_tablespace_directory;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes of a relation block (`BLCKSZ`).
pub const BLOCK_SIZE: usize = 8192;
/// Blocks in one segment file of a relation (`RELSEG_SIZE`): 1 GB. Other values are refused by [`crate::control`].
pub const BLOCKS_PER_SEGMENT: u32 = 131_072;
/// The tablespace `pg_default`: `base/`.
pub const DEFAULT_TABLESPACE: u32 = 1663;
/// The tablespace `pg_global`: `global/`.
pub const GLOBAL_TABLESPACE: u32 = 1664;

/// One of the files that make up a relation (`ForkNumber`). The order is PostgreSQL's numbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fork {
    /// The data.
    Main,
    /// Free space map.
    Fsm,
    /// Visibility map.
    Vm,
    /// Initial content of an unlogged relation.
    Init,
}

impl Fork {
    /// All of them, in PostgreSQL's order.
    pub const ALL: [Self; 4] = [Self::Main, Self::Fsm, Self::Vm, Self::Init];

    /// Takes PostgreSQL's number, 0 to 3.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// PostgreSQL's number, 0 to 3.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// PostgreSQL's name: `main`, `fsm`, `vm`, `init`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Fsm => "fsm",
            Self::Vm => "vm",
            Self::Init => "init",
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Fsm => "_fsm",
            Self::Vm => "_vm",
            Self::Init => "_init",
        }
    }
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A database in a tablespace: one directory of relation files. Database 0 is `global/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DatabaseDir {
    /// Tablespace OID.
    pub tablespace: u32,
    /// Database OID.
    pub database: u32,
}

/// A relation's storage (`RelFileLocator`): the triple that stays the same while the relation is not rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Relation {
    /// Tablespace OID.
    pub tablespace: u32,
    /// Database OID; 0 for shared relations.
    pub database: u32,
    /// Relation file number (`relfilenode`), not the OID in pg_class.
    pub relnumber: u32,
}

impl Relation {
    /// One of its forks.
    pub fn fork(self, fork: Fork) -> RelFork {
        RelFork { tablespace: self.tablespace, database: self.database, relnumber: self.relnumber, fork }
    }

    /// The directory it lives in.
    pub fn directory(self) -> DatabaseDir {
        DatabaseDir { tablespace: self.tablespace, database: self.database }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tablespace, self.database, self.relnumber)
    }
}

/// One fork of a relation. Displays as `1663/5/16384 main`; block numbers count from its start across segment files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RelFork {
    /// Tablespace OID.
    pub tablespace: u32,
    /// Database OID; 0 for shared relations.
    pub database: u32,
    /// Relation file number.
    pub relnumber: u32,
    /// Which fork.
    pub fork: Fork,
}

impl RelFork {
    /// The relation whose fork this is.
    pub fn relation(self) -> Relation {
        Relation { tablespace: self.tablespace, database: self.database, relnumber: self.relnumber }
    }

    /// The directory it lives in.
    pub fn directory(self) -> DatabaseDir {
        self.relation().directory()
    }

    /// Path of its segment file `segment`, relative to the data directory. `tablespace_directory` is the
    /// [`tablespace_directory`](crate::version::MajorVersion::tablespace_directory) of the server.
    pub fn path(self, segment: u32, tablespace_directory: &str) -> String {
        RelPath { file: self, segment, temporary: None }.format(tablespace_directory)
    }
}

impl fmt::Display for RelFork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.relation(), self.fork)
    }
}

/// A relation file below the data directory, as its path tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RelPath {
    /// The fork it belongs to.
    pub file: RelFork,
    /// Which gigabyte of the fork: 0 has no suffix.
    pub segment: u32,
    /// For a temporary relation, the number of the backend that owns it: never backed up.
    pub temporary: Option<u32>,
}

impl RelPath {
    /// Reads a path relative to the data directory, with `/` between its parts.
    ///
    /// `None` for everything that is no relation file: settings, `PG_VERSION`, `pg_filenode.map`, `pg_xact`, `pgsql_tmp`, names with
    /// leading zeros, and files of another version's tablespace directory are told by [`tablespace_directory_of`].
    pub fn parse(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        let (tablespace, database) = match parts.next()? {
            "global" => (GLOBAL_TABLESPACE, 0),
            "base" => (DEFAULT_TABLESPACE, parse_oid(parts.next()?)?),
            "pg_tblspc" => {
                let tablespace = parse_oid(parts.next()?)?;
                // The built-in ones are directories of their own, never links here.
                if matches!(tablespace, DEFAULT_TABLESPACE | GLOBAL_TABLESPACE) {
                    return None;
                }
                parse_tablespace_directory(parts.next()?)?;
                (tablespace, parse_oid(parts.next()?)?)
            }
            _ => return None,
        };
        let name = parts.next()?;
        if parts.next().is_some() {
            return None;
        }
        let (relnumber, fork, segment, temporary) = parse_file_name(name)?;
        let file = RelFork { tablespace, database, relnumber, fork };
        Some(Self { file, segment, temporary })
    }

    /// The path relative to the data directory.
    pub fn format(&self, tablespace_directory: &str) -> String {
        let RelFork { tablespace, database, relnumber, fork } = self.file;
        let mut path = match tablespace {
            GLOBAL_TABLESPACE => "global/".to_owned(),
            DEFAULT_TABLESPACE => format!("base/{database}/"),
            _ => format!("pg_tblspc/{tablespace}/{tablespace_directory}/{database}/"),
        };
        if let Some(backend) = self.temporary {
            path.push_str(&format!("t{backend}_"));
        }
        path.push_str(&relnumber.to_string());
        path.push_str(fork.suffix());
        if self.segment > 0 {
            path.push_str(&format!(".{}", self.segment));
        }
        path
    }

    /// Number of the fork's first block in this file.
    pub fn first_block(&self) -> u32 {
        self.segment.saturating_mul(BLOCKS_PER_SEGMENT)
    }
}

/// The version directory in a path below `pg_tblspc/<oid>/`: files of another version's are left over from pg_upgrade.
pub fn tablespace_directory_of(path: &str) -> Option<&str> {
    let mut parts = path.strip_prefix("pg_tblspc/")?.split('/');
    parse_oid(parts.next()?)?;
    parts.next()
}

/// Whether a path component is PostgreSQL's directory or file for temporary data (`PG_TEMP_FILES_DIR`, `PG_TEMP_FILE_PREFIX`).
pub fn is_temporary_name(name: &str) -> bool {
    name.starts_with("pgsql_tmp")
}

/// An OID or number as PostgreSQL writes it: decimal, no sign, no leading zero, not 0.
fn parse_oid(text: &str) -> Option<u32> {
    let canonical = !text.starts_with('0') && text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit());
    canonical.then(|| text.parse().ok()).flatten()
}

/// `[t<backend>_]<relnumber>[_<fork>][.<segment>]`. Segment numbers that would pass the greatest block number are refused.
fn parse_file_name(name: &str) -> Option<(u32, Fork, u32, Option<u32>)> {
    let (temporary, name) = match name.strip_prefix('t') {
        Some(rest) => {
            let (backend, rest) = rest.split_once('_')?;
            (Some(if backend == "0" { 0 } else { parse_oid(backend)? }), rest)
        }
        None => (None, name),
    };
    let (stem, segment) = match name.split_once('.') {
        Some((stem, segment)) => (stem, parse_oid(segment)?),
        None => (name, 0),
    };
    if segment > u32::MAX / BLOCKS_PER_SEGMENT {
        return None;
    }
    let (number, fork) = match stem.split_once('_') {
        Some((number, suffix)) => {
            let fork = [Fork::Fsm, Fork::Vm, Fork::Init].into_iter().find(|fork| fork.name() == suffix)?;
            (number, fork)
        }
        None => (stem, Fork::Main),
    };
    Some((parse_oid(number)?, fork, segment, temporary))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: &str = "PG_15_202209061";

    fn check(path: &str, expected: (u32, u32, u32, Fork, u32, Option<u32>)) {
        let (tablespace, database, relnumber, fork, segment, temporary) = expected;
        let file = RelFork { tablespace, database, relnumber, fork };
        let parsed = RelPath::parse(path);
        assert_eq!(parsed, Some(RelPath { file, segment, temporary }), "{path}");
        assert_eq!(parsed.unwrap().format(DIRECTORY), path);
    }

    #[test]
    fn relation_paths_name_fork_and_segment() {
        check("base/5/16384_fsm.1", (1663, 5, 16384, Fork::Fsm, 1, None));
        check("global/1262", (1664, 0, 1262, Fork::Main, 0, None));
        check("pg_tblspc/16400/PG_15_202209061/5/16401.2", (16400, 5, 16401, Fork::Main, 2, None));
        check("base/5/t3_16384", (1663, 5, 16384, Fork::Main, 0, Some(3)));
        check("base/5/t3_16384_vm.1", (1663, 5, 16384, Fork::Vm, 1, Some(3)));
        check("base/5/16384_init", (1663, 5, 16384, Fork::Init, 0, None));
    }

    #[test]
    fn what_is_no_relation_file_is_left_to_be_copied_always() {
        for path in [
            "PG_VERSION",
            "base/5/PG_VERSION",
            "base/5/pg_filenode.map",
            "base/5/pg_internal.init",
            "base/5/pg_internal.init.123",
            "base/5/016384",
            "base/5/16384.0",
            "base/5/16384.01",
            "base/5/16384_main",
            "base/5/16384.1_fsm",
            "base/5/16384_fsm_",
            "base/5/4294967296",
            "base/5/16384.32768",
            "base/pgsql_tmp/pgsql_tmp12.0",
            "base/5/sub/16384",
            "global/5/16384",
            "pg_tblspc/16400/16401",
            "pg_tblspc/1663/PG_15_202209061/5/16401",
            "pg_tblspc/16400/pgsql_tmp/1",
            "pg_xact/0000",
            "base/5/t_16384",
            "base/5/",
            "",
        ] {
            assert_eq!(RelPath::parse(path), None, "{path}");
        }
        assert!(is_temporary_name("pgsql_tmp123.4"));
        assert!(!is_temporary_name("16384"));
    }

    #[test]
    fn tablespace_directories_of_other_versions_are_recognised() {
        assert_eq!(tablespace_directory_of("pg_tblspc/16400/PG_14_202107181/5/1"), Some("PG_14_202107181"));
        assert_eq!(tablespace_directory_of("base/5/1"), None);
    }

    #[test]
    fn blocks_count_across_segment_files() {
        assert_eq!(RelPath::parse("base/5/16384.2").unwrap().first_block(), 262_144);
    }
}

//! What a backup never copies, as PostgreSQL's own base backup decides it.
//!
//! Pure: a path relative to the data directory goes in, a verdict comes out. Relations that are temporary or unlogged are recognised
//! in `scan.rs`, because that takes the whole directory.

use pgproof_pg::copy::{EMPTIED_DIRECTORIES, leaves_out};
use pgproof_server::START_LOG;

/// What to do with one directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Copy it, or descend into it.
    Keep,
    /// Keep the directory itself, without what is in it.
    EmptyDirectory,
    /// Leave it out.
    Skip,
}

/// Judges the entry at `path` (relative to the data directory, `/`-separated).
pub fn judge(path: &str) -> Verdict {
    if EMPTIED_DIRECTORIES.contains(&path) {
        return Verdict::EmptyDirectory;
    }
    if leaves_out(path) || path == START_LOG {
        return Verdict::Skip;
    }
    Verdict::Keep
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_out_what_pg_basebackup_leaves_out() {
        for path in
            ["postmaster.pid", "base/5/pg_internal.init.1234", "base/pgsql_tmp", "global/pg_internal.init"]
        {
            assert_eq!(judge(path), Verdict::Skip, "{path}");
        }
        for path in ["pg_wal", "pg_replslot", "pg_subtrans"] {
            assert_eq!(judge(path), Verdict::EmptyDirectory, "{path}");
        }
    }

    #[test]
    fn keeps_files_that_only_share_a_name_with_an_excluded_one() {
        for path in [
            "base/5/16384",
            "log/postmaster.pid",
            "conf.d/pg_wal",
            "pg_xact/0000",
            "pg_logical/replorigin_checkpoint",
        ] {
            assert_eq!(judge(path), Verdict::Keep, "{path}");
        }
    }
}

//! What a backup never copies, as PostgreSQL's own base backup decides it.
//!
//! Pure: a path relative to the data directory goes in, a verdict comes out. The lists are those of
//! `src/backend/backup/basebackup.c` (`excludeDirContents`, `excludeFiles`, `noChecksumFiles`); relations that are temporary
//! or unlogged are recognised in `scan.rs`, because that takes the whole directory.

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

/// Directories whose contents the server makes anew at start.
const EMPTIED: [&str; 8] = [
    "pg_wal",
    "pg_stat_tmp",
    // Slots of the copy would hold back WAL for consumers that do not know it.
    "pg_replslot",
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_subtrans",
];

/// Files of the running server, or of an earlier copy of it.
const SKIPPED: [&str; 10] = [
    "postgresql.auto.conf.tmp",
    "current_logfiles.tmp",
    "backup_label",
    "backup_label.old",
    "tablespace_map",
    "tablespace_map.old",
    "backup_manifest",
    "postmaster.pid",
    "postmaster.opts",
    // Ours, in the place of a log: see `pgproof_server::START_LOG`.
    "pgproof-start.log",
];

/// Directories inside the emptied `pg_wal` that the server expects to find; `summaries` since version 17.
pub const PG_WAL_DIRECTORIES: [&str; 2] = ["pg_wal/archive_status", "pg_wal/summaries"];

/// Judges the entry at `path` (relative to the data directory, `/`-separated).
pub fn judge(path: &str) -> Verdict {
    let name = path.rsplit('/').next().unwrap_or(path);
    if EMPTIED.contains(&path) {
        return Verdict::EmptyDirectory;
    }
    // Both prefixes are PostgreSQL's own: PG_TEMP_FILE_PREFIX and RELCACHE_INIT_FILENAME (which may carry a pid).
    if name.starts_with("pgsql_tmp") || name.starts_with("pg_internal.init") {
        return Verdict::Skip;
    }
    if SKIPPED.contains(&path) {
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

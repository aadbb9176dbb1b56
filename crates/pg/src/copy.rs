//! What no copy of a data directory carries, as PostgreSQL's own base backup decides it (`excludeDirContents` and `excludeFiles` in
//! `src/backend/backup/basebackup.c`). A backup leaves it out, and a restore does not rely on that.

/// Directories whose contents the server makes anew at start; they themselves are copied.
pub const EMPTIED_DIRECTORIES: [&str; 8] = [
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

/// Directories inside the emptied `pg_wal` that the server expects to find; `summaries` since version 17.
pub const PG_WAL_DIRECTORIES: [&str; 2] = ["pg_wal/archive_status", "pg_wal/summaries"];

/// Files of the running server, or of an earlier copy of it.
const FILES: [&str; 9] = [
    "postgresql.auto.conf.tmp",
    "current_logfiles.tmp",
    "backup_label",
    "backup_label.old",
    "tablespace_map",
    "tablespace_map.old",
    "backup_manifest",
    "postmaster.pid",
    "postmaster.opts",
];

/// Whether a copy leaves out the entry at `path`, relative to the data directory and `/`-separated.
pub fn leaves_out(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    // Both prefixes are PostgreSQL's: PG_TEMP_FILE_PREFIX, and RELCACHE_INIT_FILENAME, which may carry a process id.
    FILES.contains(&path) || name.starts_with("pgsql_tmp") || name.starts_with("pg_internal.init")
}

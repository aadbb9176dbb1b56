//! What becomes of each entry of a manifest, and of each file that a delta restore finds. Pure.
//!
//! A backup leaves out what must not be restored (`crates/backup/src/exclude.rs`), but a restore does not rely on that: an older
//! version, or a hostile one, may have stored it. So may be signal files, which decide what the restored server does.

use crate::places::TABLESPACES;
use pgproof_pg::copy::{EMPTIED_DIRECTORIES, PG_WAL_DIRECTORIES, leaves_out};
use pgproof_server::START_LOG;

/// The control file, written first with an impossible checkpoint and last as it was.
pub const CONTROL_FILE: &str = "global/pg_control";

/// Settings changed by `ALTER SYSTEM`, into which those of recovery are merged.
pub const AUTO_CONF: &str = "postgresql.auto.conf";

/// Configuration from outside of the data directory lies below this in a manifest.
pub const EXTERNAL: &str = "pgproof_external";

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It is placed as it is.
    Place,
    /// It is placed by a step of its own.
    Special,
    /// It is not restored.
    Skip,
}

/// Files that belong to another recovery, to the origin's writer epoch or to its log, beside those that no copy carries.
const SKIPPED: [&str; 6] =
    ["recovery.signal", "recovery.done", "standby.signal", "current_logfiles", "pgproof.writer", START_LOG];

/// Directories that a server does not make by itself at start, whatever the backup holds. `summaries` is known since version 17 and
/// does no harm before.
pub const REQUIRED_DIRECTORIES: [&str; 23] = [
    "base",
    "global",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical",
    "pg_logical/mappings",
    "pg_logical/snapshots",
    "pg_multixact",
    "pg_multixact/members",
    "pg_multixact/offsets",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    TABLESPACES,
    "pg_twophase",
    "pg_wal",
    "pg_wal/archive_status",
    "pg_wal/summaries",
    "pg_xact",
];

/// What becomes of an entry of a manifest.
pub fn disposition(path: &str) -> Disposition {
    if path == CONTROL_FILE || path == AUTO_CONF || below(path, EXTERNAL) || path == EXTERNAL {
        return Disposition::Special;
    }
    if leaves_out(path) || SKIPPED.contains(&path) {
        return Disposition::Skip;
    }
    // The directories below pg_wal are there in every cluster; files in them tell of other WAL.
    let kept_below = PG_WAL_DIRECTORIES.contains(&path);
    let emptied = EMPTIED_DIRECTORIES.iter().any(|directory| below(path, directory));
    if emptied && !kept_below { Disposition::Skip } else { Disposition::Place }
}

/// Whether a delta restore leaves an entry of the directory alone though the backup does not have it: the server's own log, which
/// may be the only witness of what made the restore necessary, and what a file system puts at the root of a mount.
pub fn is_left_alone(path: &str, log_directory: &str) -> bool {
    let log = [log_directory, "log", "pg_log"];
    path == "lost+found"
        || below(path, "lost+found")
        || log.iter().any(|directory| !directory.is_empty() && (path == *directory || below(path, directory)))
}

/// Whether `path` lies below `directory`.
pub fn below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_and_configuration_are_placed() {
        for path in
            ["base/5/1259", "pg_hba.conf", "global/1262", "pg_wal", "pg_wal/archive_status", "base/pg_wal/x"]
        {
            assert_eq!(disposition(path), Disposition::Place, "{path}");
        }
    }

    #[test]
    fn what_belongs_to_another_run_of_a_server_is_not_restored() {
        for path in [
            "postmaster.pid",
            "standby.signal",
            "recovery.signal",
            "pgproof.writer",
            "pg_replslot/slot/state",
            "pg_wal/000000010000000000000001",
            "pg_wal/archive_status/000000010000000000000001.ready",
            "base/5/pg_internal.init",
            "base/pgsql_tmp/pgsql_tmp1.0",
        ] {
            assert_eq!(disposition(path), Disposition::Skip, "{path}");
        }
        assert_eq!(disposition("global/pg_control"), Disposition::Special);
        assert_eq!(disposition("pgproof_external/etc/postgresql.conf"), Disposition::Special);
    }

    #[test]
    fn logs_and_lost_files_are_left_alone() {
        assert!(is_left_alone("log/postgresql-Mon.log", ""));
        assert!(is_left_alone("journal/a", "journal"));
        assert!(is_left_alone("lost+found", ""));
        assert!(!is_left_alone("logs", ""));
        assert!(!is_left_alone("base/5/log", ""));
    }
}

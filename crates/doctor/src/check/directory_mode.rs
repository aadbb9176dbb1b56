//! `directory-mode`: the permissions of the data directory are wrong.

use super::case::word;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "directory-mode",
    area: Area::Start,
    title: "The permissions of the data directory are wrong",
    why: "PostgreSQL does not start in a data directory that others than its owner can read or write.",
    mends: "`chmod 700` (or 750, where the group may read). Never open it up so that another tool can look in.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let (Some(place), Some(directory)) = (case.stopped(), case.seen.directory.ok()) else {
        return Vec::new();
    };
    // `checkDataDir` in src/backend/utils/init/miscinit.c: u=rwx, at most g=rx.
    if directory.mode & 0o027 == 0 {
        return Vec::new();
    }
    let path = place.data_directory.display().to_string();
    let seen = format!("{path} has mode {:04o}; the server accepts 0700 and 0750", directory.mode);
    let command = format!("chmod 0700 {}\n{}", word(&place.data_directory), case.start(place));
    vec![
        CHECK
            .found(Severity::Critical, path, seen)
            .with(Remedy::safe("close it, and start", command).afterwards("`pgproof doctor` connects")),
    ]
}

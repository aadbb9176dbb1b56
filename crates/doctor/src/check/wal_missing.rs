//! `wal-missing`: WAL that recovery needs is not there.

use super::case::word;
use super::{Area, Case, Check, Found};
use pgproof_base::{Remedy, Severity};

pub(super) const CHECK: Check = Check {
    code: "wal-missing",
    area: Area::Start,
    title: "WAL that recovery needs is not there",
    why: "A server that was not shut down must replay WAL from its last checkpoint on; without it, it cannot become consistent.",
    mends: "Fetch the segment from the archive. Never `pg_resetwal`: it makes a server that starts and has lost or mixed up commits.",
    limit: None,
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Found> {
    let (Some(place), Some(directory)) = (case.stopped(), case.seen.directory.ok()) else {
        return Vec::new();
    };
    let Ok(control) = &directory.control else { return Vec::new() };
    let logged = case.logged(&[
        "could not locate a valid checkpoint record",
        "could not locate required checkpoint record",
        "could not find redo location",
    ]);
    let size = control.wal_segment_size;
    let needed = pgproof_pg::SegmentName::new(control.timeline, control.redo.segment(size)).file_name(size);
    let absent = directory.wal_first.as_ref().is_none_or(|first| first.get(8..) > needed.as_str().get(8..));
    if directory.backup_label || !(absent || logged.is_some()) {
        return Vec::new();
    }
    let needed = needed.as_str();
    let seen = format!(
        "recovery begins at {} in segment {needed}, which is not in {}",
        control.redo,
        directory.wal_directory.display()
    );
    let range = format!(
        "pg_wal has {} to {}",
        directory.wal_first.as_deref().unwrap_or("nothing"),
        directory.wal_last.as_deref().unwrap_or("nothing")
    );
    let found = CHECK
        .found(Severity::Critical, needed, seen)
        .shown_by(range)
        .shown_by_all(logged.map(|entry| case.quote(entry)));
    let target = word(&directory.wal_directory.join(needed));
    let get = format!(
        "cd {}\n{}\n{}",
        word(&place.data_directory),
        case.as_owner(&format!("pgproof archive get {needed} {target}")),
        case.start(place)
    );
    let restore = format!("pgproof restore --pgdata {} --delta", word(&place.data_directory));
    vec![
        found
            .with(
                Remedy::safe("fetch it from the repository, and start", get)
                    .afterwards("`pgproof doctor` connects"),
            )
            .with(
                Remedy::destructive("or restore the newest backup over the directory", restore)
                    .keeping(super::case::keep_directory(place)),
            ),
    ]
}

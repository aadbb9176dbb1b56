//! A promotion takes the timeline number that the store allotted.
//!
//! PostgreSQL takes the number after the highest one whose history file follows the present timeline without a gap
//! (`findNewestTimeLine`, `src/backend/access/transam/timeline.c`). So the numbers between are marked as used by history files that hold a
//! comment and no ancestors: a running standby looks at them and, because its own timeline is not in them, goes on as before
//! (`rescanLatestTimeLine`). A server that starts would take the last of them for its target and refuse; so they are placed just before a
//! promotion, and cleared before a start unless the timeline that they lead to has come to be. Then they stay: who follows fetches the
//! history files of all numbers between.

use super::settings::replace;
use crate::HaError;
use pgproof_pg::TimelineId;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What such a file holds. A history without ancestors is what PostgreSQL reads from it.
const MARK: &[u8] = b"# never used: pgproof allotted a later number\n";

fn path(data: &Path, timeline: TimelineId) -> PathBuf {
    data.join("pg_wal").join(timeline.history_file_name())
}

/// The number that a promotion of a standby on this timeline takes, if nothing is fetched from an archive.
#[must_use]
pub fn next_timeline(data: &Path, current: TimelineId) -> TimelineId {
    let mut next = TimelineId(current.0 + 1);
    while path(data, next).exists() {
        next = TimelineId(next.0 + 1);
    }
    next
}

/// Makes the next promotion of a standby on `current` take `wanted`.
///
/// # Errors
/// [`HaError::NotSeen`] when that number was used here already, [`HaError::Host`].
pub fn allot_timeline(data: &Path, current: TimelineId, wanted: TimelineId) -> Result<(), HaError> {
    for number in current.0 + 1..wanted.0 {
        let path = path(data, TimelineId(number));
        if !path.exists() {
            replace(&path, MARK)?;
        }
    }
    let next = next_timeline(data, current);
    if next != wanted {
        let why = format!("a promotion of {} would take {next} instead of {wanted}", data.display());
        return Err(HaError::NotSeen { operation: "allot a timeline", why });
    }
    Ok(())
}

/// Removes marks that lead to no timeline, before a server is started.
///
/// # Errors
/// [`HaError::Host`].
pub fn clear_marks(data: &Path) -> Result<(), HaError> {
    let folder = data.join("pg_wal");
    let entries = fs::read_dir(&folder).map_err(HaError::host("list", &folder))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let number = |name: String| u32::from_str_radix(name.strip_suffix(".history")?, 16).ok();
    let mut files: Vec<(u32, bool)> = Vec::new();
    for number in names.filter_map(number) {
        let path = path(data, TimelineId(number));
        let is_mark = fs::read(&path).map_err(HaError::host("read", &path))? == MARK;
        files.push((number, is_mark));
    }
    let used = files.iter().filter(|(_, is_mark)| !is_mark).map(|(number, _)| *number).max();
    for (number, _) in
        files.iter().filter(|(number, is_mark)| *is_mark && used.is_none_or(|used| *number > used))
    {
        let path = path(data, TimelineId(*number));
        fs::remove_file(&path).map_err(HaError::host("remove", &path))?;
    }
    Ok(())
}

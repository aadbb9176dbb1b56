//! Waits until the archive holds all WAL that a backup needs.
//!
//! PostgreSQL's own wait (`pg_backup_stop(wait_for_archive => true)`) looks once a second and believes the archiver. This one looks
//! into the repository itself, so a backup is published only when the WAL that makes it consistent is really there.

use crate::cluster::Cluster;
use crate::error::BackupError;
use pgproof_base::human_duration;
use pgproof_pg::{Lsn, SegmentName, TimelineId};
use pgproof_repo::{Lineage, Repository};
use pgproof_server::Facts;
use std::thread;
use std::time::{Duration, Instant};

/// The pause between two looks is a tenth of the time waited so far, within these bounds: an idle archiver needs about 50 ms a segment, and
/// an object store is not asked all the time.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Waits for every segment from `start` to `stop`.
pub(crate) fn wait(
    repository: &Repository,
    cluster: &mut Cluster,
    timeline: TimelineId,
    start: Lsn,
    stop: Lsn,
    limit: Duration,
) -> Result<(), BackupError> {
    let began = Instant::now();
    let lineage = Lineage::new(cluster.facts.system_identifier);
    let size = cluster.facts.wal_segment_size;
    for name in segments(timeline, start, stop, cluster) {
        while !is_archived(repository, &lineage, name, cluster)? {
            if began.elapsed() >= limit {
                return Err(BackupError::WalNotArchived {
                    segment: name.file_name(size),
                    stop,
                    waited: human_duration(began.elapsed()),
                    archiver: archiver_words(cluster),
                });
            }
            thread::sleep((began.elapsed() / 10).clamp(PAUSE_MIN, PAUSE_MAX));
        }
    }
    Ok(())
}

/// Names of the segments that hold WAL from `start` up to `stop`.
fn segments(
    timeline: TimelineId,
    start: Lsn,
    stop: Lsn,
    cluster: &Cluster,
) -> impl Iterator<Item = SegmentName> + use<> {
    let size = cluster.facts.wal_segment_size;
    let last = stop.previous_segment(size).0;
    (start.segment(size).0..=last)
        .map(move |number| SegmentName::new(timeline, pgproof_pg::SegmentNumber(number)))
}

fn is_archived(
    repository: &Repository,
    lineage: &Lineage,
    name: SegmentName,
    cluster: &Cluster,
) -> Result<bool, BackupError> {
    let path = lineage.segment(name, cluster.facts.wal_segment_size);
    let found = repository.store().head(&path).map_err(|source| BackupError::Repo {
        operation: "look for archived WAL",
        source: pgproof_repo::Error::Store { operation: "look for archived WAL", source },
    })?;
    Ok(found.is_some())
}

/// What the server's archiver says of its own failures, for the hint.
fn archiver_words(cluster: &mut Cluster) -> String {
    let Ok(facts) = Facts::observe(&mut cluster.session) else {
        return "nothing: the server does not answer".to_owned();
    };
    let archiver = facts.archiver;
    match (archiver.last_failed, archiver.last_failed_age_s) {
        (Some(file), Some(age)) if archiver.last_archived_age_s.is_none_or(|last| age <= last) => {
            format!(
                "archiving {file} failed {age:.0} s ago ({} failures); the server's log has the reason",
                archiver.failed
            )
        }
        _ if facts.settings.get("archive_mode").is_some_and(|mode| mode == "off") => {
            "archive_mode is off".to_owned()
        }
        _ => format!(
            "archive_command = {:?}",
            facts.settings.get("archive_command").map_or("", String::as_str)
        ),
    }
}

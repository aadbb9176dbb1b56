//! Waits until the archive holds all WAL that a backup needs.
//!
//! PostgreSQL's own wait (`pg_backup_stop(wait_for_archive => true)`) looks once a second and believes the archiver. This one looks
//! into the repository itself, so a backup is published only when the WAL that makes it consistent is really there.

use crate::cluster::{Cluster, Role};
use crate::error::BackupError;
use crate::standby::{self, WalSwitch};
use pgproof_base::{Progress, human_duration};
use pgproof_pg::{Lsn, SegmentName, SegmentNumber, TimelineId, WalSegmentSize};
use pgproof_repo::{Lineage, Repository};
use pgproof_server::Facts;
use std::thread;
use std::time::{Duration, Instant};

/// The pause between two looks is a tenth of the time waited so far, within these bounds: an idle archiver needs about 50 ms a segment, and
/// an object store is not asked all the time.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// WAL that a backup cannot be restored without.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NeededWal {
    /// Whose it is.
    pub(crate) lineage: Lineage,
    /// Size of its segments.
    pub(crate) size: WalSegmentSize,
    /// Its timeline.
    pub(crate) timeline: TimelineId,
    /// From here
    pub(crate) start: Lsn,
    /// up to here.
    pub(crate) stop: Lsn,
}

/// Who ends and archives the last segment of a backup.
#[derive(Debug)]
pub(crate) enum Archiver<'a> {
    /// The server whose files are read, or the primary of that.
    Cluster(&'a mut Cluster),
    /// The server that sent its files: the end of a backup has ended its segment.
    Remote,
    /// The primary of the standby that sent its files.
    PrimaryOfRemote,
}

impl Archiver<'_> {
    /// Has the segment ended, where the end of the backup has not done that.
    fn switch_wal(&self) -> Option<WalSwitch> {
        match self {
            Self::Cluster(cluster) => match &cluster.role {
                Role::Standby { primary } => Some(standby::switch_wal(primary.as_ref(), &cluster.facts)),
                Role::Primary => None,
            },
            Self::Remote => None,
            Self::PrimaryOfRemote => Some(WalSwitch::NotAsked),
        }
    }

    /// What the archiver says of its own failures, for the hint.
    fn words(&mut self) -> String {
        match self {
            Self::Cluster(cluster) => archiver_words(cluster),
            Self::Remote | Self::PrimaryOfRemote => {
                "nothing: a replication connection cannot ask it; see pg_stat_archiver on the server"
                    .to_owned()
            }
        }
    }
}

/// How long the archive is waited for, and what was done to hasten it.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    /// On the standby's primary; `None` as long as nothing had to be waited for.
    switch: Option<WalSwitch>,
    is_told: bool,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, switch: None, is_told: false }
    }
}

/// Whoever waits longer than this is told for what.
const TELL_AFTER: Duration = Duration::from_secs(3);

/// Waits for every segment.
pub(crate) fn wait(
    repository: &Repository,
    archiver: &mut Archiver<'_>,
    needed: NeededWal,
    patience: &mut Patience,
    progress: &dyn Progress,
) -> Result<(), BackupError> {
    let began = Instant::now();
    let NeededWal { lineage, size, .. } = needed;
    for name in segments(needed) {
        while !is_archived(repository, lineage, name, size)? {
            let segment = name.file_name(size);
            if patience.switch.is_none() {
                patience.switch = archiver.switch_wal();
            }
            if began.elapsed() >= patience.limit {
                return Err(not_archived(
                    archiver,
                    segment,
                    needed.stop,
                    began.elapsed(),
                    patience.switch.take(),
                ));
            }
            if began.elapsed() >= TELL_AFTER && !std::mem::replace(&mut patience.is_told, true) {
                let hint = patience.switch.as_ref().map_or("", WalSwitch::hint);
                progress.note(&tell(&segment, hint));
            }
            thread::sleep((began.elapsed() / 10).clamp(PAUSE_MIN, PAUSE_MAX));
        }
    }
    Ok(())
}

fn tell(segment: &str, hint: &str) -> String {
    let waiting = format!("waiting for WAL segment {segment} to be archived");
    if hint.is_empty() { waiting } else { format!("{waiting}: {hint}") }
}

fn not_archived(
    archiver: &mut Archiver<'_>,
    segment: String,
    stop: Lsn,
    waited: Duration,
    switch: Option<WalSwitch>,
) -> BackupError {
    let waited = human_duration(waited);
    match switch {
        Some(switch) => BackupError::StandbyWalNotArchived { segment, stop, waited, switch },
        None => BackupError::WalNotArchived { segment, stop, waited, archiver: archiver.words() },
    }
}

/// Names of the segments that hold it.
fn segments(needed: NeededWal) -> impl Iterator<Item = SegmentName> {
    let size = needed.size;
    let last = needed.stop.previous_segment(size).0;
    (needed.start.segment(size).0..=last)
        .map(move |number| SegmentName::new(needed.timeline, SegmentNumber(number)))
}

fn is_archived(
    repository: &Repository,
    lineage: Lineage,
    name: SegmentName,
    size: WalSegmentSize,
) -> Result<bool, BackupError> {
    let path = lineage.segment(name, size);
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

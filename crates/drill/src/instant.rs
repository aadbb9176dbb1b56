//! Which instant a drill recovers to. [`random`] is pure: the seed is an argument.

use crate::error::DrillError;
use crate::options::{DrillOptions, When};
use pgproof_pg::{Lsn, TimelineId, WalSegmentSize};
use pgproof_repo::catalog::{LineageCatalog, Scope, lineages};
use pgproof_repo::lease::LeaseTimes;
use pgproof_repo::walset::{RecoveryWindow, Target};
use pgproof_repo::{Lineage, Repository};
use pgproof_restore::{Edge, GapRule, RecoveryTarget, Request, TargetAction, TimelineChoice};

/// What to ask of the restore.
pub(crate) fn request(repository: &Repository, options: &DrillOptions) -> Result<Request, DrillError> {
    let request = |stop, timeline| Request {
        target: RecoveryTarget { stop, edge: Edge::Inclusive, action: TargetAction::Promote },
        timeline,
        backup: options.backup,
        gap: GapRule::Refuse,
    };
    Ok(match &options.when {
        When::Latest => request(Target::Latest, TimelineChoice::Latest),
        When::At(target) => request(target.clone(), TimelineChoice::Latest),
        When::Random { seed } => match drawn(repository, options, *seed)? {
            Some((timeline, lsn)) => request(Target::Lsn(lsn), TimelineChoice::Number(timeline)),
            // Nothing but backups' own ends: the latest instant is as good as any.
            None => request(Target::Latest, TimelineChoice::Latest),
        },
    })
}

fn drawn(
    repository: &Repository,
    options: &DrillOptions,
    seed: u64,
) -> Result<Option<(TimelineId, Lsn)>, DrillError> {
    let known = lineages(repository).map_err(DrillError::repository("list the clusters"))?;
    let lineage = options.system.map(Lineage::new).or_else(|| known.first().copied());
    let Some(lineage) = lineage else { return Ok(None) };
    let catalog = LineageCatalog::read(repository, lineage, Scope::BackupsAndWal, LeaseTimes::default())
        .map_err(DrillError::repository("read the catalog"))?;
    let size = catalog.wal_set().map_or(WalSegmentSize::DEFAULT, |wal| wal.segment_size());
    let mut windows = catalog.windows().windows;
    if let Some(backup) = options.backup {
        windows.retain(|window| window.backups.contains(&backup));
        let stop = catalog.backup(backup).and_then(|b| b.span()).map(|span| span.stop);
        windows
            .iter_mut()
            .for_each(|window| window.from = stop.map_or(window.from, |at| at.max(window.from)));
    }
    Ok(random(&windows, size, seed))
}

/// A position of the windows, each as likely as any other; none where windows hold nothing but the end of a backup.
///
/// The last segment of a window is left out: PostgreSQL stops at the first record behind the position, and in the last segment there may be
/// none, which ends a recovery as a failure.
fn random(windows: &[RecoveryWindow], size: WalSegmentSize, seed: u64) -> Option<(TimelineId, Lsn)> {
    let last = u64::from(size.bytes());
    let length = |window: &RecoveryWindow| window.to.bytes_since(window.from).saturating_sub(last);
    let total: u64 = windows.iter().map(length).sum();
    let mut offset = (total > 0).then(|| seed % total)?;
    for window in windows {
        if offset < length(window) {
            return Some((window.timeline, window.from.plus(offset)));
        }
        offset -= length(window);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgproof_pg::{SegmentName, SegmentNumber};

    fn window(timeline: u32, from: u64, to: u64) -> RecoveryWindow {
        RecoveryWindow {
            timeline: TimelineId(timeline),
            from: Lsn(from << 24),
            to: Lsn(to << 24),
            ended_by: SegmentName::new(TimelineId(timeline), SegmentNumber(to)),
            gap: false,
            backups: Vec::new(),
            first_time: None,
            last_time: None,
        }
    }

    #[test]
    fn a_random_instant_lies_in_a_window_and_never_in_its_last_segment() {
        let windows = [window(1, 3, 6), window(2, 8, 9), window(3, 20, 24)];
        for seed in (0..500).map(|n| n * 7_919_777) {
            let (timeline, lsn) = random(&windows, WalSegmentSize::DEFAULT, seed).unwrap();
            let home = windows.iter().find(|window| window.timeline == timeline).unwrap();
            assert!(lsn >= home.from && lsn.plus(16 << 20) <= home.to, "{seed}: {timeline} {lsn}");
            assert_ne!(timeline, TimelineId(2), "one segment is nothing but its end");
        }
        assert_eq!(random(&windows[1..2], WalSegmentSize::DEFAULT, 5), None);
    }
}

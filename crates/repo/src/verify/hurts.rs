//! What damage makes impossible: which files of which backups, which recovery windows.

use super::report::{FILES_MAX, HurtFile, HurtWindow, Hurts};
use crate::catalog::LineageCatalog;
use crate::layout::BackupId;
use crate::walset::{RecoveryWindow, WalSet};
use pgproof_pg::SegmentName;

impl Hurts {
    /// Only whole backups.
    pub(super) fn backup(backup: BackupId) -> Self {
        Self { backups: vec![backup], ..Self::default() }
    }

    /// One more file of a backup.
    pub(super) fn add_file(&mut self, backup: BackupId, path: &str) {
        if !self.backups.contains(&backup) {
            self.backups.push(backup);
        }
        self.files_total += 1;
        if self.files.len() < FILES_MAX {
            self.files.push(HurtFile { backup, path: path.to_owned() });
        }
    }

    /// What another part of the same damage hurts.
    pub(super) fn merge(&mut self, other: Self) {
        for backup in other.backups {
            if !self.backups.contains(&backup) {
                self.backups.push(backup);
            }
        }
        self.files_total += other.files_total;
        let room = FILES_MAX.saturating_sub(self.files.len());
        self.files.extend(other.files.into_iter().take(room));
        self.windows.extend(other.windows);
    }
}

/// What the loss of a segment hurts: windows that lead through it, and backups that need it to be consistent. Windows are those of the
/// archive as it is listed, with the segment.
pub(super) fn of_segment(
    catalog: &LineageCatalog,
    windows: &[RecoveryWindow],
    segment: SegmentName,
) -> Hurts {
    let mut hurts = Hurts::default();
    let Some(wal) = catalog.wal_set() else { return hurts };
    let size = wal.segment_size();
    let leads_through = |window: &&RecoveryWindow| {
        let is_read = reads(wal, window.timeline, segment);
        is_read && window.from < segment.end(size) && window.to > segment.start(size)
    };
    let hurt = windows.iter().filter(leads_through);
    hurts.windows = hurt.map(|w| HurtWindow { timeline: w.timeline, from: w.from, to: w.to }).collect();
    for span in catalog.spans() {
        let needed = span.start < segment.end(size) && span.stop > segment.start(size);
        if needed && reads(wal, span.timeline, segment) {
            hurts.backups.push(span.backup);
        }
    }
    hurts
}

/// Whether recovery along a timeline's history would read this very file.
pub(super) fn reads(wal: &WalSet, timeline: pgproof_pg::TimelineId, segment: SegmentName) -> bool {
    let history = wal.history(timeline);
    let candidates = history.segment_candidates(segment.number, wal.segment_size());
    let present = candidates.iter().find(|&&candidate| candidate == segment || wal.contains(candidate));
    present == Some(&segment)
}

//! What a lock on objects holds back. Pure.
//!
//! Every object that is written once is locked from its storing for the same time, so its age by the store's clock says until when.
//! Nothing is tried before: a store that refuses half of a backup's objects would leave the other half.

use crate::catalog::{CatalogBackup, LineageCatalog};
use crate::retention::WalPlan;
use crate::walset::Run;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// From when on an object that was stored `at` can be removed; none when nothing is locked.
pub(super) fn until(stored: Timestamp, locked_for: Option<Duration>) -> Option<Timestamp> {
    let locked_for = SignedDuration::try_from(locked_for?).unwrap_or(SignedDuration::MAX);
    Some(stored.saturating_add(locked_for).unwrap_or(Timestamp::MAX))
}

/// The same as long as it cannot.
pub(super) fn holds(stored: Timestamp, at: Timestamp, locked_for: Option<Duration>) -> Option<Timestamp> {
    until(stored, locked_for).filter(|until| *until > at)
}

/// Until when the youngest object of a backup is locked. Packs that others still use do not count: they stay anyway.
pub(super) fn backup(
    catalog: &LineageCatalog,
    backup: &CatalogBackup,
    locked_for: Option<Duration>,
) -> Option<Timestamp> {
    let packs = catalog.packs.iter().filter(|pack| pack.backup == backup.id).map(|pack| pack.stored);
    let youngest = packs.chain(backup.decided).max()?;
    holds(youngest, catalog.at, locked_for)
}

/// Cuts what goes of the WAL before the first segment that is locked, so that what stays has no new gap.
pub(super) fn wal(catalog: &LineageCatalog, plan: &mut WalPlan, locked_for: Option<Duration>) {
    let Some(wal) = catalog.wal.as_ref().filter(|_| locked_for.is_some()) else { return };
    let mut free = None;
    let cut = |run: &Run| {
        let goes = wal.objects.iter().filter(|object| {
            object.segment.timeline == run.timeline && (run.first..=run.last).contains(&object.segment.number)
        });
        let locked = goes.filter_map(|object| {
            let until = holds(object.meta.modified, catalog.at, locked_for)?;
            Some((object.segment.number, until))
        });
        let first = locked.min();
        let Some((number, until)) = first else { return Some(*run) };
        free = free.max(Some(until));
        let last = pgproof_pg::SegmentNumber(number.0.checked_sub(1)?);
        (run.first <= last).then_some(Run { last, ..*run })
    };
    plan.remove = plan.remove.iter().filter_map(cut).collect();
    if let Some(free) = free {
        plan.note =
            Some(format!("object lock holds WAL that is not needed any more, some of it until {free}"));
    }
}

//! What a copy will do, decided from what both sides hold. Pure.

use super::observe::{PackKey, Sides, follows};
use super::{CopyOptions, WalScope};
use crate::catalog::{BackupState, CatalogBackup, WalObject};
use crate::layout::{BackupId, Content};
use crate::walset::{BackupSpan, WalSet};
use jiff::Timestamp;
use pgproof_base::Bytes;
use pgproof_pg::{ArchiveName, SystemIdentifier};
use pgproof_store::ObjectPath;
use serde::Serialize;
use std::collections::BTreeSet;

/// What becomes of one backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "fate")]
pub enum Fate {
    /// It is copied.
    Copy,
    /// An earlier copy of it was interrupted and goes on.
    Resume,
    /// The target has it.
    Present,
    /// It is not copied.
    Left {
        /// Why.
        why: String,
    },
}

/// One backup of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupPlan {
    /// The backup.
    pub backup: BackupId,
    /// When it was finished.
    pub stopped: Option<Timestamp>,
    /// What becomes of it.
    #[serde(flatten)]
    pub fate: Fate,
    /// Packs that the target lacks.
    pub packs: u64,
    /// Bytes of them.
    pub bytes: Bytes,
    /// The source's segments that make it consistent.
    #[serde(skip)]
    pub(super) needs: Vec<WalObject>,
}

impl BackupPlan {
    /// Whether something is to be done.
    pub(super) fn is_work(&self) -> bool {
        matches!(self.fate, Fate::Copy | Fate::Resume)
    }
}

/// Everything that is to be done to one lineage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyPlan {
    /// The lineage.
    pub system: SystemIdentifier,
    /// Whether it holds backups of the cluster or dumps.
    pub content: Content,
    /// The chosen backups, oldest first.
    pub backups: Vec<BackupPlan>,
    /// Segments that the target lacks.
    pub segments: u64,
    /// Bytes of them.
    pub segment_bytes: Bytes,
    /// Segments that both have; they are compared.
    pub segments_present: u64,
    /// History files that the source has.
    pub histories: u64,
    /// All segments, to be copied or compared.
    #[serde(skip)]
    pub(super) wal: Vec<WalObject>,
}

impl CopyPlan {
    /// Whether some chosen backup will not be in the target.
    pub fn leaves_some(&self) -> bool {
        self.backups.iter().any(|backup| matches!(backup.fate, Fate::Left { .. }))
    }

    /// Bytes to be copied.
    pub(super) fn bytes(&self) -> u64 {
        self.segment_bytes.0 + self.backups.iter().map(|backup| backup.bytes.0).sum::<u64>()
    }
}

/// Decides about one lineage.
pub(super) fn plan(sides: &Sides, options: &CopyOptions) -> CopyPlan {
    let union = sides.wal();
    let mut coming: BTreeSet<PackKey> = BTreeSet::new();
    let chosen = || sides.source.backups.iter().filter(|backup| is_chosen(backup, options));
    let backups: Vec<BackupPlan> =
        chosen().map(|backup| plan_backup(backup, sides, union.as_ref(), &mut coming)).collect();
    let is_kept = |backup: &&BackupPlan| !matches!(backup.fate, Fate::Left { .. });
    let spans: Vec<BackupSpan> = backups
        .iter()
        .filter(is_kept)
        .filter_map(|backup| sides.source.backup(backup.backup)?.span())
        .collect();
    let wal = segments(sides, union.as_ref(), &spans, &backups, options.wal);
    let present: BTreeSet<&ObjectPath> =
        sides.target.wal.iter().flat_map(|wal| &wal.objects).map(|object| &object.meta.path).collect();
    let absent = || wal.iter().filter(|object| !present.contains(&object.meta.path));
    CopyPlan {
        system: sides.source.system(),
        content: sides.source.lineage.content(),
        segments: absent().count() as u64,
        segment_bytes: Bytes(absent().map(|object| object.meta.size).sum()),
        segments_present: (wal.len() - absent().count()) as u64,
        histories: sides.source.wal.as_ref().map_or(0, |wal| wal.histories.len() as u64),
        backups,
        wal,
    }
}

fn is_chosen(backup: &CatalogBackup, options: &CopyOptions) -> bool {
    if !options.backups.is_empty() {
        return options.backups.contains(&backup.id);
    }
    let stopped = backup.summary.as_ref().map(|summary| summary.stopped);
    match &backup.state {
        // What is on its way out is not worth a copy unless somebody names it.
        BackupState::Published => {
            backup.marked.is_none() && options.since.is_none_or(|since| stopped >= Some(since))
        }
        BackupState::Damaged { .. } => options.since.is_none_or(|since| stopped.is_none_or(|at| at >= since)),
        _ => false,
    }
}

fn plan_backup(
    backup: &CatalogBackup,
    sides: &Sides,
    union: Option<&WalSet>,
    coming: &mut BTreeSet<PackKey>,
) -> BackupPlan {
    let mut plan = BackupPlan {
        backup: backup.id,
        stopped: backup.summary.as_ref().map(|summary| summary.stopped),
        fate: fate(backup, sides),
        packs: 0,
        bytes: Bytes(0),
        needs: Vec::new(),
    };
    if !plan.is_work() {
        return plan;
    }
    match needs(backup, sides, union) {
        Ok(needs) => plan.needs = needs,
        Err(missing) => {
            plan.fate = left(format!("segment {missing}, without which it cannot be restored, is missing"));
            return plan;
        }
    }
    for (&key, &bytes) in &backup.packs {
        if sides.vouched.get(key).is_none() && coming.insert(key) {
            plan.packs += 1;
            plan.bytes.0 += bytes;
        }
    }
    plan
}

fn left(why: impl Into<String>) -> Fate {
    Fate::Left { why: why.into() }
}

fn fate(backup: &CatalogBackup, sides: &Sides) -> Fate {
    match &backup.state {
        BackupState::Published if backup.marked.is_some() => {
            return left("the source has marked it for removal");
        }
        BackupState::Published => {}
        BackupState::Damaged { what } => return left(format!("it is damaged in the source: {what}")),
        _ => return left("the source does not hold it as a whole"),
    }
    let Some(present) = sides.target.backup(backup.id) else { return Fate::Copy };
    match &present.state {
        BackupState::Published if present.summary != backup.summary => {
            left("the target holds another backup by this name")
        }
        BackupState::Published => Fate::Present,
        BackupState::Damaged { what } => left(format!("it is damaged in the target: {what}")),
        BackupState::Running => left("another process is copying it"),
        BackupState::Interrupted { .. } => Fate::Resume,
        BackupState::Removing => left("the target is removing it"),
        BackupState::Revoked { .. } | BackupState::Remains => Fate::Copy,
    }
}

/// The segments that lead from the start of a backup to its stop, none for a dump; an error names one that neither side has.
fn needs(backup: &CatalogBackup, sides: &Sides, union: Option<&WalSet>) -> Result<Vec<WalObject>, String> {
    if sides.source.lineage.content() == Content::Dumps {
        return Ok(Vec::new());
    }
    let (Some(span), Some(wal)) = (backup.span(), union) else { return Err("of its start".to_owned()) };
    let size = wal.segment_size();
    let history = wal.history(span.timeline);
    let mut found = BTreeSet::new();
    for number in span.start.segment(size).0..=span.stop.previous_segment(size).0 {
        let number = pgproof_pg::SegmentNumber(number);
        let missing = || history.segment_name(number, size).file_name(size);
        found.insert(wal.find(&history, number).ok_or_else(missing)?);
    }
    let is_it = |object: &&WalObject| {
        matches!(object.name, ArchiveName::Segment(_)) && found.contains(&object.segment)
    };
    let objects = sides.source.wal.iter().flat_map(|wal| &wal.objects);
    Ok(objects.filter(is_it).cloned().collect())
}

/// The segments and partial segments that go along, in reading order.
fn segments(
    sides: &Sides,
    union: Option<&WalSet>,
    spans: &[BackupSpan],
    backups: &[BackupPlan],
    scope: WalScope,
) -> Vec<WalObject> {
    let (Some(wal), Some(listing)) = (union, &sides.source.wal) else { return Vec::new() };
    let needed: BTreeSet<&ObjectPath> =
        backups.iter().flat_map(|backup| &backup.needs).map(|object| &object.meta.path).collect();
    let goes = |object: &&WalObject| match scope {
        WalScope::Needed => needed.contains(&object.meta.path),
        WalScope::Windows => spans.iter().any(|span| follows(wal, span, object.segment)),
    };
    listing.objects.iter().filter(goes).cloned().collect()
}

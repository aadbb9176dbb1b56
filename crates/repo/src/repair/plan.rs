//! What can be healed, decided from what verification found and what the second repository holds. Pure.

use super::observe::{Observation, Place, was_published};
use crate::catalog::{BackupState, CatalogBackup, LineageCatalog};
use crate::layout::{BackupId, Content, Lineage};
use crate::transfer::observe::{PackKey, follows};
use crate::verify::wal::is_intended;
use crate::walset::BackupSpan;
use pgproof_base::Severity;
use pgproof_pg::{ArchiveName, SystemIdentifier, TimelineId, WalSegmentSize};
use pgproof_store::ObjectPath;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What is done about one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum HealKind {
    /// A segment, whole or partial, is written.
    Segment {
        /// Its file name.
        name: ArchiveName,
    },
    /// A history file is written.
    History {
        /// Its file name.
        name: ArchiveName,
    },
    /// The manifest of a backup is written anew, with packs from the second repository in place of damaged and missing ones.
    Backup {
        /// The backup.
        backup: BackupId,
        /// Its packs that are damaged or missing, as objects.
        packs: Vec<String>,
    },
}

/// One thing that is healed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Heal {
    /// The object that is damaged or missing.
    pub object: String,
    /// Whether there is nothing by that name.
    pub missing: bool,
    /// What is done.
    #[serde(flatten)]
    pub kind: HealKind,
}

/// One thing that stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hopeless {
    /// The object.
    pub object: String,
    /// What was seen.
    pub seen: String,
    /// Why it cannot be healed from there.
    pub why: String,
}

/// Everything that is to be done to one lineage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairPlan {
    /// The lineage.
    pub system: SystemIdentifier,
    /// Whether it holds backups of the cluster or dumps.
    pub content: Content,
    /// What is healed, in this order.
    pub heal: Vec<Heal>,
    /// Damaged packs that nothing refers to; they are removed.
    pub remove: Vec<String>,
    /// What cannot be healed.
    pub hopeless: Vec<Hopeless>,
    /// Damaged and missing packs.
    #[serde(skip)]
    pub(super) bad: BTreeSet<PackKey>,
}

/// Decides about one lineage.
pub(super) fn plan(observed: &Observation) -> RepairPlan {
    let lineage = observed.sides.target.lineage;
    let mut plan = RepairPlan {
        system: lineage.system(),
        content: lineage.content(),
        heal: Vec::new(),
        remove: Vec::new(),
        hopeless: Vec::new(),
        bad: BTreeSet::new(),
    };
    let mut damaged = Damaged::default();
    for found in &observed.report.findings {
        if found.finding.severity > Severity::Info {
            damaged.sort(lineage, &found.finding.code, &found.object, &found.finding.seen, &mut plan);
        }
    }
    plan.bad = damaged.packs.keys().copied().collect();
    plan_wal(observed, &damaged, &mut plan);
    plan_backups(observed, &damaged, &mut plan);
    plan
}

/// What verification found, by what it is about.
#[derive(Debug, Default)]
struct Damaged {
    packs: BTreeMap<PackKey, String>,
    backups: BTreeMap<BackupId, String>,
    wal: BTreeMap<String, String>,
}

impl Damaged {
    fn sort(&mut self, lineage: Lineage, code: &str, object: &str, seen: &str, plan: &mut RepairPlan) {
        match (code, Place::of(lineage, object)) {
            ("verify-pack-damaged" | "verify-pack-missing", Place::Pack(key)) => {
                self.packs.insert(key, seen.to_owned());
            }
            ("verify-wal-damaged" | "verify-history-damaged", Place::Wal(_)) => {
                self.wal.insert(object.to_owned(), seen.to_owned());
            }
            // What is missing is told by comparing the two archives.
            ("verify-wal-gap" | "verify-wal-vanished" | "verify-history-missing", _) => {}
            ("verify-backup-without-wal", _) => {}
            (_, Place::Manifest(backup) | Place::Outcome(backup)) => {
                self.backups.entry(backup).or_insert_with(|| seen.to_owned());
            }
            _ => plan.hopeless.push(Hopeless {
                object: object.to_owned(),
                seen: seen.to_owned(),
                why: "each repository has its own".to_owned(),
            }),
        }
    }
}

fn plan_wal(observed: &Observation, damaged: &Damaged, plan: &mut RepairPlan) {
    let (here, there) = (&observed.sides.target, &observed.sides.source);
    let (size, held) = (segment_size(observed), held(there));
    for (object, seen) in &damaged.wal {
        match held.get(object.as_str()) {
            Some(name) => plan.heal.push(heal_wal(object.clone(), false, (*name).clone())),
            None => plan.hopeless.push(Hopeless {
                object: object.clone(),
                seen: seen.clone(),
                why: "the other repository does not hold it".to_owned(),
            }),
        }
    }
    let known = known_timelines(here);
    let present: BTreeSet<&ObjectPath> = wal_paths(here).collect();
    for (object, name) in &held {
        let is_wanted = match name {
            ArchiveName::History(timeline) => known.contains(timeline),
            ArchiveName::Segment(_) => is_missing(observed, &known, name, size),
            ArchiveName::Partial(_) | ArchiveName::Backup { .. } => false,
        };
        if is_wanted && !present.iter().any(|path| path.as_str() == *object) {
            plan.heal.push(heal_wal((*object).to_owned(), true, (*name).clone()));
        }
    }
    // Where timelines branch is known before their segments come.
    plan.heal.sort_by_key(|heal| !matches!(heal.kind, HealKind::History { .. }));
}

fn heal_wal(object: String, missing: bool, name: ArchiveName) -> Heal {
    let kind = match name {
        ArchiveName::Segment(_) | ArchiveName::Partial(_) => HealKind::Segment { name },
        ArchiveName::History(_) | ArchiveName::Backup { .. } => HealKind::History { name },
    };
    Heal { object, missing, kind }
}

fn segment_size(observed: &Observation) -> WalSegmentSize {
    observed.sides.wal().map_or(WalSegmentSize::DEFAULT, |wal| wal.segment_size())
}

fn wal_paths(catalog: &LineageCatalog) -> impl Iterator<Item = &ObjectPath> {
    let segments = catalog.wal.iter().flat_map(|wal| &wal.objects).map(|object| &object.meta.path);
    segments.chain(catalog.wal.iter().flat_map(|wal| &wal.histories).map(|object| &object.path))
}

/// The WAL of a repository by the names of its objects.
fn held(catalog: &LineageCatalog) -> BTreeMap<&str, ArchiveName> {
    let named = |path: &'_ ObjectPath| ArchiveName::parse(path.name()).ok();
    wal_paths(catalog).filter_map(|path| Some((path.as_str(), named(path)?))).collect()
}

/// Timelines that the damaged repository knows of. Others are not brought in: a restore to the newest timeline would then lead elsewhere.
fn known_timelines(catalog: &LineageCatalog) -> BTreeSet<TimelineId> {
    let archived = catalog.wal_set().map(|wal| wal.timelines()).unwrap_or_default();
    archived.into_iter().chain(spans(catalog).into_iter().map(|span| span.timeline)).collect()
}

/// Where backups lie in the WAL, also those that cannot be restored at the moment.
fn spans(catalog: &LineageCatalog) -> Vec<BackupSpan> {
    let unmarked = catalog.backups.iter().filter(|backup| backup.marked.is_none());
    unmarked.filter_map(CatalogBackup::span).collect()
}

/// Whether recovery of a backup leads through a segment that is not there, though nobody let go of it on purpose.
fn is_missing(
    observed: &Observation,
    known: &BTreeSet<TimelineId>,
    name: &ArchiveName,
    size: WalSegmentSize,
) -> bool {
    let here = &observed.sides.target;
    let (Ok(Some(segment)), Some(union)) = (name.segment(size), observed.sides.wal()) else { return false };
    if !known.contains(&segment.timeline) || here.wal_set().is_some_and(|wal| wal.contains(segment)) {
        return false;
    }
    let trimmed = here.wal_set().is_some_and(|wal| {
        wal.gaps().into_iter().any(|gap| {
            gap.timeline == segment.timeline
                && (gap.first..=gap.last).contains(&segment.number)
                && is_intended(here, wal, gap)
        })
    });
    let mut spans = spans(here);
    // A backup of which the manifest is lost here is known there.
    let lost = here.backups.iter().filter(|b| b.summary.is_none() && was_published(here, b.id));
    spans.extend(lost.filter_map(|backup| observed.sides.source.backup(backup.id)?.span()));
    spans.iter().any(|span| {
        // What a backup itself needs was not let go of.
        let is_inside = span.stop > segment.start(size);
        follows(&union, span, segment) && (!trimmed || is_inside)
    })
}

fn plan_backups(observed: &Observation, damaged: &Damaged, plan: &mut RepairPlan) {
    let (here, there) = (&observed.sides.target, &observed.sides.source);
    let is_there =
        |id: BackupId| there.backup(id).is_some_and(|backup| backup.state == BackupState::Published);
    let mut used: BTreeSet<PackKey> = BTreeSet::new();
    for backup in here.backups.iter().filter(|backup| was_published(here, backup.id)) {
        let bad: Vec<PackKey> = backup.packs.keys().filter(|key| plan.bad.contains(key)).copied().collect();
        used.extend(&bad);
        let own = damaged.backups.get(&backup.id);
        if bad.is_empty() && own.is_none() {
            continue;
        }
        let object = |key: &PackKey| here.lineage.backup(key.0).pack(key.1).to_string();
        let has_origin = |key: &PackKey| is_there(backup.id) || observed.origins.contains_key(key);
        let manifest = backup.objects.manifest().to_string();
        if own.is_some() && !is_there(backup.id) {
            let why = "the other repository does not hold this backup, or not as a whole".to_owned();
            let seen = own.cloned().unwrap_or_default();
            plan.hopeless.push(Hopeless { object: manifest, seen, why });
        } else if let Some(lost) = bad.iter().find(|key| !has_origin(key)).filter(|_| own.is_none()) {
            let why =
                format!("no backup that both repositories hold uses it; backup {} does here", backup.id);
            let seen = damaged.packs.get(lost).cloned().unwrap_or_default();
            plan.hopeless.push(Hopeless { object: object(lost), seen, why });
        } else {
            let packs = bad.iter().map(object).collect();
            let (object, missing) = match own {
                Some(_) => (manifest, is_missing_state(&backup.state)),
                None => (object(&bad[0]), !is_listed(here, &bad[0])),
            };
            plan.heal.push(Heal { object, missing, kind: HealKind::Backup { backup: backup.id, packs } });
        }
    }
    for (key, seen) in damaged.packs.iter().filter(|(key, _)| !used.contains(key)) {
        let object = here.lineage.backup(key.0).pack(key.1).to_string();
        if !is_unclear(here, key.0) {
            plan.remove.push(object);
        } else if !is_settled_by(plan, here) {
            let why = "an unfinished backup, or one with an unreadable manifest, may need it".to_owned();
            plan.hopeless.push(Hopeless { object, seen: seen.clone(), why });
        }
    }
}

fn is_listed(catalog: &LineageCatalog, key: &PackKey) -> bool {
    catalog.packs.iter().any(|pack| (pack.backup, pack.number) == *key)
}

/// Whether the catalog did not find an object that a published backup has.
fn is_missing_state(state: &BackupState) -> bool {
    matches!(state, BackupState::Damaged { what } if what.ends_with("is missing"))
}

/// Whether an unfinished backup, or one whose manifest cannot be read, may refer to a pack below this name.
pub(super) fn is_unclear(catalog: &LineageCatalog, owner: BackupId) -> bool {
    catalog.backups.iter().any(|backup| match backup.state {
        BackupState::Running | BackupState::Interrupted { .. } => backup.id == owner,
        BackupState::Damaged { .. } => backup.summary.is_none(),
        _ => false,
    })
}

/// Whether every manifest that cannot be read is written anew: then each damaged pack is replaced with it, or removed after it.
fn is_settled_by(plan: &RepairPlan, catalog: &LineageCatalog) -> bool {
    let is_healed = |id: BackupId| {
        let healed = |heal: &Heal| matches!(&heal.kind, HealKind::Backup { backup, .. } if *backup == id);
        plan.heal.iter().any(healed)
    };
    catalog.backups.iter().all(|backup| match backup.state {
        BackupState::Running | BackupState::Interrupted { .. } => false,
        BackupState::Damaged { .. } => backup.summary.is_some() || is_healed(backup.id),
        _ => true,
    })
}

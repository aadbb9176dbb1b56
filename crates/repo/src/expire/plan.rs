//! What one run may do, decided from one catalog. Pure.

use super::{ExpireOptions, lock};
use crate::catalog::{BackupState, CatalogBackup, Lapse, LineageCatalog, PackObject};
use crate::layout::{BackupId, Content, PackNumber};
use crate::manifest::summary::DumpSelection;
use crate::retention::{
    BackupFacts, LineageFacts, LineagePlan, WalKeep, WalNeed, WalPlan, plan_lineage, wal_needs, wal_plan,
};
use crate::walset::Run;
use jiff::{SignedDuration, Timestamp};
use pgproof_base::Bytes;
use pgproof_pg::SystemIdentifier;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An unfinished backup whose writer is dead, to be declared void.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Revocation {
    /// The backup.
    pub backup: BackupId,
    /// Why.
    pub why: String,
}

/// What is removed of one backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sweep {
    /// The backup.
    pub backup: BackupId,
    /// Why.
    pub why: String,
    /// Whether the record that it was revoked stays, as the last that is known of it.
    pub keeps_tombstone: bool,
}

/// A marked backup that cannot be removed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The backup.
    pub backup: BackupId,
    /// From when on it can be, by the store's clock; `None` while somebody holds it.
    pub from: Option<Timestamp>,
    /// Why it waits.
    pub why: String,
}

/// Everything one run does to one lineage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExpirePlan {
    /// The lineage.
    pub system: SystemIdentifier,
    /// Whether it holds backups of the cluster or dumps.
    pub content: Content,
    /// The store's clock when the facts were taken.
    pub at: Timestamp,
    /// Which backups stay and which go, with the reasons.
    pub retention: LineagePlan,
    /// Unfinished backups that are declared void.
    pub revoke: Vec<Revocation>,
    /// Backups that are marked now.
    pub mark: Vec<BackupId>,
    /// Backups that are removed now.
    pub sweep: Vec<Sweep>,
    /// Backups that were pinned after they were marked: they lose the mark.
    pub unmark: Vec<BackupId>,
    /// Marked backups that are not.
    pub waiting: Vec<Waiting>,
    /// Packs that are removed now.
    pub packs: Vec<(BackupId, PackNumber)>,
    /// Bytes in those packs.
    pub pack_bytes: Bytes,
    /// Why no pack is removed, when something forbids it.
    pub packs_kept: Option<String>,
    /// What goes of the WAL.
    pub wal: WalPlan,
    /// Whether the lineage is dropped as a whole and nothing of it stays.
    pub drops_lineage: bool,
}

impl ExpirePlan {
    /// Whether the plan changes nothing.
    pub fn is_empty(&self) -> bool {
        self.revoke.is_empty()
            && self.mark.is_empty()
            && self.unmark.is_empty()
            && self.sweep.is_empty()
            && self.packs.is_empty()
            && self.wal.remove.is_empty()
            && !self.drops_lineage
    }
}

/// Decides about one lineage. `superseded`: another lineage has a newer backup.
pub fn plan_expire(catalog: &LineageCatalog, options: &ExpireOptions, superseded: bool) -> ExpirePlan {
    let holds = Holds::of(catalog);
    let facts = LineageFacts {
        system: catalog.system(),
        backups: catalog.published().filter_map(|backup| facts(backup, &holds)).collect(),
        superseded,
    };
    let retention = plan_retention(catalog, options, &facts);
    let (sweep, waiting) = sweeps(catalog, options, &holds);
    let revoke = revocations(catalog);
    let mark = marks(catalog, &retention);
    let gone: BTreeSet<BackupId> = sweep.iter().map(|sweep| sweep.backup).collect();
    let pinned = |backup: &&CatalogBackup| {
        backup.state == BackupState::Published && backup.pin.is_some() && backup.marked.is_some()
    };
    let unmark = catalog.backups.iter().filter(pinned).map(|backup| backup.id).collect();
    let (mut packs, mut packs_kept) = packs(catalog, &gone, &revoke, &holds);
    let locked = |pack: &PackObject| lock::holds(pack.stored, catalog.at, options.locked_for);
    if let Some(free) = packs.iter().filter_map(locked).max() {
        packs_kept = Some(format!("object lock holds packs that nothing uses, some of them until {free}"));
        packs.retain(|pack| locked(pack).is_none());
    }
    let drops_lineage = drops_lineage(catalog, options, &gone, &holds);
    let mut wal = match drops_lineage {
        true => all_wal(catalog),
        false => plan_wal(catalog, options, &facts, &gone),
    };
    let wanted = wal.remove.clone();
    lock::wal(catalog, &mut wal, options.locked_for);
    // A lineage goes as a whole, once nothing of it is locked.
    let drops_lineage = drops_lineage && packs_kept.is_none() && wal.remove == wanted;
    ExpirePlan {
        system: catalog.system(),
        content: catalog.lineage.content(),
        at: catalog.at,
        retention,
        revoke,
        mark,
        unmark,
        sweep,
        waiting,
        pack_bytes: Bytes(packs.iter().map(|pack| pack.bytes).sum()),
        packs: packs.into_iter().map(|pack| (pack.backup, pack.number)).collect(),
        packs_kept,
        wal,
        drops_lineage,
    }
}

/// Dumps of different selections are judged apart: whoever dumps one table every hour still wants the newest dump of everything.
fn plan_retention(catalog: &LineageCatalog, options: &ExpireOptions, facts: &LineageFacts) -> LineagePlan {
    if catalog.lineage.content() == Content::Cluster {
        return plan_lineage(&options.policy, facts, catalog.at);
    }
    let mut selections: BTreeMap<DumpSelection, Vec<BackupFacts>> = BTreeMap::new();
    for dump in &facts.backups {
        let summary = catalog.backup(dump.backup).and_then(|backup| backup.summary.as_ref());
        let selection = summary.and_then(|summary| summary.dump.as_ref()).map(|dump| dump.selection.clone());
        selections.entry(selection.unwrap_or_default()).or_default().push(dump.clone());
    }
    let mut plan =
        LineagePlan { system: facts.system, keep: Vec::new(), remove: Vec::new(), notes: Vec::new() };
    for backups in selections.into_values() {
        let facts = LineageFacts { backups, ..facts.clone() };
        let mut one = plan_lineage(&options.policy, &facts, catalog.at);
        plan.keep.append(&mut one.keep);
        plan.remove.append(&mut one.remove);
        one.notes.retain(|note| !plan.notes.contains(note));
        plan.notes.append(&mut one.notes);
    }
    plan
}

/// Backups that live leases name.
struct Holds {
    bases: BTreeSet<BackupId>,
    read: BTreeSet<BackupId>,
    /// Whether a live lease cannot be read: then what it names is not known, and nothing is removed.
    unreadable: bool,
}

impl Holds {
    fn of(catalog: &LineageCatalog) -> Self {
        let running = || catalog.backups.iter().filter(|backup| is_unfinished_and_live(backup));
        let bases = running().filter_map(|backup| backup.lease.as_ref()).flat_map(|(_, lease)| &lease.bases);
        let readers = || catalog.readers.iter().filter(|reader| reader.live);
        let read = readers().filter_map(|reader| reader.record.as_ref()).flat_map(|record| &record.backups);
        Self {
            bases: bases.copied().collect(),
            read: read.copied().collect(),
            unreadable: running().any(|backup| backup.lease.is_none())
                || readers().any(|reader| reader.record.is_none()),
        }
    }

    fn holds(&self, backup: BackupId) -> bool {
        self.unreadable || self.bases.contains(&backup) || self.read.contains(&backup)
    }
}

/// A backup that its writer, or whoever resumes it, may still finish.
fn is_unfinished_and_live(backup: &CatalogBackup) -> bool {
    matches!(backup.state, BackupState::Running | BackupState::Interrupted { lapse: Lapse::ProcessGone })
}

fn facts(backup: &CatalogBackup, holds: &Holds) -> Option<BackupFacts> {
    let span = backup.span()?;
    Some(BackupFacts {
        backup: backup.id,
        timeline: span.timeline,
        start: span.start,
        stop: span.stop,
        stopped: span.stopped,
        good: backup.is_good(),
        pinned: backup.pin.as_ref().map(|pin| pin.why.clone()),
        marked: backup.marked.is_some(),
        base_of_running: holds.bases.contains(&backup.id),
        being_read: holds.read.contains(&backup.id),
    })
}

fn revocations(catalog: &LineageCatalog) -> Vec<Revocation> {
    let lapsed = |backup: &&CatalogBackup| {
        matches!(backup.state, BackupState::Interrupted { lapse: Lapse::LeaseRanOut })
    };
    let revocation = |backup: &CatalogBackup| Revocation {
        backup: backup.id,
        why: match &backup.lease {
            Some((renewed, lease)) => format!(
                "process {} on {} did not renew its lease after {renewed}",
                lease.holder.pid, lease.holder.host
            ),
            None => "it has no lease that can be read".to_owned(),
        },
    };
    catalog.backups.iter().filter(lapsed).map(revocation).collect()
}

fn marks(catalog: &LineageCatalog, retention: &LineagePlan) -> Vec<BackupId> {
    let unmarked = |id: &BackupId| catalog.backup(*id).is_some_and(|backup| backup.marked.is_none());
    retention.remove.iter().map(|removed| removed.backup).filter(unmarked).collect()
}

fn older_than(at: Timestamp, since: Timestamp, age: Duration) -> bool {
    at.duration_since(since) >= SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX)
}

fn sweeps(catalog: &LineageCatalog, options: &ExpireOptions, holds: &Holds) -> (Vec<Sweep>, Vec<Waiting>) {
    let (mut sweep, mut waiting) = (Vec::new(), Vec::new());
    let locked = |backup: &CatalogBackup| lock::backup(catalog, backup, options.locked_for);
    for backup in &catalog.backups {
        let id = backup.id;
        match &backup.state {
            BackupState::Revoked { why } => {
                let decided = backup.decided.unwrap_or(catalog.at);
                let keeps_tombstone = !older_than(catalog.at, decided, options.tombstone_after);
                if let Some(free) = locked(backup).filter(|_| !keeps_tombstone) {
                    waiting.push(wait_for_lock(id, free));
                    continue;
                }
                let is_bare = backup.lease.is_none() && backup.sizes.manifest == 0;
                let has_packs = catalog.packs.iter().any(|pack| pack.backup == id);
                if !(keeps_tombstone && is_bare && !has_packs) {
                    sweep.push(Sweep { backup: id, why: format!("revoked: {why}"), keeps_tombstone });
                }
            }
            // A marked backup that is damaged is removed like any other: there is nothing to lose.
            BackupState::Published | BackupState::Damaged { .. } | BackupState::Removing => {
                let Some((marked, mark)) = &backup.marked else { continue };
                let due = older_than(catalog.at, *marked, options.sweep_after);
                let held = holds.holds(id);
                if backup.pin.is_some() && backup.state == BackupState::Published {
                    continue;
                }
                if let Some(free) = locked(backup).filter(|_| due && !held) {
                    waiting.push(wait_for_lock(id, free));
                } else if due && !held {
                    sweep.push(Sweep { backup: id, why: mark.why.clone(), keeps_tombstone: false });
                } else {
                    waiting.push(wait(id, *marked, options, held));
                }
            }
            BackupState::Remains if backup.marked.is_some() => {
                sweep.push(Sweep { backup: id, why: "removed before".to_owned(), keeps_tombstone: false });
            }
            _ => {}
        }
    }
    (sweep, waiting)
}

fn wait(backup: BackupId, marked: Timestamp, options: &ExpireOptions, held: bool) -> Waiting {
    let from = marked.saturating_add(SignedDuration::try_from(options.sweep_after).unwrap_or_default());
    let why = if held { "a running backup or a reader holds it" } else { "its mark is not old enough" };
    Waiting { backup, from: from.ok().filter(|_| !held), why: why.to_owned() }
}

fn wait_for_lock(backup: BackupId, free: Timestamp) -> Waiting {
    Waiting { backup, from: Some(free), why: "object lock holds its objects".to_owned() }
}

/// Packs that nothing refers to once the swept backups are gone. Without knowing every manifest nobody can say which those are.
fn packs(
    catalog: &LineageCatalog,
    gone: &BTreeSet<BackupId>,
    revoke: &[Revocation],
    holds: &Holds,
) -> (Vec<PackObject>, Option<String>) {
    let unreadable = |backup: &&CatalogBackup| {
        matches!(backup.state, BackupState::Damaged { .. })
            && backup.summary.is_none()
            && !gone.contains(&backup.id)
    };
    if let Some(damaged) = catalog.backups.iter().find(unreadable) {
        let why = format!(
            "the manifest of backup {} cannot be read, so which packs it uses is not known",
            damaged.id
        );
        return (Vec::new(), Some(why));
    }
    let staying = || catalog.backups.iter().filter(|backup| !gone.contains(&backup.id));
    let used: BTreeSet<_> = staying().flat_map(|backup| backup.packs.keys().copied()).collect();
    let own: BTreeSet<BackupId> = staying()
        .filter(|backup| {
            // What an unfinished backup wrote is its own; of one that is revoked in this run the next run removes it.
            // What a repair wrote is not referred to before the manifest is.
            is_unfinished_and_live(backup)
                || holds.read.contains(&backup.id)
                || revoke.iter().any(|revoked| revoked.backup == backup.id)
        })
        .map(|backup| backup.id)
        .collect();
    let unused =
        |pack: &&PackObject| !used.contains(&(pack.backup, pack.number)) && !own.contains(&pack.backup);
    (catalog.packs.iter().filter(unused).copied().collect(), None)
}

fn plan_wal(
    catalog: &LineageCatalog,
    options: &ExpireOptions,
    facts: &LineageFacts,
    gone: &BTreeSet<BackupId>,
) -> WalPlan {
    let Some(wal) = catalog.wal_set() else { return WalPlan::default() };
    let unknown = |backup: &&CatalogBackup| {
        matches!(backup.state, BackupState::Damaged { .. })
            && backup.summary.is_none()
            && !gone.contains(&backup.id)
    };
    if let Some(damaged) = catalog.backups.iter().find(unknown) {
        let note = format!(
            "the manifest of backup {} cannot be read, so which WAL it needs is not known",
            damaged.id
        );
        return WalPlan { note: Some(note), ..WalPlan::default() };
    }
    // Marked backups that are not swept yet count: whoever took a lease before the mark may still be reading.
    let staying: Vec<&BackupFacts> =
        facts.backups.iter().filter(|backup| !gone.contains(&backup.backup)).collect();
    let mut needs = wal_needs(&options.policy, &staying, catalog.at);
    if needs.is_empty() {
        return wal_plan(&[], wal);
    }
    let running = catalog.backups.iter().filter(|backup| is_unfinished_and_live(backup));
    let running = running.filter_map(|backup| backup.lease.as_ref()).filter_map(|(_, lease)| lease.wal);
    let readers = catalog.readers.iter().filter(|reader| reader.live);
    let readers = readers.filter_map(|reader| reader.record.as_ref()).filter_map(|record| record.wal);
    needs.extend(running.chain(readers).map(|wal| WalNeed {
        timeline: wal.timeline,
        from: wal.from,
        keep: WalKeep::Onward,
        backup: None,
    }));
    wal_plan(&needs, wal)
}

/// Only what was asked to be dropped by name, and only when no backup and nobody at work is left in it.
fn drops_lineage(
    catalog: &LineageCatalog,
    options: &ExpireOptions,
    gone: &BTreeSet<BackupId>,
    holds: &Holds,
) -> bool {
    let is_left = |backup: &&CatalogBackup| {
        !gone.contains(&backup.id)
            && !matches!(backup.state, BackupState::Remains | BackupState::Revoked { .. })
    };
    options.policy.drop_lineages.contains(&catalog.system())
        && !catalog.backups.iter().any(|backup| is_left(&backup))
        && !catalog.readers.iter().any(|reader| reader.live)
        && !holds.unreadable
}

fn all_wal(catalog: &LineageCatalog) -> WalPlan {
    let remove: Vec<Run> = catalog.wal_set().map(|wal| wal.runs().collect()).unwrap_or_default();
    WalPlan { remove, note: Some("the lineage is dropped".to_owned()), ..WalPlan::default() }
}

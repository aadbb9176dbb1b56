use super::*;
use crate::catalog::{LineageCatalog, Scope};
use crate::expire::{ExpireOptions, run_expire};
use crate::key::Unlock;
use crate::layout::{BackupId, PackNumber};
use crate::seal::Suite;
use crate::testing::{Cut, Spec, archive, lineage, on, publish, segment_name};
use crate::transfer::tests::{content, flip};
use crate::transfer::{CopyOptions, copy};
use crate::verify::{VerifyOptions, verify};
use crate::walobject::object_path;
use crate::{Manifest, PackReader, Repository};
use pgproof_base::NoProgress;
use pgproof_store::{Memory, ObjectPath, Store};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A repository with three backups, and its copy.
struct Pair {
    store: Memory,
    here: Repository,
    there: Repository,
    ids: [BackupId; 3],
    pages: BTreeMap<BackupId, Vec<Vec<u8>>>,
}

impl Pair {
    fn new() -> Self {
        let store = Memory::new();
        let here = on(Arc::new(store.clone()), Suite::None);
        let there = on(Arc::new(Memory::new()), Suite::Aes256Gcm);
        archive(&here, 4..=7);
        let first = publish(&here, &Spec::at(4));
        let second = publish(&here, &Spec::on(first, 5));
        let third = publish(&here, &Spec::on(second, 6));
        let ids = [first, second, third];
        copy(&here, &there, &CopyOptions { threads: 2, ..CopyOptions::default() }, &NoProgress).unwrap();
        let pages = ids.into_iter().map(|id| (id, content(&here, id))).collect();
        Self { store, here, there, ids, pages }
    }

    /// The same with a first repository of its own, so that a test can damage it in many ways.
    fn fork(&self) -> (Memory, Repository) {
        let store = self.store.copy();
        let here = Repository::open(Arc::new(store.clone()), &Unlock::Nothing).unwrap();
        (store, here)
    }

    #[track_caller]
    fn assert_whole(&self, here: &Repository, what: &str) {
        assert_clean(here, what);
        for id in self.ids {
            assert_eq!(content(here, id), self.pages[&id], "{what}");
        }
    }

    fn pack(&self, backup: usize) -> ObjectPath {
        lineage().backup(self.ids[backup]).pack(PackNumber(0))
    }
}

fn options() -> RepairOptions {
    RepairOptions { threads: 2, ..RepairOptions::default() }
}

fn repaired(here: &Repository, there: &Repository) -> LineageRepair {
    repair(here, there, &options(), &NoProgress).unwrap().lineages.remove(0)
}

#[track_caller]
fn assert_clean(repository: &Repository, what: &str) {
    let options = VerifyOptions { threads: 2, ..VerifyOptions::default() };
    let report = verify(repository, &options, &NoProgress).unwrap();
    assert!(report.is_clean(), "{what}: {:#?}", report.findings().collect::<Vec<_>>());
}

fn is_clean(repository: &Repository) -> bool {
    let options = VerifyOptions { threads: 2, ..VerifyOptions::default() };
    verify(repository, &options, &NoProgress).unwrap().is_clean()
}

fn segment(number: u64) -> ObjectPath {
    object_path(lineage(), &segment_name(number), Spec::segment_size()).unwrap()
}

/// Where in its pack the one file lies that every backup stores anew.
fn own_file(repository: &Repository, backup: BackupId) -> usize {
    let pack = PackReader::open(repository, lineage(), &backup, PackNumber(0)).unwrap();
    pack.entries()[1].offset as usize + 5
}

/// Everything below the backups and the WAL.
fn objects(store: &Memory) -> BTreeMap<ObjectPath, Vec<u8>> {
    let dirs = [lineage().backups_dir(), lineage().wal_dir()];
    let listed = dirs.iter().flat_map(|dir| store.list(Some(dir), None).unwrap());
    listed.map(|meta| (meta.path.clone(), store.get(&meta.path).unwrap())).collect()
}

#[test]
fn whatever_single_object_is_damaged_cut_or_gone_is_healed_and_nothing_else_is_touched() {
    let pair = Pair::new();
    let before = objects(&pair.store);
    let mut hurt = 0;
    for (path, bytes) in &before {
        let last = bytes.len() - 1;
        let places = [Some(3), Some(30), Some(bytes.len() / 2), Some(last.saturating_sub(90)), None];
        for place in places {
            let (store, here) = pair.fork();
            let what = format!("{path} {place:?}");
            match place {
                Some(at) => flip(&here, path, at),
                None => store.delete(path).unwrap(),
            }
            hurt += usize::from(!is_clean(&here));
            let report = repaired(&here, &pair.there);
            assert!(report.remaining.is_empty(), "{what}: {report:#?}");
            pair.assert_whole(&here, &what);
            // Manifests are bound to the packs that they name, so those of the backups that share a pack are new too.
            let after = objects(&store);
            let is_bound = |path: &ObjectPath| ["manifest", "outcome"].contains(&path.name());
            for (other, bytes) in before.iter().filter(|(other, _)| *other != path && !is_bound(other)) {
                assert_eq!(after.get(other), Some(bytes), "{what}: {other}");
            }
        }
    }
    assert!(hurt >= 4 * before.len(), "only {hurt} of {} were found damaged", 5 * before.len());
}

#[test]
fn a_healed_pack_has_a_new_name_and_a_new_salt() {
    let pair = Pair::new();
    let table = |backup| {
        let manifest = Manifest::open(&pair.here, lineage(), &backup).unwrap();
        manifest.packs().iter().map(|(index, used)| (index, used.info)).collect::<BTreeMap<_, _>>()
    };
    let old = table(pair.ids[2]);
    flip(&pair.here, &pair.pack(0), 100);
    let report = repaired(&pair.here, &pair.there);
    assert_eq!(report.removed, [pair.pack(0).to_string()]);
    let new = table(pair.ids[2]);
    assert_eq!(old.len(), new.len());
    for (index, info) in new {
        let was = old[&index];
        let is_damaged = (was.backup, was.number) == (pair.ids[0], PackNumber(0));
        assert_eq!((was.backup, was.number) == (info.backup, info.number), !is_damaged);
        assert_eq!(was.salt == info.salt, !is_damaged);
    }
    // All three use it, and it was fetched once.
    let catalog = LineageCatalog::read(&pair.here, lineage(), Scope::Backups, LeaseTimes::default()).unwrap();
    assert_eq!(catalog.packs.len(), 3);
}

#[test]
fn nothing_is_healed_from_what_is_damaged_there_too_and_what_is_left_is_named() {
    for kind in ["pack", "manifest", "segment"] {
        let pair = Pair::new();
        let (path, at) = match kind {
            "pack" => (pair.pack(1), own_file(&pair.here, pair.ids[1])),
            "manifest" => (lineage().backup(pair.ids[1]).manifest(), 70),
            _ => (segment(5), 3000),
        };
        flip(&pair.here, &path, at);
        flip(&pair.there, &path, at);
        let damaged = pair.store.get(&path).unwrap();
        let report = repaired(&pair.here, &pair.there);
        assert!(!report.remaining.is_empty() && !report.failed.is_empty(), "{path}: {report:#?}");
        assert!(report.remaining.iter().any(|found| found.object == path.to_string()), "{report:#?}");
        assert_eq!(pair.store.get(&path).unwrap(), damaged);
        let left: Vec<BackupId> = report.restorable.iter().map(|backup| backup.backup).collect();
        assert_eq!(left, [pair.ids[0], pair.ids[2]], "{path}");
    }
}

#[test]
fn a_backup_that_only_the_damaged_side_has_is_healed_as_far_as_the_other_knows_its_packs() {
    let pair = Pair::new();
    archive(&pair.here, 8..=8);
    let fourth = publish(&pair.here, &Spec::on(pair.ids[2], 8));
    flip(&pair.here, &pair.pack(0), 100);
    let report = repaired(&pair.here, &pair.there);
    assert!(report.remaining.is_empty(), "{report:#?}");
    pair.assert_whole(&pair.here, "shared");
    flip(&pair.here, &lineage().backup(fourth).pack(PackNumber(0)), own_file(&pair.here, fourth));
    let report = repaired(&pair.here, &pair.there);
    assert_eq!(report.failed.len(), 1, "{report:#?}");
    let left: Vec<BackupId> = report.restorable.iter().map(|backup| backup.backup).collect();
    assert_eq!(left, pair.ids);
}

#[test]
fn wal_that_retention_let_go_of_is_not_brought_back() {
    let pair = Pair::new();
    let policy = crate::retention::RetentionPolicy {
        keep_last: Some(1),
        ..crate::retention::RetentionPolicy::default()
    };
    let expire = ExpireOptions { policy, sweep_after: Duration::ZERO, ..ExpireOptions::default() };
    run_expire(&pair.here, lineage(), &expire, false, &NoProgress).unwrap();
    let before = objects(&pair.store);
    let plan = plan_repair(&pair.here, &pair.there, &options(), &NoProgress).unwrap().remove(0);
    assert!(plan.heal.is_empty(), "{plan:#?}");
    assert!(repaired(&pair.here, &pair.there).healed.is_empty());
    assert_eq!(objects(&pair.store), before);
}

#[test]
fn whoever_is_killed_while_repairing_hurts_nothing_and_the_next_repair_ends_it() {
    let pair = Pair::new();
    flip(&pair.here, &pair.pack(0), 100);
    flip(&pair.here, &lineage().backup(pair.ids[2]).manifest(), 70);
    flip(&pair.here, &segment(5), 3000);
    pair.store.delete(&segment(6)).unwrap();
    for writes in 0.. {
        let (store, here) = pair.fork();
        let cut = Cut::after(&store, writes);
        let through = Repository::open(Arc::new(cut.clone()), &Unlock::Nothing).unwrap();
        let result = repair(&through, &pair.there, &RepairOptions { threads: 1, ..options() }, &NoProgress);
        assert!(result.is_ok() || cut.happened(), "{writes}: {result:?}");
        // The lease of this very process would be live; a killed one's is known to be dead, or runs out.
        store.advance_clock(Duration::from_secs(601));
        let report = repaired(&here, &pair.there);
        assert!(report.remaining.is_empty(), "{writes}: {report:#?}");
        pair.assert_whole(&here, &format!("killed after {writes}"));
        if !cut.happened() {
            assert!(writes > 10, "the cut never struck in the middle");
            return;
        }
    }
}

#[test]
fn a_plan_names_what_would_be_healed_and_changes_nothing() {
    let pair = Pair::new();
    flip(&pair.here, &pair.pack(1), 100);
    pair.store.delete(&segment(5)).unwrap();
    let before = objects(&pair.store);
    let plan = plan_repair(&pair.here, &pair.there, &options(), &NoProgress).unwrap().remove(0);
    let named: Vec<&str> = plan.heal.iter().map(|heal| heal.object.as_str()).collect();
    assert_eq!(named, [segment(5).as_str(), pair.pack(1).as_str()]);
    assert_eq!(objects(&pair.store), before);
}

use super::*;
use crate::catalog::{BackupState, LineageCatalog, Scope, pin};
use crate::key::Unlock;
use crate::lease::{ReaderClaim, ReaderLease, WalNeeded};
use crate::seal::Suite;
use crate::testing::{self, Cut, Spec, archive, begin, lineage, publish, write};
use crate::verify::{VerifyOptions, VerifyReport, verify};
use crate::{BackupId, Repository};
use pgproof_base::NoProgress;
use pgproof_pg::{Lsn, TimelineId};
use pgproof_store::{Memory, Store};
use std::sync::Arc;

fn place() -> (Memory, Repository) {
    let store = Memory::new();
    let repository = testing::on(Arc::new(store.clone()), Suite::None);
    (store, repository)
}

fn keep_last(count: u32) -> ExpireOptions {
    let policy = RetentionPolicy { keep_last: Some(count), ..RetentionPolicy::default() };
    ExpireOptions { policy, sweep_after: Duration::ZERO, ..ExpireOptions::default() }
}

fn expire(repository: &Repository, options: &ExpireOptions) -> ExpireReport {
    run_expire(repository, lineage(), options, false, &NoProgress).unwrap()
}

fn catalog(repository: &Repository) -> LineageCatalog {
    LineageCatalog::read(repository, lineage(), Scope::BackupsAndWal, LeaseTimes::default()).unwrap()
}

fn backups(repository: &Repository) -> Vec<BackupId> {
    catalog(repository).published().map(|backup| backup.id).collect()
}

fn segments(repository: &Repository) -> Vec<u64> {
    let catalog = catalog(repository);
    let runs = catalog.wal_set().map(|wal| wal.runs().collect::<Vec<_>>()).unwrap_or_default();
    runs.into_iter().flat_map(|run| run.first.0..=run.last.0).collect()
}

fn verified(repository: &Repository) -> VerifyReport {
    verify(repository, &VerifyOptions { threads: 2, ..VerifyOptions::default() }, &NoProgress).unwrap()
}

#[track_caller]
fn assert_clean(repository: &Repository) {
    let report = verified(repository);
    assert!(report.is_clean(), "{:#?}", report.findings().collect::<Vec<_>>());
}

/// Three backups, each built on the one before, with the WAL between them.
fn chain(repository: &Repository) -> [BackupId; 3] {
    archive(repository, 3..=12);
    let first = publish(repository, &Spec::at(4));
    let second = publish(repository, &Spec::on(first, 7));
    let third = publish(repository, &Spec::on(second, 10));
    [first, second, third]
}

#[test]
fn an_incremental_backup_stays_whole_when_its_bases_go() {
    let (_, repository) = place();
    let [first, second, third] = chain(&repository);
    assert_clean(&repository);
    let report = expire(&repository, &keep_last(1));
    assert_eq!(report.marked, [first, second]);
    assert_eq!(report.swept, [first, second]);
    // Its first and third file still lie in the first backup's pack; the second's pack is used by nobody.
    assert_eq!(report.packs, 1);
    assert_eq!(backups(&repository), [third]);
    assert_eq!(segments(&repository), [10, 11, 12]);
    assert_clean(&repository);
    let again = expire(&repository, &keep_last(1));
    assert!(again.plan.is_empty(), "{:?}", again.plan);
}

#[test]
fn nothing_is_removed_before_its_mark_is_old_enough() {
    let (store, repository) = place();
    let [first, second, third] = chain(&repository);
    let options = ExpireOptions { sweep_after: Duration::from_secs(3600), ..keep_last(1) };
    let report = expire(&repository, &options);
    assert_eq!((report.marked.len(), report.swept.len()), (2, 0));
    assert_eq!(report.plan.waiting.len(), 2);
    assert_eq!(backups(&repository), [first, second, third]);
    assert_eq!(segments(&repository)[0], 4);
    store.advance_clock(Duration::from_secs(3601));
    assert_eq!(expire(&repository, &options).swept, [first, second]);
    assert_clean(&repository);
}

#[test]
fn without_conditional_writes_a_day_must_pass_before_anything_goes() {
    let (store, repository) = place();
    let [first, second, _] = chain(&repository);
    let options = keep_last(1).with_minimum_age();
    drop(begin(&repository, &Spec::at(11)).unwrap());
    store.advance_clock(Duration::from_secs(3601));
    let report = expire(&repository, &options);
    assert_eq!((report.revoked.len(), report.swept.len()), (0, 0));
    store.advance_clock(Duration::from_secs(24 * 3600));
    let report = expire(&repository, &options);
    assert_eq!((report.revoked.len(), &report.swept[..2]), (1, &[first, second][..]));
    assert_clean(&repository);
}

#[test]
fn what_is_locked_waits_until_the_lock_ends_and_goes_then() {
    let (store, repository) = place();
    let [first, second, third] = chain(&repository);
    let week = Duration::from_secs(7 * 24 * 3600);
    let options = ExpireOptions { locked_for: Some(week), ..keep_last(1) };
    let report = expire(&repository, &options);
    assert_eq!((report.marked.len(), report.swept.len()), (2, 0));
    assert_eq!((report.packs, report.segments), (0, 0));
    let until = catalog(&repository).at.checked_add(jiff::SignedDuration::try_from(week).unwrap()).unwrap();
    for waiting in &report.plan.waiting {
        assert!(waiting.from.is_some_and(|from| from <= until), "{waiting:?}");
        assert_eq!(waiting.why, "object lock holds its objects");
    }
    assert!(report.plan.wal.note.is_some_and(|note| note.contains("object lock holds WAL")));
    assert_eq!(backups(&repository), [first, second, third]);
    assert_clean(&repository);
    store.advance_clock(week);
    let report = expire(&repository, &options);
    assert_eq!(report.swept, [first, second]);
    assert_eq!(segments(&repository), [10, 11, 12]);
    assert_clean(&repository);
}

#[test]
fn a_running_backup_keeps_its_base_its_packs_and_its_wal() {
    let (store, repository) = place();
    let [_, _, third] = chain(&repository);
    let fourth = publish(&repository, &Spec::at(11));
    let running = begin(&repository, &Spec::on(third, 12)).unwrap();
    let info = write(&repository, running.objects().id(), &Spec::on(third, 12)).unwrap();
    expire(&repository, &keep_last(1));
    assert_eq!(backups(&repository), [third, fourth]);
    assert_eq!(segments(&repository)[0], 10);
    running.publish(info.size, info.identity).unwrap();
    assert_clean(&repository);
    drop(store);
}

#[test]
fn a_reader_keeps_its_backup_and_its_wal() {
    let (_, repository) = place();
    let [first, _, third] = chain(&repository);
    let wal = WalNeeded { timeline: TimelineId(1), from: Lsn((4 << 20) + 40) };
    let claim = ReaderClaim { kind: "restore".into(), backups: vec![first], wal: Some(wal) };
    let lease = ReaderLease::take(&repository, lineage(), claim, LeaseTimes::default()).unwrap();
    expire(&repository, &keep_last(1));
    assert_eq!(backups(&repository), [first, third]);
    assert_eq!(segments(&repository)[0], 4);
    drop(lease);
    expire(&repository, &keep_last(1));
    assert_eq!(backups(&repository), [third]);
    assert_clean(&repository);
}

#[test]
fn a_dead_writer_is_revoked_and_what_it_wrote_is_removed() {
    let (store, repository) = place();
    chain(&repository);
    // The segment before the first backup goes, which has nothing to do with what follows.
    assert_eq!(expire(&repository, &keep_last(9)).segments, 1);
    let lease = begin(&repository, &Spec::at(11)).unwrap();
    let id = lease.objects().id();
    let info = write(&repository, id, &Spec::at(11)).unwrap();
    // While the lease is live nothing happens to it.
    assert!(expire(&repository, &keep_last(9)).plan.is_empty());
    store.advance_clock(Duration::from_secs(601));
    let report = expire(&repository, &keep_last(9));
    assert_eq!(report.revoked, [id]);
    assert_eq!(report.packs, 1);
    assert_eq!(lease.publish(info.size, info.identity).unwrap_err().code(), "backup-revoked");
    let catalog = catalog(&repository);
    assert!(matches!(catalog.backup(id).unwrap().state, BackupState::Revoked { .. }));
    assert_clean(&repository);
    // The record of it goes when no writer can come back any more.
    store.advance_clock(Duration::from_secs(31 * 24 * 3600));
    expire(&repository, &keep_last(9));
    assert!(self::catalog(&repository).backup(id).is_none());
}

#[test]
fn a_pinned_backup_stays_and_a_pin_after_the_mark_is_refused() {
    let (_, repository) = place();
    let [first, second, third] = chain(&repository);
    pin(&repository, lineage().backup(first), "before the migration").unwrap();
    let options = ExpireOptions { sweep_after: Duration::from_secs(3600), ..keep_last(1) };
    assert_eq!(expire(&repository, &options).marked, [second]);
    assert_eq!(pin(&repository, lineage().backup(second), "late").unwrap_err().code(), "backup-gone");
    expire(&repository, &keep_last(1));
    assert_eq!(backups(&repository), [first, third]);
    assert_clean(&repository);
}

#[test]
fn without_a_readable_manifest_no_pack_and_no_wal_is_removed() {
    let (store, repository) = place();
    let [_, second, _] = chain(&repository);
    let path = lineage().backup(second).manifest();
    let mut manifest = store.get(&path).unwrap();
    let last = manifest.len() - 100;
    manifest[last] ^= 1;
    store.put(&path, &[&manifest], pgproof_store::PutMode::Overwrite).unwrap();
    let report = expire(&repository, &keep_last(1));
    assert_eq!((report.packs, report.segments), (0, 0));
    assert!(report.plan.packs_kept.is_some() && report.plan.wal.note.is_some());
}

#[test]
fn a_dropped_lineage_disappears_when_nobody_is_at_work_in_it() {
    let (store, repository) = place();
    chain(&repository);
    let drop_lineages = vec![lineage().system()];
    let policy = RetentionPolicy { drop_lineages, ..RetentionPolicy::default() };
    let options = ExpireOptions { policy, sweep_after: Duration::ZERO, ..ExpireOptions::default() };
    let running = begin(&repository, &Spec::at(12)).unwrap();
    expire(&repository, &options);
    assert!(!segments(&repository).is_empty());
    running.abandon("no more").unwrap();
    expire(&repository, &options);
    let left: Vec<_> = store.list(Some(&lineage().dir()), None).unwrap();
    let left: Vec<&str> = left.iter().map(|object| object.path.name()).collect();
    assert_eq!(left, ["outcome"]);
}

/// Three backups as in [`chain`], in as few segments as they can have: they are verified again after every cut.
fn short_chain() -> (Memory, [BackupId; 3]) {
    let (store, repository) = place();
    archive(&repository, 3..=7);
    let first = publish(&repository, &Spec::at(4));
    let second = publish(&repository, &Spec::on(first, 5));
    let third = publish(&repository, &Spec::on(second, 6));
    (store, [first, second, third])
}

/// The repository as it is in a store of its own, and as a process sees it that is killed after so many writes.
fn killed_after(writes: i64, original: &Memory) -> (Memory, Repository, Cut, Repository) {
    let store = original.copy();
    let cut = Cut::after(&store, writes);
    let open = |store: Arc<dyn Store>| Repository::open(store, &Unlock::Nothing).unwrap();
    let (repository, through) = (open(Arc::new(store.clone())), open(Arc::new(cut.clone())));
    (store, repository, cut, through)
}

#[test]
fn whoever_is_killed_while_expiring_leaves_every_kept_backup_whole() {
    let (original, [_, _, third]) = short_chain();
    let repository = Repository::open(Arc::new(original.clone()), &Unlock::Nothing).unwrap();
    drop(begin(&repository, &Spec::at(7)).unwrap());
    original.advance_clock(Duration::from_secs(601));
    for writes in 0.. {
        let (_, repository, cut, through) = killed_after(writes, &original);
        let result = run_expire(&through, lineage(), &keep_last(1), false, &NoProgress);
        assert_eq!(result.is_err(), cut.happened());
        assert_clean(&repository);
        expire(&repository, &keep_last(1));
        assert_clean(&repository);
        assert_eq!(backups(&repository), [third]);
        assert_eq!(segments(&repository), [6, 7]);
        if !cut.happened() {
            assert!(writes > 10, "the cut never struck in the middle");
            return;
        }
    }
}

#[test]
fn whoever_is_killed_while_backing_up_leaves_a_clean_repository_and_the_next_run_succeeds() {
    let (original, [_, _, third]) = short_chain();
    let next = Spec::on(third, 7);
    for writes in 0.. {
        let (store, repository, cut, through) = killed_after(writes, &original);
        let attempt = || -> crate::Result<()> {
            let lease = begin(&through, &next)?;
            let info = write(&through, lease.objects().id(), &next)?;
            lease.publish(info.size, info.identity)
        };
        let result = attempt();
        assert_clean(&repository);
        store.advance_clock(Duration::from_secs(601));
        expire(&repository, &keep_last(9));
        assert_clean(&repository);
        assert_eq!(backups(&repository).len(), if result.is_ok() { 4 } else { 3 });
        publish(&repository, &next);
        assert_clean(&repository);
        if !cut.happened() {
            assert!(writes > 3, "the cut never struck in the middle");
            return;
        }
    }
}

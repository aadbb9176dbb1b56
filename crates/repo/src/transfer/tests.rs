use super::*;
use crate::access::{AccessLimits, PageReader};
use crate::catalog::{BackupState, LineageCatalog, Scope, pin};
use crate::expire::{ExpireOptions, run_expire};
use crate::key::Unlock;
use crate::layout::PackNumber;
use crate::lease::{WriterClaim, WriterLease};
use crate::retention::RetentionPolicy;
use crate::seal::Suite;
use crate::testing::{Cut, Spec, archive, archive_one, lineage, on, publish, segment_name};
use crate::verify::{VerifyOptions, verify};
use crate::walobject::object_path;
use crate::{PackReader, Repository, writer};
use pgproof_base::NoProgress;
use pgproof_store::{Memory, ObjectPath, PutMode, Store};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Segments 4 to 7 and three backups, each built on the one before.
fn source() -> (Repository, [BackupId; 3]) {
    let source = on(Arc::new(Memory::new()), Suite::Aes256Gcm);
    archive(&source, 4..=7);
    let first = publish(&source, &Spec::at(4));
    let second = publish(&source, &Spec::on(first, 5));
    let third = publish(&source, &Spec::on(second, 6));
    (source, [first, second, third])
}

fn target() -> (Memory, Repository) {
    let store = Memory::new();
    let repository = on(Arc::new(store.clone()), Suite::None);
    (store, repository)
}

fn options() -> CopyOptions {
    CopyOptions { threads: 2, ..CopyOptions::default() }
}

fn only(backups: &[BackupId]) -> CopyOptions {
    CopyOptions { backups: backups.to_vec(), ..options() }
}

fn copied(source: &Repository, target: &Repository, options: &CopyOptions) -> LineageCopy {
    copy(source, target, options, &NoProgress).unwrap().lineages.remove(0)
}

fn states(copied: &LineageCopy) -> Vec<CopyState> {
    copied.backups.iter().map(|backup| backup.state).collect()
}

#[track_caller]
fn assert_clean(repository: &Repository) {
    let options = VerifyOptions { threads: 2, ..VerifyOptions::default() };
    let report = verify(repository, &options, &NoProgress).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings().collect::<Vec<_>>());
}

fn catalog(repository: &Repository) -> LineageCatalog {
    LineageCatalog::read(repository, lineage(), Scope::BackupsAndWal, LeaseTimes::default()).unwrap()
}

fn expire(repository: &Repository, keep_last: u32) {
    let policy = RetentionPolicy { keep_last: Some(keep_last), ..RetentionPolicy::default() };
    let options = ExpireOptions { policy, sweep_after: Duration::ZERO, ..ExpireOptions::default() };
    run_expire(repository, lineage(), &options, false, &NoProgress).unwrap();
}

/// All pages of a backup's files.
pub(crate) fn content(repository: &Repository, backup: BackupId) -> Vec<Vec<u8>> {
    let reader = PageReader::open(repository, lineage(), &backup, AccessLimits::default()).unwrap();
    let mut pages = Vec::new();
    for file in ["base/5/1", "base/5/2", "base/5/3"] {
        for block in 0..2 {
            let mut page = [0; crate::PAGE_BYTES];
            reader.page(file, block, &mut page).unwrap();
            pages.push(page.to_vec());
        }
    }
    pages
}

/// Flips a bit of an object, or removes it.
pub(crate) fn flip(repository: &Repository, path: &ObjectPath, at: usize) {
    let store = repository.store();
    let mut object = store.get(path).unwrap();
    object[at] ^= 1;
    store.put(path, &[&object], PutMode::Overwrite).unwrap();
}

fn segment(number: u64) -> ObjectPath {
    object_path(lineage(), &segment_name(number), Spec::segment_size()).unwrap()
}

#[test]
fn a_copy_holds_the_same_under_other_keys_and_a_second_one_copies_nothing() {
    let (source, ids) = source();
    let (_, target) = target();
    let done = copied(&source, &target, &options());
    assert_eq!(states(&done), [CopyState::Copied; 3]);
    assert_eq!((done.segments, done.segments_present), (4, 0));
    assert_eq!(done.backups.iter().map(|backup| backup.packs).collect::<Vec<_>>(), [1, 1, 1]);
    assert_clean(&target);
    for id in ids {
        assert_eq!(content(&target, id), content(&source, id));
    }
    let puts = target.store().counters().puts;
    let again = copied(&source, &target, &options());
    assert_eq!(states(&again), [CopyState::Present; 3]);
    assert_eq!((again.segments, again.segments_present), (0, 4));
    assert_eq!(target.store().counters().puts, puts);
}

#[test]
fn packs_of_backups_that_are_not_copied_come_along_and_stay_while_they_are_used() {
    let (source, [first, second, third]) = source();
    let (_, target) = target();
    assert_eq!(states(&copied(&source, &target, &only(&[third]))), [CopyState::Copied]);
    expire(&target, 1);
    assert_clean(&target);
    assert_eq!(content(&target, third), content(&source, third));
    // The others refer to what lies there by another name already.
    let done = copied(&source, &target, &options());
    assert_eq!(states(&done), [CopyState::Copied, CopyState::Copied, CopyState::Present]);
    assert_eq!(catalog(&target).packs.len(), 3);
    assert_clean(&target);
    expire(&target, 1);
    assert_clean(&target);
    assert_eq!(catalog(&target).published().map(|backup| backup.id).collect::<Vec<_>>(), [third]);
    assert_eq!(content(&target, third), content(&source, third));
    assert!(catalog(&target).backup(second).is_none() || catalog(&target).backup(first).is_none());
}

#[test]
fn a_copy_without_wal_takes_what_makes_the_backups_consistent() {
    let (source, [first, ..]) = source();
    let (_, target) = target();
    let options = CopyOptions { wal: WalScope::Needed, ..only(&[first]) };
    assert_eq!(copied(&source, &target, &options).segments, 1);
    assert_clean(&target);
}

/// A copy that is killed after each number of writes, and what `then` makes of the target before the next one.
fn killed_and_copied_again(then: impl Fn(&Memory, &Repository)) {
    let (source, ids) = source();
    let (empty, _) = target();
    for writes in 0.. {
        let store = empty.copy();
        let cut = Cut::after(&store, writes);
        let open = |store: Arc<dyn Store>| Repository::open(store, &Unlock::Nothing).unwrap();
        let (target, through) = (open(Arc::new(store.clone())), open(Arc::new(cut.clone())));
        let result = copy(&source, &through, &CopyOptions { threads: 1, ..options() }, &NoProgress);
        assert_eq!(result.is_err(), cut.happened());
        assert_clean(&target);
        for backup in catalog(&target).published() {
            assert_eq!(content(&target, backup.id), content(&source, backup.id));
        }
        then(&store, &target);
        let again = copied(&source, &target, &options());
        assert!(again.problems.is_empty(), "{writes}: {again:#?}");
        assert!(!states(&again).contains(&CopyState::Left), "{writes}: {again:#?}");
        assert_clean(&target);
        for id in ids {
            assert_eq!(content(&target, id), content(&source, id));
        }
        assert_eq!(catalog(&target).packs.len(), 3, "{writes}");
        if !cut.happened() {
            assert!(writes > 10, "the cut never struck in the middle");
            return;
        }
    }
}

#[test]
fn whoever_is_killed_while_copying_leaves_a_clean_target_and_the_next_copy_goes_on() {
    // The lease of this very process would be live; a killed one's is known to be dead, or runs out.
    killed_and_copied_again(|store, _| store.advance_clock(Duration::from_secs(601)));
}

#[test]
fn a_copy_that_expiry_has_revoked_can_be_made_anew() {
    killed_and_copied_again(|store, target| {
        store.advance_clock(Duration::from_secs(601));
        expire(target, 9);
        assert_clean(target);
    });
}

#[test]
fn a_copier_that_was_stopped_for_hours_cannot_publish_even_over_a_revocation() {
    let (source, [first, ..]) = source();
    let (store, target) = target();
    let take = || {
        let claim = WriterClaim { kind: "copy".into(), ..WriterClaim::default() };
        let times = LeaseTimes { renew_every: Duration::from_secs(3600), ..LeaseTimes::default() };
        WriterLease::copy(&target, lineage().backup(first), claim, "test".into(), times).unwrap().0
    };
    drop(take());
    store.advance_clock(Duration::from_secs(601));
    expire(&target, 9);
    assert!(matches!(catalog(&target).backup(first).unwrap().state, BackupState::Revoked { .. }));
    let stopped = take();
    assert_eq!(catalog(&target).backup(first).unwrap().state, BackupState::Running);
    store.advance_clock(Duration::from_secs(601));
    expire(&target, 9);
    assert_eq!(stopped.publish(1, crate::ContentId([0; 16])).unwrap_err().code(), "backup-revoked");
    assert_eq!(states(&copied(&source, &target, &only(&[first]))), [CopyState::Copied]);
    assert_clean(&target);
}

#[test]
fn a_backup_does_not_go_on_with_an_interrupted_copy() {
    let (_, [first, ..]) = source();
    let (store, target) = target();
    let claim = WriterClaim { kind: "copy".into(), ..WriterClaim::default() };
    let times = LeaseTimes::default();
    drop(WriterLease::copy(&target, lineage().backup(first), claim, "test".into(), times).unwrap());
    store.advance_clock(Duration::from_secs(601));
    assert!(matches!(catalog(&target).backup(first).unwrap().state, BackupState::Interrupted { .. }));
    assert!(catalog(&target).resumable().is_none());
}

#[test]
fn what_is_damaged_in_the_source_is_named_and_not_copied() {
    let (source, [first, second, third]) = source();
    let (_, target) = target();
    let pack = lineage().backup(second).pack(PackNumber(0));
    flip(&source, &pack, 100);
    flip(&source, &segment(7), 5000);
    let done = copied(&source, &target, &options());
    // The third uses a file of the first, and one of its own.
    assert_eq!(states(&done), [CopyState::Copied, CopyState::Left, CopyState::Copied]);
    assert!(done.backups[1].why.as_ref().unwrap().contains(pack.as_str()), "{done:#?}");
    assert_eq!(done.problems.len(), 1);
    assert_eq!(done.problems[0].object, segment(7).to_string());
    assert_clean(&target);
    assert_eq!(content(&target, first), content(&source, first));
    assert_eq!(content(&target, third), content(&source, third));
    assert!(target.store().head(&segment(7)).unwrap().is_none());
}

#[test]
fn other_wal_by_the_same_name_is_a_conflict_and_no_backup_that_needs_it_is_published() {
    let (source, _) = source();
    let (_, target) = target();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("segment");
    std::fs::write(&path, crate::testing::wal_bytes(Spec::segment_size(), 5, 999)).unwrap();
    let name = segment_name(5);
    let from = crate::walobject::PushSource { path: &path, name: &name, segment_size: Spec::segment_size() };
    let pushed = crate::walobject::PushedBy {
        at: Timestamp::UNIX_EPOCH,
        host: "other".into(),
        pgdata: "/other".into(),
        epoch: 0,
    };
    crate::walobject::store_segment(&target, lineage(), from, pushed, Default::default()).unwrap();
    // The same content that another process archived is none.
    archive_one(&target, 4).unwrap();
    let done = copied(&source, &target, &options());
    assert_eq!(states(&done), [CopyState::Copied, CopyState::Left, CopyState::Copied]);
    assert!(done.problems[0].what.contains("/other"), "{done:#?}");
    assert_eq!((done.segments, done.segments_present), (2, 1));
}

#[test]
fn pins_and_the_writer_epoch_go_along_and_an_epoch_is_never_lowered() {
    let (source, [first, ..]) = source();
    let (_, target) = target();
    pin(&source, lineage().backup(first), "audit").unwrap();
    writer::take_over(&source, lineage(), Path::new("/new"), "test").unwrap();
    assert_eq!(copied(&source, &target, &options()).epoch, Some(1));
    assert_eq!(catalog(&target).backup(first).unwrap().pin.as_ref().unwrap().why, "audit");
    assert_eq!(writer::check_epoch(&target, lineage(), 0).unwrap_err().code(), "writer-superseded");
    for _ in 0..3 {
        writer::take_over(&target, lineage(), Path::new("/elsewhere"), "test").unwrap();
    }
    assert_eq!(copied(&source, &target, &options()).epoch, None);
    assert_eq!(writer::current(&target, lineage()).unwrap().unwrap().value.epoch, 4);
}

#[test]
fn a_plan_tells_what_a_copy_does_and_writes_nothing() {
    let (source, _) = source();
    let (_, target) = target();
    let puts = target.store().counters().puts;
    let plan = plan_copy(&source, &target, &options()).unwrap().remove(0);
    assert!(plan.backups.iter().all(|backup| backup.fate == Fate::Copy && backup.packs == 1));
    assert_eq!((plan.segments, plan.segments_present), (4, 0));
    assert_eq!(target.store().counters().puts, puts);
    assert_eq!(copy(&source, &source, &options(), &NoProgress).unwrap_err().code(), "repository-refused");
}

#[test]
fn extents_lie_at_the_same_places_and_are_sealed_with_a_salt_of_their_own() {
    let (source, [first, ..]) = source();
    let (_, target) = target();
    copied(&source, &target, &only(&[first]));
    let open = |repository| PackReader::open(repository, lineage(), &first, PackNumber(0)).unwrap();
    let (from, to) = (open(&source), open(&target));
    assert!(objects::same_layout(&from, &to));
    assert_ne!(from.info().salt, to.info().salt);
    assert_ne!(from.entries()[0].identity, to.entries()[0].identity);
}

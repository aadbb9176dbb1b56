use super::*;
use crate::seal::Suite;
use crate::testing::{self, Spec, begin, lineage, publish, write};
use crate::{BackupId, ContentId, Error, Repository, record};
use pgproof_store::{Memory, PutMode, Store};
use std::sync::Arc;

fn place() -> (Memory, Repository) {
    let store = Memory::new();
    let repository = testing::on(Arc::new(store.clone()), Suite::Aes256Gcm);
    (store, repository)
}

fn outcome(repository: &Repository, id: BackupId) -> Option<Outcome> {
    record::read(repository, &lineage().backup(id).outcome()).unwrap().map(|found| found.value)
}

fn revoke(repository: &Repository, id: BackupId) {
    let revoked = Outcome::Revoked {
        at: Timestamp::UNIX_EPOCH,
        by: Holder { host: "expirer".into(), ..Holder::this_process() },
        why: "its lease ran out".into(),
    };
    record::write(repository, &lineage().backup(id).outcome(), &revoked, PutMode::IfAbsent).unwrap();
}

#[test]
fn a_published_backup_has_an_outcome_and_no_lease() {
    let (store, repository) = place();
    let id = publish(&repository, &Spec::at(3));
    assert!(matches!(outcome(&repository, id), Some(Outcome::Published { .. })));
    assert_eq!(store.head(&lineage().backup(id).lease()).unwrap(), None);
}

#[test]
fn a_writer_that_was_stopped_and_revoked_fails_instead_of_publishing() {
    let (store, repository) = place();
    let lease = begin(&repository, &Spec::at(3)).unwrap();
    let id = lease.objects().id();
    let info = write(&repository, id, &Spec::at(3)).unwrap();
    store.advance_clock(std::time::Duration::from_secs(7200));
    revoke(&repository, id);
    assert!(matches!(lease.check(), Err(Error::Revoked { .. })));
    let error = lease.publish(info.size, info.identity).unwrap_err();
    assert_eq!(error.code(), "backup-revoked");
    assert!(error.to_string().contains("expirer"), "{error}");
    assert!(matches!(outcome(&repository, id), Some(Outcome::Revoked { .. })));
}

#[test]
fn a_writer_whose_lease_was_removed_after_revocation_is_told_so() {
    let (store, repository) = place();
    let lease = begin(&repository, &Spec::at(3)).unwrap();
    let id = lease.objects().id();
    revoke(&repository, id);
    store.delete(&lineage().backup(id).lease()).unwrap();
    let error = lease.publish(1, ContentId([0; 16])).unwrap_err();
    assert_eq!(error.code(), "backup-revoked");
}

#[test]
fn publication_whose_answer_was_lost_is_success_for_its_own_writer_only() {
    let (_, repository) = place();
    let lease = begin(&repository, &Spec::at(3)).unwrap();
    let id = lease.objects().id();
    let other = Outcome::Published {
        manifest_bytes: 9,
        manifest_identity: ContentId([9; 16]),
        at: Timestamp::UNIX_EPOCH,
    };
    record::write(&repository, &lineage().backup(id).outcome(), &other, PutMode::IfAbsent).unwrap();
    assert_eq!(lease.publish(1, ContentId([0; 16])).unwrap_err().code(), "lease-lost");
}

#[test]
fn an_abandoned_backup_is_revoked_by_its_own_writer() {
    let (store, repository) = place();
    let lease = begin(&repository, &Spec::at(3)).unwrap();
    let id = lease.objects().id();
    lease.abandon("the server went away").unwrap();
    assert!(
        matches!(outcome(&repository, id), Some(Outcome::Revoked { why, .. }) if why.contains("went away"))
    );
    assert_eq!(store.head(&lineage().backup(id).lease()).unwrap(), None);
}

#[test]
fn a_base_that_is_marked_is_refused_and_the_new_backup_is_revoked() {
    let (_, repository) = place();
    let base = publish(&repository, &Spec::at(3));
    let mark = ExpiredMark { by: Holder::this_process(), why: "old".into() };
    record::write(&repository, &lineage().backup(base).expired(), &mark, PutMode::IfAbsent).unwrap();
    let error = begin(&repository, &Spec::on(base, 5)).unwrap_err();
    assert_eq!(error.code(), "backup-gone");
    let claim = ReaderClaim { kind: "restore".into(), backups: vec![base], wal: None };
    let error = ReaderLease::take(&repository, lineage(), claim, LeaseTimes::default()).unwrap_err();
    assert_eq!(error.code(), "backup-gone");
}

#[test]
fn a_lease_is_renewed_in_the_background_and_notices_its_loss() {
    let (store, repository) = place();
    let times = LeaseTimes { renew_every: Duration::from_millis(5), ..LeaseTimes::default() };
    let objects = lineage().backup(testing::fresh_id());
    let lease = WriterLease::take(&repository, objects, WriterClaim::default(), times).unwrap();
    let first = store.head(&objects.lease()).unwrap().unwrap();
    let renewed = || store.head(&objects.lease()).unwrap().unwrap().version != first.version;
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !renewed() {
        assert!(std::time::Instant::now() < deadline, "the lease was never renewed");
        std::thread::sleep(Duration::from_millis(2));
    }
    // Somebody else's record in its place is not overwritten.
    let stranger = WriterRecord { token: ContentId([1; 16]), ..lease.record() };
    record::write(&repository, &objects.lease(), &stranger, PutMode::Overwrite).unwrap();
    while lease.check().is_ok() {
        assert!(std::time::Instant::now() < deadline, "the loss was never noticed");
        std::thread::sleep(Duration::from_millis(2));
    }
    let found = record::read::<WriterRecord>(&repository, &objects.lease()).unwrap().unwrap();
    assert_eq!(found.value.token, ContentId([1; 16]));
}

#[test]
fn a_backup_is_resumed_only_when_its_writer_is_dead() {
    let (store, repository) = place();
    let lease = begin(&repository, &Spec::at(3)).unwrap();
    let objects = lease.objects();
    let resume = || WriterLease::resume(&repository, objects, WriterClaim::default(), LeaseTimes::default());
    assert_eq!(resume().unwrap_err().code(), "lease-held");
    store.advance_clock(Duration::from_secs(601));
    let resumed = resume().unwrap();
    // The old writer, had it only been stopped, cannot publish any more.
    assert_eq!(lease.publish(1, ContentId([0; 16])).unwrap_err().code(), "lease-lost");
    let info = write(&repository, objects.id(), &Spec::at(3)).unwrap();
    resumed.publish(info.size, info.identity).unwrap();
    store.advance_clock(Duration::from_secs(601));
    assert_eq!(resume().unwrap_err().code(), "backup-gone");
}

#[test]
fn a_reader_lets_go_when_it_is_dropped() {
    let (store, repository) = place();
    let id = publish(&repository, &Spec::at(3));
    let claim = ReaderClaim { kind: "restore".into(), backups: vec![id], wal: None };
    let lease = ReaderLease::take(&repository, lineage(), claim, LeaseTimes::default()).unwrap();
    let count = || store.list(Some(&lineage().readers_dir()), None).unwrap().len();
    assert_eq!(count(), 1);
    lease.check().unwrap();
    drop(lease);
    assert_eq!(count(), 0);
}

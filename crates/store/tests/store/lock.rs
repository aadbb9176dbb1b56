//! S3 object lock, against a real server that keeps versions and locks: moto.

use pgproof_store::{Cloud, LockMode, ObjectLock, ObjectPath, PutMode, S3Config, Store, StoreError};
use pgproof_testkit::s3::S3Server;

fn path(name: &str) -> ObjectPath {
    ObjectPath::new(name).unwrap()
}

/// A store that locks, and one that looks into the same bucket and does not.
fn stores(server: &S3Server, mode: LockMode) -> (Cloud, Cloud) {
    server.lockable_bucket("locked").unwrap();
    let plain = S3Config { bucket: "locked".to_owned(), ..server.config("some/prefix") };
    let lock = ObjectLock { mode, days: 7, spare: vec!["lease".to_owned()] };
    let locking = S3Config { object_lock: Some(lock), ..plain.clone() };
    (Cloud::s3(&locking).unwrap(), Cloud::s3(&plain).unwrap())
}

#[test]
fn what_is_written_once_cannot_be_removed_before_its_time() {
    let server = S3Server::moto().unwrap();
    let (store, _) = stores(&server, LockMode::Compliance);
    store.put(&path("wal/1"), &[b"segment"], PutMode::IfAbsent).unwrap();
    let mut writer = store.writer(&path("pack/1")).unwrap();
    writer.write_all(&[7; 100]).unwrap();
    writer.finish(PutMode::IfAbsent).unwrap();
    for locked in ["wal/1", "pack/1"] {
        let refused = store.delete(&path(locked)).unwrap_err();
        assert!(matches!(refused, StoreError::Denied { .. }), "{locked}: {refused:?}");
        assert!(store.head(&path(locked)).unwrap().is_some(), "{locked}: a refused removal hides nothing");
    }
    assert!(store.delete_all(&[path("wal/1"), path("pack/1")]).is_err());
}

#[test]
fn a_big_object_comes_back_from_a_bucket_that_locks() {
    let server = S3Server::moto().unwrap();
    let (store, _) = stores(&server, LockMode::Governance);
    let body = vec![7; 17 << 20];
    let mut writer = store.writer(&path("pack/1")).unwrap();
    writer.write_all(&body).unwrap();
    writer.finish(PutMode::IfAbsent).unwrap();
    assert!(store.get(&path("pack/1")).unwrap() == body);
}

#[test]
fn a_lease_is_rewritten_and_removed_with_all_its_versions() {
    let server = S3Server::moto().unwrap();
    let (store, plain) = stores(&server, LockMode::Compliance);
    let first = store.put(&path("backup/lease"), &[b"one"], PutMode::IfAbsent).unwrap();
    store.put(&path("backup/lease"), &[b"two"], PutMode::IfMatch(first.version)).unwrap();
    // A removal without a version leaves a marker: that goes too.
    plain.delete(&path("backup/lease")).unwrap();
    store.delete(&path("backup/lease")).unwrap();
    assert_eq!(server.versions("locked", "some/prefix/backup/lease").unwrap(), 0);
    assert!(store.probe().unwrap().is_complete(), "the probe's objects are not locked");
}

#[test]
fn an_object_that_an_attacker_removed_is_missing_but_not_gone() {
    let server = S3Server::moto().unwrap();
    let (store, plain) = stores(&server, LockMode::Governance);
    store.put(&path("wal/1"), &[b"segment"], PutMode::IfAbsent).unwrap();
    plain.delete(&path("wal/1")).unwrap();
    assert_eq!(store.head(&path("wal/1")).unwrap(), None);
    // The manual's way back: the marker is removed by its version.
    server.remove_delete_marker("locked", "some/prefix/wal/1").unwrap();
    assert_eq!(store.get(&path("wal/1")).unwrap(), b"segment");
}

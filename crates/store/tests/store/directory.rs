//! What only a directory can suffer.

use pgproof_store::{Directory, MARKER, ObjectPath, PutMode, Result, Store, StoreConfig, StoreError};
use pgproof_testkit::powercut::{Features, PowerCutFs};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    time::{Duration, SystemTime},
};

fn path(name: &str) -> ObjectPath {
    ObjectPath::new(name).unwrap()
}

/// A repository with one object, opened.
fn repository(root: &Path) -> Directory {
    let store = Directory::create(root).unwrap();
    store.put(&path(MARKER), &[b"pgproof"], PutMode::IfAbsent).unwrap();
    store.put(&path("wal/0001"), &[b"segment"], PutMode::IfAbsent).unwrap();
    Directory::open(root).unwrap()
}

/// All questions whose answer could be mistaken for "there is no such object".
fn questions(store: &Directory) -> Vec<Result<()>> {
    let absent = path("wal/0002");
    vec![
        store.get(&absent).map(drop),
        store.get_range(&absent, 0, &mut [0]),
        store.get_tail(&absent, 1).map(drop),
        store.head(&absent).map(drop),
        store.list(None, None).map(drop),
        store.list(Some(&path("wal")), None).map(drop),
        store.list_dirs(None).map(drop),
        store.delete(&absent),
        store.put(&absent, &[b"x"], PutMode::IfAbsent).map(drop),
        store.writer(&absent).map(drop),
        store.now().map(drop),
    ]
}

#[test]
fn a_vanished_disk_is_unreachable_and_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("mount/repository");
    let store = repository(&root);
    fs::rename(&root, dir.path().join("elsewhere")).unwrap();
    for mounted in [false, true] {
        if mounted {
            // The empty mount point that remains when a disk is unmounted.
            fs::create_dir(&root).unwrap();
        }
        for (number, answer) in questions(&store).into_iter().enumerate() {
            assert!(matches!(answer, Err(StoreError::Unreachable { .. })), "question {number}: {answer:?}");
        }
        if mounted {
            assert_eq!(fs::read_dir(&root).unwrap().count(), 0, "nothing was written below the mount point");
        }
    }
    fs::remove_dir(&root).unwrap();
    fs::rename(dir.path().join("elsewhere"), &root).unwrap();
    assert_eq!(store.head(&path("wal/0002")).unwrap(), None, "a disk that came back is asked again");
    assert_eq!(store.get(&path("wal/0001")).unwrap(), b"segment");
}

#[test]
fn a_place_without_a_repository_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    for root in [dir.path().to_owned(), dir.path().join("none")] {
        let refused = Directory::open(&root).unwrap_err();
        assert_eq!(refused.code(), "store-no-repository", "{refused:?}");
    }
    let relative = StoreConfig::directory("relative").open().unwrap_err();
    assert_eq!(relative.code(), "store-setting", "{relative:?}");
}

#[test]
fn a_full_disk_is_said_and_leaves_no_temporary_file() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = PowerCutFs::mount(dir.path()).unwrap();
    let store = repository(&mounted.path().join("repository"));
    mounted.set_features(Features { capacity_bytes: 100_000, ..Features::default() });
    let big = vec![7; 300_000];
    let refused = store.put(&path("wal/0002"), &[&big], PutMode::IfAbsent).unwrap_err();
    assert!(matches!(refused, StoreError::NoSpace { .. }), "{refused:?}");
    let mut writer = store.writer(&path("wal/0002")).unwrap();
    let refused = writer.write_all(&big).unwrap_err();
    assert!(matches!(refused, StoreError::NoSpace { .. }), "{refused:?}");
    drop(writer);
    assert_eq!(store.head(&path("wal/0002")).unwrap(), None);
    assert_eq!(fs::read_dir(store.root().join(".tmp")).unwrap().count(), 0);
    store.put(&path("wal/0002"), &[&big[..50_000]], PutMode::IfAbsent).unwrap();
}

#[test]
fn a_read_only_file_system_can_be_read_and_says_why_it_takes_no_writes() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = PowerCutFs::mount(dir.path()).unwrap();
    let store = repository(&mounted.path().join("repository"));
    mounted.set_features(Features { writable: false, ..Features::default() });
    assert_eq!(store.get(&path("wal/0001")).unwrap(), b"segment");
    let refused = store.put(&path("wal/0002"), &[b"x"], PutMode::IfAbsent).unwrap_err();
    assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused:?}");
    let seen = store.probe().unwrap();
    assert!(!seen.writable && seen.refusal.is_some(), "{seen:?}");
    assert!(!seen.is_complete());
}

#[test]
fn files_are_for_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = repository(&dir.path().join("repository"));
    let mode = |below: &str| fs::metadata(store.root().join(below)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("wal"), mode("wal/0001")), (0o700, 0o700, 0o600));
}

#[test]
fn root_leaves_everything_to_the_owner_of_the_repository() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give files away, so nobody else can make this mistake.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("repository");
    drop(repository(&root));
    let owner = 12_345;
    std::os::unix::fs::chown(&root, Some(owner), Some(owner)).unwrap();
    let store = Directory::open(&root).unwrap();
    store.put(&path("new/dir/object"), &[b"x"], PutMode::IfAbsent).unwrap();
    store.delete(&path("none")).unwrap();
    for below in ["new", "new/dir", "new/dir/object", ".lock"] {
        assert_eq!(fs::metadata(root.join(below)).unwrap().uid(), owner, "{below}");
    }
}

#[test]
fn foreign_files_are_neither_listed_nor_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let store = repository(&dir.path().join("repository"));
    fs::create_dir(store.root().join("lost+found")).unwrap();
    fs::write(store.root().join("wal/name with spaces"), b"x").unwrap();
    fs::write(store.root().join("wal/.hidden"), b"x").unwrap();
    let listed: Vec<_> =
        store.list(None, None).unwrap().into_iter().map(|meta| meta.path.to_string()).collect();
    assert_eq!(listed, ["repository", "wal/0001"]);
    assert_eq!(store.list_dirs(None).unwrap(), ["wal"]);
}

#[test]
fn what_killed_writers_left_is_invisible_and_cleaned_when_old() {
    let dir = tempfile::tempdir().unwrap();
    let store = repository(&dir.path().join("repository"));
    let leave = |name: &str, age: Duration| {
        let file = fs::File::create(store.root().join(".tmp").join(name)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    };
    leave("old", Duration::from_secs(7200));
    leave("young", Duration::from_secs(60));
    assert_eq!(store.list(None, None).unwrap().len(), 2);
    assert_eq!(store.clean(Duration::from_secs(3600)).unwrap(), 1);
    assert!(!store.root().join(".tmp/old").exists() && store.root().join(".tmp/young").exists());
}

#[test]
fn versions_differ_even_when_everything_happens_within_one_tick() {
    let dir = tempfile::tempdir().unwrap();
    let store = repository(&dir.path().join("repository"));
    let mut seen = std::collections::HashSet::new();
    for round in 0..200 {
        // Deleting frees the inode, so the next file is likely to get the same one.
        store.delete(&path("lease")).unwrap();
        let meta = store.put(&path("lease"), &[b"same"], PutMode::IfAbsent).unwrap();
        assert!(seen.insert(meta.version), "round {round}");
    }
}

#[test]
fn processes_exclude_each_other_when_they_compare_and_replace() {
    // Two handles of one directory share nothing but the lock file, as two processes do.
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("repository");
    repository(&root).put(&path("counter"), &[b"0"], PutMode::IfAbsent).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = Directory::open(&root).unwrap();
                let mut done = 0;
                while done < 10 {
                    let (body, meta) = store.get_with_meta(&path("counter")).unwrap();
                    let value: u32 = String::from_utf8(body).unwrap().parse().unwrap();
                    let next = (value + 1).to_string();
                    match store.put(&path("counter"), &[next.as_bytes()], PutMode::IfMatch(meta.version)) {
                        Ok(_) => done += 1,
                        Err(StoreError::VersionMismatch { .. }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
    });
    assert_eq!(Directory::open(&root).unwrap().get(&path("counter")).unwrap(), b"40");
}

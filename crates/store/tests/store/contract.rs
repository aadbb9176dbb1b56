//! Every store passes one contract suite.

use pgproof_store::contract::{self, Lacks};
use pgproof_store::{Directory, MARKER, Memory, ObjectPath, PutMode, S3, Store};
use pgproof_testkit::powercut::{Features, PowerCutFs};
use pgproof_testkit::s3::S3Server;

#[test]
fn memory_keeps_the_contract() {
    contract::run(&Memory::new());
}

#[test]
fn a_new_directory_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract::run(&Directory::create(dir.path().join("new/repository")).unwrap());
}

#[test]
fn an_opened_directory_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let marker = ObjectPath::new(MARKER).unwrap();
    Directory::create(dir.path()).unwrap().put(&marker, &[b"x"], PutMode::IfAbsent).unwrap();
    contract::run(&Directory::open(dir.path()).unwrap());
}

#[test]
fn a_file_system_without_exclusive_rename_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let features = Features { rename_noreplace: false, ..Features::default() };
    let mounted = PowerCutFs::mount_with(dir.path(), features).unwrap();
    contract::run(&Directory::create(mounted.path().join("repository")).unwrap());
}

#[test]
fn a_file_system_without_links_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let features = Features { rename_noreplace: false, links: false, ..Features::default() };
    let mounted = PowerCutFs::mount_with(dir.path(), features).unwrap();
    contract::run(&Directory::create(mounted.path().join("repository")).unwrap());
}

#[test]
fn s3_keeps_the_contract_with_moto() {
    let server = S3Server::moto().unwrap();
    // moto looks and writes in two steps, and ignores If-Match when an upload in parts is completed.
    let lacks = Lacks { atomic_conditions: true, if_match_in_parts: true, ..Lacks::default() };
    contract::run_lacking(&S3::new(&server.config("some/prefix")).unwrap(), lacks);
}

#[test]
fn a_whole_bucket_is_a_store_and_sees_what_prefixes_hold() {
    let server = S3Server::moto().unwrap();
    let (whole, part) = (S3::new(&server.config("")).unwrap(), S3::new(&server.config("part")).unwrap());
    let path = |name: &str| ObjectPath::new(name).unwrap();
    part.put(&path("wal/0001"), &[b"x"], PutMode::IfAbsent).unwrap();
    whole.put(&path("other"), &[b"y"], PutMode::IfAbsent).unwrap();
    let names = |store: &S3| -> Vec<String> {
        store.list(None, None).unwrap().into_iter().map(|meta| meta.path.to_string()).collect()
    };
    assert_eq!(names(&whole), ["other", "part/wal/0001"]);
    assert_eq!(names(&part), ["wal/0001"]);
    assert_eq!(whole.list_dirs(None).unwrap(), ["part"]);
    assert_eq!(part.list_dirs(None).unwrap(), ["wal"]);
    assert_eq!(whole.get(&path("part/wal/0001")).unwrap(), b"x");
}

#[test]
#[ignore = "builds s3s-fs, which takes minutes; CI runs it with --run-ignored"]
fn s3_keeps_the_contract_with_s3s() {
    let server = S3Server::s3s().unwrap();
    let lacks = Lacks::default();
    contract::run_lacking(&S3::new(&server.config("some/prefix")).unwrap(), lacks);
}

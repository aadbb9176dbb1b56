//! Every store passes one contract suite.

use pgproof_store::contract::{self, Lacks};
use pgproof_store::{
    AzureConfig, Cloud, Directory, GcsConfig, MARKER, Memory, ObjectPath, PutMode, Store, StoreError,
};
use pgproof_testkit::azure::AzureServer;
use pgproof_testkit::gcs::GcsServer;
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
    contract::run_lacking(&Cloud::s3(&server.config("some/prefix")).unwrap(), lacks);
}

#[test]
fn google_cloud_storage_keeps_the_contract_with_fake_gcs_server() {
    let server = GcsServer::start().unwrap();
    contract::run(&Cloud::gcs(&server.config("some/prefix")).unwrap());
}

#[test]
fn azure_keeps_the_contract_with_azurite() {
    let server = AzureServer::start().unwrap();
    let lacks = Lacks { tail_in_one_request: true, ..Lacks::default() };
    contract::run_lacking(&Cloud::azure(&server.config("some/prefix")).unwrap(), lacks);
}

#[test]
fn a_shared_access_signature_opens_azure_and_keeps_conditions_in_parts() {
    let server = AzureServer::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sas");
    std::fs::write(&file, format!("{}\n", server.sas_token())).unwrap();
    let config = AzureConfig { access_key: None, sas_token_file: Some(file), ..server.config("") };
    let store = Cloud::azure(&config).unwrap();
    let path = ObjectPath::new("big").unwrap();
    let write = |byte: u8, mode| {
        let mut writer = store.writer(&path).unwrap();
        writer.write_all(&vec![byte; 17 << 20]).unwrap();
        writer.finish(mode)
    };
    write(1, PutMode::IfAbsent).unwrap();
    let refused = write(2, PutMode::IfAbsent).unwrap_err();
    assert!(matches!(refused, StoreError::AlreadyExists { .. }), "{refused:?}");
    assert!(!format!("{config:?} {refused:?}").contains("sig="), "the signature is never shown");
    store.delete(&path).unwrap();
    assert!(store.probe().unwrap().is_complete());
}

#[test]
fn a_missing_bucket_or_container_is_unreachable_and_proves_nothing() {
    let (google, azure) = (GcsServer::start().unwrap(), AzureServer::start().unwrap());
    let bucket = GcsConfig { bucket: "missing".to_owned(), retry_s: 1, ..google.config("") };
    let container = AzureConfig { container: "missing".to_owned(), retry_s: 1, ..azure.config("") };
    let path = ObjectPath::new("x").unwrap();
    for store in [Cloud::gcs(&bucket).unwrap(), Cloud::azure(&container).unwrap()] {
        for answer in
            [store.get(&path).map(drop), store.head(&path).map(drop), store.list(None, None).map(drop)]
        {
            assert!(matches!(answer, Err(StoreError::Unreachable { .. })), "{answer:?}");
        }
    }
}

#[test]
fn a_whole_bucket_is_a_store_and_sees_what_prefixes_hold() {
    let server = S3Server::moto().unwrap();
    let (whole, part) = (Cloud::s3(&server.config("")).unwrap(), Cloud::s3(&server.config("part")).unwrap());
    let path = |name: &str| ObjectPath::new(name).unwrap();
    part.put(&path("wal/0001"), &[b"x"], PutMode::IfAbsent).unwrap();
    whole.put(&path("other"), &[b"y"], PutMode::IfAbsent).unwrap();
    let names = |store: &Cloud| -> Vec<String> {
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
    contract::run_lacking(&Cloud::s3(&server.config("some/prefix")).unwrap(), lacks);
}

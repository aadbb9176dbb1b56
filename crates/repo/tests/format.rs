//! The format as released: repositories under `testdata/` open for ever.

#![allow(clippy::unwrap_used, reason = "all of it is tests, helpers included")]

#[path = "format/content.rs"]
mod content;

use pgproof_repo::access::AccessLimits;
use pgproof_repo::walobject::{Fetched, fetch_segment};
use pgproof_repo::{
    ExtentReader, Manifest, PAGE_BYTES, PackReader, PageReader, Repository, Suite, Unlock, lease::Outcome,
    record,
};
use pgproof_store::Directory;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

/// Copied first: a store may clean up after itself, and what is tested must stay as it was released.
fn copy_of(name: &str) -> (tempfile::TempDir, PathBuf) {
    // At run time: clones share a build, and the one that built this test may be gone.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("run by cargo");
    let from = PathBuf::from(package).join("../../testdata/repository-v1");
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join(name);
    copy(&from.join(name), &to);
    (dir, to)
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn open(name: &str) -> (tempfile::TempDir, Repository) {
    let identity = include_str!("../../../testdata/repository-v1/identity.txt");
    let unlock = match name {
        "sealed" => Unlock::identity(identity),
        _ => Unlock::Nothing,
    };
    let (dir, path) = copy_of(name);
    let repository = Repository::open(Arc::new(Directory::open(path).unwrap()), &unlock).unwrap();
    (dir, repository)
}

#[test]
fn backups_of_version_1_read_back() {
    for (name, suite) in [("sealed", Suite::Aes256Gcm), ("plain", Suite::None)] {
        let (_dir, repository) = open(name);
        assert_eq!(repository.suite(), suite);
        let manifest = Manifest::open(&repository, content::SYSTEM, &content::backup()).unwrap();
        manifest.check_header().unwrap();
        assert_eq!(manifest.summary(), &content::summary());
        let entries: Vec<_> = manifest.files().map(Result::unwrap).collect();
        let expected = content::files();
        assert_eq!(entries.len(), expected.len());
        let mut reader = ExtentReader::new(&repository, content::SYSTEM).unwrap();
        for (entry, expected) in entries.iter().zip(&expected) {
            assert_eq!(
                (&entry.path, &entry.kind, entry.mode),
                (&expected.path, &expected.kind, expected.mode)
            );
            let mut bytes = vec![0; entry.length.next_multiple_of(PAGE_BYTES as u64) as usize];
            for used in entry.map.inverted() {
                let extent = &entry.map.extents()[used.extent as usize];
                let mut pages = Vec::new();
                reader.read(manifest.packs().get(extent.pack).unwrap(), extent, &mut pages).unwrap();
                let from =
                    &pages[usize::from(used.page) * PAGE_BYTES..][..usize::from(used.pages) * PAGE_BYTES];
                bytes[used.block as usize * PAGE_BYTES..][..from.len()].copy_from_slice(from);
            }
            bytes.truncate(entry.length as usize);
            assert!(bytes == expected.bytes, "{name}: {}", entry.path);
        }
    }
}

#[test]
fn pages_packs_and_records_of_version_1_read_back() {
    for name in ["sealed", "plain"] {
        let (_dir, repository) = open(name);
        let limits = AccessLimits::default();
        let pages = PageReader::open(&repository, content::SYSTEM, &content::backup(), limits).unwrap();
        let mut page = [0; PAGE_BYTES];
        for file in content::files() {
            for (block, expected) in file.bytes.chunks(PAGE_BYTES).enumerate() {
                pages.page(&file.path, block as u32, &mut page).unwrap();
                assert_eq!(&page[..expected.len()], expected);
            }
        }
        for number in PackReader::list(&repository, content::SYSTEM, &content::backup()).unwrap() {
            let pack = PackReader::open(&repository, content::SYSTEM, &content::backup(), number).unwrap();
            pack.check_header().unwrap();
            let mut extents = 0;
            pack.read_all(&mut |_, read| {
                read.unwrap();
                extents += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
            assert_eq!(extents, pack.info().extents);
        }
        let outcome = content::lineage().backup(content::backup()).outcome();
        let outcome = record::read::<Outcome>(&repository, &outcome).unwrap().unwrap().value;
        assert!(matches!(outcome, Outcome::Published { .. }));
    }
}

#[test]
fn wal_of_version_1_reads_back() {
    for name in ["sealed", "plain"] {
        let (dir, repository) = open(name);
        let to = dir.path().join("segment");
        let (segment, size) = content::segment();
        let fetched = fetch_segment(&repository, content::lineage(), &segment, size, &to, 1).unwrap();
        assert_eq!(fetched, Fetched::Delivered { bytes: size.bytes().into() });
        assert!(std::fs::read(to).unwrap() == content::wal());
    }
}

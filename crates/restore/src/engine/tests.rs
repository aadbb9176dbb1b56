use super::*;
use crate::testing::{Content, Taker, Tree, id, memory, noise, summary, tree};
use pgproof_base::NoProgress;
use pgproof_repo::BackupSummary;
use pgproof_store::Store as _;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn places(root: &Path) -> Places {
    let tablespace = root.join("ts");
    Places::new(root.join("data"), BTreeMap::from([(16384, tablespace)]))
}

fn make_roots(places: &Places) {
    places.roots().for_each(|root| fs::create_dir_all(root).unwrap());
}

fn place(
    repository: &Repository,
    manifest: &Manifest,
    places: &Places,
    existing: Existing,
) -> Result<Placed> {
    let all = |_: &FileEntry| true;
    let placement = Placement {
        repository,
        manifest,
        places,
        existing,
        owner: None,
        workers: 3,
        admits: &all,
        hollow: &|_| false,
        progress: &NoProgress,
        other_backup: Some(id(9)),
    };
    placement.perform()
}

/// Everything below the roots, as a manifest would name it.
fn found(places: &Places) -> Tree {
    let mut tree = Tree::new();
    gather(places.data(), "", &mut tree);
    for (oid, root) in places.tablespaces() {
        gather(root, &format!("pg_tblspc/{oid}"), &mut tree);
    }
    tree
}

fn gather(directory: &Path, name: &str, tree: &mut Tree) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let file_name = entry.file_name().into_string().unwrap();
        let name = if name.is_empty() { file_name } else { format!("{name}/{file_name}") };
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            tree.insert(name.clone(), Content::Directory);
            gather(&entry.path(), &name, tree);
        } else if kind.is_symlink() {
            let target = fs::read_link(entry.path()).unwrap();
            tree.insert(name, Content::Link(target.to_str().unwrap().to_owned().leak()));
        } else {
            tree.insert(name, Content::File(fs::read(entry.path()).unwrap()));
        }
    }
}

/// Small files that share extents, a file with holes, an odd length, an empty one, a big one, a tablespace and a link.
fn sample() -> Tree {
    let mut holed = noise(1, 9 * 8192);
    holed[2 * 8192..5 * 8192].fill(0);
    let mut tree = tree(&[
        ("PG_VERSION", b"15\n".to_vec()),
        ("base/5/1259", noise(2, 3 * 8192)),
        ("base/5/1260", noise(3, 8192)),
        ("base/5/1261", Vec::new()),
        ("base/5/2600", holed),
        ("base/5/2601", vec![0; 3 * 8192]),
        ("base/5/big", noise(4, 1300 * 8192)),
        ("global/pg_filenode.map", noise(5, 524)),
        ("pg_tblspc/16384/PG_15_202209061/5/16400", noise(6, 2 * 8192)),
        ("pg_xact/0000", noise(7, 8192 + 17)),
    ]);
    tree.insert("conf".to_owned(), Content::Link("/etc/elsewhere"));
    tree
}

#[test]
fn every_file_comes_back_byte_for_byte() {
    let (repository, _) = memory();
    let tree = sample();
    let manifest = Taker::new(&repository).take(&summary(), &tree);
    let scratch = tempfile::tempdir().unwrap();
    let places = places(scratch.path());
    make_roots(&places);
    let placed = place(&repository, &manifest, &places, Existing::None).unwrap();
    assert_eq!(found(&places), tree);
    assert_eq!(placed.files_created, 10);
    assert_eq!((placed.files_changed, placed.files_unchanged), (0, 0));
    // Each extent is read once, but for those that lie on the border of two batches.
    let extents: u32 = manifest.packs().iter().map(|(_, used)| used.info.extents).sum();
    assert!(placed.work.extents_read <= u64::from(extents) + 2, "{placed:?} of {extents}");
}

#[test]
fn holes_take_no_room() {
    use std::os::unix::fs::MetadataExt;
    let (repository, _) = memory();
    let manifest = Taker::new(&repository).take(&summary(), &tree(&[("hole", vec![0; 1 << 20])]));
    let scratch = tempfile::tempdir().unwrap();
    let places = places(scratch.path());
    make_roots(&places);
    place(&repository, &manifest, &places, Existing::None).unwrap();
    let metadata = fs::metadata(places.data().join("hole")).unwrap();
    assert_eq!(metadata.len(), 1 << 20);
    assert_eq!(metadata.blocks(), 0);
}

#[test]
fn a_backup_on_top_of_others_comes_back_whole() {
    let (repository, _) = memory();
    let mut taker = Taker::new(&repository);
    let mut tree = sample();
    taker.take(&summary(), &tree);
    for round in 2..8_u8 {
        let Some(Content::File(big)) = tree.get_mut("base/5/big") else { panic!("it is there") };
        for block in (0..1300).skip(usize::from(round)).step_by(37) {
            big[block * 8192..(block + 1) * 8192]
                .copy_from_slice(&noise(u64::from(round) * 10_000 + block as u64, 8192));
        }
        let Some(Content::File(small)) = tree.get_mut("base/5/1259") else { panic!("it is there") };
        small[8192..2 * 8192].copy_from_slice(&noise(u64::from(round), 8192));
        let mut summary = summary();
        summary.id = id(round);
        let manifest = taker.take(&summary, &tree);
        let scratch = tempfile::tempdir().unwrap();
        let places = places(scratch.path());
        make_roots(&places);
        place(&repository, &manifest, &places, Existing::None).unwrap();
        assert!(found(&places) == tree, "round {round}");
    }
}

#[test]
fn a_delta_writes_only_the_pages_that_differ() {
    let (repository, _) = memory();
    let tree = sample();
    let manifest = Taker::new(&repository).take(&summary(), &tree);
    let scratch = tempfile::tempdir().unwrap();
    let places = places(scratch.path());
    make_roots(&places);
    place(&repository, &manifest, &places, Existing::None).unwrap();

    let again = place(&repository, &manifest, &places, Existing::Compare).unwrap();
    assert_eq!(again.work.bytes_written, 0);
    assert_eq!(
        again.work.extents_read, 0,
        "what is right is told by its identity, without reading the repository"
    );
    assert_eq!((again.files_created, again.files_changed, again.files_unchanged), (0, 0, 10));

    // One page of the big file, a shorter file, a longer one, a lost one, and something in a hole.
    let data = places.data();
    let patch = |path: &str, at: usize, bytes: &[u8]| {
        let mut content = fs::read(data.join(path)).unwrap();
        content[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(data.join(path), content).unwrap();
    };
    patch("base/5/big", 700 * 8192 + 5, b"damage");
    patch("base/5/2600", 3 * 8192, b"not a hole");
    fs::write(data.join("base/5/1259"), noise(2, 8192)).unwrap();
    fs::write(data.join("base/5/1260"), noise(3, 5 * 8192)).unwrap();
    fs::remove_file(data.join("pg_xact/0000")).unwrap();
    let mended = place(&repository, &manifest, &places, Existing::Compare).unwrap();
    assert_eq!(found(&places), tree);
    assert_eq!((mended.files_created, mended.files_changed, mended.files_unchanged), (1, 4, 5));
    // 1 page of big, 4 pages around the hole's content at most, 2 of 1259, none of 1260, 8209 bytes of 0000.
    assert!(mended.work.bytes_written <= (1 + 4 + 2) * 8192 + 8209, "{mended:?}");
}

#[test]
fn a_delta_onto_an_older_state_compares_pages_of_extents_that_are_only_partly_in_use() {
    let (repository, _) = memory();
    let mut taker = Taker::new(&repository);
    let mut tree = sample();
    let first = taker.take(&summary(), &tree);
    let Some(Content::File(big)) = tree.get_mut("base/5/big") else { panic!("it is there") };
    for block in (0..1300).step_by(100) {
        big[block * 8192..(block + 1) * 8192].copy_from_slice(&noise(block as u64 + 99, 8192));
    }
    let second = taker.take(&BackupSummary { id: id(2), ..summary() }, &tree);
    let scratch = tempfile::tempdir().unwrap();
    let places = places(scratch.path());
    make_roots(&places);
    place(&repository, &first, &places, Existing::None).unwrap();
    let placed = place(&repository, &second, &places, Existing::Compare).unwrap();
    assert_eq!(found(&places), tree);
    assert_eq!(placed.work.bytes_written, 13 * 8192);
}

#[test]
fn a_delta_never_writes_through_links_of_any_kind() {
    let (repository, _) = memory();
    let wanted = tree(&[("one", noise(1, 8192)), ("two", noise(2, 8192))]);
    let manifest = Taker::new(&repository).take(&summary(), &wanted);
    let scratch = tempfile::tempdir().unwrap();
    let places = places(scratch.path());
    make_roots(&places);
    let outside = scratch.path().join("outside");
    fs::write(&outside, b"precious").unwrap();
    fs::hard_link(&outside, places.data().join("one")).unwrap();
    place(&repository, &manifest, &places, Existing::Compare).unwrap();
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
    assert_eq!(found(&places), wanted);

    fs::remove_file(places.data().join("two")).unwrap();
    std::os::unix::fs::symlink(&outside, places.data().join("two")).unwrap();
    let error = place(&repository, &manifest, &places, Existing::Compare).unwrap_err();
    assert!(matches!(error, RestoreError::File { operation: "open", .. }), "{error}");
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
}

#[test]
fn meeting_a_file_in_an_empty_directory_is_an_error() {
    let (repository, _) = memory();
    let manifest = Taker::new(&repository).take(&summary(), &tree(&[("one", noise(1, 8192))]));
    let scratch = tempfile::tempdir().unwrap();
    let places = places(scratch.path());
    make_roots(&places);
    fs::write(places.data().join("one"), b"mine").unwrap();
    let error = place(&repository, &manifest, &places, Existing::None).unwrap_err();
    assert!(matches!(error, RestoreError::File { operation: "create", .. }), "{error}");
    assert_eq!(fs::read(places.data().join("one")).unwrap(), b"mine");
}

#[test]
fn damage_names_the_backup_the_relation_and_the_block() {
    let (repository, store) = memory();
    let manifest = Taker::new(&repository).take(&summary(), &sample());
    let extent = {
        let entry = manifest.file("base/5/big").unwrap().unwrap();
        *entry.map.locate(640).unwrap().extent
    };
    let path = manifest.packs().get(extent.pack).unwrap().path(crate::testing::SYSTEM);
    let mut bytes = store.get(&path).unwrap();
    bytes[extent.offset as usize + 20] ^= 1;
    store.put(&path, &[&bytes], pgproof_store::PutMode::Overwrite).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let places = places(scratch.path());
    make_roots(&places);
    let error = place(&repository, &manifest, &places, Existing::None).unwrap_err();
    let RestoreError::Damage { backup, what, other, .. } = &error else { panic!("{error}") };
    assert_eq!((*backup, *other), (id(1), Some(id(9))));
    assert!(what.contains("base/5/big"), "{what}");
    assert!(error.hint().unwrap().contains(&id(9).to_string()));
}

#[test]
fn tablespaces_that_the_places_do_not_know_are_refused() {
    let (repository, _) = memory();
    let tree = tree(&[("pg_tblspc/99/PG_15_202209061/5/1", noise(1, 8192))]);
    let manifest = Taker::new(&repository).take(&summary(), &tree);
    let scratch = tempfile::tempdir().unwrap();
    let places = places(scratch.path());
    make_roots(&places);
    let error = place(&repository, &manifest, &places, Existing::None).unwrap_err();
    assert!(error.to_string().contains("pg_tblspc/99"), "{error}");
}

#[test]
fn a_full_disk_is_told_from_other_failures() {
    let error = RestoreError::file("write", PathBuf::from("/x"))(std::io::Error::from(
        std::io::ErrorKind::StorageFull,
    ));
    assert!(matches!(error, RestoreError::DiskFull { .. }));
    assert!(error.hint().unwrap().contains("--delta"));
}

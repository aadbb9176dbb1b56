use super::*;
use crate::codec::{Codec, Encoder};
use crate::manifest::PackTable;
use crate::map::{ExtentRef, FileMap, PackIndex};
use crate::seal::{ContentId, Suite};
use crate::testing::{lineage, on};
use pgproof_store::{Directory, Memory, PutMode, Store};
use proptest::prelude::*;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

const SUITES: [Suite; 2] = [Suite::Aes256Gcm, Suite::None];

fn backup() -> BackupId {
    "20261122T203500Z-0a1b2c".parse().unwrap()
}

/// Pages that compress about as well as a table does: repeated rows with a number in each.
pub(crate) fn pages(count: usize, seed: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(count * PAGE_BYTES);
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    while out.len() < count * PAGE_BYTES {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.extend_from_slice(&state.to_le_bytes());
        out.extend_from_slice(b"a row of a table with some filler     ");
    }
    out.truncate(count * PAGE_BYTES);
    out
}

/// Writes a pack of extents, each of one file of its own.
fn write(repository: &Repository, number: u32, contents: &[Vec<u8>]) -> (PackInfo, Vec<ExtentRef>) {
    let lineage = lineage();
    let mut writer = PackWriter::create(repository, lineage, &backup(), PackNumber(number)).unwrap();
    let mut encoder = Encoder::new(Codec::default()).unwrap();
    let mut extents = Vec::new();
    for (at, content) in contents.iter().enumerate() {
        let blocks = [Range { start: 0, end: (content.len() / PAGE_BYTES) as u32 }];
        let file = format!("base/5/{at}");
        let piece = PackPiece { file: &file, pages: blocks[0].end as u16, blocks: &blocks };
        let identity = repository.identity(content);
        let place = writer.append(&mut encoder, content, identity, &[piece]).unwrap();
        extents.push(ExtentRef::whole(PackIndex(number), place));
    }
    (writer.finish().unwrap(), extents)
}

fn open(repository: &Repository, number: u32) -> Result<PackReader> {
    PackReader::open(repository, lineage(), &backup(), PackNumber(number))
}

fn read_all(reader: &PackReader) -> Result<Vec<Result<Vec<u8>, Malformed>>> {
    let mut read = Vec::new();
    reader.read_all(&mut |_, pages| {
        read.push(pages.map(<[u8]>::to_vec));
        ControlFlow::Continue(())
    })?;
    Ok(read)
}

#[test]
fn extents_read_back_by_manifest_and_by_index() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn Store>; 2] =
        [Arc::new(Memory::new()), Arc::new(Directory::create(dir.path()).unwrap())];
    for (store, suite) in stores.into_iter().zip(SUITES) {
        let repository = on(store, suite);
        let contents: Vec<Vec<u8>> = (1..=40).map(|seed| pages(seed as usize % 32 + 1, seed)).collect();
        let (info, extents) = write(&repository, 3, &contents);
        let reader = open(&repository, 3).unwrap();
        assert_eq!(reader.info(), info);
        reader.check_header().unwrap();
        assert_eq!(
            reader.entries().iter().map(|entry| entry.extent(PackIndex(3))).collect::<Vec<_>>(),
            extents
        );
        let read: Vec<_> = read_all(&reader).unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(read, contents);

        let mut extent_reader = ExtentReader::new(&repository, lineage()).unwrap();
        let mut buffer = Vec::new();
        for (extent, content) in extents.iter().zip(&contents).rev() {
            let before = repository.store().counters().gets;
            extent_reader.read(&info, extent, &mut buffer).unwrap();
            assert_eq!(repository.store().counters().gets, before + 1);
            assert_eq!(&buffer, content);
        }
        assert_eq!(PackReader::list(&repository, lineage(), &backup()).unwrap(), [PackNumber(3)]);
    }
}

#[test]
fn neighbours_are_read_in_one_request_and_shared_extents_decoded_for_each_piece() {
    let repository = on(Arc::new(Memory::new()), Suite::Aes256Gcm);
    let contents: Vec<Vec<u8>> = (1..=20).map(|seed| pages(16, seed)).collect();
    let (info, mut extents) = write(&repository, 0, &contents);
    extents.reverse();
    extents.push(extents[4]);
    let mut seen = vec![0; extents.len()];
    let before = repository.store().counters().gets;
    let mut reader = ExtentReader::new(&repository, lineage()).unwrap();
    reader
        .read_many(&info, &extents, &mut |at, pages| {
            assert_eq!(pages, contents[extents[at].frame as usize]);
            seen[at] += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(repository.store().counters().gets, before + 1);
    assert!(seen.iter().all(|&times| times == 1));

    let mut count = 0;
    reader
        .read_many(&info, &extents, &mut |_, _| {
            count += 1;
            if count == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(count, 3);
}

#[test]
fn every_flipped_byte_and_every_truncation_of_a_pack_is_found() {
    for suite in SUITES {
        let repository = on(Arc::new(Memory::new()), suite);
        let contents = [pages(1, 1), pages(2, 2)];
        let (info, _) = write(&repository, 0, &contents);
        let path = info.path(lineage());
        let original = repository.store().get(&path).unwrap();
        let is_sound = |bytes: &[u8]| {
            repository.store().put(&path, &[bytes], PutMode::Overwrite).unwrap();
            let Ok(reader) = open(&repository, 0) else { return false };
            reader.check_header().is_ok()
                && read_all(&reader).is_ok_and(|extents| extents.iter().all(Result::is_ok))
        };
        assert!(is_sound(&original));
        for at in 0..original.len() {
            let mut flipped = original.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(!is_sound(&flipped), "byte {at}");
        }
        for length in 0..original.len() {
            assert!(!is_sound(&original[..length]), "{length} bytes");
        }
        assert!(!is_sound(&[&original[..], &[0]].concat()));
    }
}

#[test]
fn frames_do_not_open_in_each_others_place() {
    for suite in SUITES {
        let repository = on(Arc::new(Memory::new()), suite);
        // Content that does not shrink gives frames of equal length.
        let random = |seed: u8| {
            (0..PAGE_BYTES).map(|at| blake3::hash(&[seed, at as u8, (at >> 8) as u8]).as_bytes()[0]).collect()
        };
        let contents: [Vec<u8>; 2] = [random(1), random(2)];
        let (info, extents) = write(&repository, 0, &contents);
        let (other, _) = write(&repository, 1, &contents);
        assert_eq!(extents[0].stored, extents[1].stored);
        let length = extents[0].stored as usize;
        let path = info.path(lineage());
        let original = repository.store().get(&path).unwrap();
        let foreign = repository.store().get(&other.path(lineage())).unwrap();

        let damaged_with = |bytes: &[u8]| {
            repository.store().put(&path, &[bytes], PutMode::Overwrite).unwrap();
            let mut reader = ExtentReader::new(&repository, lineage()).unwrap();
            let read = extents.iter().map(|extent| reader.read(&info, extent, &mut Vec::new()));
            read.map(|result| result.is_err_and(|error| error.is_damage())).collect::<Vec<_>>()
        };
        assert_eq!(damaged_with(&original), [false, false]);
        let mut swapped = original.clone();
        let (first, second) = swapped[64..64 + 2 * length].split_at_mut(length);
        first.swap_with_slice(second);
        assert_eq!(damaged_with(&swapped), [true, true]);
        let mut mixed = original.clone();
        mixed[64..64 + length].copy_from_slice(&foreign[64..64 + length]);
        assert_eq!(damaged_with(&mixed), [true, false]);
        assert_eq!(damaged_with(&foreign), [true, true]);
        assert!(open(&repository, 0).unwrap_err().is_damage());
    }
}

#[test]
fn a_finished_pack_is_never_replaced() {
    let repository = on(Arc::new(Memory::new()), Suite::None);
    write(&repository, 0, &[pages(1, 1)]);
    let writer = PackWriter::create(&repository, lineage(), &backup(), PackNumber(0)).unwrap();
    assert!(writer.finish().unwrap_err().is_conflict());
    assert!(open(&repository, 1).unwrap_err().is_not_found());
}

#[test]
fn pages_and_pieces_that_do_not_go_together_are_refused() {
    let repository = on(Arc::new(Memory::new()), Suite::None);
    let mut writer = PackWriter::create(&repository, lineage(), &backup(), PackNumber(0)).unwrap();
    let mut encoder = Encoder::new(Codec::None).unwrap();
    let mut append = |content: &[u8], pages: u16, blocks: &[Range<u32>]| {
        let piece = PackPiece { file: "f", pages, blocks };
        writer.append(&mut encoder, content, ContentId([0; 16]), &[piece]).map_err(|error| error.code())
    };
    let refused = Err("repository-refused");
    assert_eq!(append(&[], 0, &[]), refused);
    assert_eq!(append(&[0; 100], 1, &[0..1]), refused);
    assert_eq!(append(&[0; 33 * PAGE_BYTES], 33, &[0..33]), refused);
    assert_eq!(append(&[0; 2 * PAGE_BYTES], 2, &[0..1]), refused);
    assert_eq!(append(&[0; 2 * PAGE_BYTES], 1, &[0..1]), refused);
    assert!(append(&[0; 2 * PAGE_BYTES], 2, &[0..1, 7..8]).is_ok());
}

#[test]
fn identities_of_pieces_come_from_the_index() {
    let repository = on(Arc::new(Memory::new()), Suite::Aes256Gcm);
    let content = pages(6, 1);
    let mut writer = PackWriter::create(&repository, lineage(), &backup(), PackNumber(0)).unwrap();
    let mut encoder = Encoder::new(Codec::Lz4).unwrap();
    let blocks = [vec![4..5, 9..10], vec![Range { start: 0, end: 4 }]];
    let pieces = [
        PackPiece { file: "a", pages: 2, blocks: &blocks[0] },
        PackPiece { file: "b", pages: 4, blocks: &blocks[1] },
    ];
    let identity = repository.identity(&content);
    let place = writer.append(&mut encoder, &content, identity, &pieces).unwrap();
    let mut packs = PackTable::new();
    packs.insert(PackIndex(7), writer.finish().unwrap());

    let extent = |first: u16, pages: u16| ExtentRef {
        piece_first: first,
        piece_pages: pages,
        ..ExtentRef::whole(PackIndex(7), place)
    };
    let placed = [(extent(0, 2), [0..2]), (extent(2, 4), [2..6]), (extent(1, 2), [6..8])];
    let map = FileMap::from_pieces(placed.iter().map(|(extent, blocks)| (*extent, &blocks[..])), 8).unwrap();
    let identities = PieceIdentities::new(&repository, lineage(), 4);
    let found = identities.of(&packs, &map).unwrap();
    let expected = |pages: Range<usize>| {
        Some(repository.identity(&content[pages.start * PAGE_BYTES..pages.end * PAGE_BYTES]))
    };
    assert_eq!(found, [expected(0..2), None, expected(2..6)]);
    let before = repository.store().counters().gets;
    identities.of(&packs, &map).unwrap();
    assert_eq!(repository.store().counters().gets, before);
    let reader = open(&repository, 0).unwrap();
    let entry = &reader.entries()[0];
    assert_eq!(entry.pieces[0].blocks, [4..5, 9..10]);
    assert_eq!(entry.identity, identity);
}

proptest! {
    #[test]
    fn hostile_indexes_are_refused_or_consistent(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        extents in 0..4_u32,
    ) {
        if let Ok(entries) = decode_index(&bytes, extents, 64) {
            prop_assert_eq!(entries.len(), extents as usize);
        }
    }
}

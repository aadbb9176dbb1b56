use super::*;
use crate::wire::Wire;
use proptest::prelude::*;

/// A naive model of a file: what each block is, an extent's page or a hole.
type Model = Vec<Option<(ExtentRef, u16)>>;

fn model_of(map: &FileMap, blocks: u32) -> Model {
    (0..blocks).map(|block| map.locate(block).map(|at| (*at.extent, at.page))).collect()
}

fn overlay_model(model: &Model, pieces: &[(ExtentRef, Vec<Range<u32>>)], blocks: u32) -> Model {
    let mut model = model.clone();
    model.resize(blocks as usize, None);
    for (extent, ranges) in pieces {
        for (page, block) in ranges.iter().cloned().flatten().enumerate() {
            model[block as usize] = Some((*extent, extent.piece_first + page as u16));
        }
    }
    model
}

fn extent(pack: u32, frame: u32, pages: u16, piece: Range<u16>) -> ExtentRef {
    ExtentRef {
        pack: PackIndex(pack),
        frame,
        offset: 64 + u64::from(frame) * 5000,
        stored: 5000,
        pages,
        piece_first: piece.start,
        piece_pages: piece.end - piece.start,
    }
}

/// One backup's change of a file: pages stored anew, by distinct blocks, and the new length.
#[derive(Debug, Clone)]
struct Change {
    pieces: Vec<(ExtentRef, Vec<Range<u32>>)>,
    blocks: u32,
}

fn ranges_of(blocks: &[u32]) -> Vec<Range<u32>> {
    let mut ranges: Vec<Range<u32>> = Vec::new();
    for &block in blocks {
        match ranges.last_mut() {
            Some(last) if last.end == block => last.end += 1,
            _ => ranges.push(block..block + 1),
        }
    }
    ranges
}

fn change(pack: u32) -> impl Strategy<Value = Change> {
    (1..120_u32)
        .prop_flat_map(|blocks| {
            let chosen = prop::collection::btree_set(0..blocks, 0..=blocks as usize);
            (Just(blocks), chosen, 1..=20_usize, 0..3_u16, any::<bool>())
        })
        .prop_map(move |(blocks, chosen, per_extent, lead, shuffled)| {
            let mut chosen: Vec<u32> = chosen.into_iter().collect();
            if shuffled {
                chosen.reverse();
            }
            let pieces = chosen
                .chunks(per_extent)
                .enumerate()
                .map(|(frame, blocks)| {
                    let pages = blocks.len() as u16;
                    (extent(pack, frame as u32, pages + lead, lead..lead + pages), ranges_of(blocks))
                })
                .collect();
            Change { pieces, blocks }
        })
}

fn history() -> impl Strategy<Value = Vec<Change>> {
    (1..6_u32).prop_flat_map(|backups| (0..backups).map(change).collect::<Vec<_>>())
}

fn apply(map: &FileMap, change: &Change) -> FileMap {
    let pieces = change.pieces.iter().map(|(extent, ranges)| (*extent, ranges.as_slice()));
    map.overlay(pieces, change.blocks).unwrap()
}

fn round_trip(map: &FileMap, blocks: u32) -> FileMap {
    let mut bytes = Vec::new();
    MapCoder::default().encode(map, &mut bytes);
    let mut wire = Wire::new(&bytes);
    let read = MapCoder::default().decode(&mut wire, blocks).unwrap();
    wire.finish().unwrap();
    read
}

proptest! {
    #[test]
    fn maps_say_what_a_table_of_all_blocks_says(history in history()) {
        let mut map = FileMap::new();
        let mut model = Model::new();
        for change in &history {
            map = apply(&map, change);
            model = overlay_model(&model, &change.pieces, change.blocks);
            prop_assert_eq!(&model_of(&map, change.blocks + 5)[..change.blocks as usize], &model[..]);
            prop_assert!(map.locate(change.blocks).is_none());
            prop_assert_eq!(map.mapped_pages(), model.iter().flatten().count() as u64);
            prop_assert_eq!(&round_trip(&map, change.blocks), &map);

            let used: std::collections::BTreeSet<_> = model.iter().flatten().map(|(extent, _)| *extent).collect();
            prop_assert_eq!(map.extents(), &used.into_iter().collect::<Vec<_>>()[..]);

            for region in (0..change.blocks).step_by(16) {
                let region = region..(region + 16).min(change.blocks);
                let here = &model[region.start as usize..region.end as usize];
                let distinct: std::collections::BTreeSet<_> = here.iter().flatten().map(|(extent, _)| *extent).collect();
                prop_assert_eq!(map.fragments(region), distinct.len());
            }
        }
    }

    #[test]
    fn inverting_reaches_every_block_once(history in history()) {
        let map = history.iter().fold(FileMap::new(), |map, change| apply(&map, change));
        let blocks = history.last().unwrap().blocks;
        let mut seen: Model = vec![None; blocks as usize];
        for used in map.inverted() {
            for step in 0..used.pages {
                let place = &mut seen[used.block as usize + usize::from(step)];
                prop_assert!(place.is_none());
                *place = Some((map.extents()[used.extent as usize], used.page + step));
            }
        }
        prop_assert_eq!(seen, model_of(&map, blocks));
    }

    #[test]
    fn whole_pieces_are_those_of_which_no_page_was_replaced(history in history()) {
        let map = history.iter().fold(FileMap::new(), |map, change| apply(&map, change));
        let model = model_of(&map, history.last().unwrap().blocks);
        let whole = map.whole_pieces();
        for piece in &whole {
            let extent = map.extents()[piece.extent as usize];
            let pages: Vec<_> = piece.blocks.iter().cloned().flatten().map(|block| model[block as usize]).collect();
            let expected: Vec<_> = (0..extent.piece_pages).map(|page| Some((extent, extent.piece_first + page))).collect();
            prop_assert_eq!(pages, expected);
        }
        let count = map.extents().iter().filter(|extent| {
            let live = model.iter().flatten().filter(|(found, _)| found == *extent).count();
            live == usize::from(extent.piece_pages)
        });
        prop_assert_eq!(whole.len(), count.count());
    }

    #[test]
    fn hostile_maps_are_refused_or_consistent(bytes in prop::collection::vec(any::<u8>(), 0..200), blocks in 0..300_u32) {
        if let Ok(map) = MapCoder::default().decode(&mut Wire::new(&bytes), blocks) {
            prop_assert!(map.mapped_pages() <= blocks.into());
            for block in 0..blocks {
                if let Some(at) = map.locate(block) {
                    prop_assert!(at.page < at.extent.pages);
                }
            }
            map.inverted();
            map.whole_pieces();
        }
    }
}

/// What a fresh backup makes of a file of 1 GiB: extents of 16 pages, one after the other.
fn fresh(extents: u32, stored: impl Fn(u32) -> u32) -> FileMap {
    let mut offset = 64;
    let pieces: Vec<(ExtentRef, Vec<Range<u32>>)> = (0..extents)
        .map(|frame| {
            let place = ExtentPlace { frame, offset, stored: stored(frame), pages: 16 };
            offset += u64::from(place.stored);
            (ExtentRef::whole(PackIndex(0), place), vec![frame * 16..frame * 16 + 16])
        })
        .collect();
    FileMap::from_pieces(pieces.iter().map(|(extent, ranges)| (*extent, ranges.as_slice())), extents * 16)
        .unwrap()
}

#[test]
fn a_fresh_map_takes_three_bytes_an_extent() {
    let map = fresh(8192, |frame| 30_000 + frame % 700);
    let mut bytes = Vec::new();
    MapCoder::default().encode(&map, &mut bytes);
    assert!(bytes.len() <= 3 * 8192 + 32, "{} bytes", bytes.len());
    assert_eq!(round_trip(&map, 8192 * 16), map);
}

#[test]
fn small_files_that_share_an_extent_take_few_bytes() {
    let mut coder = MapCoder::default();
    let mut bytes = Vec::new();
    let mut maps = Vec::new();
    for file in 0..8_u16 {
        let piece = extent(0, 3, 16, 2 * file..2 * file + 2);
        let map = FileMap::from_pieces([(piece, &[0..2][..])], 2).unwrap();
        coder.encode(&map, &mut bytes);
        maps.push(map);
    }
    assert!(bytes.len() <= 8 * 4 + 16, "{} bytes", bytes.len());
    let (mut coder, mut wire) = (MapCoder::default(), Wire::new(&bytes));
    for map in maps {
        assert_eq!(coder.decode(&mut wire, 2).unwrap(), map);
    }
}

#[test]
fn pieces_that_do_not_fit_are_refused() {
    let refuse = |pieces: &[(ExtentRef, Vec<Range<u32>>)], blocks| {
        let pieces = pieces.iter().map(|(extent, ranges)| (*extent, ranges.as_slice()));
        FileMap::from_pieces(pieces, blocks).unwrap_err()
    };
    let one = extent(0, 0, 4, 0..4);
    refuse(&[(one, vec![0..3])], 100);
    refuse(&[(one, vec![0..5])], 100);
    refuse(&[(one, vec![0..4])], 3);
    refuse(&[(one, vec![0..2, 1..3])], 100);
    refuse(&[(one, vec![0..4]), (one, vec![3..7])], 100);
    refuse(&[(extent(0, 0, 4, 2..6), vec![0..4])], 100);
    refuse(&[(extent(0, 0, 40, 0..40), vec![0..40])], 100);
}

#[test]
fn a_file_of_any_length_has_its_blocks() {
    assert_eq!(blocks_of(0), Some(0));
    assert_eq!(blocks_of(1), Some(1));
    assert_eq!(blocks_of(8192), Some(1));
    assert_eq!(blocks_of(8193), Some(2));
    assert_eq!(blocks_of(u64::MAX), None);
}

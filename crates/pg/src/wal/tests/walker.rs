//! Pages and records.

use super::*;
use proptest::prelude::*;

/// Every record's start, as the public reader gives it in pieces of `piece` bytes.
fn read(forge: &Forge, piece: usize) -> (Vec<Lsn>, Lsn, Ending) {
    let mut reader = WalReader::new(forge.size, forge.start, Lsn::MAX);
    let mut found = Vec::new();
    for (_, segment) in forge.segments() {
        for bytes in segment.chunks(piece) {
            reader.push(bytes, &mut |_, record, defect| {
                assert_eq!(defect, None);
                found.push(record.lsn);
            });
        }
    }
    let (end, ending) = reader.finish(&mut |_, record, _| found.push(record.lsn));
    (found, end, ending)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn records_of_any_length_are_found_in_pieces_of_any_length(
        lengths in prop::collection::vec(prop_oneof![1..40_usize, 200..300_usize, 8000..9000_usize, 60_000..70_000_usize], 1..60),
        piece in prop_oneof![1000..20_000_usize, Just(8192), Just(1 << 20)],
    ) {
        let mut forge = Forge::new(MajorVersion::V16);
        for (index, length) in lengths.into_iter().enumerate() {
            forge.record(HEAP, 0, 3 + index as u32, &[main_block(1, index as u32)], &vec![1; length]);
        }
        let (found, end, ending) = read(&forge, piece);
        prop_assert_eq!(found, forge.records.clone());
        prop_assert_eq!(ending, Ending::EndOfData);
        prop_assert_eq!(end, forge.at().aligned());
    }

    #[test]
    fn no_bytes_make_it_panic(noise in prop::collection::vec((0..1_usize << 18, any::<u8>()), 1..20), cut in 0..1_usize << 20) {
        let mut forge = Forge::new(MajorVersion::V15);
        for index in 0..200 {
            forge.record(HEAP, 0, 3, &[main_block(1, index)], &[1; 900]);
        }
        let (name, mut segment) = forge.segments().remove(0);
        for (at, byte) in noise {
            segment[at] ^= byte;
        }
        let summary = summarize(name, &segment[..cut], forge.size);
        prop_assert!(summary.valid_end <= summary.end());
        prop_assert_eq!(SegmentSummary::decode(&summary.encode()), Ok(summary));
    }
}

#[test]
fn a_switch_makes_the_rest_of_the_segment_void() {
    let mut forge = Forge::new(MajorVersion::V17);
    forge.record(HEAP, 0, 3, &[main_block(1, 1)], &[1]);
    forge.switch();
    forge.record(HEAP, 0, 3, &[main_block(1, 2)], &[1]);
    let (found, ..) = read(&forge, 4096);
    assert_eq!(found, forge.records);
    let (name, bytes) = forge.segments().remove(0);
    let summary = summarize(name, &bytes, forge.size);
    assert_eq!((summary.ending, summary.valid_end), (Ending::Switch, summary.end()));
}

#[test]
fn a_record_lost_in_a_crash_never_came_to_be() {
    let mut forge = Forge::new(MajorVersion::V14);
    forge.record(HEAP, 0, 3, &[main_block(1, 1)], &[1]);
    let lost = forge.encode(HEAP, 0, 3, &[main_block(1, 99)], &[1; 20_000]);
    forge.lose_record(&lost);
    forge.record(HEAP, 0, 3, &[main_block(1, 2)], &[1]);
    let (found, ..) = read(&forge, 8192);
    assert_eq!(found, forge.records);
    let (name, bytes) = forge.segments().remove(0);
    let summary = summarize(name, &bytes, forge.size);
    let main = relation(1).fork(Fork::Main);
    assert!(summary.changes.of(&main).names(2) && !summary.changes.of(&main).names(99));
}

#[test]
fn every_kind_of_damage_ends_the_valid_data_with_its_name() {
    let mut forge = Forge::new(MajorVersion::V15);
    let first = forge.record(HEAP, 0, 3, &[main_block(1, 1)], &[1; 100]);
    let second = forge.record(HEAP, 0, 3, &[main_block(1, 2)], &[1; 9000]);
    let offset = |lsn: Lsn| lsn.offset_in_segment(forge.size) as usize;
    let (at, page) = (offset(second), offset(first) / 8192 * 8192 + 8192);
    let (name, good) = forge.segments().remove(0);
    let check = |position: usize, bytes: &[u8], expected: Defect| {
        let mut segment = good.clone();
        segment[position..position + bytes.len()].copy_from_slice(bytes);
        let summary = summarize(name, &segment, forge.size);
        let Ending::Problem(problem) = summary.ending else { panic!("{expected:?}: {:?}", summary.ending) };
        assert_eq!(problem.defect, expected);
        assert_eq!(summary.valid_end, second, "{expected:?}");
        assert_eq!(summary.last_record, Some(first));
    };
    check(at + 50, &[9], Defect::RecordCrc);
    check(at, &5_u32.to_le_bytes(), Defect::RecordLength { found: 5 });
    check(at, &u32::MAX.to_le_bytes(), Defect::RecordLength { found: u32::MAX });
    check(at + 8, &77_u64.to_le_bytes(), Defect::RecordLink { found: Lsn(77) });
    check(at + 17, &[99], Defect::ResourceManager { found: 99 });
    check(page, &[0x06, 0xD1], Defect::PageMagic { found: 0xD106 });
    check(page, &[0x13, 0xD1], Defect::PageVersion { found: 16 });
    check(page + 2, &[0x11], Defect::PageFlags { found: 0x11 });
    check(page + 2, &[0x03], Defect::PageFlags { found: 3 });
    check(page + 2, &[0x00], Defect::NoContinuation);
    check(page + 4, &[2], Defect::PageTimeline { found: 2 });
    check(page + 8, &[0xFF; 8], Defect::PageAddress { found: Lsn(u64::MAX) });
    check(page + 16, &[1], Defect::NoContinuation);
}

#[test]
fn recycled_pages_and_zeros_are_where_the_server_stopped() {
    let mut forge = Forge::new(MajorVersion::V15);
    let first = forge.record(HEAP, 0, 3, &[main_block(1, 1)], &[1; 100]);
    let second = forge.record(HEAP, 0, 3, &[main_block(1, 2)], &[1; 9000]);
    let (name, good) = forge.segments().remove(0);
    let mut recycled = good.clone();
    recycled[8192 + 8..8192 + 16].copy_from_slice(&0x100_u64.to_le_bytes());
    let mut zeroed = good.clone();
    zeroed[8192..].fill(0);
    for bytes in [&recycled[..], &zeroed[..], &good[..8192 + 30], &good[..5000]] {
        let summary = summarize(name, bytes, forge.size);
        assert_eq!((summary.ending, summary.valid_end), (Ending::EndOfData, second));
        assert_eq!(summary.last_record, Some(first));
    }
}

#[test]
fn reading_stops_where_it_is_told() {
    let mut forge = Forge::new(MajorVersion::V18);
    forge.record(HEAP, 0, 3, &[main_block(1, 1)], &[1; 100]);
    let stop = forge.record(HEAP, 0, 3, &[main_block(1, 2)], &[1; 100]);
    let (name, bytes) = forge.segments().remove(0);
    let mut summarizer = Summarizer::until(name, forge.size, stop);
    summarizer.push(&bytes);
    assert!(summarizer.is_done());
    let summary = summarizer.finish();
    assert_eq!((summary.ending, summary.valid_end), (Ending::Stopped, stop));
    assert!(!summary.changes.of(&relation(1).fork(Fork::Main)).names(2));
}

#[test]
fn a_message_of_many_megabytes_is_read_without_being_kept() {
    let mut forge = Forge::new(MajorVersion::V15);
    forge.record(LOGICAL_MESSAGE, 0, 3, &[], &vec![5; 40 << 20]);
    forge.record(HEAP, 0, 3, &[main_block(1, 2)], &[1; 100]);
    let (found, ..) = read(&forge, 1 << 20);
    assert_eq!(found, forge.records);
}

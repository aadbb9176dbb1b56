//! Segments joined end to end.

use super::*;
use crate::Ancestor;
use proptest::prelude::*;

fn main_of(joined: &JoinedChanges, relnumber: u32) -> Vec<u32> {
    match joined.of(&relation(relnumber).fork(Fork::Main)) {
        Change::Blocks { blocks, .. } => blocks.iter().collect(),
        Change::None => Vec::new(),
        Change::Whole => panic!("whole"),
    }
}

/// A record that leaves `left` bytes of itself in the first segment, and one in the second.
fn crossing(left: u32, length: usize) -> Forge {
    let mut forge = Forge::new(MajorVersion::V15);
    forge.record(HEAP, 0, 3, &[main_block(1, 1)], &[1]);
    forge.fill_to(left);
    forge.record(HEAP, 0, 3, &[main_block(1, 2)], &vec![1; length]);
    forge.record(HEAP, 0, 3, &[main_block(1, 3)], &[1]);
    forge
}

#[test]
fn records_that_cross_segments_are_put_together_wherever_the_border_lies() {
    for left in [8, 16, 24, 32, 40, 48, 56, 4096] {
        for length in [60, 10_000, 100_000, 2_500_000] {
            let forge = crossing(left, length);
            let mut archive = Archive::of(&forge);
            let joined = archive.join(&forge, forge.start, forge.at());
            assert_eq!(joined.gaps, [], "{left} of {length}");
            assert_eq!(main_of(&joined, 1), [1, 2, 3], "{left} of {length}");
            assert_eq!(archive.wal_read, 0);
        }
    }
}

#[test]
fn a_damaged_part_of_a_crossing_record_is_noticed_though_it_was_not_kept() {
    let forge = crossing(40, 200_000);
    let (name, mut bytes) = forge.segments().remove(1);
    bytes[150_000] ^= 1;
    let mut archive = Archive::of(&forge);
    archive.summaries.insert(name, summarize(name, &bytes, forge.size));
    let joined = archive.join(&forge, forge.start, forge.at());
    assert_eq!(joined.gaps[0].reason, GapReason::Unreadable(Defect::RecordCrc));
}

#[test]
fn wal_is_read_again_for_a_commit_that_names_more_than_summaries_keep() {
    let mut forge = Forge::new(MajorVersion::V15);
    forge.fill_to(200_000);
    forge.record(1, 0x80, 9, &[], &commit_with_relations(1..100_000));
    forge.record(HEAP, 0, 3, &[main_block(1_000_000, 3)], &[1]);
    let mut archive = Archive::of(&forge);
    let joined = archive.join(&forge, forge.start, forge.at());
    assert_eq!(joined.gaps, []);
    assert!(archive.wal_read > 0);
    assert_eq!(joined.of(&relation(99_999).fork(Fork::Main)), Change::Whole);
    archive.segments.clear();
    let joined = archive.join(&forge, forge.start, forge.at());
    assert_eq!(joined.gaps[0].reason, GapReason::Unreadable(Defect::TooLong));
}

#[test]
fn commits_at_a_border_are_told() {
    let mut forge = Forge::new(MajorVersion::V15);
    forge.fill_to(16);
    let commit = forge.record(1, 0x80, 9, &[], &commit_with_relations(7..8));
    forge.record(HEAP, 0, 3, &[main_block(1, 3)], &[1]);
    let mut archive = Archive::of(&forge);
    let summaries: Vec<_> = archive.summaries.values().cloned().collect();
    let marks = crossing_marks(&summaries[0], &summaries[1]).unwrap();
    assert_eq!(marks.last_commit.map(|end| (end.lsn, end.xid)), Some((commit, 9)));
    let joined = archive.join(&forge, forge.start, forge.at());
    assert_eq!(joined.marks.last_commit, marks.last_commit);
    assert_eq!(crossing_marks(&summaries[1], &summaries[0]), None);
}

#[test]
fn a_record_lost_at_a_border_leaves_no_gap() {
    let mut forge = Forge::new(MajorVersion::V16);
    forge.record(HEAP, 0, 3, &[main_block(1, 1)], &[1]);
    forge.fill_to(48);
    let lost = forge.encode(HEAP, 0, 3, &[main_block(1, 2)], &[1; 500]);
    forge.lose_record(&lost);
    forge.record(HEAP, 0, 3, &[main_block(1, 3)], &[1]);
    let joined = Archive::of(&forge).join(&forge, forge.start, forge.at());
    assert_eq!((joined.gaps.as_slice(), main_of(&joined, 1)), (&[][..], vec![1, 3]));
}

fn three_segments() -> Forge {
    let mut forge = Forge::new(MajorVersion::V15);
    for index in 0..25_000 {
        forge.record(HEAP, 0, 3, &[main_block(1, index)], &[1; 80]);
    }
    assert!(forge.segments().len() >= 3);
    forge
}

#[test]
fn a_missing_segment_is_a_gap_of_its_length_and_no_more() {
    let forge = three_segments();
    let mut archive = Archive::of(&forge);
    let middle = *archive.summaries.keys().nth(1).unwrap();
    let tail = archive.summaries.values().next().unwrap().tail.as_ref().unwrap().start;
    archive.summaries.remove(&middle);
    let joined = archive.join(&forge, forge.start, forge.at());
    let expected = Gap { from: tail, to: middle.end(forge.size), reason: GapReason::Missing };
    assert_eq!(joined.gaps, [expected]);
    assert_eq!(archive.join(&forge, middle.end(forge.size), forge.at()).gaps, []);
    assert_eq!(archive.join(&forge, forge.start, tail).gaps, []);
}

#[test]
fn a_segment_of_another_run_of_the_server_is_a_gap() {
    let forge = three_segments();
    let mut other = forge.clone();
    other.bytes.clear();
    other.records.clear();
    other.last = Lsn(0x20_0030);
    for index in 0..25_000 {
        other.record(HEAP, 0, 4, &[main_block(1, index)], &[2; 88]);
    }
    let mut archive = Archive::of(&forge);
    let (name, bytes) = other.segments().remove(1);
    archive.summaries.insert(name, summarize(name, &bytes, other.size));
    let joined = archive.join(&forge, forge.start, forge.at());
    assert!(!joined.is_complete());
    assert!(joined.gaps.iter().all(|gap| gap.from < name.end(forge.size).plus(200)), "{:?}", joined.gaps);
}

#[test]
fn a_segment_of_another_cluster_is_a_gap() {
    let forge = three_segments();
    let mut archive = Archive::of(&forge);
    let middle = *archive.summaries.keys().nth(1).unwrap();
    archive.summaries.get_mut(&middle).unwrap().system_identifier = Some(crate::SystemIdentifier(1));
    assert_eq!(archive.join(&forge, forge.start, forge.at()).gaps[0].reason, GapReason::Foreign);
}

#[test]
fn the_segment_being_written_is_joined_up_to_the_stop() {
    let forge = three_segments();
    let mut archive = Archive::of(&forge);
    let (name, mut bytes) = forge.segments().pop().unwrap();
    let stop = *forge.records.iter().rev().nth(5).unwrap();
    assert_eq!(stop.segment(forge.size), name.number);
    bytes[stop.offset_in_segment(forge.size) as usize..].fill(0xAB);
    let mut summarizer = Summarizer::until(name, forge.size, stop);
    summarizer.push(&bytes);
    archive.summaries.insert(name, summarizer.finish());
    let joined = archive.join(&forge, forge.start, stop);
    assert_eq!(joined.gaps, []);
    assert_eq!(main_of(&joined, 1).len(), forge.records.len() - 6);
    assert_eq!(archive.join(&forge, forge.start, stop.plus(8)).gaps[0].reason, GapReason::EndsEarly);
}

#[test]
fn a_segment_that_ends_early_is_a_gap_from_there() {
    let forge = three_segments();
    let (name, bytes) = forge.segments().remove(1);
    let cut = summarize(name, &bytes[..500_000], forge.size);
    let mut archive = Archive::of(&forge);
    archive.summaries.insert(name, cut.clone());
    let joined = archive.join(&forge, forge.start, forge.at());
    assert_eq!(joined.gaps, [Gap { from: cut.valid_end, to: cut.end(), reason: GapReason::EndsEarly }]);
}

#[test]
fn wal_of_level_minimal_is_a_gap_until_it_ends() {
    let mut forge = Forge::new(MajorVersion::V15);
    let level = |forge: &mut Forge, level: u32| {
        let main: Vec<u8> = [100, 8, 10, 0, 64, level, 0].into_iter().flat_map(u32::to_le_bytes).collect();
        forge.record(0, 0x60, 0, &[], &main)
    };
    level(&mut forge, 1);
    let minimal = level(&mut forge, 0);
    // The record that ends it crosses a border.
    forge.fill_to(16);
    let replica = level(&mut forge, 1);
    let after = forge.record(HEAP, 0, 3, &[main_block(1, 3)], &[1]);
    let mut archive = Archive::of(&forge);
    let joined = archive.join(&forge, forge.start, forge.at());
    assert_eq!(joined.gaps, [Gap { from: minimal, to: replica, reason: GapReason::Minimal }]);
    assert_eq!(archive.join(&forge, after, forge.at()).gaps, []);
}

#[test]
fn unknown_changes_before_the_range_are_none_of_ours() {
    let mut forge = Forge::new(MajorVersion::V15);
    let bad = forge.record(HEAP, 0x01, 3, &[], &[1]);
    let from = forge.record(HEAP, 0, 3, &[main_block(1, 3)], &[1]);
    let mut archive = Archive::of(&forge);
    assert_eq!(archive.join(&forge, from, forge.at()).gaps, []);
    let gaps = archive.join(&forge, bad, forge.at()).gaps;
    assert_eq!(gaps[0].reason, GapReason::Unreadable(Defect::FileChange { manager: HEAP, kind: 0 }));
}

#[test]
fn an_empty_range_needs_nothing() {
    let forge = three_segments();
    let mut archive = Archive::default();
    for lsn in [forge.start, forge.start.plus(40), forge.at()] {
        let joined = archive.join(&forge, lsn, lsn);
        assert!(joined.is_complete() && joined.changes.is_empty());
    }
    // The first position of a segment behind its page header needs nothing of that segment.
    let mut archive = Archive::of(&forge);
    let first = *archive.summaries.keys().next().unwrap();
    archive.summaries.retain(|name, _| *name == first);
    let mut switched = Forge::new(MajorVersion::V15);
    switched.record(HEAP, 0, 3, &[main_block(1, 1)], &[1]);
    switched.switch();
    let next = switched.next_record();
    let mut archive = Archive::of(&switched);
    archive.summaries.retain(|name, _| *name == first);
    assert_eq!(archive.join(&switched, switched.start, next).gaps, []);
}

/// Timeline 2 leaves 1 in the second segment; 1 goes on for itself.
fn promoted() -> (Archive, Forge, Lsn, TimelineHistory) {
    let mut old = Forge::new(MajorVersion::V17);
    while old.at() < SegmentName::new(TimelineId(1), crate::SegmentNumber(4)).start(old.size).plus(1000) {
        old.record(HEAP, 0, 3, &[main_block(1, 1)], &[1; 200]);
    }
    let switch = old.next_record();
    let mut new = old.clone();
    new.timeline = TimelineId(2);
    for block in 0..10_000 {
        old.record(HEAP, 0, 3, &[main_block(2, block)], &[1; 200]);
        new.record(HEAP, 0, 3, &[main_block(3, block)], &[1; 180]);
    }
    let mut archive = Archive::of(&old);
    let mut later = Archive::of(&new);
    // The first segment was never copied to the new timeline.
    later.summaries.pop_first();
    archive.summaries.extend(later.summaries);
    let left = Ancestor { timeline: TimelineId(1), switch, reason: String::new() };
    (archive, new, switch, TimelineHistory::new(TimelineId(2), vec![left]).unwrap())
}

#[test]
fn a_promotion_is_followed_and_what_the_old_timeline_did_after_it_is_not() {
    let (mut archive, forge, switch, history) = promoted();
    let joined = JoinedChanges::join(&history, forge.size, forge.start, forge.at(), &mut archive);
    assert_eq!(joined.gaps, []);
    assert_eq!(joined.of(&relation(2).fork(Fork::Main)), Change::None);
    assert_eq!(main_of(&joined, 3).len(), 10_000);
    // Without the copy under the new timeline, the old file serves up to the switch only.
    archive.summaries.remove(&SegmentName::new(TimelineId(2), crate::SegmentNumber(4)));
    let joined = JoinedChanges::join(&history, forge.size, forge.start, forge.at(), &mut archive);
    assert_eq!((joined.gaps[0].from, joined.gaps[0].reason), (switch, GapReason::Missing));
    let joined = JoinedChanges::join(&history, forge.size, forge.start, switch, &mut archive);
    assert_eq!(joined.gaps, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn joined_summaries_name_what_one_reader_of_all_names(
        lengths in prop::collection::vec(prop_oneof![20..3000_usize, 50_000..200_000_usize, 900_000..1_300_000_usize], 20..60),
    ) {
        let mut forge = Forge::new(MajorVersion::V18);
        for (index, length) in lengths.iter().enumerate() {
            forge.record(HEAP, 0, 3 + index as u32, &[main_block(index as u32 % 5, index as u32 * 7)], &vec![1; *length]);
        }
        let joined = Archive::of(&forge).join(&forge, forge.start, forge.at());
        prop_assert_eq!(&joined.gaps, &[]);
        let named: usize = (0..5).map(|relnumber| main_of(&joined, relnumber).len()).sum();
        prop_assert_eq!(named, lengths.len());
    }
}

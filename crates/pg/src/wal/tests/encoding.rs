//! The stored form of summaries.

use super::*;
use proptest::prelude::*;
use std::sync::LazyLock;

fn rich() -> SegmentSummary {
    let mut forge = Forge::new(MajorVersion::V15);
    forge.record(1, 0x80, 9, &[], &commit_with_relations(7..9));
    for index in 0..3000_u32 {
        let fork = Fork::from_number((index % 3) as u8).unwrap();
        let block = Block {
            relation: relation(index % 11),
            fork,
            block: index.wrapping_mul(2_654_435_761) >> 8,
            image: false,
        };
        forge.record(HEAP, 0, 3, &[block], &[1; 30]);
    }
    let truncate: Vec<u8> = [9_000_000, 1663, 5, 3, 7].into_iter().flat_map(u32::to_le_bytes).collect();
    forge.record(2, 0x21, 3, &[], &truncate);
    forge.record(HEAP, 0x01, 3, &[], &[1]);
    forge.fill_to(80);
    forge.record(HEAP, 0, 3, &[main_block(1, 2)], &[1; 3000]);
    let (name, bytes) = forge.segments().remove(0);
    summarize(name, &bytes, forge.size)
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = rich().encode();
    for bit in (0..bytes.len() * 8).step_by(5) {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(SegmentSummary::decode(&changed).is_err(), "bit {bit}");
    }
}

#[test]
fn a_newer_format_is_refused_as_such() {
    let mut bytes = rich().encode();
    bytes[4] = 2;
    let error = SegmentSummary::decode_checked(&bytes[..bytes.len() - 4]).unwrap_err();
    assert_eq!(error.to_string(), "WAL summary is malformed: format 2 is newer than this program");
}

#[test]
fn a_few_bytes_cannot_stand_for_billions_of_blocks() {
    let empty = {
        let forge = Forge::new(MajorVersion::V15);
        let name = SegmentName::new(TimelineId(1), forge.start.segment(forge.size));
        summarize(name, &[], forge.size)
    };
    let mut bytes = empty.encode();
    bytes.truncate(bytes.len() - 4);
    // No relations yet: the count is the last byte.
    assert_eq!(bytes.pop(), Some(0));
    // One relation, main fork in blocks, one run of 2^30.
    bytes.extend([1, 0, 1, 1, 1, 2, 1, 1, 0xFE, 0xFF, 0xFF, 0xFF, 0x03]);
    let error = SegmentSummary::decode_checked(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "WAL summary is malformed: it names more blocks than its segment can");
}

#[test]
fn a_busy_segment_has_a_small_summary() {
    let mut forge = Forge::new(MajorVersion::V15);
    for index in 0..9000_u32 {
        forge.record(HEAP, 0, 3, &[main_block(index % 7, index / 7 * 3)], &[1; 30]);
    }
    let (name, bytes) = forge.segments().remove(0);
    let encoded = summarize(name, &bytes, forge.size).encode();
    // A block costs about a byte.
    assert!(encoded.len() < 9000 + 2000, "{}", encoded.len());
}

proptest! {
    #[test]
    fn hostile_bytes_are_refused_or_read_without_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>(),
    ) {
        static RICH: LazyLock<Vec<u8>> = LazyLock::new(|| rich().encode());
        let mut bytes = RICH.clone();
        bytes.truncate(bytes.len() - 4);
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let cut = cut.index(bytes.len());
        // Whatever is accepted is written again in a form that reads the same.
        for bytes in [&bytes[..], &bytes[..cut]] {
            if let Ok(summary) = SegmentSummary::decode_checked(bytes) {
                prop_assert_eq!(SegmentSummary::decode(&summary.encode()), Ok(summary));
            }
        }
    }
}

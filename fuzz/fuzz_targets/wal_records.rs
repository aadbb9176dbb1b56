//! Any bytes as a WAL segment, in pieces: never a panic, and the pieces make no difference.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgproof_pg::{
    SegmentName, SegmentNumber, TimelineId, WalSegmentSize,
    wal::{SegmentHeader, SegmentSummary, Summarizer},
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(size) = WalSegmentSize::new(1 << 20) else { return };
    let number = SegmentHeader::read(bytes).map_or(SegmentNumber(1), |header| header.start.segment(size));
    let name = SegmentName::new(TimelineId(1), number);
    let summary = |piece: usize| {
        let mut summarizer = Summarizer::new(name, size);
        bytes.chunks(piece).for_each(|piece| summarizer.push(piece));
        summarizer.finish()
    };
    let whole = summary(bytes.len().max(1));
    assert_eq!(whole, summary(1 + bytes.first().map_or(0, |byte| usize::from(*byte) * 37)));
    assert_eq!(SegmentSummary::decode(&whole.encode()).as_ref(), Ok(&whole));
});

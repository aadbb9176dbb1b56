//! Any bytes as a stored summary: never a panic or a great allocation, and what is read is written and read again equal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgproof_pg::wal::SegmentSummary;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(summary) = SegmentSummary::decode_checked(bytes) {
        assert_eq!(SegmentSummary::decode(&summary.encode()).as_ref(), Ok(&summary));
    }
});

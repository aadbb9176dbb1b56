//! The index of an archived WAL segment.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgproof_repo::walobject::decode_index;

fuzz_target!(|input: (u32, u64, &[u8])| {
    let (chunks, summary_offset, raw) = input;
    let _ = decode_index(raw, chunks, summary_offset);
});

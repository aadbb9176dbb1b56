//! The index of a manifest: pack table and table of chunks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgproof_repo::manifest::decode_index;

fuzz_target!(|input: (u32, u64, &[u8])| {
    let (chunks, index_offset, raw) = input;
    let _ = decode_index(raw, chunks, index_offset);
});

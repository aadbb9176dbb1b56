//! The index of a pack.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgproof_repo::pack::decode_index;

fuzz_target!(|input: (u32, u64, &[u8])| {
    let (extents, index_offset, raw) = input;
    if let Ok(entries) = decode_index(raw, extents, index_offset) {
        for entry in entries {
            let pages: u16 = entry.pieces.iter().map(|piece| piece.pages).sum();
            assert_eq!(pages, entry.pages);
        }
    }
});

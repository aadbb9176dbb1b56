//! Payloads of every codec.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgproof_repo::Decoder;

fuzz_target!(|data: &[u8]| {
    let mut out = Vec::new();
    let mut decoder = Decoder::new().expect("memory for a context");
    if decoder.decode(data, 1 << 18, &mut out).is_ok() {
        assert!(out.len() <= 1 << 18);
    }
});

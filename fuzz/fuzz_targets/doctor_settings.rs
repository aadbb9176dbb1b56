//! Any text as `postgresql.conf`, and any value as an amount of memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgproof_doctor::observe::settings::{bytes_of, parse};

fuzz_target!(|text: &str| {
    let lines = text.lines().count() + 1;
    for (line, _) in parse(text) {
        assert!(line as usize <= lines);
    }
    let _ = bytes_of(text, 8192);
});

//! Any text as a server's log, in each of its formats and with any prefix: never a panic, and no statement is kept.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgproof_doctor::observe::log::{Format, read};

fuzz_target!(|input: (&str, &str)| {
    let (text, prefix) = input;
    for format in [Format::Stderr, Format::Csv, Format::Json] {
        for entry in read(text, format, prefix) {
            assert!(entry.offset <= text.len() as u64);
        }
    }
});

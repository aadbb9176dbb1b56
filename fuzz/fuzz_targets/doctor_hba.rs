//! Any text as `pg_hba.conf`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgproof_doctor::observe::hba::fields;

fuzz_target!(|text: &str| {
    let lines = text.lines().count() + 1;
    for (line, _) in fields(text) {
        assert!(line as usize <= lines);
    }
});

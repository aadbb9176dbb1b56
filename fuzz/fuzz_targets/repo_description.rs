//! The description of a repository, which is read before any key is known.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgproof_repo::description::Description;

fuzz_target!(|data: &[u8]| {
    let _ = Description::decode(data, "repository");
});

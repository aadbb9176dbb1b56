//! A control file, its CRC made to hold: the fields behind it must be judged, not trusted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgproof_pg::control::{ControlFile, impossible};

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    for crc_at in [288, 292] {
        if bytes.len() >= crc_at + 4 {
            let crc = crc32c(&bytes[..crc_at]);
            bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
        }
        if let Ok(control) = ControlFile::parse(&bytes) {
            let disguised = impossible(&bytes).expect("what parses can be disguised");
            let disguised = ControlFile::parse(&disguised).expect("a disguise parses");
            assert!(disguised.is_impossible());
            assert_eq!(disguised.system_identifier, control.system_identifier);
        }
    }
});

/// CRC-32C, bit by bit: short enough not to need a crate.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 })
    })
}

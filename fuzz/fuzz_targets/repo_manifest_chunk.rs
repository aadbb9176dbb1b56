//! File chunks of a manifest: entries, paths and maps.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgproof_repo::manifest::decode_chunk;
use pgproof_repo::pack::PackInfo;
use pgproof_repo::{PackIndex, PackNumber, PackTable, Salt};

fuzz_target!(|data: &[u8]| {
    let backup = "20261122T203500Z-0a1b2c".parse().expect("a backup id");
    let mut packs = PackTable::new();
    for number in 0..3 {
        let (salt, size, extents) = (Salt([0; 16]), 1 << 40, 1 << 20);
        packs.insert(PackIndex(number), PackInfo { backup, number: PackNumber(number), salt, size, extents });
    }
    let Ok(entries) = decode_chunk(data, &packs) else { return };
    for entry in entries {
        assert!(!entry.path.starts_with('/') && !entry.path.split('/').any(|part| part == ".."));
        let pages: u64 = entry.map.inverted().iter().map(|used| u64::from(used.pages)).sum();
        assert_eq!(pages, entry.map.mapped_pages());
        entry.map.whole_pieces();
        for run in entry.map.runs() {
            let found = entry.map.locate(run.block).expect("a run's block is mapped");
            assert!(found.page < found.extent.pages);
        }
    }
});

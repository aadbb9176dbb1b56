//! Checksums of pages that PostgreSQL wrote, and pages that must be refused.

use super::*;

/// Block 0 of `pg_class` of a fresh cluster (15, initdb -k) and block 1 of another relation.
const PAGES: [(u32, &PageBytes); 2] = [
    (0, include_bytes!("../../../../testdata/pg/page/heap-block-0.bin")),
    (1, include_bytes!("../../../../testdata/pg/page/btree-block-1.bin")),
];

#[test]
fn checksums_of_pages_that_postgresql_wrote_hold() {
    for (block, page) in PAGES {
        assert_eq!(verify(page, block), PageVerdict::Good);
        assert_eq!(block_hash(page), block_hash_portable(page));
    }
}

#[test]
fn a_page_in_the_place_of_another_is_noticed() {
    let (block, page) = PAGES[0];
    assert!(matches!(verify(page, block + 1), PageVerdict::Checksum { .. }));
    assert!(matches!(verify(page, block + 131_072), PageVerdict::Checksum { .. }));
}

#[test]
fn every_flipped_bit_of_the_content_is_noticed() {
    let (block, page) = PAGES[0];
    for bit in (0..BLOCK_SIZE * 8).step_by(7) {
        let mut changed = *page;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!verify(&changed, block).is_good(), "bit {bit}");
    }
}

#[test]
fn zero_pages_are_new_and_other_pages_without_upper_are_not() {
    let mut page = [0; BLOCK_SIZE];
    assert_eq!(verify(&page, 7), PageVerdict::New);
    page[BLOCK_SIZE - 1] = 1;
    assert_eq!(verify(&page, 7), PageVerdict::Header);
    assert_eq!(verify_without_checksum(&page), PageVerdict::Header);
}

#[test]
fn impossible_headers_are_refused_without_checksums_too() {
    let (_, page) = PAGES[0];
    assert_eq!(verify_without_checksum(page), PageVerdict::Good);
    let mut changed = *page;
    changed[12..14].copy_from_slice(&9000u16.to_le_bytes());
    assert_eq!(verify_without_checksum(&changed), PageVerdict::Header);
}

#[test]
fn bytes_split_into_whole_pages_only() {
    assert_eq!(pages(&vec![0; 3 * BLOCK_SIZE]).unwrap().len(), 3);
    assert!(pages(&vec![0; BLOCK_SIZE + 1]).is_err());
}

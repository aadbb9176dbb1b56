//! Relation pages: their header and their checksum.
//!
//! Promises that [`checksum`] equals `pg_checksum_page` of PostgreSQL's `src/include/storage/checksum_impl.h` (unchanged 14 to 18)
//! and that [`verify`] judges as `PageIsVerified` in `src/backend/storage/page/bufpage.c` does. What a page holds beyond its
//! header is none of this module's business.

use crate::{
    bytes::{u16_at, u32_at},
    error::PgError,
    lsn::Lsn,
    relfile::BLOCK_SIZE,
};

/// One block of a relation.
pub type PageBytes = [u8; BLOCK_SIZE];

/// Bytes of the page header (`SizeOfPageHeaderData`).
pub const PAGE_HEADER_SIZE: usize = 24;

/// `PD_VALID_FLAG_BITS`: has free lines, full, all visible.
const VALID_FLAGS: u16 = 0x0007;

/// The header of a page (`PageHeaderData`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageHeader {
    /// Position after the last WAL record that changed the page and says so: proves change, never its absence.
    pub lsn: Lsn,
    /// Stored checksum; 0 or left over where checksums are off.
    pub checksum: u16,
    /// `PD_HAS_FREE_LINES` 1, `PD_PAGE_FULL` 2, `PD_ALL_VISIBLE` 4.
    pub flags: u16,
    /// Start of free space.
    pub lower: u16,
    /// End of free space; 0 on a page that was never initialised.
    pub upper: u16,
    /// Start of the access method's own part.
    pub special: u16,
    /// Page size in the upper, layout version in the lower byte.
    pub size_and_version: u16,
    /// Oldest prunable transaction, or 0; a hint.
    pub prune_xid: u32,
}

impl PageHeader {
    /// Reads the header.
    pub fn of(page: &PageBytes) -> Self {
        // Reads inside a whole page cannot fail.
        let short = |at| u16_at(page, at).unwrap_or(0);
        let word = |at| u32_at(page, at).unwrap_or(0);
        Self {
            // An LSN is stored as two words, the upper one first (`PageXLogRecPtr`).
            lsn: Lsn(u64::from(word(0)) << 32 | u64::from(word(4))),
            checksum: short(8),
            flags: short(10),
            lower: short(12),
            upper: short(14),
            special: short(16),
            size_and_version: short(18),
            prune_xid: word(20),
        }
    }

    /// Whether the page was allocated but never initialised (`PageIsNew`).
    pub fn is_new(&self) -> bool {
        self.upper == 0
    }

    /// Whether the fields can be those of an initialised page, as PostgreSQL checks on every read.
    pub fn is_sane(&self) -> bool {
        self.flags & !VALID_FLAGS == 0
            && self.lower <= self.upper
            && self.upper <= self.special
            && usize::from(self.special) <= BLOCK_SIZE
            && self.special.is_multiple_of(8)
    }
}

/// What [`verify`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageVerdict {
    /// Initialised, and the checksum holds.
    Good,
    /// All zeros: allocated, never written.
    New,
    /// The stored checksum differs from the content's: torn by a concurrent write, or damaged.
    Checksum {
        /// In the header.
        stored: u16,
        /// Of the content.
        computed: u16,
    },
    /// The checksum holds but the header cannot be one, or a page that claims to be new holds something.
    Header,
}

impl PageVerdict {
    /// Whether PostgreSQL would accept the page.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Good | Self::New)
    }
}

/// Judges a page of a cluster with checksums. `block` counts from the start of the fork, across its segment files.
pub fn verify(page: &PageBytes, block: u32) -> PageVerdict {
    let header = PageHeader::of(page);
    if header.is_new() {
        return if is_zero(page) { PageVerdict::New } else { PageVerdict::Header };
    }
    let computed = checksum(page, block);
    if computed != header.checksum {
        return PageVerdict::Checksum { stored: header.checksum, computed };
    }
    if header.is_sane() { PageVerdict::Good } else { PageVerdict::Header }
}

/// Judges a page of a cluster without checksums: only the header can tell.
pub fn verify_without_checksum(page: &PageBytes) -> PageVerdict {
    let header = PageHeader::of(page);
    if header.is_new() {
        return if is_zero(page) { PageVerdict::New } else { PageVerdict::Header };
    }
    if header.is_sane() { PageVerdict::Good } else { PageVerdict::Header }
}

/// Whether every byte is zero.
pub fn is_zero(page: &PageBytes) -> bool {
    page.chunks_exact(64).all(|chunk| chunk.iter().fold(0, |acc, byte| acc | byte) == 0)
}

/// Splits bytes read from a relation file into pages.
///
/// # Errors
/// [`PgError::TooShort`] when they are no whole number of pages.
pub fn pages(bytes: &[u8]) -> Result<&[PageBytes], PgError> {
    let (pages, rest) = bytes.as_chunks();
    if rest.is_empty() {
        Ok(pages)
    } else {
        Err(PgError::TooShort { what: "page", needed: BLOCK_SIZE, found: rest.len() })
    }
}

/// Parallel hashes (`N_SUMS`): the state fills the vector registers every machine has.
const SUMS: usize = 32;
const FNV_PRIME: u32 = 16_777_619;
/// `checksumBaseOffsets`.
const OFFSETS: [u32; SUMS] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// The checksum of a page as block `block` of its fork (`pg_checksum_page`). The stored checksum does not take part.
pub fn checksum(page: &PageBytes, block: u32) -> u16 {
    let sum = block_hash(page) ^ block;
    (sum % 65_535 + 1) as u16
}

#[cfg(target_arch = "x86_64")]
#[allow(
    unsafe_code,
    reason = "the only way to use AVX2 where the processor has it; the feature is tested just before"
)]
fn block_hash(page: &PageBytes) -> u32 {
    #[target_feature(enable = "avx2")]
    fn with_avx2(page: &PageBytes) -> u32 {
        block_hash_portable(page)
    }
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, which is all that `with_avx2` demands.
        return unsafe { with_avx2(page) };
    }
    block_hash_portable(page)
}

#[cfg(not(target_arch = "x86_64"))]
fn block_hash(page: &PageBytes) -> u32 {
    block_hash_portable(page)
}

/// `pg_checksum_block`. Shaped so that the compiler keeps the sums in vector registers: baseline x86-64 lacks a 32-bit multiply
/// for vectors, with AVX2 it runs 5 to 6 times faster.
#[inline(always)]
fn block_hash_portable(page: &PageBytes) -> u32 {
    let (rows, _) = page.as_chunks::<{ SUMS * 4 }>();
    let mut sums = OFFSETS;
    let mut first = rows[0];
    // The stored checksum counts as zero.
    first[8..10].fill(0);
    mix(&mut sums, &first);
    for row in &rows[1..] {
        mix(&mut sums, row);
    }
    // Two rounds of zeros, for mixing.
    mix(&mut sums, &[0; SUMS * 4]);
    mix(&mut sums, &[0; SUMS * 4]);
    sums.iter().fold(0, |acc, sum| acc ^ sum)
}

#[inline(always)]
fn mix(sums: &mut [u32; SUMS], row: &[u8; SUMS * 4]) {
    let (words, _) = row.as_chunks::<4>();
    for (sum, word) in sums.iter_mut().zip(words) {
        let mixed = *sum ^ u32::from_le_bytes(*word);
        *sum = mixed.wrapping_mul(FNV_PRIME) ^ (mixed >> 17);
    }
}

#[cfg(test)]
mod tests;

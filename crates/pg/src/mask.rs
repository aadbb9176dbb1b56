//! Two images of a page that differ only in what PostgreSQL changes without WAL are the same page.
//!
//! For whoever compares two copies of a cluster. Promises the masks that `wal_consistency_checking` uses: `bufmask.c` in
//! PostgreSQL's `src/backend/access/common`, and the `*_mask` function of each access method (`heap_mask`, `btree_mask`, ...), which
//! agree in 14 to 18, and beyond them what no record refers to and that check therefore never sees: the cache in SP-GiST's metapage. The visibility map is compared exactly but for LSN and checksum: a wrong bit there is wrong data.

use crate::{
    bytes::{u16_at, u32_at},
    page::{PAGE_HEADER_SIZE, PageBytes, PageHeader},
    relfile::{BLOCK_SIZE, Fork},
};

/// What kind of page it is, which says how to mask it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageKind {
    /// A table, its TOAST table or a materialised view.
    Heap,
    /// A B-tree index.
    Btree,
    /// A hash index.
    Hash,
    /// A GIN index.
    Gin,
    /// A GiST index.
    Gist,
    /// An SP-GiST index.
    Spgist,
    /// A BRIN index.
    Brin,
    /// A sequence.
    Sequence,
    /// An index of an extension that uses generic WAL, such as bloom.
    Generic,
    /// A visibility map.
    VisibilityMap,
}

impl PageKind {
    /// The kind of a fork's pages. `access_method` is `pg_am.amname`, or `sequence` for sequences, which have none of their own.
    /// `None` for free space maps: they are hints throughout.
    pub fn of(access_method: &str, fork: Fork) -> Option<Self> {
        match fork {
            Fork::Fsm => return None,
            Fork::Vm => return Some(Self::VisibilityMap),
            Fork::Main | Fork::Init => {}
        }
        Some(match access_method {
            "heap" => Self::Heap,
            "btree" => Self::Btree,
            "hash" => Self::Hash,
            "gin" => Self::Gin,
            "gist" => Self::Gist,
            "spgist" => Self::Spgist,
            "brin" => Self::Brin,
            "sequence" => Self::Sequence,
            _ => Self::Generic,
        })
    }
}

/// Whether two images of block `block` hold the same once masked.
pub fn same_page(kind: PageKind, block: u32, one: &PageBytes, other: &PageBytes) -> bool {
    one == other || masked(kind, block, one) == masked(kind, block, other)
}

/// The page with everything zeroed that may differ without WAL. A page that was never initialised, or has no sane header, loses only
/// LSN and checksum.
pub fn masked(kind: PageKind, block: u32, page: &PageBytes) -> Box<PageBytes> {
    let mut page = Box::new(*page);
    let header = PageHeader::of(&page);
    // `mask_page_lsn_and_checksum`.
    page[..10].fill(0);
    if header.is_new() || !header.is_sane() || usize::from(header.lower) < PAGE_HEADER_SIZE {
        return page;
    }
    match kind {
        PageKind::VisibilityMap => {}
        PageKind::Heap => mask_heap(&mut page, &header, block),
        PageKind::Btree => mask_btree(&mut page, &header),
        PageKind::Hash => mask_hash(&mut page, &header),
        PageKind::Gin => mask_gin(&mut page, &header),
        PageKind::Gist => mask_gist(&mut page, &header),
        PageKind::Spgist => mask_spgist(&mut page, &header, block),
        PageKind::Brin => mask_brin(&mut page, &header),
        PageKind::Sequence | PageKind::Generic => mask_hole(&mut page, &header),
    }
    page
}

/// `mask_page_hint_bits`: prune xid, and the three flags of the header.
fn mask_hints(page: &mut PageBytes) {
    page[20..24].fill(0);
    page[10] &= !0x07;
}

/// `mask_unused_space`.
fn mask_hole(page: &mut PageBytes, header: &PageHeader) {
    page[usize::from(header.lower)..usize::from(header.upper)].fill(0);
}

/// `mask_page_content`: all but the header, and its bounds too.
fn mask_content(page: &mut PageBytes) {
    page[PAGE_HEADER_SIZE..].fill(0);
    page[12..16].fill(0);
}

/// A line pointer (`ItemIdData`): 15 bits of offset, 2 of flags, 15 of length.
struct Line {
    at: usize,
    offset: usize,
    flags: u32,
    len: usize,
}

const LINE_NORMAL: u32 = 1;

fn lines(page: &PageBytes, header: &PageHeader) -> Vec<Line> {
    let line = |at| {
        let word = u32_at(page, at).unwrap_or(0);
        Line { at, offset: (word & 0x7FFF) as usize, flags: word >> 15 & 3, len: (word >> 17) as usize }
    };
    let lower = usize::from(header.lower);
    (PAGE_HEADER_SIZE..lower).step_by(4).filter(|at| at + 4 <= lower).map(line).collect()
}

/// `mask_lp_flags`: dead marks on index entries are hints.
fn mask_line_flags(page: &mut PageBytes, header: &PageHeader) {
    for line in lines(page, header) {
        let word = u32_at(page, line.at).unwrap_or(0) & !(3 << 15);
        page[line.at..line.at + 4].copy_from_slice(&word.to_le_bytes());
    }
}

const XMIN_FROZEN: u16 = 0x0300;
const XMAX_COMMITTED: u16 = 0x0400;
const XMAX_INVALID: u16 = 0x0800;
const XACT_MASK: u16 = 0xFFF0;
/// `SpecTokenOffsetNumber`: the tuple of an INSERT ON CONFLICT that is not confirmed yet.
const SPECULATIVE: u16 = 0xFFFE;
/// `offsetof(HeapTupleHeaderData, t_bits)`.
const TUPLE_HEADER: usize = 23;

fn mask_heap(page: &mut PageBytes, header: &PageHeader, block: u32) {
    let lines = lines(page, header);
    mask_hints(page);
    mask_hole(page, header);
    for (index, line) in lines.iter().enumerate() {
        let end = line.offset + line.len;
        if line.flags == LINE_NORMAL && line.len >= TUPLE_HEADER && end <= BLOCK_SIZE {
            mask_tuple(&mut page[line.offset..end], block, index as u16 + 1);
        }
        let padded = end.next_multiple_of(8);
        if line.len > 0 && padded <= BLOCK_SIZE {
            page[end..padded].fill(0);
        }
    }
}

fn mask_tuple(tuple: &mut [u8], block: u32, number: u16) {
    let infomask = u16_at(tuple, 20).unwrap_or(0);
    let is_frozen = infomask & XMIN_FROZEN == XMIN_FROZEN;
    let hints = if is_frozen { XMAX_INVALID | XMAX_COMMITTED } else { XACT_MASK };
    tuple[20..22].copy_from_slice(&(infomask & !hints).to_le_bytes());
    // Replay sets the command number to the first.
    tuple[8..12].fill(0);
    if u16_at(tuple, 16) == Some(SPECULATIVE) {
        let (high, low) = ((block >> 16) as u16, block as u16);
        tuple[12..14].copy_from_slice(&high.to_le_bytes());
        tuple[14..16].copy_from_slice(&low.to_le_bytes());
        tuple[16..18].copy_from_slice(&number.to_le_bytes());
    }
}

/// Clears bits of a 16-bit field `at` bytes into the special space; what was there.
fn clear_special(page: &mut PageBytes, header: &PageHeader, at: usize, bits: u16) -> u16 {
    let at = usize::from(header.special) + at;
    let Some(value) = u16_at(page, at) else { return 0 };
    page[at..at + 2].copy_from_slice(&(value & !bits).to_le_bytes());
    value
}

/// `BTPageOpaqueData`: previous, next, level, flags at 12, vacuum cycle at 14.
fn mask_btree(page: &mut PageBytes, header: &PageHeader) {
    const LEAF: u16 = 1;
    const SPLIT_END: u16 = 1 << 5;
    const HAS_GARBAGE: u16 = 1 << 6;
    mask_hints(page);
    mask_hole(page, header);
    let flags = clear_special(page, header, 12, SPLIT_END | HAS_GARBAGE);
    clear_special(page, header, 14, u16::MAX);
    if flags & LEAF != 0 {
        mask_line_flags(page, header);
    }
}

/// `HashPageOpaqueData`: previous, next, bucket, flags at 12.
fn mask_hash(page: &mut PageBytes, header: &PageHeader) {
    const PAGE_TYPE: u16 = 0x0F;
    const HAS_DEAD_TUPLES: u16 = 1 << 7;
    mask_hints(page);
    mask_hole(page, header);
    match clear_special(page, header, 12, HAS_DEAD_TUPLES) & PAGE_TYPE {
        // Unused.
        0 => mask_content(page),
        // Overflow and bucket.
        1 | 2 => mask_line_flags(page, header),
        _ => {}
    }
}

/// `GinPageOpaqueData`: right link, greatest offset, flags at 6.
fn mask_gin(page: &mut PageBytes, header: &PageHeader) {
    const DELETED: u16 = 1 << 2;
    mask_hints(page);
    if clear_special(page, header, 6, 0) & DELETED != 0 {
        mask_content(page);
    } else if usize::from(header.lower) > PAGE_HEADER_SIZE {
        mask_hole(page, header);
    }
}

/// `GISTPageOpaqueData`: NSN (a kind of LSN), right link, flags at 12.
fn mask_gist(page: &mut PageBytes, header: &PageHeader) {
    const LEAF: u16 = 1;
    const FOLLOW_RIGHT: u16 = 1 << 3;
    const HAS_GARBAGE: u16 = 1 << 4;
    mask_hints(page);
    mask_hole(page, header);
    let special = usize::from(header.special);
    if let Some(number) = page.get_mut(special..special + 8) {
        number.fill(0);
    }
    if clear_special(page, header, 12, FOLLOW_RIGHT | HAS_GARBAGE) & LEAF != 0 {
        mask_line_flags(page, header);
    }
}

/// The metapage is a magic number and a cache of pages with room (`SpGistMetaPageData`), which `SpGistUpdateMetaPage` writes without WAL
/// and `SpGistGetBuffer` checks against the pages themselves.
fn mask_spgist(page: &mut PageBytes, header: &PageHeader, block: u32) {
    const MAGIC: u32 = 0xBA0B_ABEE;
    mask_hints(page);
    mask_hole(page, header);
    if block == 0 && u32_at(page, PAGE_HEADER_SIZE) == Some(MAGIC) {
        page[PAGE_HEADER_SIZE + 4..usize::from(header.lower)].fill(0);
    }
}

/// BRIN's special space is four 16-bit fields: flags at 4, page type at 6.
fn mask_brin(page: &mut PageBytes, header: &PageHeader) {
    const META: u16 = 0xF091;
    const REGULAR: u16 = 0xF093;
    const EVACUATE: u16 = 1;
    mask_hints(page);
    let kind = clear_special(page, header, 6, 0);
    if kind == REGULAR || (kind == META && usize::from(header.lower) > PAGE_HEADER_SIZE) {
        mask_hole(page, header);
    }
    clear_special(page, header, 4, EVACUATE);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAP: &PageBytes = include_bytes!("../../../testdata/pg/page/heap-block-0.bin");
    const BTREE: &PageBytes = include_bytes!("../../../testdata/pg/page/btree-block-1.bin");

    /// Of the first line pointer that has a tuple: the page was pruned, and begins with one that redirects.
    fn first_tuple() -> usize {
        let lines = lines(HEAP, &PageHeader::of(HEAP));
        lines.into_iter().find(|line| line.flags == LINE_NORMAL).unwrap().offset
    }

    #[test]
    fn hints_of_a_heap_page_make_no_difference() {
        let mut other = *HEAP;
        other[..10].fill(9);
        other[20..24].fill(7);
        other[10] ^= 4;
        let lower = usize::from(PageHeader::of(HEAP).lower);
        other[lower] = 5;
        let tuple = first_tuple();
        other[tuple + 8] ^= 1;
        other[tuple + 21] ^= 0x0C;
        assert!(same_page(PageKind::Heap, 0, HEAP, &other));
        assert!(!same_page(PageKind::VisibilityMap, 0, HEAP, &other));
    }

    #[test]
    fn data_of_a_heap_page_make_a_difference() {
        let tuple = first_tuple();
        // Transaction, item pointer, attributes, length of the header.
        for at in [tuple, tuple + 4, tuple + 12, tuple + 18, tuple + 22, tuple + 40, 12, 24] {
            let mut other = *HEAP;
            other[at] ^= 1;
            assert!(!same_page(PageKind::Heap, 0, HEAP, &other), "byte {at}");
        }
    }

    #[test]
    fn dead_marks_of_a_leaf_make_no_difference_and_entries_do() {
        let mut other = *BTREE;
        // Flags of the first line pointer: normal becomes dead.
        other[PAGE_HEADER_SIZE + 2] ^= 1;
        let special = usize::from(PageHeader::of(BTREE).special);
        other[special + 12] |= 1 << 6;
        other[special + 14] = 3;
        assert!(same_page(PageKind::Btree, 1, BTREE, &other));
        other[special] ^= 1;
        assert!(!same_page(PageKind::Btree, 1, BTREE, &other));
    }

    #[test]
    fn the_cache_of_an_spgist_metapage_makes_no_difference_and_its_magic_does() {
        let mut page = [0; BLOCK_SIZE];
        page[12..20].copy_from_slice(&[0x80, 0, 0xF8, 0x1F, 0xF8, 0x1F, 4, 0x20]);
        page[24..28].copy_from_slice(&0xBA0B_ABEE_u32.to_le_bytes());
        let mut other = page;
        other[28..40].fill(7);
        assert!(same_page(PageKind::Spgist, 0, &page, &other));
        assert!(!same_page(PageKind::Spgist, 1, &page, &other), "only block 0 is the metapage");
        other[24] ^= 1;
        assert!(!same_page(PageKind::Spgist, 0, &page, &other));
    }

    #[test]
    fn maps_differ_by_any_bit() {
        let mut other = *BTREE;
        other[0] ^= 1;
        assert!(same_page(PageKind::VisibilityMap, 1, BTREE, &other));
        other[5000] ^= 1;
        assert!(!same_page(PageKind::VisibilityMap, 1, BTREE, &other));
        assert_eq!(PageKind::of("heap", Fork::Fsm), None);
    }

    #[test]
    fn any_bytes_can_be_masked() {
        let mut page = [0xFF; BLOCK_SIZE];
        for kind in
            [PageKind::Heap, PageKind::Btree, PageKind::Hash, PageKind::Gin, PageKind::Gist, PageKind::Brin]
        {
            masked(kind, 7, &page);
        }
        page[10..18].copy_from_slice(&[0, 0, 0, 0x10, 0, 0x20, 0, 0x20]);
        for kind in
            [PageKind::Heap, PageKind::Btree, PageKind::Hash, PageKind::Gin, PageKind::Gist, PageKind::Brin]
        {
            masked(kind, 7, &page);
        }
    }
}

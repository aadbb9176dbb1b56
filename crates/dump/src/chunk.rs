//! Cuts a file into chunks at places that its content chooses, so that rows which were inserted, moved or removed change the chunks around
//! them and no others.
//!
//! PostgreSQL writes a changed row to another place of its table, and `COPY` gives rows as they lie. With cuts at fixed offsets one changed row
//! would shift, and so change, all that follows. The rolling hash is that of FastCDC (Xia and others, 2016): a shift and an addition a byte.

use pgproof_repo::{EXTENT_PAGES_MAX, PAGE_BYTES};

/// No chunk but a file's last is shorter: what is filled up to whole pages then stays below a tenth.
pub(crate) const CHUNK_MIN: usize = 64 << 10;

/// No chunk is longer: an extent holds no more.
pub(crate) const CHUNK_MAX: usize = EXTENT_PAGES_MAX as usize * PAGE_BYTES;

/// Behind the shortest length, one place in 65536 is a cut: 128 KiB on average, as extents of backups have. The high bits, because they depend
/// on the last 48 bytes and more, the low ones on less.
const CUT_MASK: u64 = 0xFFFF << 48;

/// Random, but the same for ever: other values would cut unchanged files elsewhere and store them once more.
const GEAR: [u64; 256] = gear();

/// SplitMix64 from a fixed seed.
const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let mut state: u64 = 0x7067_7072_6f6f_6620;
    let mut at = 0;
    while at < 256 {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        table[at] = mixed ^ (mixed >> 31);
        at += 1;
    }
    table
}

/// Length of the first chunk of `content`, which has at least [`CHUNK_MAX`] bytes or is the end of its file.
pub(crate) fn cut(content: &[u8]) -> usize {
    let end = content.len().min(CHUNK_MAX);
    if end <= CHUNK_MIN {
        return end;
    }
    let mut hash: u64 = 0;
    for (at, byte) in content[CHUNK_MIN..end].iter().enumerate() {
        hash = (hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
        if hash & CUT_MASK == 0 {
            return CHUNK_MIN + at + 1;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use std::collections::HashSet;

    fn chunks(mut content: &[u8]) -> Vec<&[u8]> {
        let mut chunks = Vec::new();
        while !content.is_empty() {
            let (chunk, rest) = content.split_at(cut(content));
            chunks.push(chunk);
            content = rest;
        }
        chunks
    }

    #[test]
    fn a_row_that_moves_changes_only_the_chunks_around_it() {
        let mut random = StdRng::seed_from_u64(7);
        let rows: Vec<String> =
            (0..200_000).map(|row| format!("{row}\t{}\n", random.random::<u64>())).collect();
        let before = rows.concat();
        let mut moved = rows.clone();
        let row = moved.remove(1000);
        moved.push(row);
        let after = moved.concat();
        let known: HashSet<&[u8]> = chunks(before.as_bytes()).into_iter().collect();
        let new: usize = chunks(after.as_bytes())
            .iter()
            .filter(|chunk| !known.contains(*chunk))
            .map(|chunk| chunk.len())
            .sum();
        assert!(new < 4 * CHUNK_MAX, "{new} of {} bytes are new", after.len());
    }

    #[test]
    fn chunks_are_of_the_lengths_that_extents_take() {
        let mut random = StdRng::seed_from_u64(8);
        let content: Vec<u8> = (0..8 << 20).map(|_| random.random()).collect();
        let cuts = chunks(&content);
        let (last, others) = cuts.split_last().unwrap();
        assert!(others.iter().all(|chunk| (CHUNK_MIN..=CHUNK_MAX).contains(&chunk.len())));
        assert!(last.len() <= CHUNK_MAX);
        let average = content.len() / cuts.len();
        assert!((100 << 10..160 << 10).contains(&average), "{average}");
        assert_eq!(
            chunks(&vec![0; CHUNK_MAX + 1]).len(),
            2,
            "content without places to cut at is cut all the same"
        );
    }
}

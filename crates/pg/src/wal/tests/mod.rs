//! The reader against forged WAL: what PostgreSQL writes rarely, and what it never writes.

mod encoding;
mod join;
mod real;
mod rules;
mod walker;

use super::{
    forge::{Block, Forge},
    *,
};
use crate::{Fork, Lsn, MajorVersion, Relation, SegmentName, TimelineHistory, TimelineId};
use std::collections::BTreeMap;

const HEAP: u8 = 10;
const LOGICAL_MESSAGE: u8 = 21;

fn relation(relnumber: u32) -> Relation {
    Relation { tablespace: 1663, database: 5, relnumber }
}

fn main_block(relnumber: u32, block: u32) -> Block {
    Block { relation: relation(relnumber), fork: Fork::Main, block, image: false }
}

fn summarize(name: SegmentName, bytes: &[u8], size: crate::WalSegmentSize) -> SegmentSummary {
    let mut summarizer = Summarizer::new(name, size);
    summarizer.push(bytes);
    summarizer.finish()
}

/// Segments and their summaries, in memory.
#[derive(Clone, Default)]
struct Archive {
    segments: BTreeMap<SegmentName, Vec<u8>>,
    summaries: BTreeMap<SegmentName, SegmentSummary>,
    wal_read: usize,
}

impl Archive {
    fn of(forge: &Forge) -> Self {
        let mut archive = Self::default();
        archive.add(forge);
        archive
    }

    fn add(&mut self, forge: &Forge) {
        for (name, bytes) in forge.segments() {
            // Through the stored form, as in life.
            let summary = summarize(name, &bytes, forge.size);
            let decoded = SegmentSummary::decode(&summary.encode()).unwrap();
            assert_eq!(decoded, summary);
            self.summaries.insert(name, decoded);
            self.segments.insert(name, bytes);
        }
    }

    fn join(&mut self, forge: &Forge, from: Lsn, to: Lsn) -> JoinedChanges {
        JoinedChanges::join(&TimelineHistory::root(TimelineId(1)), forge.size, from, to, self)
    }
}

impl SummarySource for Archive {
    fn summary(&mut self, segment: SegmentName) -> Option<SegmentSummary> {
        self.summaries.get(&segment).cloned()
    }

    fn wal(&mut self, segment: SegmentName, take: &mut dyn FnMut(&[u8])) -> bool {
        self.wal_read += 1;
        let Some(bytes) = self.segments.get(&segment) else { return false };
        bytes.chunks(10_000).for_each(take);
        true
    }
}

fn commit_with_relations(relnumbers: impl Iterator<Item = u32>) -> Vec<u8> {
    let mut main = 5_i64.to_le_bytes().to_vec();
    main.extend(4_u32.to_le_bytes());
    let relations: Vec<u8> = relnumbers
        .flat_map(|relnumber| [1663, 5, relnumber].into_iter().flat_map(u32::to_le_bytes))
        .collect();
    main.extend((relations.len() as u32 / 12).to_le_bytes());
    main.extend(relations);
    main
}

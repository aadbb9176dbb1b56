//! Observes what the WAL between two backups changed.
//!
//! Segments that were archived carry a summary in the repository. The newest ones, which the archive may not have yet, are read from
//! `pg_wal`: everything before this backup's start is flushed there, because its checkpoint is. What neither gives is a gap, and a
//! gap makes files be compared by content; it never makes a backup fail.

use crate::archive::NeededWal;
use crate::cluster::Cluster;
use crate::error::BackupError;
use crate::plan::{Touched, blocks_of};
use crate::scan::Entry;
use crate::suspects::Page;
use pgproof_pg::relfile::BLOCKS_PER_SEGMENT;
use pgproof_pg::wal::{Change, JoinedChanges, SegmentSummary, Summarizer, SummarySource, WalReader};
use pgproof_pg::{Lsn, RelPath, SegmentName, SegmentNumber, TimelineHistory, WalSegmentSize};
use pgproof_repo::walobject::{self, SegmentReader};
use pgproof_repo::{Lineage, Repository};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::thread;

/// What WAL says, and where it says nothing.
#[derive(Debug)]
pub(crate) struct Changed {
    joined: JoinedChanges,
    gaps: Vec<String>,
}

/// Reads what changed from `from`, the earlier backup's start, to `to`, this one's.
pub(crate) fn observe(
    repository: &Repository,
    cluster: &Cluster,
    history: &TimelineHistory,
    from: Lsn,
    to: Lsn,
) -> Result<Changed, BackupError> {
    let size = cluster.facts.wal_segment_size;
    let mut source = Source {
        repository,
        lineage: Lineage::new(cluster.facts.system_identifier),
        pg_wal: cluster.pgdata.join("pg_wal"),
        size,
        to,
        fetched: HashMap::new(),
    };
    let joined = JoinedChanges::join(history, size, from, to, &mut source);
    let gaps = joined.gaps.iter().map(ToString::to_string).collect();
    Ok(Changed { joined, gaps })
}

impl Changed {
    /// Where WAL says nothing, in words.
    pub(crate) fn gaps(&self) -> &[String] {
        &self.gaps
    }

    /// Can WAL have changed this page? Where WAL says nothing it can.
    pub(crate) fn names(&self, (fork, block): Page) -> bool {
        !self.gaps.is_empty()
            || self.joined.database_rewritten(fork.tablespace, fork.database)
            || self.joined.of(&fork).names(block)
    }

    /// What happened to one file.
    pub(crate) fn touched(&self, entry: &Entry) -> Touched {
        let Some(relation) = &entry.relation else { return Touched::Unknown };
        if !self.gaps.is_empty() {
            return Touched::Unknown;
        }
        if self.joined.database_rewritten(relation.file.tablespace, relation.file.database) {
            return Touched::Everything;
        }
        in_file(self.joined.of(&relation.file), relation, blocks_of(entry.length))
    }
}

/// The part of a fork's change that lies in one of its files.
fn in_file(change: Change<'_>, relation: &RelPath, blocks_now: u32) -> Touched {
    let first = relation.first_block();
    match change {
        Change::None => Touched::Nothing,
        Change::Whole => Touched::Everything,
        Change::Blocks { blocks, limit } => {
            let end = first.saturating_add(blocks_now.min(BLOCKS_PER_SEGMENT));
            let blocks = blocks
                .ranges_from(first)
                .take_while(|range| range.start < end)
                .flat_map(|range| range.start.max(first)..range.end.min(end))
                .map(|block| block - first)
                .collect();
            Touched::Blocks { blocks, from: limit.map(|limit| limit.saturating_sub(first)) }
        }
    }
}

/// Summaries fetched at once: enough to hide an object store's round trips, few enough to bound memory.
const WINDOW: u64 = 32;
const WINDOW_THREADS: usize = 8;

struct Source<'a> {
    repository: &'a Repository,
    lineage: Lineage,
    pg_wal: PathBuf,
    size: WalSegmentSize,
    to: Lsn,
    fetched: HashMap<SegmentName, Option<SegmentSummary>>,
}

impl SummarySource for Source<'_> {
    fn summary(&mut self, segment: SegmentName) -> Option<SegmentSummary> {
        if !self.fetched.contains_key(&segment) {
            self.fetch_window(segment);
        }
        self.fetched.remove(&segment).flatten()
    }

    fn wal(&mut self, segment: SegmentName, take: &mut dyn FnMut(&[u8])) -> bool {
        if let Ok(mut file) = File::open(self.pg_wal.join(segment.file_name(self.size))) {
            return pour(&mut file, take).is_ok();
        }
        segment_file(self.repository, self.lineage, segment, self.size)
            .is_ok_and(|mut file| pour(&mut file, take).is_ok())
    }
}

impl Source<'_> {
    /// Fetches this summary and those after it, with several requests under way.
    fn fetch_window(&mut self, first: SegmentName) {
        let last = self.to.previous_segment(self.size).0;
        let end = (first.number.0 + WINDOW - 1).min(last).max(first.number.0);
        let names: Vec<SegmentName> = (first.number.0..=end)
            .map(|number| SegmentName::new(first.timeline, SegmentNumber(number)))
            .collect();
        let source = &*self;
        let fetched: Vec<(SegmentName, Option<SegmentSummary>)> = thread::scope(|scope| {
            let share = names.len().div_ceil(WINDOW_THREADS);
            let threads: Vec<_> = names
                .chunks(share)
                .map(|names| {
                    scope
                        .spawn(move || names.iter().map(|&name| (name, source.one(name))).collect::<Vec<_>>())
                })
                .collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
        });
        self.fetched.clear();
        self.fetched.extend(fetched);
    }

    /// From the archive, else from `pg_wal`. Whatever goes wrong is a gap: contents are compared then.
    fn one(&self, name: SegmentName) -> Option<SegmentSummary> {
        let path = self.lineage.segment(name, self.size);
        let archived = SegmentReader::open(self.repository, &path).and_then(|reader| reader.summary());
        archived.ok().flatten().or_else(|| self.local(name))
    }

    fn local(&self, name: SegmentName) -> Option<SegmentSummary> {
        let mut file = File::open(self.pg_wal.join(name.file_name(self.size))).ok()?;
        let mut summarizer = Summarizer::until(name, self.size, self.to);
        let mut buffer = vec![0; 1 << 20];
        while !summarizer.is_done() {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => summarizer.push(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        Some(summarizer.finish())
    }
}

fn pour(file: &mut impl Read, take: &mut dyn FnMut(&[u8])) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => take(&buffer[..read]),
        }
    }
}

/// An archived segment as a temporary file.
fn segment_file(
    repository: &Repository,
    lineage: Lineage,
    name: SegmentName,
    size: WalSegmentSize,
) -> Result<File, BackupError> {
    let failed = |source| BackupError::Repo { operation: "read archived WAL", source };
    let unreadable = |source| BackupError::Unreadable { path: std::env::temp_dir(), source };
    let directory = tempfile::tempdir().map_err(unreadable)?;
    let path = directory.path().join("segment");
    let archive_name = pgproof_pg::ArchiveName::Segment(name.file_name(size));
    walobject::fetch_segment(repository, lineage, &archive_name, size, &path, 1).map_err(failed)?;
    File::open(&path).map_err(unreadable)
}

/// Pages that replay of this WAL writes anew, whatever they held: the first record that names them carries a full image or
/// initialises them.
pub(crate) fn restored_pages(
    repository: &Repository,
    needed: NeededWal,
) -> Result<HashSet<Page>, BackupError> {
    let NeededWal { lineage, size, timeline, start, stop } = needed;
    let mut reader = WalReader::new(size, start, stop);
    let mut first: HashMap<Page, bool> = HashMap::new();
    for number in start.segment(size).0..=stop.previous_segment(size).0 {
        let name = SegmentName::new(timeline, SegmentNumber(number));
        let mut file = segment_file(repository, lineage, name, size)?;
        let read = pour(&mut file, &mut |bytes| {
            reader.push(bytes, &mut |_, record, _| {
                for block in record.blocks {
                    first.entry((block.rel_fork(), block.block)).or_insert(block.replaces_page());
                }
            });
        });
        read.map_err(|source| BackupError::Unreadable { path: name.file_name(size).into(), source })?;
    }
    Ok(first.into_iter().filter_map(|(page, restored)| restored.then_some(page)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgproof_pg::wal::BlockSet;

    #[test]
    fn a_change_is_cut_to_the_gigabyte_that_a_file_holds() {
        let mut blocks = BlockSet::new();
        for block in [5, 131_071, 131_072, 131_080, 262_144] {
            blocks.insert(block);
        }
        let second = RelPath::parse("base/5/16384.1").unwrap();
        let change = Change::Blocks { blocks: &blocks, limit: Some(131_082) };
        assert_eq!(in_file(change, &second, 100), Touched::Blocks { blocks: vec![0, 8], from: Some(10) });
        let first = RelPath::parse("base/5/16384").unwrap();
        let change = Change::Blocks { blocks: &blocks, limit: Some(131_082) };
        assert_eq!(
            in_file(change, &first, 131_072),
            Touched::Blocks { blocks: vec![5, 131_071], from: Some(131_082) }
        );
    }
}

//! The summary of a segment: made while it is stored, read back with one request.

use super::{SegmentReader, object_path};
use crate::Result;
use crate::layout::Lineage;
use crate::repository::Repository;
use crate::walset::SegmentInstants;
use jiff::Timestamp;
use pgproof_pg::wal::{PgTime, SegmentSummary, Summarizer};
use pgproof_pg::{ArchiveName, SegmentName, WalSegmentSize};

/// Summarises a segment while it is read. What cannot be summarised gets an empty summary: a gap never fails a push.
pub(super) struct SegmentSummarizer {
    inner: Option<Summarizer>,
}

impl SegmentSummarizer {
    pub(super) fn new(name: &ArchiveName, size: WalSegmentSize) -> Self {
        let segment = name.segment(size).ok().flatten();
        Self { inner: segment.map(|segment| Summarizer::new(segment, size)) }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if let Some(summarizer) = self.inner.as_mut().filter(|summarizer| !summarizer.is_done()) {
            summarizer.push(bytes);
        }
    }

    /// The stored form; empty where there is none.
    pub(super) fn finish(self) -> Vec<u8> {
        self.inner.map(|summarizer| summarizer.finish().encode()).unwrap_or_default()
    }
}

/// What a summary tells of instants.
pub fn instants_of(summary: &SegmentSummary) -> SegmentInstants {
    let marks = &summary.marks;
    SegmentInstants {
        first_commit: marks.first_commit.and_then(|commit| timestamp(commit.time)),
        last_commit: marks.newest_end.and_then(|end| timestamp(end.time)),
        highest_xid: marks.highest_xid,
        restore_points: marks.restore_points.iter().map(|point| (point.name.clone(), point.end)).collect(),
        records_end: Some(summary.valid_end),
    }
}

/// What an archived segment tells of instants, with one request; `None` when it has no summary that this program can read.
///
/// # Errors
/// [`Missing`](crate::Error::Missing) when the segment is not archived, `Damaged`, `Store`.
pub fn read_instants(
    repository: &Repository,
    lineage: Lineage,
    segment: SegmentName,
    size: WalSegmentSize,
) -> Result<Option<SegmentInstants>> {
    let name = ArchiveName::Segment(segment.file_name(size));
    let reader = SegmentReader::open(repository, &object_path(lineage, &name, size)?)?;
    Ok(reader.summary()?.as_ref().map(instants_of))
}

fn timestamp(time: PgTime) -> Option<Timestamp> {
    Timestamp::from_microsecond(time.unix_micros()).ok()
}

//! The WAL that a recovery will find: what the repository holds, and what waits in the spool of `archive receive`.
//!
//! The spool is judged by the same rules by which `archive get` delivers from it, so that a target counts as reachable exactly if replay will
//! come to it. A beginning of a segment counts as the segment; its summary says where its records end.

use crate::error::{RestoreError, Result};
use pgproof_pg::wal::SegmentSummary;
use pgproof_pg::{ArchiveName, SegmentName, WalSegmentSize};
use pgproof_repo::catalog::LineageCatalog;
use pgproof_repo::received::Received;
use pgproof_repo::walobject::{SegmentReader, instants_of, object_path, read_instants};
use pgproof_repo::walset::{SegmentInstants, WalSet};
use pgproof_repo::{Error, Lineage, Repository};
use std::path::Path;

pub(crate) struct Wal<'a> {
    repository: &'a Repository,
    lineage: Lineage,
    /// What the spool holds, and where that is.
    received: Option<(&'a Path, Received)>,
    /// Segments that the repository holds.
    archived: WalSet,
    /// These and the complete ones of the spool.
    pub(crate) complete: WalSet,
    /// These and the last beginnings of segments in the spool: everything that replay comes to.
    pub(crate) all: WalSet,
}

impl<'a> Wal<'a> {
    /// Looks into the spool, where there is one.
    ///
    /// # Errors
    /// [`RestoreError::File`].
    pub(crate) fn observe(
        repository: &'a Repository,
        catalog: &LineageCatalog,
        spool: Option<&'a Path>,
    ) -> Result<Self> {
        let known = catalog.backups.iter().rev().find_map(|backup| backup.summary.as_ref());
        let known = known.and_then(|summary| WalSegmentSize::new(summary.wal_segment_size.into()).ok());
        let no_wal = || WalSet::new(known.unwrap_or(WalSegmentSize::DEFAULT), []);
        let archived = catalog.wal_set().cloned().unwrap_or_else(no_wal);
        let (mut complete, mut all, mut received) = (archived.clone(), archived.clone(), None);
        if let Some(spool) = spool {
            let found = Received::look(spool, catalog.system(), archived.segment_size())
                .map_err(RestoreError::file("read", spool))?;
            let unknown = |history: &pgproof_pg::TimelineHistory| !archived.knows_history(history.timeline());
            let histories: Vec<_> = found.histories().into_iter().filter(unknown).collect();
            complete = complete.with_segments(found.complete()).with_histories(histories);
            all = complete.clone().with_segments(found.last_partials());
            received = Some((spool, found));
        }
        Ok(Self { repository, lineage: catalog.lineage, received, archived, complete, all })
    }

    /// What happened in a segment.
    ///
    /// # Errors
    /// [`RestoreError::Repository`], [`RestoreError::File`].
    pub(crate) fn instants(&self, segment: SegmentName) -> Result<Option<SegmentInstants>> {
        if let Some(summary) = self.of_spool(segment)? {
            return Ok(Some(instants_of(&summary)));
        }
        read_instants(self.repository, self.lineage, segment, self.archived.segment_size())
            .map_err(RestoreError::repository("read the summary of a WAL segment"))
    }

    /// What a segment told. One that cannot be read is as good as one that tells nothing: replay may find it in another repository.
    ///
    /// # Errors
    /// As [`Self::instants`].
    pub(crate) fn summary(&self, segment: SegmentName) -> Result<Option<SegmentSummary>> {
        if let Some(summary) = self.of_spool(segment)? {
            return Ok(Some(summary));
        }
        let size = self.archived.segment_size();
        let name = ArchiveName::Segment(segment.file_name(size));
        let read = object_path(self.lineage, &name, size)
            .and_then(|path| SegmentReader::open(self.repository, &path))
            .and_then(|reader| reader.summary());
        match read {
            Err(error) if error.is_unreadable() || matches!(error, Error::Missing { .. }) => Ok(None),
            read => read.map_err(RestoreError::repository("read the summary of a WAL segment")),
        }
    }

    /// Of a segment that only the spool has.
    fn of_spool(&self, segment: SegmentName) -> Result<Option<SegmentSummary>> {
        match &self.received {
            Some((spool, received)) if !self.archived.contains(segment) => {
                received.summary(segment).map_err(RestoreError::file("read", *spool))
            }
            _ => Ok(None),
        }
    }
}

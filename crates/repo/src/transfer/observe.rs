//! What both repositories hold of one lineage.

use crate::Result;
use crate::catalog::{BackupState, CatalogBackup, LineageCatalog, Scope};
use crate::layout::{BackupId, Lineage, PackNumber};
use crate::lease::LeaseTimes;
use crate::manifest::{Manifest, PackTable};
use crate::pack::PackInfo;
use crate::parallel::try_map;
use crate::repository::Repository;
use crate::walset::{BackupSpan, WalSet};
use pgproof_pg::SegmentName;
use std::collections::BTreeMap;

/// Requests at a time: each waits for a store, not for a core.
const THREADS: usize = 8;

/// A pack's name.
pub(crate) type PackKey = (BackupId, PackNumber);

/// Both sides of a lineage.
#[derive(Debug)]
pub(crate) struct Sides {
    pub(crate) source: LineageCatalog,
    pub(crate) target: LineageCatalog,
    pub(crate) vouched: Vouched,
}

impl Sides {
    pub(crate) fn read(
        source: &Repository,
        target: &Repository,
        lineage: Lineage,
        times: LeaseTimes,
    ) -> Result<Self> {
        let catalog = |repository| LineageCatalog::read(repository, lineage, Scope::BackupsAndWal, times);
        let mut sides =
            Self { source: catalog(source)?, target: catalog(target)?, vouched: Vouched::default() };
        let unmarked = sides.target.published().filter(|backup| backup.marked.is_none());
        let is_same = |here: &&CatalogBackup| {
            let there = sides.source.backup(here.id);
            there.is_some_and(|b| b.state == BackupState::Published && b.summary == here.summary)
        };
        let both: Vec<BackupId> = unmarked.filter(is_same).map(|backup| backup.id).collect();
        let tables = try_map(&both, THREADS, |id| -> Result<_> {
            let table =
                |repository| Manifest::open(repository, lineage, id).map(|manifest| manifest.packs().clone());
            Ok((*id, table(source)?, table(target)?))
        })?;
        for (id, here, there) in tables {
            sides.vouched.add(id, &here, &there);
        }
        Ok(sides)
    }

    /// The WAL of both together.
    pub(crate) fn wal(&self) -> Option<WalSet> {
        let sets = || [&self.source, &self.target].into_iter().filter_map(LineageCatalog::wal_set);
        let size = sets().next()?.segment_size();
        let segments = sets().flat_map(WalSet::runs).flat_map(|run| run.segments());
        let histories = sets().flat_map(|set| {
            let known = set.timelines().into_iter().filter(|&timeline| set.knows_history(timeline));
            known.map(|timeline| set.history(timeline)).collect::<Vec<_>>()
        });
        Some(WalSet::new(size, segments).with_histories(histories))
    }
}

/// The packs of the source that the target holds, by whatever name, and the published backup that keeps each of them there.
///
/// Maps name packs by numbers of the manifest, which a copy keeps: so the two manifests of a backup that both sides hold say which pack
/// is which.
#[derive(Debug, Default)]
pub(crate) struct Vouched {
    packs: BTreeMap<PackKey, (PackInfo, BackupId)>,
}

impl Vouched {
    /// Takes in a backup that both sides hold.
    pub(crate) fn add(&mut self, backup: BackupId, source: &PackTable, target: &PackTable) {
        for (index, used) in source.iter() {
            if let Ok(info) = target.get(index)
                && info.extents == used.info.extents
            {
                self.packs.entry((used.info.backup, used.info.number)).or_insert((*info, backup));
            }
        }
    }

    /// The target's pack for one of the source.
    pub(crate) fn get(&self, pack: PackKey) -> Option<&(PackInfo, BackupId)> {
        self.packs.get(&pack)
    }
}

/// Whether recovery of a backup can come to lead through a segment.
pub(crate) fn follows(wal: &WalSet, span: &BackupSpan, segment: SegmentName) -> bool {
    span.start < segment.end(wal.segment_size())
        && wal.history(segment.timeline).contains(span.timeline, span.start)
}

//! What the repository shows: backups, windows, leases, the age of the archive, and a year of the ledger.

use crate::repository;
use jiff::{SignedDuration, Timestamp};
use pgproof_pg::{Lsn, SegmentName, SystemIdentifier};
use pgproof_repo::catalog::{BackupState, CatalogBackup, LineageCatalog, Scope};
use pgproof_repo::lease::holder_is_dead;
use pgproof_repo::ledger::{self, Flaw, Record};
use pgproof_repo::walobject::read_instants;
use pgproof_repo::walset::{RecoveryWindow, reachable_times};
use pgproof_repo::{BackupId, Repository};

/// How far back the ledger is read.
const LEDGER_WITHIN: SignedDuration = SignedDuration::from_hours(24 * 400);

/// Segments whose summaries are asked for the last commit of one window, as for `list`.
const LOOKUPS_MAX: usize = 16;

/// A backup that a recovery to the end of the archive would begin from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewestBackup {
    pub(crate) id: BackupId,
    pub(crate) stopped: Timestamp,
    pub(crate) logical_bytes: u64,
    /// WAL from where its replay begins to the end of its window.
    pub(crate) wal_bytes: u64,
}

/// A record, and when it was appended by the store's clock.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) at: Timestamp,
    pub(crate) record: Record,
}

/// What is judged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observation {
    /// The store's clock.
    pub(crate) now: Timestamp,
    pub(crate) repository: String,
    /// None while the repository holds nothing.
    pub(crate) system: Option<SystemIdentifier>,
    pub(crate) newest: Option<NewestBackup>,
    /// When the newest segment was stored.
    pub(crate) last_wal: Option<Timestamp>,
    pub(crate) windows: Vec<RecoveryWindow>,
    /// Who is at work, in words.
    pub(crate) running: Vec<String>,
    /// Oldest first.
    pub(crate) told: Vec<Told>,
    pub(crate) flaws: Vec<Flaw>,
}

/// Looks at the lineage with the newest backup.
pub(crate) fn observe(repository: &Repository) -> anyhow::Result<Observation> {
    let catalogs = repository::catalogs(repository, Scope::BackupsAndWal)?;
    let place = repository.store().describe();
    let Some(catalog) = repository::newest(&catalogs).or(catalogs.first()) else {
        return Ok(nothing(repository.store().now()?, place));
    };
    let since = catalog.at.checked_sub(LEDGER_WITHIN).unwrap_or(Timestamp::MIN);
    let ledger = ledger::read(repository, catalog.lineage, Some(since))?;
    let told = ledger.entries().into_iter();
    let told = told.map(|entry| Told { at: entry.at, record: entry.record.clone() }).collect();
    let mut windows = catalog.windows().windows;
    if let Some(set) = catalog.wal_set() {
        let size = set.segment_size();
        let mut lookup = |segment: SegmentName| read_instants(repository, catalog.lineage, segment, size);
        reachable_times(&mut windows, set, LOOKUPS_MAX, &mut lookup)?;
    }
    Ok(Observation {
        now: catalog.at,
        repository: place,
        system: Some(catalog.system()),
        newest: newest(catalog, &windows),
        last_wal: catalog.wal.iter().flat_map(|wal| &wal.objects).map(|object| object.meta.modified).max(),
        running: running(catalog),
        windows,
        told,
        flaws: ledger.flaws,
    })
}

fn nothing(now: Timestamp, repository: String) -> Observation {
    Observation {
        now,
        repository,
        system: None,
        newest: None,
        last_wal: None,
        windows: Vec::new(),
        running: Vec::new(),
        told: Vec::new(),
        flaws: Vec::new(),
    }
}

fn newest(catalog: &LineageCatalog, windows: &[RecoveryWindow]) -> Option<NewestBackup> {
    let backup = catalog.published().rfind(|backup| backup.marked.is_none() && backup.is_good())?;
    let span = backup.span()?;
    let reached: Lsn = windows
        .iter()
        .filter(|window| window.backups.contains(&backup.id))
        .map(|window| window.to)
        .max()
        .unwrap_or(span.stop);
    Some(NewestBackup {
        id: backup.id,
        stopped: span.stopped,
        logical_bytes: backup.sizes.logical,
        wal_bytes: reached.0.saturating_sub(span.start.0),
    })
}

/// Whoever holds a lease, unless this host knows that the process is gone.
fn running(catalog: &LineageCatalog) -> Vec<String> {
    let is_alive = |backup: &&CatalogBackup| {
        !backup.lease.as_ref().is_some_and(|(_, lease)| holder_is_dead(&lease.holder))
    };
    let writers = catalog.backups.iter().filter(|backup| backup.state == BackupState::Running);
    let writers = writers.filter(is_alive);
    let backups = writers.map(|backup| {
        let by = backup.lease.as_ref().map(|(_, lease)| format!(" by {}", lease.holder.host));
        format!("backup {}{}", backup.id, by.unwrap_or_default())
    });
    let readers = catalog.readers.iter().filter(|reader| reader.live).filter_map(|reader| {
        let record = reader.record.as_ref().filter(|record| !holder_is_dead(&record.holder))?;
        Some(format!("{} by {}", record.kind, record.holder.host))
    });
    backups.chain(readers).collect()
}

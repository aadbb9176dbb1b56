//! `pgproof list`: backups in every state, and the instants that can be brought back.

use super::dumps::{self, DumpsReport};
use super::each::{Failure, each};
use crate::args::high::Context;
use crate::exit::Exit;
use crate::printer::{Align, Page, Report, Table, show_time};
use crate::repository;
use jiff::Timestamp;
use pgproof_base::Bytes;
use pgproof_pg::{Lsn, SegmentName, SystemIdentifier, TimelineId};
use pgproof_repo::catalog::{BackupState, CatalogBackup, LineageCatalog, Scope};
use pgproof_repo::manifest::summary::BackupKind;
use pgproof_repo::walobject::read_instants;
use pgproof_repo::walset::{BrokenBackup, RecoveryWindow, reachable_times};
use pgproof_repo::{BackupId, Repository, Suite};
use serde::Serialize;

/// Segments whose summaries are asked for the last commit of one window. Idle segments have none; a day of an idle server with
/// `archive_timeout` is 1440 of them, and a rough end is better than so many requests.
const LOOKUPS_MAX: usize = 16;

/// What a repository holds.
#[derive(Debug, Serialize)]
struct ListReport {
    repository: String,
    encrypted: bool,
    lineages: Vec<LineageReport>,
    /// Dumps, by system.
    dumps: Vec<DumpsReport>,
}

/// What it holds of one system.
#[derive(Debug, Serialize)]
struct LineageReport {
    system_identifier: SystemIdentifier,
    stored_bytes: u64,
    /// Oldest first.
    backups: Vec<BackupLine>,
    windows: Vec<RecoveryWindow>,
    /// Backups that lack WAL to become consistent.
    broken: Vec<BrokenBackup>,
    wal_segments: u64,
    wal_bytes: u64,
    /// Bytes of a segment, which turns positions into file names.
    wal_segment_bytes: Option<u32>,
}

#[derive(Debug, Serialize)]
struct BackupLine {
    id: BackupId,
    #[serde(flatten)]
    state: BackupState,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<SummaryLine>,
    logical_bytes: u64,
    /// Of everything it refers to.
    stored_bytes: u64,
    /// What removing it alone would free.
    unique_bytes: u64,
    pinned: Option<String>,
    /// When it was marked for removal.
    marked: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct SummaryLine {
    kind: BackupKind,
    base: Option<BackupId>,
    server_version: u32,
    timeline: TimelineId,
    start_lsn: Lsn,
    stop_lsn: Lsn,
    started: Timestamp,
    stopped: Timestamp,
    checksums: bool,
    pages_verified: u64,
    bad_pages: u64,
    unnamed_changes: u64,
}

pub(crate) fn list(context: &Context) -> anyhow::Result<Exit> {
    let (_, opened) = repository::open_configured(context)?;
    each(context, "list", opened, Failure::Counts, |_, repository| Ok((report(repository)?, Exit::Done)))
}

fn report(repository: &Repository) -> anyhow::Result<ListReport> {
    let catalogs = repository::catalogs(repository, Scope::BackupsAndWal)?;
    let dumps = repository::dump_catalogs(repository, Scope::Backups)?;
    let lineages = catalogs.iter().map(|catalog| lineage_report(repository, catalog));
    Ok(ListReport {
        repository: repository.store().describe(),
        encrypted: repository.suite() != Suite::None,
        lineages: lineages.collect::<anyhow::Result<_>>()?,
        dumps: dumps.iter().map(dumps::report).collect(),
    })
}

fn lineage_report(repository: &Repository, catalog: &LineageCatalog) -> anyhow::Result<LineageReport> {
    let mut windows = catalog.windows();
    if let Some(wal) = catalog.wal_set() {
        let mut lookup =
            |segment: SegmentName| read_instants(repository, catalog.lineage, segment, wal.segment_size());
        reachable_times(&mut windows.windows, wal, LOOKUPS_MAX, &mut lookup)?;
    }
    Ok(LineageReport {
        system_identifier: catalog.system(),
        stored_bytes: catalog.stored_bytes(),
        backups: catalog
            .backups
            .iter()
            .filter(|b| b.state != BackupState::Remains)
            .map(backup_line)
            .collect(),
        windows: windows.windows,
        broken: windows.broken,
        wal_segments: catalog.wal_set().map_or(0, pgproof_repo::walset::WalSet::count),
        wal_bytes: catalog.wal.as_ref().map_or(0, pgproof_repo::catalog::WalListing::stored_bytes),
        wal_segment_bytes: catalog.wal_set().map(|wal| wal.segment_size().bytes()),
    })
}

fn backup_line(backup: &CatalogBackup) -> BackupLine {
    let summary = backup.summary.as_ref().map(|summary| SummaryLine {
        kind: summary.kind,
        base: summary.base,
        server_version: summary.server_version,
        timeline: summary.timeline,
        start_lsn: summary.start_lsn,
        stop_lsn: summary.stop_lsn,
        started: summary.started,
        stopped: summary.stopped,
        checksums: summary.checksums,
        pages_verified: summary.totals.pages_verified,
        bad_pages: summary.checksum_failures.len() as u64,
        unnamed_changes: summary.unnamed_changes.len() as u64,
    });
    BackupLine {
        id: backup.id,
        state: backup.state.clone(),
        summary,
        logical_bytes: backup.sizes.logical,
        stored_bytes: backup.sizes.stored,
        unique_bytes: backup.sizes.unique,
        pinned: backup.pin.as_ref().map(|pin| pin.why.clone()),
        marked: backup.marked.as_ref().map(|(at, _)| *at),
    }
}

/// `170002` as `17.2`.
pub(crate) fn show_version(version_num: u32) -> String {
    format!("{}.{}", version_num / 10_000, version_num % 10_000)
}

impl Report for ListReport {
    fn render(&self, page: &mut Page) {
        let sealed = if self.encrypted { "encrypted" } else { "not encrypted" };
        page.line(format!("{}, {sealed}", self.repository));
        if self.lineages.is_empty() && self.dumps.is_empty() {
            page.line("it holds nothing yet");
        }
        for lineage in &self.lineages {
            lineage.render(page);
        }
        for dumps in &self.dumps {
            dumps.render(page);
        }
    }
}

impl LineageReport {
    fn render(&self, page: &mut Page) {
        page.heading(format!("system {}, {} stored", self.system_identifier, Bytes(self.stored_bytes)));
        let mut table = Table::new(&[
            ("backup", Align::Left),
            ("kind", Align::Left),
            ("finished", Align::Left),
            ("server", Align::Left),
            ("size", Align::Right),
            ("stored", Align::Right),
            ("unique", Align::Right),
            ("state", Align::Left),
        ]);
        for backup in &self.backups {
            table.row(backup.cells());
        }
        if self.backups.is_empty() {
            page.line("no backup");
        }
        page.table(&table);
        self.render_windows(page);
        page.gap();
        page.line(format!("{} WAL segments, {} stored", self.wal_segments, Bytes(self.wal_bytes)));
    }

    fn render_windows(&self, page: &mut Page) {
        if self.windows.is_empty() && self.broken.is_empty() {
            return;
        }
        page.heading("recovery windows");
        let columns =
            [("timeline", Align::Right), ("from", Align::Left), ("to", Align::Left), ("end", Align::Left)];
        let mut table = Table::new(&columns);
        let instant = |time: Option<Timestamp>, lsn: Lsn| match time {
            Some(time) => format!("{} ({lsn})", show_time(time)),
            None => format!("({lsn})"),
        };
        for window in &self.windows {
            let size =
                self.wal_segment_bytes.and_then(|bytes| pgproof_pg::WalSegmentSize::new(bytes.into()).ok());
            let missing = size.map(|size| window.ended_by.file_name(size)).unwrap_or_default();
            let end = if window.gap {
                format!("gap: {missing} is missing")
            } else {
                "end of the archive".to_owned()
            };
            let from = instant(window.first_time, window.from);
            table.row(vec![window.timeline.to_string(), from, instant(window.last_time, window.to), end]);
        }
        page.table(&table);
        for broken in &self.broken {
            page.line(format!("backup {} cannot be restored: WAL is missing", broken.backup));
        }
    }
}

impl BackupLine {
    fn cells(&self) -> Vec<String> {
        let summary = self.summary.as_ref();
        let kind = summary.map_or("", |summary| match summary.kind {
            BackupKind::Full => "full",
            BackupKind::Incremental => "incremental",
            BackupKind::Dump => "dump",
        });
        vec![
            self.id.to_string(),
            kind.to_owned(),
            summary.map_or_else(String::new, |summary| show_time(summary.stopped)),
            summary.map_or_else(String::new, |summary| show_version(summary.server_version)),
            Bytes(self.logical_bytes).to_string(),
            Bytes(self.stored_bytes).to_string(),
            Bytes(self.unique_bytes).to_string(),
            self.state_text(),
        ]
    }

    fn state_text(&self) -> String {
        let mut parts = match (&self.state, &self.summary) {
            (BackupState::Published, Some(s)) if s.bad_pages > 0 => {
                vec![format!("{} bad pages", s.bad_pages)]
            }
            (BackupState::Published, Some(s)) if s.checksums => vec!["pages verified".to_owned()],
            (BackupState::Published, _) => vec!["no page checksums".to_owned()],
            (state, _) => vec![repository::describe(state)],
        };
        if let Some(found) = self.summary.as_ref().map(|s| s.unnamed_changes).filter(|found| *found > 0) {
            parts.push(format!("found {found} pages changed without WAL"));
        }
        if self.marked.is_some() {
            parts.push("to be removed".to_owned());
        }
        match self.pinned.as_deref() {
            Some("") => parts.push("pinned".to_owned()),
            Some(why) => parts.push(format!("pinned: {why}")),
            None => {}
        }
        parts.join("; ")
    }
}

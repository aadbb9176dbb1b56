//! `pgproof show`: everything that is known about one backup.

use super::dumps;
use super::each::{Failure, each};
use super::list::show_version;
use crate::args::high::Context;
use crate::args::low::ShowArgs;
use crate::exit::Exit;
use crate::printer::{Align, Page, Report, Table, show_time};
use crate::repository;
use pgproof_base::Bytes;
use pgproof_repo::catalog::{BackupSizes, BackupState, CatalogBackup, Scope};
use pgproof_repo::lease::PinRecord;
use pgproof_repo::manifest::summary::BackupKind;
use pgproof_repo::{BackupId, BackupSummary};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct ShowReport {
    id: BackupId,
    #[serde(flatten)]
    state: BackupState,
    sizes: BackupSizes,
    pin: Option<PinRecord>,
    summary: Option<Box<BackupSummary>>,
}

pub(crate) fn show(args: &ShowArgs, context: &Context) -> anyhow::Result<Exit> {
    let (_, opened) = repository::open_configured(context)?;
    each(context, "show", opened, Failure::Counts, |_, repository| {
        let catalogs = repository::catalogs(repository, Scope::Backups)?;
        let catalogs = repository::with_dumps(repository, catalogs, &args.backup)?;
        let (_, backup) = repository::find(&catalogs, &args.backup)?;
        Ok((report(backup), Exit::Done))
    })
}

fn report(backup: &CatalogBackup) -> ShowReport {
    ShowReport {
        id: backup.id,
        state: backup.state.clone(),
        sizes: backup.sizes,
        pin: backup.pin.clone(),
        summary: backup.summary.clone(),
    }
}

impl Report for ShowReport {
    fn render(&self, page: &mut Page) {
        let is_dump = self.summary.as_ref().is_some_and(|summary| summary.dump.is_some());
        page.heading(format!("{} {}", if is_dump { "dump" } else { "backup" }, self.id));
        page.field("state", repository::describe(&self.state));
        if let Some(pin) = &self.pin {
            page.field("pinned", format!("by {}: {}", pin.by.host, pin.why));
        }
        let Some(summary) = &self.summary else { return };
        render_times(page, summary);
        page.field("size", Bytes(self.sizes.logical));
        page.field(
            "stored",
            format!("{} with what it shares, {} alone", Bytes(self.sizes.stored), Bytes(self.sizes.unique)),
        );
        if let Some(dump) = &summary.dump {
            return dumps::render_contents(page, dump);
        }
        render_checks(page, summary);
        render_contents(page, summary);
    }
}

fn render_times(page: &mut Page, summary: &BackupSummary) {
    match (summary.kind, summary.base) {
        (BackupKind::Full, _) => page.field("kind", "full"),
        (BackupKind::Dump, _) => page.field("kind", "dump, by pg_dump; loads alone"),
        (BackupKind::Incremental, Some(base)) => {
            page.field("kind", format!("incremental since {base}; restores alone"))
        }
        (BackupKind::Incremental, None) => page.field("kind", "incremental; restores alone"),
    }
    page.field("system", summary.system);
    page.field("server", format!("PostgreSQL {} on {}", show_version(summary.server_version), summary.host));
    page.field("data directory", &summary.data_directory.path);
    page.field("taken", format!("{} to {}", show_time(summary.started), show_time(summary.stopped)));
    if summary.dump.is_none() {
        page.field("consistent at", format!("{} on timeline {}", summary.stop_lsn, summary.timeline));
        page.field("replay from", summary.start_lsn);
    }
    page.field("taken by", format!("pgproof {}", summary.tool_version));
}

fn render_checks(page: &mut Page, summary: &BackupSummary) {
    let totals = &summary.totals;
    page.field("files", totals.files);
    page.field("read", format!("{}, stored {}", Bytes(totals.bytes_read), Bytes(totals.bytes_stored)));
    let checks = match (summary.checksums, summary.checksum_failures.len()) {
        (false, _) => "the cluster has no page checksums".to_owned(),
        (true, 0) => format!("{} pages verified, all good", totals.pages_verified),
        (true, bad) => format!("{} pages verified, {bad} bad", totals.pages_verified),
    };
    page.field("page checksums", checks);
    for bad in &summary.checksum_failures {
        page.line(format!("    bad page: {bad}"));
    }
    for changed in &summary.unnamed_changes {
        page.line(format!("    changed without WAL: {changed}"));
    }
}

fn render_contents(page: &mut Page, summary: &BackupSummary) {
    if !summary.tablespaces.is_empty() {
        page.heading("tablespaces");
        for tablespace in &summary.tablespaces {
            page.line(format!("  {} ({}) at {}", tablespace.name, tablespace.oid, tablespace.location));
        }
    }
    let rows: Vec<_> = summary
        .databases
        .iter()
        .flat_map(|database| database.tables.iter().map(move |table| (database, table)))
        .collect();
    if !rows.is_empty() {
        page.heading("largest tables");
        let columns = [
            ("database", Align::Left),
            ("table", Align::Left),
            ("rows, about", Align::Right),
            ("size", Align::Right),
        ];
        let mut table = Table::new(&columns);
        // A page full of names helps nobody; --verbose and --json have them all.
        let shown = if page.is_verbose() { rows.len() } else { rows.len().min(10) };
        for (database, estimate) in &rows[..shown] {
            table.row(vec![
                database.name.clone(),
                format!("{}.{}", estimate.schema, estimate.name),
                estimate.rows.map_or_else(|| "?".to_owned(), |rows| rows.to_string()),
                Bytes(estimate.pages * 8192).to_string(),
            ]);
        }
        page.table(&table);
    }
    if !summary.external_files.is_empty() {
        page.heading("configuration from outside the data directory");
        for file in &summary.external_files {
            page.line(format!("  {}", file.path));
        }
    }
}

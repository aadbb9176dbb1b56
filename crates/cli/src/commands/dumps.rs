//! How `list` and `show` tell of dumps.

use super::dump::describe_globals;
use super::list::show_version;
use crate::printer::{Align, Page, Table, show_time};
use crate::repository;
use jiff::Timestamp;
use pgproof_base::Bytes;
use pgproof_pg::SystemIdentifier;
use pgproof_repo::BackupId;
use pgproof_repo::catalog::{BackupState, CatalogBackup, LineageCatalog};
use pgproof_repo::manifest::summary::{DumpSelection, DumpSummary};
use serde::Serialize;

/// The dumps of one system.
#[derive(Debug, Serialize)]
pub(super) struct DumpsReport {
    system_identifier: SystemIdentifier,
    stored_bytes: u64,
    /// Oldest first.
    dumps: Vec<DumpLine>,
}

#[derive(Debug, Serialize)]
struct DumpLine {
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
    base: Option<BackupId>,
    server_version: u32,
    started: Timestamp,
    stopped: Timestamp,
    databases: Vec<String>,
    selection: DumpSelection,
}

/// What a catalog of dumps holds.
pub(super) fn report(catalog: &LineageCatalog) -> DumpsReport {
    let present = catalog.backups.iter().filter(|dump| dump.state != BackupState::Remains);
    DumpsReport {
        system_identifier: catalog.system(),
        stored_bytes: catalog.stored_bytes(),
        dumps: present.map(line).collect(),
    }
}

fn line(dump: &CatalogBackup) -> DumpLine {
    let summary = dump.summary.as_ref().and_then(|summary| {
        let what = summary.dump.as_ref()?;
        Some(SummaryLine {
            base: summary.base,
            server_version: summary.server_version,
            started: summary.started,
            stopped: summary.stopped,
            databases: what.databases.iter().map(|database| database.name.clone()).collect(),
            selection: what.selection.clone(),
        })
    });
    DumpLine {
        id: dump.id,
        state: dump.state.clone(),
        summary,
        logical_bytes: dump.sizes.logical,
        stored_bytes: dump.sizes.stored,
        unique_bytes: dump.sizes.unique,
        pinned: dump.pin.as_ref().map(|pin| pin.why.clone()),
        marked: dump.marked.as_ref().map(|(at, _)| *at),
    }
}

impl DumpsReport {
    pub(super) fn render(&self, page: &mut Page) {
        page.heading(format!(
            "dumps of system {}, {} stored",
            self.system_identifier,
            Bytes(self.stored_bytes)
        ));
        let mut table = Table::new(&[
            ("dump", Align::Left),
            ("finished", Align::Left),
            ("server", Align::Left),
            ("size", Align::Right),
            ("stored", Align::Right),
            ("unique", Align::Right),
            ("holds", Align::Left),
            ("state", Align::Left),
        ]);
        for dump in &self.dumps {
            let summary = dump.summary.as_ref();
            table.row(vec![
                dump.id.to_string(),
                summary.map_or_else(String::new, |summary| show_time(summary.stopped)),
                summary.map_or_else(String::new, |summary| show_version(summary.server_version)),
                Bytes(dump.logical_bytes).to_string(),
                Bytes(dump.stored_bytes).to_string(),
                Bytes(dump.unique_bytes).to_string(),
                summary.map_or_else(String::new, SummaryLine::holds),
                dump.state_text(),
            ]);
        }
        page.table(&table);
    }
}

impl SummaryLine {
    fn holds(&self) -> String {
        match self.selection.is_everything() {
            true => format!("{} databases, roles", self.databases.len()),
            false => show_selection(&self.selection),
        }
    }
}

impl DumpLine {
    fn state_text(&self) -> String {
        let mut parts = vec![repository::describe(&self.state)];
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

/// A selection in a few words.
fn show_selection(selection: &DumpSelection) -> String {
    let kinds =
        [("database", &selection.databases), ("schema", &selection.schemas), ("table", &selection.tables)];
    let named = kinds.into_iter().filter(|(_, names)| !names.is_empty());
    named.map(|(kind, names)| format!("{kind} {}", names.join(", "))).collect::<Vec<_>>().join("; ")
}

/// What `show` says of a dump's content.
pub(super) fn render_contents(page: &mut Page, dump: &DumpSummary) {
    if !dump.selection.is_everything() {
        page.field("only", show_selection(&dump.selection));
    }
    page.field("globals", describe_globals(dump.globals));
    page.field("written by", format!("pg_dump {}", dump.program_version));
    page.heading("databases");
    let columns = [
        ("database", Align::Left),
        ("owner", Align::Left),
        ("encoding", Align::Left),
        ("files", Align::Right),
        ("size", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for database in &dump.databases {
        table.row(vec![
            database.name.clone(),
            database.properties.owner.clone(),
            database.properties.encoding.clone(),
            database.files.to_string(),
            Bytes(database.bytes).to_string(),
        ]);
    }
    page.table(&table);
}

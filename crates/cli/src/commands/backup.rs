//! `pgproof backup`.

use super::each::{Failure, each};
use crate::account;
use crate::args::high::Context;
use crate::args::low::BackupArgs;
use crate::config::{BackupConfig, BackupFrom, Config};
use crate::exit::Exit;
use crate::printer::{Align, Page, Report, Table};
use crate::{evidence, instance, repository};
use pgproof_backup::{BackupOptions, BackupReport, Cluster, Kind, Role};
use pgproof_base::{Bytes, human_duration};
use pgproof_repo::Repository;
use pgproof_repo::ledger::Record;
use pgproof_server::ConnectOptions;
use pgproof_store::Secret;
use std::num::NonZeroU64;
use std::time::Duration;

pub(crate) fn backup(args: &BackupArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    match role(&config.backup) {
        Some(role) => local(&role, args, &config, context),
        None => remote(args, &config, context),
    }
}

/// Of a server whose files lie here.
fn local(role: &Role, args: &BackupArgs, config: &Config, context: &Context) -> anyhow::Result<Exit> {
    let instance = instance::find(&config.instance)?;
    account::become_owner(instance.owner)?;
    let opened = repository::open_each(config)?;
    let options = options(args, &config.backup);
    let connect = instance::connect_options(&config.instance, &instance);
    // One after another: two at a time would read the server twice as fast as one was meant to.
    each(context, "backup", opened, Failure::CountsWhereRequired, |_, repository| {
        let mut cluster = Cluster::open_as(role.clone(), &connect, Some(&instance.data_directory))?;
        let report = pgproof_backup::run(repository, &mut cluster, &options, &context.talk)?;
        let record = evidence::of_backup(&report).with_postgres(evidence::version(cluster.facts.version_num));
        Ok(judged(report, &record, repository, context))
    })
}

/// Of a server that sends its files.
fn remote(args: &BackupArgs, config: &Config, context: &Context) -> anyhow::Result<Exit> {
    // As `archive receive` does: what lies in a directory must be readable by whoever restores from it.
    if let Some(owner) = config.repositories()?.iter().find_map(account::repository_owner) {
        account::become_owner(owner)?;
    }
    let opened = repository::open_each(config)?;
    let instance = &config.instance;
    let socket = instance.socket_directory.as_ref().map(|directory| directory.display().to_string());
    let connect = ConnectOptions {
        host: instance.host.clone().or(socket),
        port: instance.port,
        user: instance.user.clone(),
        ..ConnectOptions::default()
    };
    let options = options(args, &config.backup);
    each(context, "backup", opened, Failure::CountsWhereRequired, |_, repository| {
        let report = pgproof_backup::run_remote(repository, &connect, &options, &context.talk)?;
        let record = evidence::of_backup(&report);
        Ok(judged(report, &record, repository, context))
    })
}

fn judged(
    report: BackupReport,
    record: &Record,
    repository: &Repository,
    context: &Context,
) -> (BackupReport, Exit) {
    evidence::keep(context, repository, report.system_identifier.into(), record);
    let exit = if report.is_reassuring() { Exit::Done } else { Exit::BadAnswer };
    (report, exit)
}

/// None for a server that is reached over the replication protocol only.
fn role(config: &BackupConfig) -> Option<Role> {
    match config.from {
        BackupFrom::Primary => Some(Role::Primary),
        BackupFrom::Standby => Some(Role::Standby { primary: config.primary_conninfo.as_ref().map(primary) }),
        BackupFrom::Remote => None,
    }
}

fn primary(conninfo: &Secret) -> ConnectOptions {
    ConnectOptions { connection_string: Some(conninfo.reveal().to_owned()), ..ConnectOptions::default() }
}

fn options(args: &BackupArgs, config: &BackupConfig) -> BackupOptions {
    let defaults = BackupOptions::default();
    BackupOptions {
        kind: match (args.full, args.read_all) {
            (true, _) => Kind::Full,
            (false, true) => Kind::ReadAll,
            (false, false) => Kind::Auto,
        },
        read_all_after: Some(config.read_all_after).filter(|after| *after > 0),
        fast_checkpoint: config.fast_checkpoint,
        workers: config.processes.unwrap_or(defaults.workers),
        codec: config.compression,
        archive_timeout: config.archive_timeout,
        pack_bytes: config.pack_size.0,
        max_rate: config.max_rate.and_then(|rate| NonZeroU64::new(rate.0)),
        ..defaults
    }
}

impl Report for BackupReport {
    fn render(&self, page: &mut Page) {
        let kind = match &self.base {
            None => "full".to_owned(),
            Some(base) => format!("incremental since {base}"),
        };
        let verdict = if self.is_good() { "complete" } else { "has bad pages, and does not count" };
        page.line(format!("backup {} is {verdict}: {kind}", self.id));
        if self.from_standby {
            page.field("taken from", "a standby");
        }
        page.field("taken in", human_duration(self.elapsed));
        page.field("cluster", format!("{} in {} files", Bytes(self.bytes_logical), self.files));
        page.field("read", rate(self.bytes_read, self.stages.copy_s));
        page.field("stored", stored(self));
        let checks = match self.checksums {
            false => "the cluster has none".to_owned(),
            true => format!("{} pages verified, {} bad", self.pages_verified, self.bad_pages.len()),
        };
        page.field("page checksums", checks);
        page.field("consistent at", format!("{} on timeline {}", self.stop_lsn, self.timeline));
        render_bad_pages(self, page);
        render_check(self, page);
        if self.base.is_some() {
            render_reasons(self, page);
        }
        for gap in &self.gaps {
            page.line(format!("  note: {gap}; contents were compared"));
        }
        for (id, why) in &self.passed_over {
            page.line(format!("  note: backup {id} was not built upon: {why}"));
        }
        for path in &self.skipped {
            page.line(format!("  note: {path} is no file, and was left out"));
        }
    }
}

fn stored(report: &BackupReport) -> String {
    let mut text = Bytes(report.bytes_stored + report.bytes_manifest).to_string();
    if report.bytes_salvaged > 0 {
        text += &format!(", and {} that an interrupted backup had stored", Bytes(report.bytes_salvaged));
    }
    text
}

fn rate(bytes: u64, seconds: f64) -> String {
    if seconds < 0.05 {
        return Bytes(bytes).to_string();
    }
    let copy = human_duration(Duration::from_secs_f64(seconds));
    format!("{} in {copy}, {}/s", Bytes(bytes), Bytes((bytes as f64 / seconds) as u64))
}

fn render_bad_pages(report: &BackupReport, page: &mut Page) {
    for bad in &report.bad_pages {
        page.line(format!("  bad page: {bad}"));
    }
    if !report.bad_pages.is_empty() {
        page.line("  the last good backup stays; see docs/manual/backup.md, \"When pages are bad\"");
    }
}

fn render_check(report: &BackupReport, page: &mut Page) {
    if !report.checked {
        return;
    }
    let found = match report.unnamed_changes.len() {
        0 => "every file was read; WAL had named every change".to_owned(),
        found => format!("every file was read; {found} pages changed that WAL did not name"),
    };
    page.field("check of WAL", found);
    for changed in &report.unnamed_changes {
        page.line(format!("  changed without WAL: {changed}"));
    }
    if !report.unnamed_changes.is_empty() {
        page.line(
            "  critical: earlier backups may hold older images of these pages; see docs/manual/backup.md,",
        );
        page.line("  \"When WAL did not tell\"");
    }
}

fn render_reasons(report: &BackupReport, page: &mut Page) {
    let columns =
        [("why read", Align::Left), ("files", Align::Right), ("size", Align::Right), ("read", Align::Right)];
    let mut table = Table::new(&columns);
    for (reason, total) in &report.reasons {
        let name = serde_json::to_value(reason).ok();
        let name = name.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        table.row(vec![
            name,
            total.files.to_string(),
            Bytes(total.bytes).to_string(),
            Bytes(total.bytes_read).to_string(),
        ]);
    }
    page.gap();
    page.table(&table);
    if page.is_verbose() {
        page.gap();
        for file in &report.files_read {
            let bytes = Bytes(file.bytes);
            page.line(format!("  {} ({bytes}, {:?})", file.path, file.reason));
        }
    }
}

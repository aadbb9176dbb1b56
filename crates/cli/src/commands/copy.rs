//! `pgproof copy`: backups and WAL from one repository into another.

use crate::account;
use crate::args::high::Context;
use crate::args::transfer::CopyArgs;
use crate::exit::Exit;
use crate::fault::Refused;
use crate::init::create_second;
use crate::printer::{Align, Page, Report, Table, show_time};
use crate::second::{Named, choose, heading, open_both};
use crate::{evidence, repository};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgproof_pg::SystemIdentifier;
use pgproof_repo::catalog::Scope;
use pgproof_repo::transfer::{
    self, CopyOptions, CopyPlan, CopyReport, CopyState, Fate, LineageCopy, WalScope, plan_copy,
};
use pgproof_repo::{BackupId, Content, Repository};
use serde::Serialize;
use std::time::Instant;

/// What was copied, or would be.
#[derive(Debug, Serialize)]
struct Copied {
    dry_run: bool,
    from: String,
    to: String,
    lineages: Lineages,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Lineages {
    Planned(Vec<CopyPlan>),
    Done(Vec<LineageCopy>),
}

pub(crate) fn copy(args: &CopyArgs, context: &Context) -> anyhow::Result<Exit> {
    let from = Named { text: &args.from, key_file: args.from_key_file.as_deref() };
    let to = Named { text: &args.to, key_file: args.to_key_file.as_deref() };
    if args.create && !args.dry_run {
        create(args, from, to, context)?;
    }
    let (_, target, source) = open_both(to, from, context)?;
    let options = options(args, &source)?;
    let place = |repository: &Repository| repository.store().describe();
    let (from, to) = (place(&source), place(&target));
    let (lineages, exit) = if args.dry_run {
        let plans = plan_copy(&source, &target, &options)?;
        let exit = if plans.iter().any(CopyPlan::leaves_some) { Exit::BadAnswer } else { Exit::Done };
        (Lineages::Planned(plans), exit)
    } else {
        let began = Instant::now();
        let report = transfer::copy(&source, &target, &options, &context.talk)?;
        for lineage in report.lineages.iter().filter(|lineage| !lineage.backups.is_empty()) {
            let record = evidence::of_copy(lineage, &from, began.elapsed());
            evidence::keep(context, &target, evidence::whose(lineage.system, lineage.content), &record);
        }
        context.talk.clear();
        let exit = if report.is_complete() { Exit::Done } else { Exit::BadAnswer };
        let CopyReport { lineages } = report;
        (Lineages::Done(lineages), exit)
    };
    context.printer.report("copy", &Copied { dry_run: args.dry_run, from, to, lineages })?;
    Ok(exit)
}

/// Makes the target where there is none. It belongs to whom the source belongs to.
fn create(args: &CopyArgs, from: Named<'_>, to: Named<'_>, context: &Context) -> anyhow::Result<()> {
    let config = context.config()?;
    let (source, target) = (choose(from, &config, context)?, choose(to, &config, context)?);
    if target.key_file.is_none() && !args.no_encryption {
        let hint =
            "name the file that holds, or is to hold, its key: --to-key-file FILE; or say --no-encryption";
        return Err(Refused::new("key-file-missing", "a new repository needs a key", hint).into());
    }
    create_second(&target, account::repository_owner(&source))
}

fn options(args: &CopyArgs, source: &Repository) -> anyhow::Result<CopyOptions> {
    let defaults = CopyOptions::default();
    let named = args.system.as_deref();
    let lineage = named.map(|system| repository::lineage(source, Some(system))).transpose()?;
    let (backups, of) = backups(args, source)?;
    Ok(CopyOptions {
        threads: args.processes.map_or(defaults.threads, usize::from).max(1),
        backups,
        since: args.since.as_deref().map(since).transpose()?,
        wal: if args.no_wal { WalScope::Needed } else { WalScope::Windows },
        lineage: lineage.map(|lineage| lineage.system()).or(of),
        ..defaults
    })
}

fn since(text: &str) -> anyhow::Result<Timestamp> {
    Ok(pgproof_restore::parse_time(text, &TimeZone::system())?.at)
}

/// The backups that were named, and their lineage.
fn backups(
    args: &CopyArgs,
    source: &Repository,
) -> anyhow::Result<(Vec<BackupId>, Option<SystemIdentifier>)> {
    if args.backup.is_empty() {
        return Ok((Vec::new(), None));
    }
    let catalogs = repository::catalogs(source, Scope::Backups)?;
    let (mut backups, mut systems) = (Vec::new(), Vec::new());
    for named in &args.backup {
        let (catalog, backup) = repository::find_published(&catalogs, named)?;
        backups.push(backup.id);
        systems.push(catalog.system());
    }
    systems.dedup();
    let [system] = systems.as_slice() else {
        let hint = "copy the backups of each system by themselves";
        return Err(Refused::new("system-ambiguous", "these are backups of several systems", hint).into());
    };
    Ok((backups, Some(*system)))
}

impl Report for Copied {
    fn render(&self, page: &mut Page) {
        let verb = if self.dry_run { "would copy" } else { "copied" };
        page.line(format!("{verb} from {} to {}", self.from, self.to));
        match &self.lineages {
            Lineages::Planned(plans) => plans.iter().for_each(|plan| render_plan(page, plan)),
            Lineages::Done(done) => done.iter().for_each(|lineage| render_done(page, lineage)),
        }
    }
}

fn render_plan(page: &mut Page, plan: &CopyPlan) {
    page.heading(heading(plan.system, plan.content));
    let columns = [
        ("backup", Align::Left),
        ("finished", Align::Left),
        ("packs", Align::Right),
        ("size", Align::Right),
        ("", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for backup in &plan.backups {
        let fate = match &backup.fate {
            Fate::Copy => "copy".to_owned(),
            Fate::Resume => "go on with an interrupted copy".to_owned(),
            Fate::Present => "is there".to_owned(),
            Fate::Left { why } => format!("left: {why}"),
        };
        table.row(vec![
            backup.backup.to_string(),
            backup.stopped.map(show_time).unwrap_or_default(),
            backup.packs.to_string(),
            backup.bytes.to_string(),
            fate,
        ]);
    }
    page.table(&table);
    if plan.content == Content::Dumps {
        return;
    }
    page.line(format!(
        "WAL: {} segments ({}) to copy, {} to compare; {} history files",
        plan.segments, plan.segment_bytes, plan.segments_present, plan.histories
    ));
}

fn render_done(page: &mut Page, lineage: &LineageCopy) {
    page.heading(heading(lineage.system, lineage.content));
    for backup in &lineage.backups {
        let id = backup.backup;
        page.line(match (backup.state, &backup.why) {
            (CopyState::Copied, _) => format!("copied   {id}  {} packs, {}", backup.packs, backup.bytes),
            (CopyState::Present, _) => format!("present  {id}"),
            (CopyState::Left, why) => format!("left     {id}  {}", why.as_deref().unwrap_or_default()),
        });
    }
    if lineage.content == Content::Cluster {
        page.line(format!(
            "WAL: {} segments ({}) copied, {} were there; {} history files copied",
            lineage.segments, lineage.segment_bytes, lineage.segments_present, lineage.histories
        ));
    }
    if let Some(epoch) = lineage.epoch {
        page.line(format!("writer epoch {epoch} taken over: servers with a lower one cannot archive there"));
    }
    for problem in &lineage.problems {
        page.line(format!("not copied: {}", problem.object));
        page.line(format!("  {}", problem.what));
    }
}

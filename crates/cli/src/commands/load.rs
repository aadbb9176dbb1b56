//! `pgproof load`: a dump back into a server.

use super::dump::{jobs, server, temp};
use crate::args::dump::LoadArgs;
use crate::args::high::Context;
use crate::exit::Exit;
use crate::fault::Refused;
use crate::printer::{Page, Report};
use crate::repository;
use pgproof_base::{Progress, human_duration};
use pgproof_dump::load::{LoadOptions, LoadPlan, LoadReport, Loading, Make, Target, run};
use pgproof_dump::selection;
use pgproof_repo::catalog::{CatalogBackup, LineageCatalog, Scope};
use pgproof_repo::{BackupObjects, Repository};
use serde::Serialize;

/// What would be done.
#[derive(Debug, Serialize)]
struct Planned<'a> {
    dry_run: bool,
    plan: &'a LoadPlan,
}

pub(crate) fn load(args: &LoadArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let options = LoadOptions {
        database: args.database.clone(),
        into: args.into.clone(),
        selection: selection(&[], &args.schema, &args.table)?,
        globals: args.globals,
        clean: args.clean,
        jobs: jobs(args.jobs),
        analyze: !args.no_analyze,
        temp: temp(args.temp.as_deref(), context),
    };
    // Checked as a name, though it is none of the selection.
    selection(args.into.as_slice(), &[], &[])?;
    let (connect, programs) = server(&args.server, &config)?;
    let repository = repository::open(&config.one_repository()?)?;
    let dump = find(args, &repository)?;
    let mut target = Target::open(&connect, programs.as_deref())?;
    let loading = Loading::prepare(&repository, dump, &mut target, options)?;
    if args.dry_run {
        context.printer.report("load", &Planned { dry_run: true, plan: &loading.plan })?;
        return Ok(Exit::Done);
    }
    if let Some(database) = loading.plan.database.as_ref().filter(|plan| plan.make == Make::Clean) {
        context.talk.note(&format!("dropping in database {} what the dump holds", database.into));
    }
    let report = run(&loading, &mut target, &context.talk)?;
    context.talk.clear();
    context.printer.report("load", &report)?;
    Ok(Exit::Done)
}

/// The dump that was named; `latest` is the newest that holds the database.
fn find(args: &LoadArgs, repository: &Repository) -> anyhow::Result<BackupObjects> {
    let mut catalogs = repository::dump_catalogs(repository, Scope::Backups)?;
    if let Some(system) = &args.system {
        catalogs.retain(|catalog| catalog.system().to_string() == *system);
    }
    if args.dump != "latest" {
        return Ok(repository::find_published(&catalogs, &args.dump)?.1.objects);
    }
    if catalogs.len() > 1 {
        let systems: Vec<_> = catalogs.iter().map(|catalog| catalog.system().to_string()).collect();
        let message = format!("the repository holds dumps of several systems: {}", systems.join(", "));
        return Err(Refused::new("system-ambiguous", message, "name one with --system").into());
    }
    let newest = catalogs.iter().flat_map(LineageCatalog::published).filter(|dump| serves(args, dump));
    let newest = newest.max_by_key(|dump| dump.summary.as_ref().map(|summary| summary.stopped));
    newest.map(|dump| dump.objects).ok_or_else(|| {
        let what = args.database.as_ref().map_or("roles".to_owned(), |name| format!("database `{name}`"));
        let hint = "`pgproof list` shows the dumps; name one that holds a part";
        Refused::new("backup-absent", format!("no dump holds all of {what}"), hint).into()
    })
}

/// Whether it holds the whole database, and roles where those are wanted.
fn serves(args: &LoadArgs, dump: &CatalogBackup) -> bool {
    let Some(what) = dump.summary.as_ref().and_then(|summary| summary.dump.as_ref()) else { return false };
    let whole = what.selection.schemas.is_empty() && what.selection.tables.is_empty();
    let holds = |name: &String| what.databases.iter().any(|database| &database.name == name);
    dump.marked.is_none()
        && whole
        && args.database.as_ref().is_none_or(holds)
        && (!args.globals || what.selection.is_everything())
}

impl Report for Planned<'_> {
    fn render(&self, page: &mut Page) {
        render_plan(page, self.plan);
        notes(page, &self.plan.notes);
        page.gap();
        page.line("nothing was changed (--dry-run)");
    }
}

impl Report for LoadReport {
    fn render(&self, page: &mut Page) {
        render_plan(page, &self.plan);
        page.field(
            "loaded in",
            format!("{} by pg_restore {}", human_duration(self.elapsed), self.program_version),
        );
        notes(page, &self.plan.notes);
    }
}

fn notes(page: &mut Page, notes: &[String]) {
    for note in notes {
        page.line(format!("  note: {note}"));
    }
}

fn render_plan(page: &mut Page, plan: &LoadPlan) {
    page.line(format!("dump {} into PostgreSQL {}", plan.dump, plan.target));
    if let Some(roles) = &plan.roles {
        let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        page.field("new roles", list(&roles.create));
        page.field("left alone", list(&roles.leave));
    }
    let Some(database) = &plan.database else { return };
    page.field("database", format!("{} into {}, {}", database.name, database.into, database.bytes));
    match &database.make {
        Make::ByPgRestore => page.field("made by", "pg_restore --create"),
        Make::ByStatements { before, after } => {
            page.field("made by", before);
            after.iter().for_each(|statement| page.field("afterwards", statement));
        }
        Make::IntoEmpty => page.field("made by", "nothing: it exists and is empty"),
        Make::Clean => page.field("first", "drops there what the dump holds; what else is in it stays"),
    }
    page.field("pg_restore", database.arguments.join(" "));
}

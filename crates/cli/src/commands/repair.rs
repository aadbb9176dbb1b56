//! `pgproof repair`: heals a repository from a second one.

use crate::args::high::Context;
use crate::args::transfer::RepairArgs;
use crate::config::parse_duration;
use crate::exit::Exit;
use crate::printer::{Page, Report, show_time};
use crate::repository;
use crate::second::{Named, heading, open_both};
use pgproof_repo::Repository;
use pgproof_repo::repair::{
    Absent, Heal, HealKind, Hopeless, LineageRepair, RepairOptions, RepairPlan, absent, plan_repair,
    repair as run,
};
use serde::Serialize;

/// What was healed, or would be.
#[derive(Debug, Serialize)]
struct Repaired {
    dry_run: bool,
    repository: String,
    from: String,
    lineages: Lineages,
    absent: Vec<Absent>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Lineages {
    Planned(Vec<RepairPlan>),
    Done(Vec<LineageRepair>),
}

pub(crate) fn repair(args: &RepairArgs, context: &Context) -> anyhow::Result<Exit> {
    let damaged = Named { text: &args.repository, key_file: args.key_file.as_deref() };
    let from = Named { text: &args.from, key_file: args.from_key_file.as_deref() };
    let (_, target, source) = open_both(damaged, from, context)?;
    let options = options(args, &target)?;
    let (lineages, absent, exit) = if args.dry_run {
        let plans = plan_repair(&target, &source, &options, &context.talk)?;
        let absent = absent(&target, &source, &options)?;
        let hopeless = !absent.is_empty() || plans.iter().any(|plan| !plan.hopeless.is_empty());
        (Lineages::Planned(plans), absent, if hopeless { Exit::BadAnswer } else { Exit::Done })
    } else {
        let report = run(&target, &source, &options, &context.talk)?;
        let exit = if report.is_whole() { Exit::Done } else { Exit::BadAnswer };
        (Lineages::Done(report.lineages), report.absent, exit)
    };
    context.talk.clear();
    let place = |repository: &Repository| repository.store().describe();
    let (repository, from) = (place(&target), place(&source));
    let repaired = Repaired { dry_run: args.dry_run, repository, from, lineages, absent };
    context.printer.report("repair", &repaired)?;
    Ok(exit)
}

fn options(args: &RepairArgs, target: &Repository) -> anyhow::Result<RepairOptions> {
    let defaults = RepairOptions::default();
    let named = args.system.as_deref();
    let lineage = named.map(|system| repository::lineage(target, Some(system))).transpose()?;
    Ok(RepairOptions {
        threads: args.processes.map_or(defaults.threads, usize::from).max(1),
        since: args.skip_within.as_deref().map(|text| parse_duration("--skip-within", text)).transpose()?,
        lineage: lineage.map(|lineage| lineage.system()),
        ..defaults
    })
}

impl Report for Repaired {
    fn render(&self, page: &mut Page) {
        let verb = if self.dry_run { "would heal" } else { "healed" };
        page.line(format!("{verb} {} from {}", self.repository, self.from));
        match &self.lineages {
            Lineages::Planned(plans) => plans.iter().for_each(|plan| render_plan(page, plan)),
            Lineages::Done(done) => done.iter().for_each(|lineage| render_done(page, lineage)),
        }
        for absent in &self.absent {
            page.heading(heading(absent.system, absent.content));
            page.line(
                "no backup is here that could be healed; `pgproof copy` brings those of the other repository",
            );
        }
    }
}

fn render_plan(page: &mut Page, plan: &RepairPlan) {
    page.heading(heading(plan.system, plan.content));
    plan.heal.iter().for_each(|heal| render_heal(page, "heal", heal));
    plan.remove.iter().for_each(|object| page.line(format!("remove   {object}  nothing refers to it")));
    plan.hopeless.iter().for_each(|hopeless| render_hopeless(page, hopeless));
    if plan.heal.is_empty() && plan.remove.is_empty() && plan.hopeless.is_empty() {
        page.line("nothing is damaged or missing");
    }
}

fn render_heal(page: &mut Page, verb: &str, heal: &Heal) {
    let seen = if heal.missing { "missing" } else { "damaged" };
    page.line(format!("{verb:<8} {}  {seen}", heal.object));
    if let HealKind::Backup { backup, packs } = &heal.kind {
        page.line(format!("         the manifest of backup {backup} is written anew"));
        for pack in packs {
            page.line(format!(
                "         in place of {pack}, which is removed when no backup uses it any more"
            ));
        }
    }
}

fn render_hopeless(page: &mut Page, hopeless: &Hopeless) {
    page.line(format!("stays    {}", hopeless.object));
    page.line(format!("         {}", hopeless.seen));
    page.line(format!("         {}", hopeless.why));
}

fn render_done(page: &mut Page, lineage: &LineageRepair) {
    page.heading(heading(lineage.system, lineage.content));
    lineage.healed.iter().for_each(|heal| render_heal(page, "healed", heal));
    lineage.removed.iter().for_each(|object| page.line(format!("removed  {object}")));
    lineage.failed.iter().for_each(|hopeless| render_hopeless(page, hopeless));
    if lineage.remaining.is_empty() {
        page.line("everything is as it was stored");
        return;
    }
    page.gap();
    page.line("still wrong:");
    for found in &lineage.remaining {
        page.line(format!("  [{}] {}", found.finding.code, found.finding.seen));
    }
    match lineage.restorable.as_slice() {
        [] => page.line("no backup can be restored as a whole: take a new one with `pgproof backup`"),
        whole => {
            page.line("these backups can be restored as they are:");
            for backup in whole {
                page.line(format!("  {}  {}", backup.backup, show_time(backup.stopped)));
            }
        }
    }
}

//! `pgproof drill`.

use super::extract::{become_server_owner, clear_when_interrupted, scratch, superusers};
use super::restore::{backup_id, commands_of, parse_system, time_target};
use crate::args::drill::DrillArgs;
use crate::args::high::Context;
use crate::config::{Config, parse_duration};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::printer::{Page, Report, render_findings, show_time};
use crate::{archive_command, evidence, instance, repository};
use jiff::Timestamp;
use pgproof_base::{Bytes, Progress, human_duration};
use pgproof_drill::heartbeat::{self, PrimaryBeat};
use pgproof_drill::{
    CheckOptions, DrillOptions, DrillPlan, DrillReport, Measured, Objectives, PURPOSE, Pattern, Verdict,
    When, assertions_in,
};
use pgproof_restore::default_workers;
use pgproof_restore::private::of_this_process;
use serde::Serialize;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A plan, or what came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum DrillOutcome {
    Planned(Box<DrillPlan>),
    Done(Box<DrillReport>),
}

pub(crate) fn drill(args: &DrillArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    become_server_owner(&config)?;
    let mut options = options(args, context, &config)?;
    let chosen = config.one_repository()?;
    if config.is_of_file() {
        // What one repository was found to hold is replayed from there: another one must not hide what it lacks.
        for other in config.settings.repositories.iter().filter(|name| **name != chosen.name) {
            options.commands.restore += &archive_command::without_flag(other);
        }
    }
    let repository = match repository::open(&chosen) {
        Ok(repository) => repository,
        Err(error) => return unopened(error, args, context),
    };
    options.backup = args.backup.as_deref().map(|named| backup_id(&repository, named)).transpose()?;
    if args.dry_run {
        let plan = pgproof_drill::plan(&repository, &options, Timestamp::now())?;
        context.printer.report("drill", &DrillOutcome::Planned(Box::new(plan)))?;
        return Ok(Exit::Done);
    }
    options.primary = last_beat(&config, context);
    clear_when_interrupted(of_this_process(&options.scratch, &PURPOSE))?;
    let report = pgproof_drill::drill(&repository, &options, Timestamp::now(), &context.talk)?;
    context.talk.clear();
    if let Some((lineage, record)) = evidence::of_drill(&report) {
        evidence::keep(context, &repository, lineage, &record);
    }
    let exit = if report.passed() { Exit::Done } else { Exit::BadAnswer };
    context.printer.report("drill", &DrillOutcome::Done(Box::new(report)))?;
    Ok(exit)
}

/// A repository that does not open is what a disaster would find, and so the answer of the drill.
fn unopened(error: anyhow::Error, args: &DrillArgs, context: &Context) -> anyhow::Result<Exit> {
    let Some(found) = error.downcast_ref::<pgproof_repo::Error>().filter(|_| !args.dry_run) else {
        return Err(error);
    };
    let report = pgproof_drill::unopened(found, Timestamp::now());
    context.printer.report("drill", &DrillOutcome::Done(Box::new(report)))?;
    Ok(Exit::BadAnswer)
}

/// The primary's last heartbeat. A primary that cannot be asked is no hindrance, because drills are for its absence, but it is said.
fn last_beat(config: &Config, context: &Context) -> Option<PrimaryBeat> {
    let looked = instance::find(&config.instance).and_then(|found| {
        let connect = instance::connect_options(&config.instance, &found);
        Ok(heartbeat::look(&connect)?)
    });
    looked.unwrap_or_else(|error| {
        let why = Fault::new(&error).one_line();
        context.talk.note(&format!("the primary was not asked for its heartbeat: {why}"));
        None
    })
}

fn options(args: &DrillArgs, context: &Context, config: &Config) -> anyhow::Result<DrillOptions> {
    let program = crate::program::own_path()?;
    let workers = config.backup.processes.unwrap_or_else(default_workers);
    let duration = |flag: &str, text: &Option<String>| {
        text.as_deref().map(|text| parse_duration(flag, text)).transpose()
    };
    Ok(DrillOptions {
        when: when(args, context)?,
        // Which one a name means is found out in the repository.
        backup: None,
        system: args.system.as_deref().map(parse_system).transpose()?,
        scratch: scratch(args.scratch.as_deref().or(config.drill.scratch.as_deref()), context)?,
        commands: commands_of(&program, &args.repository, None, context, config)?,
        roles: superusers(config),
        workers,
        checks: checks(config, workers)?,
        objectives: Objectives {
            rto: duration("--rto", &args.rto)?.or(config.objectives.rto),
            rpo: duration("--rpo", &args.rpo)?.or(config.objectives.rpo),
        },
        older: args.try_older,
        primary: None,
    })
}

fn checks(config: &Config, workers: usize) -> anyhow::Result<CheckOptions> {
    let drill = &config.drill;
    Ok(CheckOptions {
        time: drill.check_time,
        ignored: Pattern::list(drill.ignore.as_deref().unwrap_or_default())?,
        assertions: drill.assertions.as_deref().map(assertions_in).transpose()?.unwrap_or_default(),
        database: config.instance.database.clone(),
        command: drill.command.clone(),
        own_time: drill.command_time,
        workers,
    })
}

fn when(args: &DrillArgs, context: &Context) -> anyhow::Result<When> {
    if let Some(text) = &args.at {
        return Ok(When::At(time_target(text, context)?));
    }
    // The keys of a hasher are drawn anew in each process.
    let seed = || args.seed.unwrap_or_else(|| RandomState::new().hash_one("drill"));
    Ok(if args.random { When::Random { seed: seed() } } else { When::Latest })
}

impl Report for DrillOutcome {
    fn render(&self, page: &mut Page) {
        match self {
            Self::Planned(plan) => render_plan(page, plan),
            Self::Done(report) => render_report(page, report),
        }
    }
}

fn render_plan(page: &mut Page, plan: &DrillPlan) {
    page.line("a drill: recover in a private directory, check, measure, remove");
    let checks: Vec<String> = plan.checks.iter().map(ToString::to_string).collect();
    page.field("checks", checks.join(", "));
    if !plan.assertions.is_empty() {
        page.field("assertions", plan.assertions.join(", "));
    }
    page.gap();
    super::restore_text::render_plan(page, &plan.restore);
    page.gap();
    page.line("nothing was changed (--dry-run)");
}

fn seconds(s: f64) -> String {
    human_duration(Duration::from_secs_f64(s.max(0.0)))
}

fn render_report(page: &mut Page, report: &DrillReport) {
    let verdict = if report.passed() { "passed" } else { "FAILED" };
    page.line(format!("the drill {verdict} in {}", seconds(report.total_s)));
    if let Some(source) = &report.source {
        page.field("instant", &source.target);
        page.field("backup", format!("{} of {}", source.backup, show_time(source.backup_stopped)));
    }
    render_measured(page, &report.measured);
    page.gap();
    for check in &report.checks {
        let verdict = match check.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "FAILED",
            Verdict::NotDone => "not done",
        };
        let took = if check.verdict == Verdict::NotDone { String::new() } else { seconds(check.elapsed_s) };
        page.line(format!("  {:<14} {verdict:<8} {took:>9}  {}", check.check, check.covered).trim_end());
    }
    for check in report.checks.iter().filter(|check| !check.findings.is_empty()) {
        page.gap();
        render_findings(page, &check.findings);
    }
    render_culprit(page, report);
    for note in &report.notes {
        page.line(format!("  note: {note}"));
    }
}

fn render_measured(page: &mut Page, measured: &Measured) {
    if let Some(first) = measured.first_query_s {
        page.field("first query", format!("{} after the begin", seconds(first)));
    }
    if let (Some(restore), Some(bytes)) = (measured.restore_s, measured.bytes_restored) {
        page.field("restore", format!("{} in {}", Bytes(bytes), seconds(restore)));
    }
    if let Some(wal) = measured.wal {
        let rate = wal.bytes_s.map(|rate| format!(", {} a second", Bytes(rate as u64))).unwrap_or_default();
        page.field("replay", format!("{} in {}{rate}", Bytes(wal.bytes), seconds(wal.elapsed_s)));
    }
    if let Some(last) = measured.last_commit {
        page.field("last commit", show_time(last));
    }
    if let Some(loss) = measured.data_loss {
        let lost = loss.lost_s.map(|lost| format!("{}, ", seconds(lost))).unwrap_or_default();
        page.field("data loss", format!("{lost}at most {}", seconds(loss.at_most_s)));
    }
}

fn render_culprit(page: &mut Page, report: &DrillReport) {
    let Some(culprit) = &report.culprit else { return };
    page.gap();
    page.field("culprit", format!("{}: {}", culprit.check, culprit.seen));
    for tried in &report.tried {
        let how = match &tried.culprit {
            None => "passes".to_owned(),
            Some(culprit) => format!("fails too: {}: {}", culprit.check, culprit.seen),
        };
        page.field(
            "tried",
            format!("backup {} to its own end, {}: {how}", tried.backup, show_time(tried.stopped)),
        );
    }
    if let Some(backup) = report.newest_passing {
        page.field("newest passing", backup);
    }
}

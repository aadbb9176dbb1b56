//! `pgproof check`.

use super::list::show_version;
use crate::account;
use crate::args::high::Context;
use crate::args::low::CheckArgs;
use crate::check::observation::{ArchiveTest, Observation, RepositoryFacts, Seen};
use crate::check::{CheckOptions, judge, observe};
use crate::config::{Config, parse_duration};
use crate::exit::Exit;
use crate::instance;
use crate::printer::{Page, Report, render_findings, worst};
use pgproof_base::{Bytes, Finding, Severity, human_duration};
use serde::Serialize;
use std::time::Duration;

/// What was seen, and what is wrong with it.
#[derive(Debug, Serialize)]
pub(crate) struct CheckReport {
    findings: Vec<Finding>,
    observation: Observation,
}

pub(crate) fn check(args: &CheckArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let timeout = parse_duration("--timeout", &args.timeout)?;
    let report = look(context, &config, (!args.no_archive_test).then_some(timeout))?;
    context.talk.clear();
    context.printer.report("check", &report)?;
    Ok(report.exit())
}

/// Checks as the data directory's owner.
pub(crate) fn look(
    context: &Context,
    config: &Config,
    archive_test: Option<Duration>,
) -> anyhow::Result<CheckReport> {
    let instance = instance::find(&config.instance);
    match &instance {
        Ok(instance) => account::become_owner(instance.owner)?,
        Err(_) => account::become_repository_owner(config)?,
    }
    let observation = observe(context, config, instance, CheckOptions { archive_test });
    Ok(CheckReport { findings: judge(&observation), observation })
}

impl CheckReport {
    pub(crate) fn exit(&self) -> Exit {
        if worst(&self.findings) == Some(Severity::Critical) { Exit::BadAnswer } else { Exit::Done }
    }
}

impl Report for CheckReport {
    fn render(&self, page: &mut Page) {
        render_seen(page, &self.observation);
        render_findings(page, &self.findings);
        page.gap();
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let counts = (count(Severity::Critical), count(Severity::Warning), count(Severity::Info));
        match counts {
            (0, 0, 0) => page.line("everything is in order"),
            (0, warnings, infos) => {
                page.line(format!("backup, archive and restore work; {warnings} warnings, {infos} notes"));
            }
            (criticals, warnings, infos) => page.line(format!(
                "something is wrong: {criticals} critical, {warnings} warnings, {infos} notes"
            )),
        }
    }
}

fn render_seen(page: &mut Page, seen: &Observation) {
    if let Some(server) = seen.server.ok() {
        let version = show_version(server.version_num);
        page.field("server", format!("PostgreSQL {version} at {}", server.target));
        page.field("system", server.system_identifier);
    }
    if let Some(files) = seen.files.ok() {
        let size = Bytes(files.bytes);
        page.field("data directory", format!("{}, {size} in {} files", files.path.display(), files.files));
    }
    if let Seen::Yes(repository) = &seen.repository {
        page.field("repository", describe_repository(repository));
        let last = repository.last_backup.as_ref().map_or("none".to_owned(), |backup| {
            format!("{}, {} ago", backup.id, human_duration(Duration::from_secs(backup.age_s)))
        });
        page.field("newest backup", last);
    }
    let test = match &seen.archive_test {
        ArchiveTest::Stored { segment, seconds, .. } => {
            let after = human_duration(Duration::from_secs_f64(*seconds));
            format!("{segment} was in the repository after {after}")
        }
        ArchiveTest::NotRun { why } => format!("not run: {why}"),
        ArchiveTest::Missing { .. } | ArchiveTest::Failed(_) => "failed".to_owned(),
    };
    page.field("archive test", test);
}

fn describe_repository(repository: &RepositoryFacts) -> String {
    let sealed = if repository.encrypted { "encrypted" } else { "not encrypted" };
    match repository.room {
        Some(room) => format!("{}, {sealed}, {} free", repository.place, Bytes(room.available)),
        None => format!("{}, {sealed}", repository.place),
    }
}

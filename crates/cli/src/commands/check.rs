//! `pgproof check`.

use super::each::{One, Several};
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

/// What was found about one repository, or about each of several.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Checks {
    One(Box<CheckReport>),
    Several(Several<CheckReport>),
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
) -> anyhow::Result<Checks> {
    let instance = instance::find(&config.instance);
    match &instance {
        Ok(instance) => account::become_owner(instance.owner)?,
        Err(_) => account::become_repository_owner(config)?,
    }
    let mut observed = observe(context, config, instance, CheckOptions { archive_test });
    let report = |observation| CheckReport { findings: judge(&observation), observation };
    let one = |(name, observation)| One { name, report: Some(report(observation)), error: None };
    Ok(match observed.len() {
        1 => Checks::One(Box::new(report(observed.remove(0).1))),
        _ => Checks::Several(Several { repositories: observed.into_iter().map(one).collect() }),
    })
}

impl Checks {
    pub(crate) fn exit(&self) -> Exit {
        let bad = self.reports().any(|report| worst(&report.findings) == Some(Severity::Critical));
        if bad { Exit::BadAnswer } else { Exit::Done }
    }

    fn reports(&self) -> impl Iterator<Item = &CheckReport> {
        let (one, several) = match self {
            Self::One(only) => (Some(&**only), None),
            Self::Several(several) => (None, Some(&several.repositories)),
        };
        one.into_iter().chain(several.into_iter().flatten().filter_map(|one| one.report.as_ref()))
    }
}

impl Report for Checks {
    fn render(&self, page: &mut Page) {
        match self {
            Self::One(only) => only.render(page),
            Self::Several(several) => render_several(page, several),
        }
    }
}

/// The server once, then each repository with what is wrong with it alone.
fn render_several(page: &mut Page, several: &Several<CheckReport>) {
    let reports: Vec<&CheckReport> =
        several.repositories.iter().filter_map(|one| one.report.as_ref()).collect();
    let is_common = |finding: &Finding| reports.iter().all(|report| report.findings.contains(finding));
    let mut all: Vec<Finding> = Vec::new();
    if let Some(first) = reports.first() {
        render_server(page, &first.observation);
        all.extend(first.findings.iter().filter(|one| is_common(one)).cloned());
        render_findings(page, &all);
    }
    for one in &several.repositories {
        let Some(report) = &one.report else { continue };
        page.heading(format!("repository {}", one.name));
        render_repository(page, &report.observation);
        let own: Vec<Finding> = report.findings.iter().filter(|one| !is_common(one)).cloned().collect();
        render_findings(page, &own);
        all.extend(own);
    }
    render_verdict(page, &all);
}

impl Report for CheckReport {
    fn render(&self, page: &mut Page) {
        render_server(page, &self.observation);
        render_repository(page, &self.observation);
        render_findings(page, &self.findings);
        render_verdict(page, &self.findings);
    }
}

fn render_verdict(page: &mut Page, findings: &[Finding]) {
    page.gap();
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let counts = (count(Severity::Critical), count(Severity::Warning), count(Severity::Info));
    match counts {
        (0, 0, 0) => page.line("everything is in order"),
        (0, warnings, infos) => {
            page.line(format!("backup, archive and restore work; {warnings} warnings, {infos} notes"));
        }
        (criticals, warnings, infos) => {
            page.line(format!("something is wrong: {criticals} critical, {warnings} warnings, {infos} notes"))
        }
    }
}

fn render_server(page: &mut Page, seen: &Observation) {
    if let Some(server) = seen.server.ok() {
        let version = show_version(server.version_num);
        page.field("server", format!("PostgreSQL {version} at {}", server.target));
        page.field("system", server.system_identifier);
    }
    if let Some(files) = seen.files.ok() {
        let size = Bytes(files.bytes);
        page.field("data directory", format!("{}, {size} in {} files", files.path.display(), files.files));
    }
}

fn render_repository(page: &mut Page, seen: &Observation) {
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

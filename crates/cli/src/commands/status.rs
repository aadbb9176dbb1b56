//! `pgproof archive status`.

use super::each::{One, Several};
use crate::account;
use crate::args::high::Context;
use crate::args::low::{RepositoryArgs, StatusArgs};
use crate::config::Config;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::printer::{Page, Report, render_findings, worst};
use crate::repository::Opened;
use crate::{instance, repository};
use pgproof_base::{Bytes, Finding, Severity, human_duration, shell_word};
use pgproof_wal::status::{
    CommandLine, Compared, GapState, PositionSource, Receiver, StatusReport, StatusRequest, judge, observe,
};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

pub(crate) fn archive_status(args: &StatusArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let instance = instance::find(&config.instance)?;
    account::become_owner(instance.owner)?;
    let opened = repository::open_each(&config)?;
    let request = StatusRequest {
        connect: instance::connect_options(&config.instance, &instance),
        pgdata: instance.data_directory,
        slot: args.slot.clone(),
        repositories: opened.iter().map(compared).collect(),
        command: command_line(&args.repository, context, &config)?,
    };
    let reports: Vec<_> = observe(&request)?.iter().map(judge).collect();
    context.talk.clear();
    let bad = reports.iter().any(|report| worst(&report.findings) >= Some(Severity::Warning));
    match reports.as_slice() {
        [only] => context.printer.report("archive status", only)?,
        _ => {
            let names = opened.iter().map(|one| one.config.name.clone());
            let one = |(name, report)| One { name, report: Some(report), error: None };
            let repositories = names.zip(reports).map(one).collect();
            context.printer.report("archive status", &Statuses(Several { repositories }))?;
        }
    }
    Ok(if bad { Exit::BadAnswer } else { Exit::Done })
}

fn compared(one: &Opened) -> Compared<'_> {
    let Opened { config, repository } = one;
    let repository = repository.as_ref().map_err(|error| {
        let fault = Fault::new(error);
        match &fault.hint {
            Some(hint) => format!("{} ({hint})", fault.one_line()),
            None => fault.one_line(),
        }
    });
    Compared { name: config.name.clone(), required: config.required, repository }
}

/// The call that does with this configuration what this one does.
fn command_line(args: &RepositoryArgs, context: &Context, config: &Config) -> anyhow::Result<CommandLine> {
    let word = |path: &Path| shell_word(&path.display().to_string());
    let mut line = CommandLine { head: word(&crate::program::own_path()?), flags: String::new() };
    if let Some(file) = &config.file {
        line.head += &format!(" --config {}", word(&context.absolute(file)));
    }
    match args.repository.as_deref() {
        Some(place) if place.contains("://") || config.settings.chosen.is_some() => {
            line.flags += &format!(" --repository {}", shell_word(place));
        }
        Some(path) => line.flags += &format!(" --repository {}", word(&context.absolute(Path::new(path)))),
        None => {}
    }
    if let Some(key) = &args.key_file {
        line.flags += &format!(" --key-file {}", word(&context.absolute(key)));
    }
    Ok(line)
}

fn received(receiver: &Receiver) -> String {
    let Some(durable) = receiver.durable else { return "nothing yet".to_owned() };
    let lag = receiver.lag_bytes.map(|bytes| format!(", lag {}", Bytes(bytes))).unwrap_or_default();
    let state = match (receiver.active, receiver.synchronous) {
        (false, _) => ", and nobody receives now",
        (true, true) => ", commits wait for it",
        (true, false) => "",
    };
    format!("up to {durable}{lag}{state}")
}

impl Report for StatusReport {
    fn render(&self, page: &mut Page) {
        render_position(page, self);
        render_archive(page, self);
        render_server(page, self);
        render_gaps(page, self);
        render_findings(page, &self.findings);
        if worst(&self.findings) < Some(Severity::Warning) {
            page.gap();
            page.line("the archive holds every segment that the server has completed, or is about to get it");
        }
    }
}

/// Several repositories of one server, which is shown once.
#[derive(Serialize)]
#[serde(transparent)]
struct Statuses(Several<StatusReport>);

impl Report for Statuses {
    fn render(&self, page: &mut Page) {
        let of =
            |one: &One<StatusReport>| one.report.as_ref().map_or(&[][..], |report| &report.findings).to_vec();
        let all: Vec<Vec<Finding>> = self.0.repositories.iter().map(of).collect();
        let is_common = |finding: &Finding| all.iter().all(|findings| findings.contains(finding));
        let first = self.0.repositories.first().and_then(|one| one.report.as_ref());
        if let Some(report) = first {
            render_position(page, report);
            render_server(page, report);
            let common: Vec<Finding> = report.findings.iter().filter(|one| is_common(one)).cloned().collect();
            render_findings(page, &common);
        }
        for (one, findings) in self.0.repositories.iter().zip(&all) {
            let Some(report) = &one.report else { continue };
            page.heading(format!("repository {}", one.name));
            render_archive(page, report);
            render_gaps(page, report);
            let own: Vec<Finding> = findings.iter().filter(|one| !is_common(one)).cloned().collect();
            render_findings(page, &own);
        }
        if all.iter().flatten().all(|finding| finding.severity < Severity::Warning) {
            page.gap();
            page.line(
                "each archive holds every segment that the server has completed, or is about to get it",
            );
        }
    }
}

fn seconds(s: u64) -> String {
    human_duration(Duration::from_secs(s)).to_string()
}

fn render_position(page: &mut Page, report: &StatusReport) {
    let said = match report.position.source {
        PositionSource::Primary => "",
        PositionSource::Standby => ", replayed by a standby",
        PositionSource::ControlFile => ", its last checkpoint",
    };
    page.field("system", report.system);
    page.field("server", format!("{} on timeline {}{said}", report.position.lsn, report.position.timeline));
}

fn render_archive(page: &mut Page, report: &StatusReport) {
    if let Some(place) = &report.repository {
        page.field("repository", place);
    }
    match (&report.last_archived, report.archived_to) {
        (Some(segment), Some(lsn)) => {
            page.field("archived", format!("up to {lsn}, the last segment is {segment}"))
        }
        (None, Some(lsn)) => {
            page.field("archived", format!("up to {lsn}, where the timeline before this one ends"))
        }
        _ => page.field("archived", "unknown"),
    }
    if let (Some(bytes), Some(lag_s)) = (report.lag_bytes, report.lag_s) {
        page.field("lag", format!("{}, {}", Bytes(bytes), seconds(lag_s)));
    }
}

fn render_server(page: &mut Page, report: &StatusReport) {
    if let Some(receiver) = &report.receiver {
        page.field("received", received(receiver));
    }
    match &report.oldest_waiting {
        Some(oldest) => {
            let files = if report.waiting == 1 { "file" } else { "files" };
            let age = seconds(oldest.age_s);
            page.field("waiting", format!("{} {files}, {} for {age}", report.waiting, oldest.name));
        }
        None => page.field("waiting", "nothing"),
    }
    if let Some(archiver) = &report.archiver {
        page.field("archiver", format!("{} files archived, {} failures", archiver.archived, archiver.failed));
    }
    if let Some(room) = report.wal_room {
        let full = report
            .wal_full_in_s
            .map_or_else(String::new, |full_in_s| format!(", full in {} at this rate", seconds(full_in_s)));
        page.field("room for pg_wal", format!("{} of {}{full}", Bytes(room.available), Bytes(room.total)));
    }
}

fn render_gaps(page: &mut Page, report: &StatusReport) {
    let open = report.gaps.iter().filter(|gap| gap.state != GapState::Passed).count();
    page.field("gaps", if open == 0 { "none".to_owned() } else { open.to_string() });
}

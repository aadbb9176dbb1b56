//! `pgproof archive status`.

use crate::account;
use crate::args::high::Context;
use crate::args::low::{RepositoryArgs, StatusArgs};
use crate::config::Config;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::printer::{Page, Report, render_findings, worst};
use crate::{instance, repository};
use pgproof_base::{Bytes, Severity, human_duration, shell_word};
use pgproof_wal::status::{
    CommandLine, GapState, PositionSource, Receiver, StatusReport, StatusRequest, judge, observe,
};
use std::path::Path;
use std::time::Duration;

pub(crate) fn archive_status(args: &StatusArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let instance = instance::find(&config.instance)?;
    account::become_owner(instance.owner)?;
    let opened = repository::open(&config);
    let request = StatusRequest {
        connect: instance::connect_options(&config.instance, &instance),
        pgdata: instance.data_directory,
        slot: args.slot.clone(),
        repository: opened.as_ref().map_err(|error| one_line(&Fault::new(error))),
        command: command_line(&args.repository, context, &config)?,
    };
    let report = judge(&observe(&request)?);
    context.talk.clear();
    context.printer.report("archive status", &report)?;
    let bad = worst(&report.findings) >= Some(Severity::Warning);
    Ok(if bad { Exit::BadAnswer } else { Exit::Done })
}

/// The call that does with this configuration what this one does.
fn command_line(args: &RepositoryArgs, context: &Context, config: &Config) -> anyhow::Result<CommandLine> {
    let word = |path: &Path| shell_word(&path.display().to_string());
    let mut line = CommandLine { head: word(&crate::program::own_path()?), flags: String::new() };
    if let Some(file) = &config.file {
        line.head += &format!(" --config {}", word(&context.absolute(file)));
    }
    match args.repository.as_deref() {
        Some(url) if url.contains("://") => line.flags += &format!(" --repository {}", shell_word(url)),
        Some(path) => line.flags += &format!(" --repository {}", word(&context.absolute(Path::new(path)))),
        None => {}
    }
    if let Some(key) = &args.key_file {
        line.flags += &format!(" --key-file {}", word(&context.absolute(key)));
    }
    Ok(line)
}

fn one_line(fault: &Fault) -> String {
    let why = std::iter::once(&fault.message).chain(&fault.causes).cloned().collect::<Vec<_>>().join(": ");
    match &fault.hint {
        Some(hint) => format!("{why} ({hint})"),
        None => why,
    }
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
        let seconds = |s: u64| human_duration(Duration::from_secs(s));
        let said = match self.position.source {
            PositionSource::Primary => "",
            PositionSource::Standby => ", replayed by a standby",
            PositionSource::ControlFile => ", its last checkpoint",
        };
        page.field("system", self.system);
        page.field("server", format!("{} on timeline {}{said}", self.position.lsn, self.position.timeline));
        if let Some(place) = &self.repository {
            page.field("repository", place);
        }
        match (&self.last_archived, self.archived_to) {
            (Some(segment), Some(lsn)) => {
                page.field("archived", format!("up to {lsn}, the last segment is {segment}"))
            }
            (None, Some(lsn)) => {
                page.field("archived", format!("up to {lsn}, where the timeline before this one ends"))
            }
            _ => page.field("archived", "unknown"),
        }
        if let (Some(bytes), Some(lag_s)) = (self.lag_bytes, self.lag_s) {
            page.field("lag", format!("{}, {}", Bytes(bytes), seconds(lag_s)));
        }
        if let Some(receiver) = &self.receiver {
            page.field("received", received(receiver));
        }
        match &self.oldest_waiting {
            Some(oldest) => {
                let files = if self.waiting == 1 { "file" } else { "files" };
                let age = seconds(oldest.age_s);
                page.field("waiting", format!("{} {files}, {} for {age}", self.waiting, oldest.name));
            }
            None => page.field("waiting", "nothing"),
        }
        if let Some(archiver) = &self.archiver {
            page.field(
                "archiver",
                format!("{} files archived, {} failures", archiver.archived, archiver.failed),
            );
        }
        if let Some(room) = self.wal_room {
            let full = self.wal_full_in_s.map_or_else(String::new, |full_in_s| {
                format!(", full in {} at this rate", human_duration(Duration::from_secs(full_in_s)))
            });
            page.field(
                "room for pg_wal",
                format!("{} of {}{full}", Bytes(room.available), Bytes(room.total)),
            );
        }
        let open = self.gaps.iter().filter(|gap| gap.state != GapState::Passed).count();
        page.field("gaps", if open == 0 { "none".to_owned() } else { open.to_string() });
        render_findings(page, &self.findings);
        if worst(&self.findings) < Some(Severity::Warning) {
            page.gap();
            page.line("the archive holds every segment that the server has completed, or is about to get it");
        }
    }
}

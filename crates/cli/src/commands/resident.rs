//! `pgproof archive run`: runs until it is interrupted, or, started by `archive push`, until nothing is left to do.

use super::receive::stop_on_signals;
use crate::account;
use crate::args::high::Context;
use crate::args::low::RunArgs;
use crate::exit::Exit;
use crate::printer::{Page, Report};
use crate::{instance, repository};
use pgproof_base::{Bytes, Progress, human_duration};
use pgproof_repo::walobject::StoreOptions;
use pgproof_server::Owner;
use pgproof_wal::resident::{RunEvent, RunReport, RunRequest, run};
use std::time::Duration;

/// PostgreSQL's archiver calls again at least each minute while something waits (`PGARCH_AUTOWAKE_INTERVAL` in
/// `src/backend/postmaster/pgarch.c`).
const IDLE_MAX: Duration = Duration::from_secs(60);

pub(crate) fn archive_run(args: &RunArgs, context: &Context) -> anyhow::Result<Exit> {
    if args.until_idle {
        // Nothing that ends the session of whoever started it ends it. Fails only for a leader of a group, which a person's shell makes
        // of it.
        let _ = rustix::process::setsid();
    }
    let config = context.config()?;
    let pgdata = match &args.pgdata {
        Some(pgdata) => context.absolute(pgdata),
        None => instance::find(&config.instance)?.data_directory,
    };
    account::become_owner(Owner::of(&pgdata)?)?;
    let repositories = repository::named(&config)?;
    let request = RunRequest {
        pgdata,
        workers: config.archive.push_ahead.max(1),
        options: StoreOptions { codec: config.archive.compression, threads: 1 },
        idle_max: args.until_idle.then_some(IDLE_MAX),
    };
    let stop = stop_on_signals()?;
    let report = run(&repositories, &request, &stop, &|event| tell(context, &event))?;
    context.talk.clear();
    context.printer.report("archive run", &report)?;
    Ok(Exit::Done)
}

fn tell(context: &Context, event: &RunEvent<'_>) {
    let text = match event {
        RunEvent::Stored { pushed } if context.printer.verbose => {
            format!("{} is in the repository", pushed.name)
        }
        RunEvent::Stored { .. } => return,
        RunEvent::Behind { repository, name, why, again_in } => {
            format!(
                "repository {repository} lacks {name}, and rests for {}: {why}",
                human_duration(*again_in)
            )
        }
        RunEvent::NotStored { name, why, again_in } => {
            format!("{name} waits for the repository, tried again in {}: {why}", human_duration(*again_in))
        }
    };
    context.talk.note(&text);
}

impl Report for RunReport {
    fn render(&self, page: &mut Page) {
        page.line(format!(
            "archived {} files, {} stored, and answered {} of PostgreSQL's calls",
            self.stored,
            Bytes(self.bytes_stored),
            self.answered
        ));
    }
}

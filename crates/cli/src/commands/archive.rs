//! `pgproof archive push` and `get`: PostgreSQL's hooks. They run in the data directory, as the server's user, and print nothing
//! unless asked, since all they print goes to the server's log.

use super::each::{One, Several};
use crate::account;
use crate::args::high::Context;
use crate::args::low::{GetArgs, PrefetchArgs, PushArgs, RepositoryArgs};
use crate::config::Config;
use crate::exit::Exit;
use crate::fault::{Fault, Refused};
use crate::printer::{Page, Report};
use crate::repository;
use pgproof_base::{Bytes, Progress};
use pgproof_repo::walobject::StoreOptions;
use pgproof_server::Owner;
use pgproof_wal::{
    Ahead, GetOutcome, GetRequest, PrefetchRequest, PushOutcome, PushReport, PushRequest, Pushed, PushedTo,
    WalError, get, prefetch, push_to_each, resident,
};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) fn archive_push(args: &PushArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let pgdata = data_directory(context)?;
    become_owner_of(&pgdata)?;
    let repositories = repository::named(&config)?;
    let pushed = match resident::ask(&pgdata, &args.path, &repositories) {
        Some(answer) => answer?,
        None => {
            start_resident_if_many_wait(args, context, &config, &pgdata);
            let options = StoreOptions { codec: config.archive.compression, ..StoreOptions::default() };
            let request = PushRequest { pgdata, path: args.path.clone() };
            let pushed = push_to_each(&repositories, &request, options);
            if let Err(WalError::NotEverywhere { .. }) = &pushed {
                // PostgreSQL offers nothing else until this file is archived: somebody has to bring the next ones to the other
                // repositories.
                start_resident(args, context, &config, &request.pgdata);
            }
            pushed?
        }
    };
    for (repository, why) in pushed.behind() {
        let note =
            format!("warning: repository {repository}, which is not required, lacks {}: {why}", pushed.name);
        context.talk.note(&note);
    }
    if context.printer.json || context.printer.verbose {
        report_push(context, pushed)?;
    }
    Ok(Exit::Done)
}

fn report_push(context: &Context, pushed: Pushed) -> anyhow::Result<()> {
    let Pushed { name, repositories } = pushed;
    let one = |PushedTo { repository, outcome }| match outcome {
        PushOutcome::Stored { bytes_stored, was_there } => {
            let report = PushReport { name: name.clone(), bytes_stored, was_there };
            One { name: repository, report: Some(report), error: None }
        }
        PushOutcome::Behind { why } => One { name: repository, report: None, error: Some(Fault::said(why)) },
    };
    let mut repositories: Vec<One<PushReport>> = repositories.into_iter().map(one).collect();
    match repositories.as_mut_slice() {
        [One { report: Some(only), .. }] => context.printer.report("archive push", only)?,
        _ => context.printer.report("archive push", &Several { repositories })?,
    }
    Ok(())
}

pub(crate) fn archive_get(args: &GetArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let pgdata = data_directory(context)?;
    become_owner_of(&pgdata)?;
    let repositories = repository::named_without(&config, &args.without)?;
    let request = GetRequest {
        pgdata,
        name: args.name.clone(),
        destination: args.path.clone(),
        received: args.spool.as_deref().map(|path| context.absolute(path)),
    };
    let threads = StoreOptions::default().threads;
    let ahead = if args.no_prefetch || config.archive.read_ahead == 0 { Ahead::Unused } else { Ahead::Used };
    let mut fill = || start_prefetch(args, context, &request.pgdata);
    let mut warn = |repository: &str, error: &WalError| {
        let why = Fault::of(error).one_line();
        context.talk.note(&format!("warning: repository {repository} did not give {}: {why}", args.name));
    };
    let outcome = get(&repositories, &request, threads, ahead, &mut fill, &mut warn)?;
    if context.printer.json || context.printer.verbose {
        let report = GetReport { name: args.name.clone(), outcome };
        context.printer.report("archive get", &report)?;
    }
    Ok(match outcome {
        GetOutcome::Delivered => Exit::Done,
        GetOutcome::Absent => Exit::BadAnswer,
    })
}

/// PostgreSQL runs its hooks in the data directory (`ChangeToDataDir` in `src/backend/utils/init/miscinit.c`). A person who tries one
/// elsewhere is told, instead of archiving into the wrong lineage.
fn data_directory(context: &Context) -> Result<PathBuf, Refused> {
    let current = &context.surroundings.current_directory;
    if current.join("global/pg_control").exists() {
        return Ok(current.clone());
    }
    Err(Refused::new(
        "not-in-data-directory",
        format!("{} is not a data directory", current.display()),
        "PostgreSQL runs this command in its data directory; to try it by hand, `cd` there first",
    ))
}

/// PostgreSQL never runs as root, but a person who tries a hook by hand may be: what the hook then leaves in `pg_wal` or in a
/// repository's directory must not be root's, or the server cannot read it afterwards.
fn become_owner_of(pgdata: &Path) -> anyhow::Result<()> {
    Ok(account::become_owner(Owner::of(pgdata)?)?)
}

#[derive(Debug, Serialize)]
struct GetReport {
    name: String,
    outcome: GetOutcome,
}

impl Report for GetReport {
    fn render(&self, page: &mut Page) {
        match self.outcome {
            GetOutcome::Delivered => page.line(format!("{} was delivered", self.name)),
            GetOutcome::Absent => page.line(format!("{} is not in the archive", self.name)),
        }
    }
}

impl Report for PushReport {
    fn render(&self, page: &mut Page) {
        match self.was_there {
            true => page.line(format!("{} was archived before, with the same content", self.name)),
            false => page.line(format!("{} is archived, {} stored", self.name, Bytes(self.bytes_stored))),
        }
    }
}

pub(crate) fn archive_prefetch(args: &PrefetchArgs, context: &Context) -> anyhow::Result<Exit> {
    // A session of its own: it outlives the `archive get` that started it, and nothing that ends the server's session ends it. It
    // fails only for a leader of a group, which a person's shell makes of it.
    let _ = rustix::process::setsid();
    let config = context.config()?;
    let pgdata = context.absolute(&args.pgdata);
    become_owner_of(&pgdata)?;
    let repositories = repository::named_without(&config, &args.without)?;
    prefetch(&repositories, &PrefetchRequest { pgdata, count: config.archive.read_ahead })?;
    Ok(Exit::Done)
}

/// Waiting files from which on they are archived ahead: a server that writes a segment a minute has none.
const MANY: usize = 4;

fn start_resident_if_many_wait(args: &PushArgs, context: &Context, config: &Config, pgdata: &Path) {
    let many = || resident::waiting(pgdata).is_ok_and(|waiting| waiting >= MANY);
    if many() {
        start_resident(args, context, config, pgdata);
    }
}

fn start_resident(args: &PushArgs, context: &Context, config: &Config, pgdata: &Path) {
    if config.archive.push_ahead > 0 {
        start(&["run", "--until-idle"], &args.repository, context, pgdata);
    }
}

/// Starts the process that fetches ahead.
fn start_prefetch(args: &GetArgs, context: &Context, pgdata: &Path) {
    let without = args.without.iter().flat_map(|name| ["--without", name.as_str()]);
    let verb: Vec<&str> = ["prefetch"].into_iter().chain(without).collect();
    start(&verb, &args.repository, context, pgdata);
}

/// Starts a process that outlives this one, with its configuration. That it cannot be started costs time only.
fn start(verb: &[&str], repository: &RepositoryArgs, context: &Context, pgdata: &Path) {
    let Ok(program) = crate::program::own_path() else { return };
    let mut command = Command::new(program);
    if let Some(config) = &context.config_flag {
        command.arg("--config").arg(context.absolute(config));
    }
    command.arg("archive").args(verb).arg("--pgdata").arg(pgdata);
    if let Some(place) = &repository.repository {
        command.arg("--repository").arg(place);
    }
    if let Some(key) = &repository.key_file {
        command.arg("--key-file").arg(key);
    }
    // In the same directory, so that relative paths mean the same.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // It is not waited for: this process ends at once, and then it is init's.
    drop(command.spawn());
}

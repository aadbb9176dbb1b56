//! `pgproof archive push` and `get`: PostgreSQL's hooks. They run in the data directory, as the server's user, and print nothing
//! unless asked, since all they print goes to the server's log.

use crate::account;
use crate::args::high::Context;
use crate::args::low::{GetArgs, PrefetchArgs, PushArgs};
use crate::exit::Exit;
use crate::fault::Refused;
use crate::printer::{Page, Report};
use crate::repository;
use pgproof_base::Bytes;
use pgproof_repo::walobject::StoreOptions;
use pgproof_wal::{GetOutcome, GetRequest, PushReport, PushRequest, get, push};
use pgproof_server::Owner;
use serde::Serialize;
use std::path::{Path, PathBuf};

pub(crate) fn archive_push(args: &PushArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let pgdata = data_directory(context)?;
    become_owner_of(&pgdata)?;
    let repository = repository::open(&config)?;
    let options = StoreOptions { codec: config.archive.compression, ..StoreOptions::default() };
    let report = push(&repository, &PushRequest { pgdata, path: args.path.clone() }, options)?;
    if context.printer.json || context.printer.verbose {
        context.printer.report("archive push", &report)?;
    }
    Ok(Exit::Done)
}

pub(crate) fn archive_get(args: &GetArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let pgdata = data_directory(context)?;
    become_owner_of(&pgdata)?;
    let repository = repository::open(&config)?;
    let request = GetRequest { pgdata, name: args.name.clone(), destination: args.path.clone() };
    let threads = StoreOptions::default().threads;
    let outcome = get(&repository, &request, threads)?;
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

pub(crate) fn archive_prefetch(_args: &PrefetchArgs, _context: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("reading ahead is not built yet")
}

//! `pgproof dump`: a logical backup.

use crate::account;
use crate::args::dump::{DumpArgs, ServerArgs};
use crate::args::high::Context;
use crate::config::Config;
use crate::exit::Exit;
use crate::printer::{Align, Page, Report, Table};
use crate::{evidence, instance, repository};
use pgproof_base::{Bytes, human_duration};
use pgproof_dump::{DumpOptions, DumpReport, Source, selection};
use pgproof_repo::Lineage;
use pgproof_repo::manifest::summary::DumpedGlobals;
use pgproof_server::ConnectOptions;
use std::path::{Path, PathBuf};

pub(crate) fn dump(args: &DumpArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let selection = selection(&args.database, &args.schema, &args.table)?;
    let (connect, programs) = server(&args.server, &config)?;
    let repository = repository::open(&config.one_repository()?)?;
    let mut source = Source::open(&connect, programs.as_deref())?;
    let options = DumpOptions {
        selection,
        full: args.full,
        jobs: jobs(args.jobs),
        codec: config.backup.compression,
        pack_bytes: config.backup.pack_size.0,
        temp: temp(args.temp.as_deref(), context),
    };
    let report = pgproof_dump::run(&repository, &mut source, &options, &context.talk)?;
    let lineage = Lineage::dumps(source.facts.system_identifier);
    evidence::keep(context, &repository, lineage, &evidence::of_dump(&report));
    context.talk.clear();
    context.printer.report("dump", &report)?;
    Ok(Exit::Done)
}

/// How the server is reached and where its programs are: the one that was named, else the configured one. The process becomes the
/// account that may use the repository.
pub(super) fn server(
    args: &ServerArgs,
    config: &Config,
) -> anyhow::Result<(ConnectOptions, Option<PathBuf>)> {
    if args.host.is_none() && args.port.is_none() {
        let found = instance::find(&config.instance)?;
        account::become_owner(found.owner)?;
        let mut connect = instance::connect_options(&config.instance, &found);
        connect.user = args.user.clone().or(connect.user);
        return Ok((connect, found.programs));
    }
    account::become_repository_owner(config)?;
    let connect = ConnectOptions {
        host: args.host.clone(),
        port: args.port,
        user: args.user.clone().or_else(|| config.instance.user.clone()),
        database: Some(config.instance.database.clone()),
        ..ConnectOptions::default()
    };
    Ok((connect, None))
}

pub(super) fn jobs(typed: Option<u16>) -> usize {
    /// Beyond this a dump takes more of the server than most would give it; who wants more says so.
    const JOBS_UNASKED: usize = 4;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(JOBS_UNASKED);
    typed.map_or_else(cores, |jobs| usize::from(jobs).max(1))
}

pub(super) fn temp(typed: Option<&Path>, context: &Context) -> PathBuf {
    typed.map_or_else(std::env::temp_dir, |path| context.absolute(path))
}

/// What a dump holds of globals, in a few words.
pub(super) fn describe_globals(globals: DumpedGlobals) -> &'static str {
    match globals {
        DumpedGlobals::WithPasswords => "roles with password hashes, tablespaces",
        DumpedGlobals::WithoutPasswords => "roles without passwords, tablespaces",
        DumpedGlobals::None => "none, because it is a selection",
    }
}

impl Report for DumpReport {
    fn render(&self, page: &mut Page) {
        page.line(format!("dump {} is complete", self.id));
        page.field("taken in", human_duration(self.elapsed));
        page.field("dumped", format!("{} by pg_dump {}", Bytes(self.bytes), self.program_version));
        let reused = match &self.base {
            Some(base) => format!("; {} were there already ({base})", Bytes(self.bytes_reused)),
            None => String::new(),
        };
        page.field("stored", format!("{}{reused}", Bytes(self.bytes_stored)));
        page.field("globals", describe_globals(self.globals));
        let columns = [
            ("database", Align::Left),
            ("files", Align::Right),
            ("size", Align::Right),
            ("new", Align::Right),
        ];
        let mut table = Table::new(&columns);
        for database in &self.databases {
            table.row(vec![
                database.name.clone(),
                database.files.to_string(),
                Bytes(database.bytes).to_string(),
                Bytes(database.bytes_new).to_string(),
            ]);
        }
        page.gap();
        page.table(&table);
        for name in &self.left_out {
            page.line(format!("  note: database {name} accepts no connections, and was left out"));
        }
        for note in &self.notes {
            page.line(format!("  note: {note}"));
        }
    }
}

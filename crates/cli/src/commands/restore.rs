//! `pgproof restore`.

use crate::account;
use crate::archive_command;
use crate::args::high::Context;
use crate::args::low::{LowTargetAction, RepositoryArgs, RestoreArgs};
use crate::config::Config;
use crate::exit::Exit;
use crate::fault::Refused;
use crate::printer::Page;
use crate::repository;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgproof_base::Progress;
use pgproof_pg::TimelineId;
use pgproof_repo::Repository;
use pgproof_repo::walset::Target;
use pgproof_restore::{
    Archiving, Commands, Edge, GapRule, Onto, Prepared, RecoveryTarget, Request, RestoreOptions,
    TablespaceMapping, TargetAction, TimelineChoice, ZoneOrigin, default_workers, parse_time, prepare,
};
use pgproof_server::Owner;
use pgproof_store::StoreConfig;
use serde::Serialize;
use std::path::Path;

/// A plan, or what came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RestoreOutcome {
    Planned(Box<pgproof_restore::Plan>),
    Done(Box<pgproof_restore::Report>),
}

pub(crate) fn restore(args: &RestoreArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let mut options = options(args, context, &config)?;
    let (repository, prepared) = open_and_prepare(&config, &mut options)?;
    if args.dry_run {
        context.printer.report("restore", &RestoreOutcome::Planned(Box::new(prepared.plan)))?;
        return Ok(Exit::Done);
    }
    let mut report = pgproof_restore::run(&repository, &prepared, &context.talk)?;
    if args.start {
        report.recovery = Some(super::start::start(args, &report, context)?);
    }
    context.talk.clear();
    let passed_over = report.recovery.as_ref().is_some_and(|recovery| !recovery.invalid_pages.is_empty());
    context.printer.report("restore", &RestoreOutcome::Done(Box::new(report)))?;
    Ok(if passed_over { Exit::BadAnswer } else { Exit::Done })
}

/// Plans, and where that was done as root for a repository in a directory, plans again as the future owner of the files.
///
/// Planning reads only, so that root may do it: whatever is refused is refused before a directory is made for the owner. What follows
/// leaves a lease in the repository, which must not be root's.
fn open_and_prepare(config: &Config, options: &mut RestoreOptions) -> anyhow::Result<(Repository, Prepared)> {
    let owner = options.owner.take();
    let in_directory = matches!(config.repository()?.store, StoreConfig::Directory(_));
    if let (Some(owner), true) = (owner, in_directory) {
        prepare_places(config, options, owner)?;
        account::become_owner(owner)?;
    } else {
        options.owner = owner;
    }
    let repository = repository::open(config)?;
    let prepared = prepare(&repository, options, Timestamp::now())?;
    Ok((repository, prepared))
}

/// Makes the directories that only root can make, for the owner, once a plan says that the restore will be done.
fn prepare_places(config: &Config, options: &RestoreOptions, owner: Owner) -> anyhow::Result<()> {
    let repository = repository::open(config)?;
    let planned = prepare(&repository, options, Timestamp::now())?;
    let tablespaces = planned.plan.tablespaces.iter().map(|tablespace| &tablespace.directory);
    for directory in std::iter::once(&options.directory).chain(tablespaces) {
        account::create_dir_for(directory, owner, 0o700)?;
        // An empty directory that root made for the purpose is as good as none.
        if Owner::of(directory)?.is_root() && std::fs::read_dir(directory)?.next().is_none() {
            account::give(directory, owner)?;
        }
    }
    Ok(())
}

fn options(args: &RestoreArgs, context: &Context, config: &Config) -> anyhow::Result<RestoreOptions> {
    let directory = args.pgdata.as_deref().map(|path| context.absolute(path));
    let directory = directory.or_else(|| config.instance.pgdata.clone()).ok_or_else(|| {
        let hint = "name one with --pgdata; it must be empty, unless --delta is given";
        Refused::new("restore-no-directory", "no directory to restore into is given", hint)
    })?;
    let owner = owner(&directory, config);
    let program = crate::program::own_path()?;
    if let Some(owner) = owner {
        account::refuse_unrunnable(&program, owner)?;
    }
    let backup = args.backup.as_deref().map(|named| backup_id(config, named)).transpose()?;
    Ok(RestoreOptions {
        request: Request {
            target: target(args, context)?,
            timeline: timeline(&args.timeline)?,
            backup,
            gap: if args.accept_gap { GapRule::Accept } else { GapRule::Refuse },
        },
        system: args.system.as_deref().map(parse_system).transpose()?,
        onto: match (args.delta, args.force) {
            (false, _) => Onto::Empty,
            (true, false) => Onto::Delta,
            (true, true) => Onto::Anything,
        },
        databases: args.database.clone(),
        tablespaces: tablespaces(args, context)?,
        external: args.external.as_deref().map(|path| context.absolute(path)),
        archiving: match args.take_over {
            false => Archiving::Off,
            true => Archiving::TakeOver { reason: "restore --take-over".to_owned() },
        },
        commands: commands_of(&program, &args.repository, args.spool.as_deref(), context, config)?,
        workers: config.backup.processes.unwrap_or_else(default_workers),
        owner,
        directory,
    })
}

fn target(args: &RestoreArgs, context: &Context) -> anyhow::Result<RecoveryTarget> {
    let stop = if let Some(text) = &args.time {
        time_target(text, context)?
    } else if let Some(text) = &args.lsn {
        Target::Lsn(
            text.parse().map_err(|_| invalid("--lsn", text, "write it as the server does: 0/3000148"))?,
        )
    } else if let Some(xid) = args.xid {
        Target::Xid(xid)
    } else if let Some(name) = &args.name {
        Target::Name(name.clone())
    } else if args.immediate {
        Target::Immediate
    } else {
        Target::Latest
    };
    Ok(RecoveryTarget {
        stop,
        edge: if args.exclusive { Edge::Exclusive } else { Edge::Inclusive },
        action: match args.target_action {
            LowTargetAction::Promote => TargetAction::Promote,
            LowTargetAction::Pause => TargetAction::Pause,
            LowTargetAction::Shutdown => TargetAction::Shutdown,
        },
    })
}

/// A time as typed; where its zone was guessed, that is said.
pub(super) fn time_target(text: &str, context: &Context) -> anyhow::Result<Target> {
    let requested = parse_time(text, &TimeZone::system())?;
    if let ZoneOrigin::Local(zone) = &requested.zone {
        let at = requested.at;
        context.talk.note(&format!("`{text}` has no time zone; taken in {zone}, that is {at}"));
    }
    Ok(Target::Time(requested.at))
}

fn invalid(flag: &str, text: &str, hint: &str) -> Refused {
    Refused::new("argument-invalid", format!("{flag} cannot be `{text}`"), hint)
}

pub(super) fn parse_system(text: &str) -> Result<pgproof_pg::SystemIdentifier, Refused> {
    text.parse().map_err(|_| invalid("--system", text, "`pgproof list` shows the systems of this repository"))
}

fn timeline(text: &str) -> Result<TimelineChoice, Refused> {
    match text {
        "latest" => Ok(TimelineChoice::Latest),
        "current" => Ok(TimelineChoice::Current),
        number => {
            let parsed = number.parse::<u32>().ok().filter(|number| *number > 0);
            let hint = "write latest, current, or the timeline's number";
            parsed
                .map(|n| TimelineChoice::Number(TimelineId(n)))
                .ok_or_else(|| invalid("--timeline", text, hint))
        }
    }
}

/// A backup's whole name needs no look into the repository; its beginning, or `latest`, does.
pub(super) fn backup_id(config: &Config, named: &str) -> anyhow::Result<pgproof_repo::BackupId> {
    if let Some(id) = repository::parse_backup(named) {
        return Ok(id);
    }
    let catalogs = repository::catalogs(&repository::open(config)?, pgproof_repo::catalog::Scope::Backups)?;
    Ok(repository::find_published(&catalogs, named)?.1.id)
}

fn tablespaces(args: &RestoreArgs, context: &Context) -> Result<TablespaceMapping, Refused> {
    let pair = |text: &String| {
        let (name, directory) =
            text.split_once('=').filter(|(name, directory)| !name.is_empty() && !directory.is_empty())?;
        Some((name.to_owned(), context.absolute(Path::new(directory))))
    };
    let hint = "write NAME=DIRECTORY; `pgproof show` lists the names";
    let single =
        args.tablespace.iter().map(|text| pair(text).ok_or_else(|| invalid("--tablespace", text, hint)));
    Ok(TablespaceMapping {
        single: single.collect::<Result<_, _>>()?,
        root: args.tablespace_root.as_deref().map(|path| context.absolute(path)),
    })
}

/// What the restored server calls. Without a configuration file the repository is named in the command itself.
pub(super) fn commands_of(
    program: &Path,
    args: &RepositoryArgs,
    spool: Option<&Path>,
    context: &Context,
    config: &Config,
) -> anyhow::Result<Commands> {
    let spool = spool.map(|path| archive_command::spool_flag(&context.absolute(path)));
    let spool = spool.unwrap_or_default();
    let (Some(file), None) = (&config.file, &args.repository) else {
        let repository = config.repository()?;
        let place = match &repository.store {
            StoreConfig::Directory(directory) => directory.path.display().to_string(),
            _ => args.repository.clone().unwrap_or_default(),
        };
        let key = repository.key_file.as_deref();
        return Ok(Commands {
            restore: archive_command::render_get_from(program, &place, key) + &spool,
            archive: archive_command::render_push_to(program, &place, key),
        });
    };
    let file = context.absolute(file);
    // Named because the configured one is lost, or another host's: replay needs it too.
    let key = args.key_file.as_deref().map(|key| archive_command::key_flag(&context.absolute(key)));
    Ok(Commands {
        restore: archive_command::render_get(program, &file) + &key.unwrap_or_default() + &spool,
        archive: archive_command::render(program, &file),
    })
}

/// To whom the files will belong, when this process is root: whoever has the directory now, else the configured instance's owner, the
/// repository's, or `postgres`.
fn owner(directory: &Path, config: &Config) -> Option<Owner> {
    if !Owner::current().is_root() {
        return None;
    }
    let of = |path: &Path| Owner::of(path).ok().filter(|owner| !owner.is_root());
    let configured = || config.instance.pgdata.as_deref().and_then(of);
    let repository =
        || config.repository().ok().as_ref().and_then(account::repository_owner).filter(|o| !o.is_root());
    of(directory).or_else(configured).or_else(repository).or_else(Owner::of_packages)
}

impl crate::printer::Report for RestoreOutcome {
    fn render(&self, page: &mut Page) {
        match self {
            Self::Planned(plan) => {
                super::restore_text::render_plan(page, plan);
                page.gap();
                page.line("nothing was changed (--dry-run)");
            }
            Self::Done(report) => super::restore_text::render_report(page, report),
        }
    }
}

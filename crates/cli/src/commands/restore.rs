//! `pgproof restore`.

use crate::account;
use crate::archive_command;
use crate::args::high::Context;
use crate::args::low::{LowTargetAction, RepositoryArgs, RestoreArgs};
use crate::config::{Config, RepositoryConfig};
use crate::exit::Exit;
use crate::fault::{Fault, Refused};
use crate::printer::Page;
use crate::{evidence, repository};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgproof_base::Progress;
use pgproof_pg::TimelineId;
use pgproof_repo::Repository;
use pgproof_repo::walset::Target;
use pgproof_restore::{
    Archiving, Commands, Edge, GapRule, Onto, Prepared, RecoveryTarget, Request, RestoreOptions,
    TablespaceMapping, TargetAction, TimelineChoice, ZoneOrigin, default_workers, parse_time, prepare_with,
};
use pgproof_server::Owner;
use pgproof_store::StoreConfig;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

/// A plan, or what came of it, and where it comes from.
#[derive(Debug, Serialize)]
pub(crate) struct RestoreReport {
    #[serde(flatten)]
    outcome: RestoreOutcome,
    /// The repository that was chosen; none where there is but one.
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<String>,
    /// Those before it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    passed_over: Vec<PassedOver>,
}

/// A repository that could not serve.
#[derive(Debug, Serialize)]
struct PassedOver {
    name: String,
    error: Fault,
    /// It could not even be opened, so nobody can tell what it holds.
    is_away: bool,
}

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
    let spool = args.spool.as_deref().map(|path| context.absolute(path));
    let found = open_and_prepare(&config, args, spool.as_deref(), &mut options)?;
    for passed in &found.passed_over {
        context.talk.note(&format!("warning: {}", passed.describe()));
    }
    let several = config.repositories()?.len() > 1 || !found.passed_over.is_empty();
    let report = |outcome, found: Source| RestoreReport {
        outcome,
        repository: several.then_some(found.name),
        passed_over: found.passed_over,
    };
    if args.dry_run {
        let planned = RestoreOutcome::Planned(Box::new(found.prepared.plan.clone()));
        context.printer.report("restore", &report(planned, found))?;
        return Ok(Exit::Done);
    }
    let mut done = pgproof_restore::run(&found.repository, &found.prepared, &context.talk)?;
    if config.is_of_file() {
        super::take_over::elsewhere(&config, &found.name, &found.repository, &mut done)?;
    }
    if args.start {
        done.recovery = Some(super::start::start(args, &done, context)?);
    }
    let system = done.plan.system.into();
    evidence::keep(context, &found.repository, system, &evidence::of_restore(&done));
    context.talk.clear();
    let is_damaged = done.recovery.as_ref().is_some_and(|recovery| !recovery.invalid_pages.is_empty());
    context.printer.report("restore", &report(RestoreOutcome::Done(Box::new(done)), found))?;
    Ok(if is_damaged { Exit::BadAnswer } else { Exit::Done })
}

/// The repository that a restore is made from.
struct Source {
    name: String,
    repository: Repository,
    prepared: Prepared,
    passed_over: Vec<PassedOver>,
}

impl PassedOver {
    fn describe(&self) -> String {
        let what = match self.is_away {
            true => "is away, and the recovery does not ask it for WAL",
            false => "was passed over",
        };
        format!("repository {} {what}: {}", self.name, self.error.one_line())
    }
}

/// The first repository that can bring the target back. Those that cannot be opened are left out of the recovery, as the operator is
/// told: it could not end as long as one that may have the next segment gives no answer.
fn choose(
    config: &Config,
    args: &RestoreArgs,
    spool: Option<&Path>,
    options: &RestoreOptions,
) -> anyhow::Result<Source> {
    let mut passed_over = Vec::new();
    let mut opened = Vec::new();
    let mut first = None;
    let all = if config.is_of_file() { config.all_repositories()? } else { config.repositories()? };
    for one in all {
        match repository::open(&one) {
            Ok(repository) => opened.push((one, repository)),
            Err(error) => {
                let shown = Fault::new(&error);
                passed_over.push(PassedOver { name: one.name.clone(), error: shown, is_away: true });
                first = first.or(Some(error).filter(|_| is_meant(config, &one.name)));
            }
        }
    }
    let mut options = options.clone();
    for away in &passed_over {
        options.commands.restore += &archive_command::without_flag(&away.name);
    }
    for (one, repository) in opened.into_iter().filter(|(one, _)| is_meant(config, &one.name)) {
        match prepare_from(&repository, args, spool, &options) {
            Ok(prepared) => return Ok(Source { name: one.name, repository, prepared, passed_over }),
            Err(error) => {
                let shown = Fault::new(&error);
                passed_over.push(PassedOver { name: one.name, error: shown, is_away: false });
                first = first.or(Some(error));
            }
        }
    }
    let error = first.ok_or_else(|| anyhow::anyhow!("no repository is configured"))?;
    let reasons: BTreeSet<String> = passed_over.iter().map(|passed| passed.error.one_line()).collect();
    // What is wrong with the directory, for example, is the same for all of them.
    if reasons.len() == 1 {
        return Err(error);
    }
    let all = passed_over.iter().map(|passed| format!("{}: {}", passed.name, passed.error.one_line()));
    let all: Vec<String> = all.collect();
    Err(error.context(format!("no repository can bring this back: {}", all.join("; "))))
}

/// Whether a restore may be made from it.
fn is_meant(config: &Config, name: &str) -> bool {
    config.settings.chosen.as_ref().is_none_or(|chosen| chosen == name)
}

fn prepare_from(
    repository: &Repository,
    args: &RestoreArgs,
    spool: Option<&Path>,
    options: &RestoreOptions,
) -> anyhow::Result<Prepared> {
    let mut options = options.clone();
    options.request.backup = match args.backup.as_deref() {
        Some(named) => Some(backup_id(repository, named)?),
        None => None,
    };
    Ok(prepare_with(repository, spool, &options, Timestamp::now())?)
}

/// Plans, and where that was done as root for a repository in a directory, plans again as the future owner of the files.
///
/// Planning reads only, so that root may do it: whatever is refused is refused before a directory is made for the owner. What follows
/// leaves a lease in the repository, which must not be root's.
fn open_and_prepare(
    config: &Config,
    args: &RestoreArgs,
    spool: Option<&Path>,
    options: &mut RestoreOptions,
) -> anyhow::Result<Source> {
    let owner = options.owner.take();
    let is_directory = |one: &RepositoryConfig| matches!(one.store, StoreConfig::Directory(_));
    let in_directory = config.repositories()?.iter().any(is_directory);
    if let (Some(owner), true) = (owner, in_directory) {
        prepare_places(config, args, spool, options, owner)?;
        account::become_owner(owner)?;
    } else {
        options.owner = owner;
    }
    choose(config, args, spool, options)
}

/// Makes the directories that only root can make, for the owner, once a plan says that the restore will be done.
fn prepare_places(
    config: &Config,
    args: &RestoreArgs,
    spool: Option<&Path>,
    options: &RestoreOptions,
    owner: Owner,
) -> anyhow::Result<()> {
    let planned = choose(config, args, spool, options)?.prepared;
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
    Ok(RestoreOptions {
        request: Request {
            target: target(args, context)?,
            timeline: timeline(&args.timeline)?,
            // Which one a name means is found out in each repository.
            backup: None,
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
pub(super) fn backup_id(repository: &Repository, named: &str) -> anyhow::Result<pgproof_repo::BackupId> {
    if let Some(id) = repository::parse_backup(named) {
        return Ok(id);
    }
    let catalogs = repository::catalogs(repository, pgproof_repo::catalog::Scope::Backups)?;
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
    let Some(file) = config.file.as_ref().filter(|_| config.is_of_file()) else {
        let repository = config.repositories()?.remove(0);
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
    let key = args.key_file.as_deref().map(|key| {
        // A key is that of one repository: the named one, where there are several.
        let named = config.settings.chosen.as_deref().map(archive_command::named_flag).unwrap_or_default();
        named + &archive_command::key_flag(&context.absolute(key))
    });
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
    let of_repository = |one: &RepositoryConfig| account::repository_owner(one).filter(|o| !o.is_root());
    let repository = || config.repositories().ok()?.iter().find_map(of_repository);
    of(directory).or_else(configured).or_else(repository).or_else(Owner::of_packages)
}

impl crate::printer::Report for RestoreReport {
    fn render(&self, page: &mut Page) {
        match &self.outcome {
            RestoreOutcome::Planned(plan) => super::restore_text::render_plan(page, plan),
            RestoreOutcome::Done(report) => super::restore_text::render_report(page, report),
        }
        if let Some(repository) = &self.repository {
            page.field("from repository", repository);
        }
        for passed in &self.passed_over {
            page.line(format!("  note: {}", passed.describe()));
        }
        if matches!(self.outcome, RestoreOutcome::Planned(_)) {
            page.gap();
            page.line("nothing was changed (--dry-run)");
        }
    }
}

//! `pgproof sandbox`.

use super::restore::{backup_id, parse_system, time_target};
use crate::args::high::Context;
use crate::args::low::RepositoryArgs;
use crate::args::sandbox::{
    CreateArgs, ExecArgs, FetchArgs, FilesArgs, KeepArgs, NamedArgs, PlaceArgs, SandboxCommand,
};
use crate::config::{Config, parse_duration};
use crate::exit::Exit;
use crate::fault::{Fault, Refused};
use crate::printer::{Align, Page, Report, Table, show_time};
use crate::{account, repository};
use jiff::Timestamp;
use pgproof_base::{Bytes, human_duration};
use pgproof_repo::walset::Target;
use pgproof_restore::{Edge, GapRule, RecoveryTarget, TargetAction, TimelineChoice, default_workers};
use pgproof_sandbox::{Call, Kind, Limits, Mask, Mode, Record, Request, Sandbox, Statistics, Status};
use pgproof_server::Owner;
use pgproof_store::StoreConfig;
use serde::Serialize;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

pub(crate) fn name(command: &SandboxCommand) -> &'static str {
    match command {
        SandboxCommand::Create(_) => "sandbox create",
        SandboxCommand::List(_) => "sandbox list",
        SandboxCommand::Psql(_) => "sandbox psql",
        SandboxCommand::Exec(_) => "sandbox exec",
        SandboxCommand::Stop(_) => "sandbox stop",
        SandboxCommand::Start(_) => "sandbox start",
        SandboxCommand::Drop(_) => "sandbox drop",
        SandboxCommand::Gc(_) => "sandbox gc",
        SandboxCommand::Keep(_) => "sandbox keep",
        SandboxCommand::Files(_) => "sandbox files",
        SandboxCommand::Fetch(_) => "sandbox fetch",
    }
}

/// The repository that a command uses, where it uses one.
pub(crate) fn repository_of(command: &SandboxCommand) -> Option<&RepositoryArgs> {
    match command {
        SandboxCommand::Create(args) => Some(&args.repository),
        SandboxCommand::Keep(args) => Some(&args.repository),
        SandboxCommand::Files(args) => Some(&args.repository),
        _ => None,
    }
}

pub(crate) fn sandbox(command: &SandboxCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        SandboxCommand::Create(args) => create(args, context),
        SandboxCommand::List(args) => list(args, context),
        SandboxCommand::Psql(args) => psql(args, context),
        SandboxCommand::Exec(args) => exec(args, context),
        SandboxCommand::Stop(args) => each_of(args, context, "sandbox stop", |sandbox| {
            sandbox.stop()?;
            Ok(())
        }),
        SandboxCommand::Start(args) => each_of(args, context, "sandbox start", |sandbox| {
            sandbox.start()?;
            Ok(())
        }),
        SandboxCommand::Drop(args) => discard(args, context),
        SandboxCommand::Gc(args) => collect(args, context),
        SandboxCommand::Keep(args) => keep(args),
        SandboxCommand::Files(args) => files(args, context),
        SandboxCommand::Fetch(args) => fetch(args),
    }
}

/// One sandbox, as reports show it.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    record: Record,
    /// What its file system did so far, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    statistics: Option<Statistics>,
}

#[derive(Debug, Serialize)]
struct Listed {
    sandboxes: Vec<Shown>,
}

#[derive(Debug, Serialize)]
struct Removed {
    removed: Vec<String>,
    failed: Vec<String>,
}

fn create(args: &CreateArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    let one = config.one_repository()?;
    let repository = repository::open(&one)?;
    let program = crate::program::own_path()?;
    // A server does not run as root; a repository in a directory says whose it is.
    let owner = account::repository_owner(&one).filter(|owner| !owner.is_root()).or_else(Owner::of_packages);
    let owner = owner.filter(|_| Owner::current().is_root());
    if let Some(owner) = owner {
        account::refuse_unrunnable(&program, owner)?;
    }
    let backup = args.backup.as_deref().map(|named| backup_id(&repository, named)).transpose()?;
    let stop = match (&args.at, backup) {
        (Some(text), _) => target(text, context)?,
        (None, Some(_)) => Target::Immediate,
        (None, None) => Target::Latest,
    };
    let recovery = pgproof_restore::Request {
        target: RecoveryTarget { stop, edge: Edge::Inclusive, action: TargetAction::Promote },
        timeline: TimelineChoice::Latest,
        backup,
        gap: GapRule::Refuse,
    };
    let mut roles: Vec<String> = config.instance.user.iter().cloned().collect();
    roles.extend(owner.unwrap_or_else(Owner::current).name());
    roles.push("postgres".to_owned());
    let request = Request {
        name: args.name.clone(),
        recovery,
        system: args.system.as_deref().map(parse_system).transpose()?,
        ttl: Some(parse_duration("--ttl", &args.ttl)?),
        mode: match (args.full, args.lazy) {
            (true, _) => Mode::Full,
            (_, true) => Mode::Lazy,
            _ => Mode::Auto,
        },
        mask: args
            .mask
            .as_deref()
            .map(|file| Mask { file: context.absolute(file), database: args.mask_database.clone() }),
        tcp: args.tcp,
        roles,
        owner,
        workers: config.backup.processes.unwrap_or_else(default_workers),
        limits: limits(args)?,
        ..Request::latest(&place(&args.place, context)?, call(program, &args.repository, context, &config)?)
    };
    let made = pgproof_sandbox::create(&repository, &request, &context.talk)?;
    context.talk.clear();
    context.printer.report("sandbox create", &shown(&made))?;
    Ok(Exit::Done)
}

fn limits(args: &CreateArgs) -> anyhow::Result<Limits> {
    let mut limits = Limits::default();
    if let Some(text) = &args.layer_limit {
        let bytes: Bytes = text.parse().map_err(|_| {
            Refused::new("argument-invalid", format!("--layer-limit cannot be `{text}`"), "write it as 10GB")
        })?;
        limits.layer_bytes = bytes.0;
    }
    Ok(limits)
}

/// The instant as typed.
fn target(text: &str, context: &Context) -> anyhow::Result<Target> {
    if text == "latest" {
        return Ok(Target::Latest);
    }
    if let Some(name) = text.strip_prefix("name:") {
        return Ok(Target::Name(name.to_owned()));
    }
    if let Some(xid) = text.strip_prefix("xid:").and_then(|xid| xid.parse().ok()) {
        return Ok(Target::Xid(xid));
    }
    match text.parse() {
        Ok(lsn) => Ok(Target::Lsn(lsn)),
        Err(_) => time_target(text, context),
    }
}

/// How the sandbox's processes are called: with what names the repository here, made absolute.
fn call(program: PathBuf, args: &RepositoryArgs, context: &Context, config: &Config) -> anyhow::Result<Call> {
    let mut repository = Vec::new();
    let one = config.one_repository()?;
    match config.file.as_ref().filter(|_| config.is_of_file()) {
        Some(file) => {
            repository.extend(["--config".to_owned(), context.absolute(file).display().to_string()]);
            repository.extend(["--repository".to_owned(), one.name.clone()]);
        }
        None => {
            let place = match &one.store {
                StoreConfig::Directory(directory) => directory.path.display().to_string(),
                _ => args.repository.clone().unwrap_or_default(),
            };
            repository.extend(["--repository".to_owned(), place]);
        }
    }
    let key = args.key_file.as_deref().map(|key| context.absolute(key));
    let key = key.or_else(|| one.key_file.clone().filter(|_| !config.is_of_file()));
    if let Some(key) = key {
        repository.extend(["--key-file".to_owned(), key.display().to_string()]);
    }
    Ok(Call { program, repository, get: Vec::new() })
}

/// Where the sandboxes of this account lie.
fn place(args: &PlaceArgs, context: &Context) -> anyhow::Result<PathBuf> {
    if let Some(directory) = &args.directory {
        return Ok(context.absolute(directory));
    }
    let variable = |name: &str| context.surroundings.environment.get(name).filter(|value| !value.is_empty());
    if let Some(directory) = variable("PGPROOF_SANDBOXES") {
        return Ok(PathBuf::from(directory));
    }
    if Owner::current().is_root() {
        return Ok(PathBuf::from("/var/lib/pgproof/sandboxes"));
    }
    let state = variable("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".local/state")));
    state.map(|state| state.join("pgproof/sandboxes")).ok_or_else(|| {
        let hint = "give it: --directory DIR";
        Refused::new("sandbox-no-place", "there is no HOME to keep sandboxes in", hint).into()
    })
}

fn open(args: &NamedArgs, context: &Context) -> anyhow::Result<Sandbox> {
    Ok(Sandbox::open(&place(&args.place, context)?, &args.name)?)
}

fn shown(sandbox: &Sandbox) -> Shown {
    let runs = sandbox.record().status == Status::Running;
    let statistics = runs.then(|| sandbox.statistics().ok()).flatten();
    Shown { record: sandbox.record().clone(), statistics }
}

fn list(args: &PlaceArgs, context: &Context) -> anyhow::Result<Exit> {
    let sandboxes = pgproof_sandbox::list(&place(args, context)?)?.iter().map(shown).collect();
    context.printer.report("sandbox list", &Listed { sandboxes })?;
    Ok(Exit::Done)
}

fn each_of(
    args: &NamedArgs,
    context: &Context,
    command: &str,
    act: impl FnOnce(&mut Sandbox) -> anyhow::Result<()>,
) -> anyhow::Result<Exit> {
    let mut sandbox = open(args, context)?;
    act(&mut sandbox)?;
    context.printer.report(command, &shown(&sandbox))?;
    Ok(Exit::Done)
}

fn discard(args: &NamedArgs, context: &Context) -> anyhow::Result<Exit> {
    open(args, context)?.discard()?;
    let removed = Removed { removed: vec![args.name.clone()], failed: Vec::new() };
    context.printer.report("sandbox drop", &removed)?;
    Ok(Exit::Done)
}

fn collect(args: &PlaceArgs, context: &Context) -> anyhow::Result<Exit> {
    let (mut removed, mut failed) = (Vec::new(), Vec::new());
    for (record, done) in pgproof_sandbox::collect(&place(args, context)?, Timestamp::now())? {
        match done {
            Ok(()) => removed.push(record.name),
            Err(error) => failed.push(format!("{}: {}", record.name, Fault::of(&error).one_line())),
        }
    }
    let exit = if failed.is_empty() { Exit::Done } else { Exit::BadAnswer };
    context.printer.report("sandbox gc", &Removed { removed, failed })?;
    Ok(exit)
}

fn psql(args: &ExecArgs, context: &Context) -> anyhow::Result<Exit> {
    let sandbox = Sandbox::open(&place(&args.place, context)?, &args.name)?;
    let mut command = Command::new(sandbox.psql()?);
    command.args(&args.arguments);
    become_command(&sandbox, command)
}

fn exec(args: &ExecArgs, context: &Context) -> anyhow::Result<Exit> {
    let sandbox = Sandbox::open(&place(&args.place, context)?, &args.name)?;
    let Some((program, arguments)) = args.arguments.split_first() else {
        let hint = "write it behind two dashes: pgproof sandbox exec NAME -- COMMAND";
        return Err(Refused::new("argument-missing", "there is no command to run", hint).into());
    };
    let mut command = Command::new(program);
    command.args(arguments);
    become_command(&sandbox, command)
}

/// This process becomes the command: its exit code is the command's.
fn become_command(sandbox: &Sandbox, mut command: Command) -> anyhow::Result<Exit> {
    // Those of another server would lead it there.
    for variable in ["PGSERVICE", "PGHOSTADDR", "PGOPTIONS", "PGPASSWORD", "PGPASSFILE"] {
        command.env_remove(variable);
    }
    command.envs(sandbox.environment());
    let program = command.get_program().to_string_lossy().into_owned();
    Err(anyhow::Error::new(command.exec()).context(format!("could not run {program}")))
}

fn keep(args: &KeepArgs) -> anyhow::Result<Exit> {
    match &args.stage {
        None => pgproof_sandbox::keeper::keep(&args.directory)?,
        Some(stage) => pgproof_sandbox::keeper::first(&args.directory, stage)?,
    }
    Ok(Exit::Done)
}

fn files(args: &FilesArgs, context: &Context) -> anyhow::Result<Exit> {
    let open = || {
        let opened = context.config().map_err(anyhow::Error::from).and_then(|config| {
            let one = config.one_repository()?;
            repository::open(&one)
        });
        opened.map_err(|error| Fault::new(&error).one_line())
    };
    pgproof_sandbox::files::run(&args.directory, &open)?;
    Ok(Exit::Done)
}

/// PostgreSQL reads the code: it is that of `archive get`, which follows rules of its own.
fn fetch(args: &FetchArgs) -> anyhow::Result<Exit> {
    std::process::exit(pgproof_sandbox::fetch(&args.desk, &args.name, &args.path))
}

fn seconds(seconds: f64) -> String {
    human_duration(Duration::from_secs_f64(seconds.max(0.0)))
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Creating => "being made",
        Status::Running => "running",
        Status::Stopped => "stopped",
        Status::Failed => "failed",
    }
}

impl Report for Shown {
    fn render(&self, page: &mut Page) {
        let record = &self.record;
        page.line(format!("sandbox {}: {}", record.name, status(record.status)));
        page.field("instant", &record.target);
        page.field("backup", record.backup);
        page.field(
            "data",
            match (record.kind, &record.why_full) {
                (Kind::Lazy, _) => "fetched when it is read".to_owned(),
                (Kind::Full, None) => "restored".to_owned(),
                (Kind::Full, Some(why)) => format!("restored, because {why}"),
            },
        );
        let connection = &record.connection;
        page.field(
            "connect",
            format!(
                "host={} port={} user={}",
                connection.socket_directory.display(),
                connection.port,
                connection.user
            ),
        );
        if let Some(expires) = record.expires {
            page.field("until", show_time(expires));
        }
        if let Some(measured) = &record.measured {
            page.field("first query", format!("after {}", seconds(measured.first_query_s)));
            page.field(
                "read for it",
                format!(
                    "{} of {} from the repository, WAL not counted",
                    Bytes(measured.bytes_read),
                    Bytes(record.cluster_bytes)
                ),
            );
        }
        for isolation in &record.isolation {
            page.field("isolation", isolation);
        }
        if let Some(failure) = &record.failure {
            page.field("failure", failure);
        }
        for note in &record.notes {
            page.line(format!("  note: {note}"));
        }
    }
}

impl Report for Listed {
    fn render(&self, page: &mut Page) {
        if self.sandboxes.is_empty() {
            page.line("there are no sandboxes");
            return;
        }
        let mut table = Table::new(&[
            ("name", Align::Left),
            ("state", Align::Left),
            ("data", Align::Left),
            ("instant", Align::Left),
            ("backup", Align::Left),
            ("until", Align::Left),
        ]);
        for Shown { record, .. } in &self.sandboxes {
            table.row(vec![
                record.name.clone(),
                status(record.status).to_owned(),
                if record.kind == Kind::Lazy { "lazy" } else { "full" }.to_owned(),
                record.target.clone(),
                record.backup.to_string(),
                record.expires.map_or_else(|| "-".to_owned(), show_time),
            ]);
        }
        page.table(&table);
    }
}

impl Report for Removed {
    fn render(&self, page: &mut Page) {
        match self.removed.as_slice() {
            [] => page.line("nothing was removed"),
            names => page.line(format!("removed {}", names.join(", "))),
        }
        for failed in &self.failed {
            page.line(format!("  not removed: {failed}"));
        }
    }
}

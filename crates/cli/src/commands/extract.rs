//! `pgproof extract`.

use super::restore::{backup_id, commands_of, parse_system, time_target};
use crate::args::high::Context;
use crate::args::low::ExtractArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::fault::Refused;
use crate::printer::{Page, Report};
use crate::{account, archive_command};
use crate::{instance, repository};
use anyhow::Context as _;
use jiff::Timestamp;
use pgproof_base::{Bytes, human_duration};
use pgproof_repo::walset::Target;
use pgproof_restore::extract::{
    Destination, ExtractError, ExtractOptions, ExtractPlan, ExtractReport, PURPOSE, TableName, Wanted,
    extract, prepare_extract,
};
use pgproof_restore::private::{discard, of_this_process};
use pgproof_restore::{
    Edge, GapRule, RecoveryTarget, Request, TargetAction, TimelineChoice, default_workers,
};
use pgproof_server::Owner;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// A plan, or what came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum ExtractOutcome {
    Planned(Box<ExtractPlan>),
    Done(Box<ExtractReport>),
}

pub(crate) fn extract_table(args: &ExtractArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.config()?;
    become_server_owner(&config)?;
    let mut options = options(args, context, &config)?;
    let chosen = config.one_repository()?;
    if config.is_of_file() {
        // What one repository was found to hold is replayed from there.
        for other in config.settings.repositories.iter().filter(|name| **name != chosen.name) {
            options.commands.restore += &archive_command::without_flag(other);
        }
    }
    let repository = repository::open(&chosen)?;
    options.request.backup = args.backup.as_deref().map(|named| backup_id(&repository, named)).transpose()?;
    let prepared = prepare_extract(&repository, &options, Timestamp::now())?;
    if args.dry_run {
        context.printer.report("extract", &ExtractOutcome::Planned(Box::new(prepared.plan)))?;
        return Ok(Exit::Done);
    }
    clear_when_interrupted(of_this_process(&options.scratch, &PURPOSE))?;
    let report = extract(&repository, &options, &prepared, &context.talk)?;
    context.talk.clear();
    context.printer.report("extract", &ExtractOutcome::Done(Box::new(report)))?;
    Ok(Exit::Done)
}

/// No server runs as root: where neither a data directory nor a repository says whose it is, it is whom packages made for the purpose.
pub(super) fn become_server_owner(config: &Config) -> anyhow::Result<()> {
    account::become_repository_owner(config)?;
    if !Owner::current().is_root() {
        return Ok(());
    }
    let owner = Owner::of_packages().ok_or_else(|| {
        let hint = "run it as the account that runs PostgreSQL, or name its data directory in [instance]";
        Refused::new("extract-as-root", "a server cannot be run as root", hint)
    })?;
    Ok(account::become_owner(owner)?)
}

/// The first interrupt stops the private server and removes its directory, whatever is going on; the second ends at once, and then the next
/// run removes it.
pub(super) fn clear_when_interrupted(place: PathBuf) -> anyhow::Result<()> {
    let stop = super::receive::stop_on_signals()?;
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(100));
        }
        // Whoever still writes there may put something back; the next run sees to it.
        let _ = discard(&place);
        std::process::exit(3);
    });
    Ok(())
}

fn options(args: &ExtractArgs, context: &Context, config: &Config) -> anyhow::Result<ExtractOptions> {
    let table =
        TableName::parse(&args.table).map_err(|why| ExtractError::Name { text: args.table.clone(), why })?;
    let program = crate::program::own_path()?;
    Ok(ExtractOptions {
        table,
        database: args.from_database.clone(),
        wanted: wanted(args, context, config)?,
        request: request(args, context)?,
        system: args.system.as_deref().map(parse_system).transpose()?,
        scratch: scratch(args.scratch.as_deref(), context)?,
        commands: commands_of(&program, &args.repository, None, context, config)?,
        roles: superusers(config),
        workers: config.backup.processes.unwrap_or_else(default_workers),
    })
}

/// Roles that may be superuser of a restored server.
pub(super) fn superusers(config: &Config) -> Vec<String> {
    let owner = Owner::current().name();
    let mut roles: Vec<String> = config.instance.user.iter().cloned().chain(owner).collect();
    roles.push("postgres".to_owned());
    roles.dedup();
    roles
}

/// Where there is room for a database: `/tmp` is often kept in memory.
pub(super) fn scratch(typed: Option<&Path>, context: &Context) -> anyhow::Result<PathBuf> {
    let variable = context.surroundings.environment.get("TMPDIR").filter(|value| !value.is_empty());
    let default = || PathBuf::from(variable.map_or("/var/tmp", String::as_str));
    let directory = typed.map_or_else(default, |path| context.absolute(path));
    // Its real name: the path of a socket below it has to be short.
    std::fs::canonicalize(&directory)
        .with_context(|| format!("could not use {} for the private server", directory.display()))
}

fn request(args: &ExtractArgs, context: &Context) -> anyhow::Result<Request> {
    let stop = match (&args.at, args.latest) {
        (Some(text), _) => time_target(text, context)?,
        // A backup alone: the instant at which it became consistent.
        (None, false) => Target::Immediate,
        (None, true) => Target::Latest,
    };
    Ok(Request {
        target: RecoveryTarget { stop, edge: Edge::Inclusive, action: TargetAction::Promote },
        timeline: TimelineChoice::Latest,
        // Which one a name means is found out in the repository.
        backup: None,
        gap: GapRule::Refuse,
    })
}

fn wanted(args: &ExtractArgs, context: &Context, config: &Config) -> anyhow::Result<Wanted> {
    if let Some(file) = &args.to {
        return Ok(Wanted::File(context.absolute(file)));
    }
    let connection_string = match args.into.as_deref() {
        Some(typed) if !typed.is_empty() => with_database(typed, &args.from_database),
        _ => configured(config, &args.from_database)?,
    };
    Ok(Wanted::Server {
        connection_string,
        name: args.new_name.as_deref().map(one_name).transpose()?,
        schema: args.schema.as_deref().map(one_name).transpose()?,
    })
}

/// A name by itself, folded or quoted as in SQL.
fn one_name(text: &str) -> Result<String, ExtractError> {
    let wrong = |why| ExtractError::Name { text: text.to_owned(), why };
    let name = TableName::parse(text).map_err(wrong)?;
    match name.schema {
        None => Ok(name.name),
        Some(_) => Err(wrong("it has two parts; the schema is given with --schema")),
    }
}

/// The configured server, else the only one of this host.
fn configured(config: &Config, database: &str) -> anyhow::Result<String> {
    let settings = &config.instance;
    let (host, port, user) = match settings.host.is_some() && settings.pgdata.is_none() {
        true => (settings.host.clone(), settings.port, settings.user.clone()),
        false => {
            let found = instance::find(settings)?;
            let connect = instance::connect_options(settings, &found);
            (connect.host, connect.port, connect.user)
        }
    };
    let pairs = [
        ("host", host),
        ("port", port.map(|port| port.to_string())),
        ("user", user),
        ("dbname", Some(database.to_owned())),
    ];
    let texts = pairs.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", quoted(&value?))));
    Ok(texts.collect::<Vec<_>>().join(" "))
}

/// A connection string with a database: the one it names, else that of the table.
fn with_database(text: &str, database: &str) -> String {
    let Some((_, rest)) = text.split_once("://") else {
        let named = text.split_whitespace().any(|word| word.starts_with("dbname"));
        return if named { text.to_owned() } else { format!("{text} dbname={}", quoted(database)) };
    };
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let in_path = place.split_once('/').is_some_and(|(_, path)| !path.is_empty());
    if in_path || parameters.split('&').any(|pair| pair.starts_with("dbname=")) {
        return text.to_owned();
    }
    let separator = if parameters.is_empty() && !text.ends_with('?') { '?' } else { '&' };
    format!("{text}{separator}dbname={}", percent_encoded(database))
}

/// A value of a connection string (34.1.1.1 of PostgreSQL's manual).
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn percent_encoded(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

impl Report for ExtractOutcome {
    fn render(&self, page: &mut Page) {
        match self {
            Self::Planned(plan) => render_plan(page, plan),
            Self::Done(report) => render_report(page, report),
        }
    }
}

fn render_plan(page: &mut Page, plan: &ExtractPlan) {
    page.line(format!("extract {} of database {}", plan.table, plan.database));
    page.field("into", show_destination(&plan.destination));
    page.gap();
    super::restore_text::render_plan(page, &plan.restore);
    page.gap();
    page.line("nothing was changed (--dry-run)");
}

fn render_report(page: &mut Page, report: &ExtractReport) {
    page.line(format!("extracted {}: {} rows in {}", report.table, report.rows, report.show_time()));
    page.field("instant", &report.target);
    if let Some(reached) = report.reached {
        page.field("replayed to", reached);
    }
    page.field("backup", report.backup);
    page.field("into", show_destination(&report.destination));
    if report.partitions > 0 {
        page.field("partitions", report.partitions);
    }
    page.field("copied", Bytes(report.bytes));
    page.field(
        "restored for it",
        format!(
            "{}, {} of other databases left out",
            Bytes(report.bytes_restored),
            Bytes(report.bytes_left_out)
        ),
    );
    let seconds = |s| human_duration(Duration::from_secs_f64(s));
    page.field(
        "time",
        format!(
            "{} to restore, {} to replay, {} to copy",
            seconds(report.restore_s),
            seconds(report.replay_s),
            seconds(report.copy_s)
        ),
    );
    for left in &report.left_behind {
        page.field("not copied", left);
    }
    if let Some(query) = report.query() {
        page.field("look at it", query);
    }
    for note in &report.notes {
        page.line(format!("  note: {note}"));
    }
}

fn show_destination(destination: &Destination) -> String {
    match destination {
        Destination::File { path, .. } => path.display().to_string(),
        Destination::Server { server, database, table } => {
            format!("table {table} in database {database} of {server}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_gets_the_table_s_database_where_it_names_none() {
        let check =
            |text: &str, expected: &str| assert_eq!(with_database(text, "my shop"), expected, "{text}");
        check("host=a dbname=b", "host=a dbname=b");
        check("host=a", "host=a dbname='my shop'");
        check("postgresql://a/b", "postgresql://a/b");
        check("postgresql://u@a:5433", "postgresql://u@a:5433?dbname=my%20shop");
        check("postgresql://a/?sslmode=prefer", "postgresql://a/?sslmode=prefer&dbname=my%20shop");
        check("postgresql:///?dbname=b", "postgresql:///?dbname=b");
    }
}

//! One file for each verb: what it means, how it is done by the libraries, how its report reads.

mod agent;
mod archive;
mod backup;
mod check;
mod cluster;
mod completions;
mod config;
mod copy;
mod doctor;
mod drill;
mod dump;
mod dumps;
mod each;
mod expire;
mod extract;
mod fence;
mod heartbeat;
mod init;
mod key;
mod list;
mod load;
mod objectives;
mod pin;
mod receive;
mod repair;
mod resident;
mod restore;
mod restore_text;
mod sandbox;
mod show;
mod start;
mod status;
mod take_over;
mod verify;

use crate::args::high::Context;
use crate::args::key::KeyCommand as Key;
use crate::args::low::{ConfigCommand, LowArgs, LowCommand};
use crate::exit::Exit;

pub(crate) use sandbox::repository_of as repository_of_sandbox;

/// Whether its threads may hang in the kernel, and it is to answer all the same.
pub(crate) fn may_hang(command: &LowCommand) -> bool {
    matches!(command, LowCommand::Doctor(_))
}

/// The command's name, as JSON documents carry it.
pub(crate) fn name(command: &LowCommand) -> &'static str {
    use crate::args::low::ArchiveCommand as Archive;
    match command {
        LowCommand::Init(_) => "init",
        LowCommand::Check(_) => "check",
        LowCommand::Backup(_) => "backup",
        LowCommand::Archive(Archive::Push(_)) => "archive push",
        LowCommand::Archive(Archive::Get(_)) => "archive get",
        LowCommand::Archive(Archive::Run(_)) => "archive run",
        LowCommand::Archive(Archive::Status(_)) => "archive status",
        LowCommand::Archive(Archive::Receive(_)) => "archive receive",
        LowCommand::Archive(Archive::Prefetch(_)) => "archive prefetch",
        LowCommand::Restore(_) => "restore",
        LowCommand::Extract(_) => "extract",
        LowCommand::Sandbox(command) => sandbox::name(command),
        LowCommand::Drill(_) => "drill",
        LowCommand::Heartbeat(_) => "heartbeat",
        LowCommand::Dump(_) => "dump",
        LowCommand::Load(_) => "load",
        LowCommand::List(_) => "list",
        LowCommand::Show(_) => "show",
        LowCommand::Status(_) => "status",
        LowCommand::Verify(_) => "verify",
        LowCommand::Expire(_) => "expire",
        LowCommand::Copy(_) => "copy",
        LowCommand::Repair(_) => "repair",
        LowCommand::Pin(_) => "pin",
        LowCommand::Unpin(_) => "unpin",
        LowCommand::Agent(_) => "agent",
        LowCommand::Cluster(command) => cluster::name(command),
        LowCommand::Fence(_) => "fence",
        LowCommand::Doctor(args) => doctor::name(args),
        LowCommand::Key(Key::List(_)) => "key list",
        LowCommand::Key(Key::Add(_)) => "key add",
        LowCommand::Key(Key::Remove(_)) => "key remove",
        LowCommand::Key(Key::Rotate(_)) => "key rotate",
        LowCommand::Key(Key::Generate(_)) => "key generate",
        LowCommand::Key(Key::Check(_)) => "key check",
        LowCommand::Config(ConfigCommand::Explain(_)) => "config explain",
        LowCommand::Completions(_) => "completions",
        LowCommand::Man(_) => "man",
    }
}

/// Carries out a command.
pub(crate) fn run(low: &LowArgs, context: &Context) -> anyhow::Result<Exit> {
    use crate::args::low::ArchiveCommand as Archive;
    match &low.command {
        LowCommand::Init(args) => init::init(args, context),
        LowCommand::Check(args) => check::check(args, context),
        LowCommand::Backup(args) => backup::backup(args, context),
        LowCommand::Archive(Archive::Push(args)) => archive::archive_push(args, context),
        LowCommand::Archive(Archive::Get(args)) => archive::archive_get(args, context),
        LowCommand::Archive(Archive::Run(args)) => resident::archive_run(args, context),
        LowCommand::Archive(Archive::Status(args)) => status::archive_status(args, context),
        LowCommand::Archive(Archive::Receive(args)) => receive::archive_receive(args, context),
        LowCommand::Archive(Archive::Prefetch(args)) => archive::archive_prefetch(args, context),
        LowCommand::Restore(args) => restore::restore(args, context),
        LowCommand::Extract(args) => extract::extract_table(args, context),
        LowCommand::Sandbox(command) => sandbox::sandbox(command, context),
        LowCommand::Drill(args) => drill::drill(args, context),
        LowCommand::Heartbeat(args) => heartbeat::heartbeat(args, context),
        LowCommand::Dump(args) => dump::dump(args, context),
        LowCommand::Load(args) => load::load(args, context),
        LowCommand::List(_) => list::list(context),
        LowCommand::Show(args) => show::show(args, context),
        LowCommand::Status(_) => objectives::status(context),
        LowCommand::Verify(args) => verify::verify(args, context),
        LowCommand::Expire(args) => expire::expire(args, context),
        LowCommand::Copy(args) => copy::copy(args, context),
        LowCommand::Repair(args) => repair::repair(args, context),
        LowCommand::Pin(args) => pin::pin(args, context),
        LowCommand::Unpin(args) => pin::unpin(args, context),
        LowCommand::Agent(args) => agent::agent(args, context),
        LowCommand::Cluster(command) => cluster::cluster(command, context),
        LowCommand::Fence(args) => fence::fence(args),
        LowCommand::Doctor(args) => doctor::doctor(args, context),
        LowCommand::Key(command) => key::key(command, context),
        LowCommand::Config(ConfigCommand::Explain(args)) => config::explain(args, context),
        LowCommand::Completions(args) => completions::completions(args, context),
        LowCommand::Man(args) => completions::man(args, context),
    }
}

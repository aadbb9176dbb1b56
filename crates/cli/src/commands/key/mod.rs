//! `pgproof key`: who can open the repository.
//!
//! Here is what only looks ([`list`], [`check`]) and what touches no repository ([`generate`]); [`change`] adds and removes, [`rotate`]
//! gives this host another key. What is wrapped and how is `pgproof_repo::recipients`.

mod change;
mod rotate;

use crate::account;
use crate::args::high::Context;
use crate::args::key::{KeyCommand, KeyGenerateArgs};
use crate::config::RepositoryConfig;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::key_file;
use crate::printer::{Align, Page, Report, Table, show_time};
use crate::repository::ways;
use jiff::Timestamp;
use pgproof_repo::description::COMMAND_KIND;
use pgproof_repo::{OpenedBy, Repository, Suite, Unlock};
use pgproof_server::Owner;
use pgproof_store::Store;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

/// Said whenever somebody loses a wrapping. Not softened: it is what the reader must know before he relies on it.
const NOT_TAKEN: &str = "What is stored is not written again: whoever has opened the repository before may have kept its data key, and can \
    read what is stored now and later as far as he can reach the store.";

pub(crate) fn key(command: &KeyCommand, context: &Context) -> anyhow::Result<Exit> {
    match command {
        KeyCommand::List(_) => list(context),
        KeyCommand::Add(args) => change::add(args, context),
        KeyCommand::Remove(args) => change::remove(args, context),
        KeyCommand::Rotate(args) => rotate::rotate(args, context),
        KeyCommand::Generate(args) => generate(args, context),
        KeyCommand::Check(_) => check(context),
    }
}

/// Who can open a repository.
#[derive(Debug, Serialize)]
struct KeyList {
    repository: String,
    id: String,
    suite: &'static str,
    keys: Vec<KeyLine>,
}

#[derive(Debug, Serialize)]
struct KeyLine {
    kind: String,
    /// An age recipient, or the program of a key command.
    recipient: String,
    added: Option<Timestamp>,
    /// Whether this host's configuration has the identity, or a key command.
    this_host: bool,
}

fn list(context: &Context) -> anyhow::Result<Exit> {
    let (config, store) = open_store(context)?;
    let description = Repository::describe(&*store)?;
    // A key that is lost is no reason not to say whose others there are.
    let own = config.key_file.clone().and_then(|file| Unlock::IdentityFile(file).recipients().ok());
    let own = own.unwrap_or_default();
    let line = |kind: &str, recipient: &String, added: Option<Timestamp>| KeyLine {
        kind: kind.to_owned(),
        recipient: recipient.clone(),
        added,
        this_host: if kind == COMMAND_KIND { config.key_command.is_some() } else { own.contains(recipient) },
    };
    let of_key = |key: &pgproof_repo::description::WrappedKey| -> Vec<KeyLine> {
        key.recipients.iter().map(|recipient| line(&key.kind, recipient, key.added)).collect()
    };
    let report = KeyList {
        repository: store.describe(),
        id: description.id.to_string(),
        suite: description.suite.name(),
        keys: description.keys.iter().flat_map(of_key).collect(),
    };
    context.printer.report("key list", &report)?;
    Ok(Exit::Done)
}

impl Report for KeyList {
    fn render(&self, page: &mut Page) {
        if self.keys.is_empty() {
            page.line(format!("{} is not encrypted: it needs no key", self.repository));
            return;
        }
        page.heading(format!("Who can open {}", self.repository));
        let columns = [
            ("kind", Align::Left),
            ("recipient", Align::Left),
            ("added", Align::Left),
            ("here", Align::Left),
        ];
        let mut table = Table::new(&columns);
        for key in &self.keys {
            let added = key.added.map_or("when it was created".to_owned(), show_time);
            let here = if key.this_host { "this host" } else { "" };
            table.row(vec![key.kind.clone(), key.recipient.clone(), added, here.to_owned()]);
        }
        page.table(&table);
    }
}

/// The configured repository's settings and its store, without a key.
fn open_store(context: &Context) -> anyhow::Result<(RepositoryConfig, Arc<dyn Store>)> {
    let config = context.config()?;
    account::become_repository_owner(&config)?;
    let repository = config.one_repository()?;
    let store: Arc<dyn Store> = Arc::from(repository.store.open()?);
    Ok((repository, store))
}

/// What each configured way to the data key came to.
#[derive(Debug, Serialize)]
struct KeyCheck {
    repository: String,
    encrypted: bool,
    ways: Vec<WayLine>,
    /// How many can open it, these included.
    recipients: usize,
}

#[derive(Debug, Serialize)]
struct WayLine {
    /// `key file /etc/pgproof/main.key`, `key command /usr/local/bin/key-service`
    way: String,
    /// The recipient that matched; none for a key command, and where it did not open.
    recipient: Option<String>,
    opens: bool,
    problem: Option<Fault>,
}

fn check(context: &Context) -> anyhow::Result<Exit> {
    let (config, store) = open_store(context)?;
    let description = Repository::describe(&*store)?;
    let encrypted = description.suite != Suite::None;
    let ways = ways(&config);
    if ways.is_empty() {
        Repository::open(store.clone(), &Unlock::Nothing)?;
    }
    let mut lines = Vec::new();
    let mut first = None;
    for (way, unlock) in ways {
        let opened =
            Repository::open(store.clone(), &unlock).map(|repository| repository.opened_by().clone());
        let (recipient, problem) = match opened {
            Ok(OpenedBy::Recipient(recipient)) => (Some(recipient), None),
            Ok(OpenedBy::Command | OpenedBy::Nothing) => (None, None),
            Err(error) => {
                let error = anyhow::Error::from(error);
                let fault = Fault::new(&error);
                first.get_or_insert(error);
                (None, Some(fault))
            }
        };
        lines.push(WayLine { way, recipient, opens: problem.is_none(), problem });
    }
    let exit = match (first, lines.iter().any(|line| line.opens)) {
        (None, _) => Exit::Done,
        (Some(_), true) => Exit::BadAnswer,
        (Some(error), false) => return Err(error),
    };
    let recipients = description.recipients().count();
    let report = KeyCheck { repository: store.describe(), encrypted, ways: lines, recipients };
    context.printer.report("key check", &report)?;
    Ok(exit)
}

impl Report for KeyCheck {
    fn render(&self, page: &mut Page) {
        if !self.encrypted {
            page.line(format!("{} is not encrypted: it needs no key", self.repository));
        }
        for line in &self.ways {
            match (&line.problem, &line.recipient) {
                (None, Some(recipient)) => {
                    page.line(format!("the {} opens {}, as {recipient}", line.way, self.repository));
                }
                (None, None) => page.line(format!("the {} opens {}", line.way, self.repository)),
                (Some(problem), _) => {
                    page.line(format!("the {} does not open {}:", line.way, self.repository));
                    page.line(problem.to_string().trim_end());
                }
            }
        }
        match self.recipients {
            0 => {}
            1 => page.line("nobody else can open it: keep a copy of the key elsewhere, or add a recipient"),
            several => page.line(format!("{several} can open it in all; `pgproof key list` names them")),
        }
    }
}

/// A key that was made.
#[derive(Debug, Serialize)]
struct Generated {
    dry_run: bool,
    file: PathBuf,
    /// None with `--dry-run`: the key would be another one.
    recipient: Option<String>,
}

fn generate(args: &KeyGenerateArgs, context: &Context) -> anyhow::Result<Exit> {
    let file = context.absolute(&args.file);
    key_file::refuse_existing(&file)?;
    let recipient = match args.dry_run {
        true => None,
        false => {
            let pair = pgproof_repo::key::generate();
            key_file::write_new(&file, &key_file::key_text(&pair), key_file::MODE, Owner::current())?;
            Some(pair.recipient)
        }
    };
    context.printer.report("key generate", &Generated { dry_run: args.dry_run, file, recipient })?;
    Ok(Exit::Done)
}

impl Report for Generated {
    fn render(&self, page: &mut Page) {
        match &self.recipient {
            // Alone on its line, so that `RECIPIENT=$(pgproof key generate FILE)` is all there is to it.
            Some(recipient) => page.line(recipient),
            None => page.line(format!("would write a new key into {} (--dry-run)", self.file.display())),
        }
    }
}

//! `pgproof key add` and `pgproof key remove`.

use super::NOT_TAKEN;
use crate::args::high::Context;
use crate::args::key::{KeyAddArgs, KeyRemoveArgs};
use crate::exit::Exit;
use crate::fault::Refused;
use crate::printer::{Page, Report};
use crate::repository;
use anyhow::Context as _;
use pgproof_repo::key::parse_recipient;
use pgproof_repo::{KeyCommand, Leaving, Present, Repository};
use serde::Serialize;

/// Who came and who went.
#[derive(Debug, Serialize)]
struct KeysChanged {
    dry_run: bool,
    repository: String,
    added: Vec<String>,
    /// Who could open it already.
    already: Vec<String>,
    removed: Vec<String>,
    /// How many can open it now.
    recipients: usize,
}

impl KeysChanged {
    fn new(dry_run: bool, repository: &Repository) -> Self {
        let (added, already, removed) = (Vec::new(), Vec::new(), Vec::new());
        Self { dry_run, repository: repository.store().describe(), added, already, removed, recipients: 0 }
    }
}

pub(super) fn add(args: &KeyAddArgs, context: &Context) -> anyhow::Result<Exit> {
    // Before this process becomes another account, which may not read the file.
    let named = named_recipients(args, context)?;
    let (config, repository) = repository::open_one(context)?;
    let present = Present::read(&repository)?;
    let mut report = KeysChanged::new(args.dry_run, &repository);
    let mut changed = present.description.clone();
    for recipient in named {
        if changed.has_own(&recipient) {
            report.already.push(recipient);
        } else {
            changed = changed.with(repository.wrap_for(&recipient)?);
            report.added.push(recipient);
        }
    }
    if args.command {
        let command = configured_command(config.key_command.as_ref())?;
        // A dry run asks no key service: that leaves traces there.
        if !args.dry_run {
            changed = changed.with(repository.wrap_by(command)?);
        }
        report.added.push(format!("the key command {}", command.program()));
    }
    report.recipients = changed.recipients().count();
    if !args.dry_run && changed != present.description {
        repository.try_unlock(&changed, &repository::unlock(&config))?;
        repository.replace_description(&present, &changed)?;
    }
    context.printer.report("key add", &report)?;
    Ok(Exit::Done)
}

fn configured_command(command: Option<&KeyCommand>) -> Result<&KeyCommand, Refused> {
    command.ok_or_else(|| {
        let hint = "set `key_command` in the [repository] table of pgproof.toml; see docs/manual/keys.md";
        Refused::new("key-command-unset", "no key command is configured", hint)
    })
}

/// The recipients of the command line and of the file, in the one form that they have, each once.
fn named_recipients(args: &KeyAddArgs, context: &Context) -> anyhow::Result<Vec<String>> {
    let mut texts = args.recipient.clone();
    if let Some(file) = &args.recipients_file {
        let file = context.absolute(file);
        let fail = || format!("could not read the recipients in {}", file.display());
        let text = std::fs::read_to_string(&file).with_context(fail)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        texts.extend(lines.map(str::to_owned));
        if texts.is_empty() {
            let message = format!("{} names no recipient", file.display());
            let hint = "write one on each line: age1...";
            return Err(Refused::new("key-no-recipient", message, hint).into());
        }
    }
    let mut named: Vec<String> = Vec::new();
    for text in &texts {
        let recipient = parse_recipient(text)?.to_string();
        if !named.contains(&recipient) {
            named.push(recipient);
        }
    }
    Ok(named)
}

pub(super) fn remove(args: &KeyRemoveArgs, context: &Context) -> anyhow::Result<Exit> {
    let leaving = match &args.recipient {
        Some(text) => Leaving::Recipient(parse_recipient(text)?.to_string()),
        None => Leaving::Command,
    };
    let (config, repository) = repository::open_one(context)?;
    let present = Present::read(&repository)?;
    let place = repository.store().describe();
    let changed = present.description.without(&leaving, &place)?;
    let named = match leaving {
        Leaving::Recipient(recipient) => recipient,
        Leaving::Command => "what the key command wrapped".to_owned(),
    };
    let host_opens = repository.try_unlock(&changed, &repository::unlock(&config));
    if let (Err(why), false) = (&host_opens, args.lock_out_this_host) {
        let message = format!("without {named} this host could no longer open {place}: {why}");
        let hint = "give it another key first, `pgproof key rotate` does all of it; or add --lock-out-this-host if this is meant";
        return Err(Refused::new("key-own", message, hint).into());
    }
    let mut report = KeysChanged::new(args.dry_run, &repository);
    report.removed.push(named);
    report.recipients = changed.recipients().count();
    if !args.dry_run {
        repository.replace_description(&present, &changed)?;
    }
    context.printer.report("key remove", &report)?;
    Ok(Exit::Done)
}

impl Report for KeysChanged {
    fn render(&self, page: &mut Page) {
        let verb = |done: &'static str, planned: &'static str| if self.dry_run { planned } else { done };
        for who in &self.added {
            page.line(format!("{} {who}", verb("added", "would add")));
        }
        for who in &self.already {
            page.line(format!("{who} can open it already"));
        }
        for who in &self.removed {
            page.line(format!("{} {who}", verb("removed", "would remove")));
        }
        let verb = verb("can", "could then");
        page.line(format!("{} {verb} open {}", self.recipients, self.repository));
        if !self.removed.is_empty() {
            page.gap();
            page.line(NOT_TAKEN);
        }
        if self.dry_run {
            page.line("nothing was changed (--dry-run)");
        }
    }
}

//! Carries out the plan of `init`.

use super::add;
use super::observe::Place;
use super::plan::{InitPlan, Step};
use crate::account;
use crate::args::low::InitArgs;
use crate::config::RepositoryConfig;
use crate::config::definitions::Section;
use crate::config::template::{Entry, render};
use crate::key_file::{self, key_text, write_new};
use anyhow::Context as _;
use pgproof_base::Progress;
use pgproof_repo::key::generate;
use pgproof_repo::{CreateOptions, Repository, Suite, Unlock};
use pgproof_server::privilege::act_as;
use pgproof_server::settings::{self, Change};
use pgproof_server::{Owner, Session};
use pgproof_store::{StoreConfig, StoreError};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

/// How long a restart may take, each for stopping and starting: a shutdown writes a checkpoint.
const RESTART_LIMIT: Duration = Duration::from_secs(300);

/// The half that may need root: directories and files, given to the owner of the data directory.
pub(crate) fn as_root(args: &InitArgs, place: &Place, plan: &InitPlan) -> anyhow::Result<()> {
    let owner = place.instance.owner;
    for step in &plan.steps {
        match step {
            Step::MakeKey { path } => write_new(path, &key_text(&generate()), key_file::MODE, owner)?,
            Step::WriteConfig { path } => write_new(path, &config_text(args, place), 0o640, owner)?,
            Step::AddRepository { path, name } => {
                let text =
                    fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
                let text = add::with_repository(&text, name, &repository_entries(args, place))
                    .with_context(|| format!("could not add repository `{name}` to {}", path.display()))?;
                // Not before it exists: from then on WAL is archived only when it is held there.
                if is_created(plan) {
                    act_as(creator(owner), || create_repository(&place.repository, &place.recipients))??;
                }
                add::replace(path, &text)?;
            }
            Step::CreateRepository { .. } => {
                if let StoreConfig::Directory(directory) = &place.repository.store {
                    account::create_dir_for(&directory.path, owner, 0o700)
                        .with_context(|| format!("could not create {}", directory.path.display()))?;
                }
            }
            Step::Set { .. } | Step::Restart { .. } => {}
        }
    }
    Ok(())
}

/// The half that the owner of the data directory does.
pub(crate) fn as_owner(place: &Place, plan: &InitPlan, progress: &dyn Progress) -> anyhow::Result<()> {
    let mut changes = Vec::new();
    let mut restart = false;
    for step in &plan.steps {
        match step {
            Step::CreateRepository { .. } if !is_added(plan) => {
                create_repository(&place.repository, &place.recipients)?;
            }
            Step::Set { name, value, .. } => changes.push(Change::set(name, value)),
            Step::Restart { .. } => restart = true,
            Step::MakeKey { .. }
            | Step::CreateRepository { .. }
            | Step::WriteConfig { .. }
            | Step::AddRepository { .. } => {}
        }
    }
    if !changes.is_empty() {
        let mut session = Session::open(&place.connect)?;
        settings::change(&mut session, &place.connect, &changes)?;
    }
    if restart {
        progress.note("restarting the server");
        place.instance.control()?.restart(RESTART_LIMIT)?;
    }
    Ok(())
}

fn is_created(plan: &InitPlan) -> bool {
    plan.steps.iter().any(|step| matches!(step, Step::CreateRepository { .. }))
}

fn is_added(plan: &InitPlan) -> bool {
    plan.steps.iter().any(|step| matches!(step, Step::AddRepository { .. }))
}

/// Who makes what lies in the repository: nothing there may be root's.
fn creator(owner: Owner) -> Owner {
    if Owner::current().is_root() { owner } else { Owner::current() }
}

/// Makes a repository that no server archives into, unless there is one: for `copy`. What is made belongs to `owner`.
pub(crate) fn create_second(repository: &RepositoryConfig, owner: Option<Owner>) -> anyhow::Result<()> {
    let found = repository.store.open().map(|store| Repository::open(Arc::from(store), &Unlock::Nothing));
    match found {
        Err(StoreError::NoRepository { .. }) | Ok(Err(pgproof_repo::Error::NotARepository { .. })) => {}
        Err(error) => return Err(error.into()),
        Ok(_) => return Ok(()),
    }
    let owner = owner.unwrap_or_else(Owner::current);
    if let Some(path) = repository.key_file.as_deref().filter(|path| !path.exists()) {
        write_new(path, &key_text(&generate()), 0o600, owner)?;
    }
    if let StoreConfig::Directory(directory) = &repository.store {
        account::create_dir_for(&directory.path, owner, 0o700)
            .with_context(|| format!("could not create {}", directory.path.display()))?;
    }
    account::become_owner(owner)?;
    create_repository(repository, &[])
}

fn create_repository(repository: &RepositoryConfig, recipients: &[String]) -> anyhow::Result<()> {
    let RepositoryConfig { store, key_file, key_command, .. } = repository;
    let mut all = match key_file {
        Some(path) => Unlock::IdentityFile(path.clone()).recipients()?,
        None => Vec::new(),
    };
    all.extend(recipients.iter().cloned());
    let sealed = !all.is_empty() || key_command.is_some();
    let suite = if sealed { Suite::Aes256Gcm } else { Suite::None };
    let options = CreateOptions { suite, recipients: all };
    Repository::create_with(Arc::from(store.create()?), &options, key_command.as_ref())?;
    Ok(())
}

fn config_text(args: &InitArgs, place: &Place) -> String {
    let mut entries = vec![Entry {
        section: Section::Instance,
        name: "pgdata",
        text: place.instance.data_directory.display().to_string(),
    }];
    let mut add = |section, name, text: Option<String>| {
        entries.extend(text.map(|text| Entry { section, name, text }));
    };
    // Port and socket are found out from the data directory each time, so that moving them breaks nothing. A host or role that was
    // given must be kept: nothing else tells them.
    add(
        Section::Instance,
        "user",
        place.connect.user.clone().filter(|user| Some(user) != place.instance.owner.name().as_ref()),
    );
    entries.extend(repository_entries(args, place));
    render(&place.repository.name, &entries)
}

/// What the file says of the repository.
fn repository_entries(args: &InitArgs, place: &Place) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut add = |name, text: Option<String>| {
        entries.extend(text.map(|text| Entry { section: Section::Repository, name, text }));
    };
    let is_directory = matches!(place.repository.store, StoreConfig::Directory(_));
    add(if is_directory { "path" } else { "url" }, Some(place.repository_text.clone()));
    add("endpoint", args.endpoint.clone());
    add("region", args.region.clone());
    if args.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://")) {
        add("allow_http", Some("true".to_owned()));
    }
    add("key_file", place.repository.key_file.as_ref().map(|path| path.display().to_string()));
    add("key_command", args.key_command.clone());
    entries
}

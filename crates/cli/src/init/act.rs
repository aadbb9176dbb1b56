//! Carries out the plan of `init`.

use super::add;
use super::observe::Place;
use super::plan::{InitPlan, Step};
use crate::account;
use crate::args::low::InitArgs;
use crate::config::definitions::Section;
use crate::config::template::{Entry, render};
use anyhow::Context as _;
use jiff::Timestamp;
use pgproof_base::Progress;
use pgproof_repo::key::{KeyPair, generate, parse_recipient};
use pgproof_repo::{CreateOptions, Repository, Suite};
use pgproof_server::privilege::act_as;
use pgproof_server::settings::{self, Change};
use pgproof_server::{Owner, Session};
use pgproof_store::StoreConfig;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a restart may take, each for stopping and starting: a shutdown writes a checkpoint.
const RESTART_LIMIT: Duration = Duration::from_secs(300);

/// The half that may need root: directories and files, given to the owner of the data directory.
pub(crate) fn as_root(args: &InitArgs, place: &Place, plan: &InitPlan) -> anyhow::Result<()> {
    let owner = place.instance.owner;
    for step in &plan.steps {
        match step {
            Step::MakeKey { path } => write_new(path, &key_text(&generate()), 0o600, owner)?,
            Step::WriteConfig { path } => write_new(path, &config_text(args, place), 0o640, owner)?,
            Step::AddRepository { path, name } => {
                let text =
                    fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
                let text = add::with_repository(&text, name, &repository_entries(args, place))
                    .with_context(|| format!("could not add repository `{name}` to {}", path.display()))?;
                // Not before it exists: from then on WAL is archived only when it is held there.
                if is_created(plan) {
                    act_as(creator(owner), || create_repository(place))??;
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
            Step::CreateRepository { .. } if !is_added(plan) => create_repository(place)?,
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

fn create_repository(place: &Place) -> anyhow::Result<()> {
    let options = match &place.repository.key_file {
        None => CreateOptions { suite: Suite::None, recipients: Vec::new() },
        Some(path) => CreateOptions { suite: Suite::Aes256Gcm, recipients: vec![recipient_of(path)?] },
    };
    let store = place.repository.store.create()?;
    Repository::create(Arc::from(store), &options)?;
    Ok(())
}

/// The file as `age-keygen` writes it, so that the `age` tool can use it too.
fn key_text(pair: &KeyPair) -> String {
    format!(
        "# created: {}\n# public key: {}\n# pgproof: whoever has this file can read the backups; without it nobody can. Keep a copy elsewhere.\n{}\n",
        Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        pair.recipient,
        *pair.identity
    )
}

/// The recipient that a key file names for itself.
fn recipient_of(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    let named = text.lines().find_map(|line| line.trim().strip_prefix("# public key:"));
    let named = named.with_context(|| format!("{} has no line `# public key: age1...`", path.display()))?;
    Ok(parse_recipient(named)?.to_string())
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
    entries
}

/// Writes a file that must not exist yet, durably.
fn write_new(path: &Path, text: &str, mode: u32, owner: Owner) -> anyhow::Result<()> {
    let fail = || format!("could not write {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(fail)?;
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).with_context(fail)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(fail)?;
    account::give(path, owner).with_context(fail)?;
    if let Some(parent) = path.parent() {
        fs::File::open(parent).and_then(|parent| parent.sync_all()).with_context(fail)?;
    }
    Ok(())
}

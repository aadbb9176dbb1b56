//! Finds what `init` has to know: where files are or will be, what is there already, what the server says.

use super::plan::{InitFacts, InitOptions, RepositoryState};
use crate::args::high::Context;
use crate::args::low::InitArgs;
use crate::config::definitions::Section;
use crate::config::{Config, FlagValue, NAMED, RepositoryConfig, SYSTEM_FILE, is_name};
use crate::fault::Refused;
use crate::{instance, repository};
use anyhow::Context as _;
use pgproof_repo::Repository;
use pgproof_repo::key::parse_recipient;
use pgproof_server::privilege::act_as;
use pgproof_server::{ConnectOptions, Facts, Instance, Owner, ServerError, Session, State};
use pgproof_store::{StoreConfig, StoreError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the repository in a new file.
pub(crate) const REPOSITORY_NAME: &str = "main";

/// Where everything is or will be.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) instance: Instance,
    pub(crate) connect: ConnectOptions,
    /// As in `pgproof.toml`: a path or a URL.
    pub(crate) repository_text: String,
    pub(crate) repository: RepositoryConfig,
    /// Who else is to open a new repository.
    pub(crate) recipients: Vec<String>,
    pub(crate) config_file: PathBuf,
    pub(crate) config_exists: bool,
    /// The name under which the repository is added to the configuration that is there.
    added: Option<String>,
    configured_repository: Option<String>,
}

/// Finds the places. Only looks.
pub(crate) fn place(args: &InitArgs, context: &Context) -> anyhow::Result<Place> {
    let config_file = config_file(context);
    let config_exists = config_file.exists();
    let text = match config_exists {
        true => Some(
            std::fs::read_to_string(&config_file)
                .with_context(|| format!("could not read {}", config_file.display()))?,
        ),
        false => None,
    };
    let file = text.map(|text| (config_file.clone(), text));
    let environment = &context.surroundings.environment;
    let load =
        |flags: &[FlagValue]| Config::from_text(file.clone(), vec![config_file.clone()], environment, flags);
    let known = match config_exists {
        // One that cannot be used is not what `init` is asked about.
        true => load(&[])?.all_repositories().unwrap_or_default(),
        false => Vec::new(),
    };
    let mut flags = context.flags.clone();
    if args.repository.repository.is_none() {
        flags.push(unnamed_place(args, &known, context)?);
    }
    let config = load(&flags)?;
    let mut repository = config.repositories()?.remove(0);
    let same_place =
        known.iter().find(|known| known.store.describe() == repository.store.describe()).cloned();
    let added = name_to_add(args, &known, same_place.as_ref(), config_exists)?;
    if let Some(known) = &same_place {
        // Named again on the command line, it is still the file's, with the file's key unless another one is named.
        let key_named = args.repository.key_file.is_some();
        let key_file = if key_named { repository.key_file } else { known.key_file.clone() };
        let key_command = repository.key_command.or_else(|| known.key_command.clone());
        repository = RepositoryConfig { key_file, key_command, ..known.clone() };
    } else {
        repository.name = args.name.clone().unwrap_or_else(|| REPOSITORY_NAME.to_owned());
    }
    if args.no_encryption {
        repository.key_file = None;
    } else if repository.key_file.is_none()
        && repository.key_command.is_none()
        && (known.is_empty() || added.is_some())
    {
        repository.key_file = Some(config_file.with_file_name(format!("{}.key", repository.name)));
    }
    let instance = instance::find(&config.instance)?;
    if !matches!(instance.state, State::Running { .. }) {
        let message = format!("the server of {} does not run", instance.data_directory.display());
        return Err(Refused::new(
            "instance-stopped",
            message,
            "start it: init asks and changes its settings",
        )
        .into());
    }
    let recipients = args.recipient.iter().map(|text| Ok(parse_recipient(text)?.to_string()));
    let recipients = recipients.collect::<anyhow::Result<_>>()?;
    let repository_text = text_of(&repository, &flags);
    let configured_repository = match same_place {
        Some(_) => Some(repository_text.clone()),
        None => known.first().map(|configured| text_of(configured, &[])),
    };
    Ok(Place {
        connect: instance::connect_options(&config.instance, &instance),
        repository_text,
        configured_repository,
        instance,
        repository,
        recipients,
        config_file,
        config_exists,
        added,
    })
}

/// Which repository is meant where no place is given: the one named, else the first one, else a new one in the usual place.
fn unnamed_place(
    args: &InitArgs,
    known: &[RepositoryConfig],
    context: &Context,
) -> Result<FlagValue, Refused> {
    let named = |name: &str| FlagValue {
        section: Section::Repository,
        name: NAMED,
        text: name.to_owned(),
        flag: "--name",
    };
    match (args.name.as_deref(), known) {
        (_, []) => Ok(default_repository(context)),
        (Some(name), known) if !known.iter().any(|known| known.name == name) => Err(Refused::new(
            "init-no-place",
            format!("repository `{name}` is not configured, and no place is given for it"),
            "name its place with --repository",
        )),
        (Some(name), _) => Ok(named(name)),
        (None, [first, ..]) => Ok(named(&first.name)),
    }
}

/// The name under which a repository is added to the configuration that is there.
fn name_to_add(
    args: &InitArgs,
    known: &[RepositoryConfig],
    same_place: Option<&RepositoryConfig>,
    config_exists: bool,
) -> Result<Option<String>, Refused> {
    let Some(name) = &args.name else { return Ok(None) };
    if !is_name(name) {
        let message = format!("`{name}` cannot name a repository");
        return Err(Refused::new("argument-invalid", message, "use a-z, 0-9, `-` and `_`"));
    }
    let taken = |configured: &RepositoryConfig| {
        let message =
            format!("{} is configured as repository `{}`", configured.store.describe(), configured.name);
        Refused::new("config-exists", message, "choose another place, or leave out --name")
    };
    match same_place {
        Some(same) if same.name == *name => Ok(None),
        Some(same) => Err(taken(same)),
        None => match known.iter().find(|known| known.name == *name) {
            Some(other) => Err(taken(other)),
            None => Ok(config_exists.then(|| name.clone())),
        },
    }
}

/// Where the file is, else where it belongs: for root the system's place, for others their own.
fn config_file(context: &Context) -> PathBuf {
    let places = context.surroundings.places(context.config_flag.as_deref());
    if let Some(named) = places.flag.as_ref().or(places.variable.as_ref()) {
        return context.absolute(named);
    }
    let usual = places.usual();
    let user = places.user_directory.filter(|_| !Owner::current().is_root());
    let own =
        user.map_or_else(|| PathBuf::from(SYSTEM_FILE), |directory| directory.join("pgproof/pgproof.toml"));
    usual.into_iter().find(|path| path.exists()).unwrap_or(own)
}

fn default_repository(context: &Context) -> FlagValue {
    let variable =
        |name: &str| context.surroundings.environment.get(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || variable("HOME").map(|home| home.join(".local/share"));
    let user = variable("XDG_DATA_HOME").or_else(home).filter(|_| !Owner::current().is_root());
    let path = user.unwrap_or_else(|| PathBuf::from("/var/lib")).join("pgproof").join(REPOSITORY_NAME);
    FlagValue {
        section: Section::Repository,
        name: "path",
        text: path.display().to_string(),
        flag: "the usual place",
    }
}

/// The place as the file names it.
fn text_of(repository: &RepositoryConfig, flags: &[FlagValue]) -> String {
    match &repository.store {
        StoreConfig::Directory(directory) => directory.path.display().to_string(),
        _ => {
            let typed = flags.iter().find(|flag| flag.section == Section::Repository && flag.name == "url");
            typed.map_or_else(|| repository.store.describe(), |flag| flag.text.clone())
        }
    }
}

/// Looks at server, repository and files.
pub(crate) fn observe(args: &InitArgs, place: &Place) -> anyhow::Result<(InitFacts, InitOptions)> {
    let facts = server_facts(place)?;
    let key_exists = place.repository.key_file.as_deref().is_some_and(Path::exists);
    let init_facts = InitFacts {
        program: crate::program::own_path().context("could not tell where this program lies")?,
        data_directory: place.instance.data_directory.clone(),
        tablespaces: facts.tablespaces.iter().map(|space| resolved(&space.location)).collect(),
        config_file: place.config_file.clone(),
        config_exists: place.config_exists,
        configured_repository: place.configured_repository.clone(),
        added: place.added.clone(),
        key_exists,
        repository: repository_state(&place.repository, key_exists)?,
        settings: facts.settings.into_iter().collect::<BTreeMap<_, _>>(),
        pending_restart: facts.pending_restart,
    };
    let options = InitOptions {
        repository: place.repository_text.clone(),
        repository_directory: match &place.repository.store {
            StoreConfig::Directory(directory) => Some(resolved(&directory.path)),
            _ => None,
        },
        key_file: place.repository.key_file.clone(),
        key_command: place.repository.key_command.is_some(),
        recipients: place.recipients.clone(),
        restart: args.restart,
        replace_archive_command: args.replace_archive_command,
    };
    Ok((init_facts, options))
}

/// Asks the server as the owner of its data directory: peer authentication lets nobody else in.
fn server_facts(place: &Place) -> Result<Facts, ServerError> {
    let owner = match Owner::current().is_root() {
        true => place.instance.owner,
        false => Owner::current(),
    };
    act_as(owner, || Facts::observe(&mut Session::open(&place.connect)?))?
}

/// Links resolved as far as the path exists.
fn resolved(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return real.join(rest);
        }
    }
    path.to_owned()
}

/// Whether the repository is there and opens with the key.
fn repository_state(config: &RepositoryConfig, key_exists: bool) -> anyhow::Result<RepositoryState> {
    let absent =
        |error: &StoreError| matches!(error, StoreError::NoRepository { .. } | StoreError::NotFound { .. });
    let store = match config.store.open() {
        Ok(store) => store,
        Err(error) if absent(&error) => {
            refuse_occupied(config)?;
            return Ok(RepositoryState::Absent);
        }
        Err(error) => return Err(error.into()),
    };
    let unlock = match key_exists || config.key_command.is_some() {
        true => repository::unlock(config),
        false => pgproof_repo::Unlock::Nothing,
    };
    match Repository::open(Arc::from(store), &unlock) {
        Ok(_) => Ok(RepositoryState::Open),
        Err(pgproof_repo::Error::NotARepository { .. }) => Ok(RepositoryState::Absent),
        Err(pgproof_repo::Error::KeyNeeded { place }) => Err(Refused::new(
            "repository-key-needed",
            format!("there is an encrypted repository in {place} already, and no key for it"),
            "name its key with --key-file, or choose an empty place with --repository",
        )
        .into()),
        Err(error) => Err(error.into()),
    }
}

/// A directory with something else in it is not taken.
fn refuse_occupied(config: &RepositoryConfig) -> Result<(), Refused> {
    let StoreConfig::Directory(directory) = &config.store else { return Ok(()) };
    let Ok(mut entries) = std::fs::read_dir(&directory.path) else { return Ok(()) };
    if entries.next().is_none() {
        return Ok(());
    }
    let message = format!("{} is not empty, and is no repository", directory.path.display());
    Err(Refused::new(
        "repository-place-occupied",
        message,
        "choose an empty or a new directory with --repository",
    ))
}

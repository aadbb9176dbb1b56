//! Opening the configured repository, and finding in it what a person named.

use crate::args::high::Context;
use crate::config::{Config, ConfigError, RepositoryConfig};
use crate::fault::Refused;
use anyhow::Context as _;
use pgproof_pg::SystemIdentifier;
use pgproof_repo::catalog::{BackupState, CatalogBackup, LineageCatalog, Scope, dump_lineages, lineages};
use pgproof_repo::lease::LeaseTimes;
use pgproof_repo::{BackupId, Error, Lineage, Repository, Unlock};
use pgproof_wal::NamedRepository;
use std::sync::Arc;

/// What opens a configured repository.
pub(crate) fn unlock(config: &RepositoryConfig) -> Unlock {
    let mut ways: Vec<Unlock> = ways(config).into_iter().map(|(_, unlock)| unlock).collect();
    match ways.len() {
        0 => Unlock::Nothing,
        1 => ways.remove(0),
        _ => Unlock::AnyOf(ways),
    }
}

/// The configured ways to its key, each with its name; the file first, because it asks nobody.
pub(crate) fn ways(config: &RepositoryConfig) -> Vec<(String, Unlock)> {
    let file = config
        .key_file
        .as_ref()
        .map(|path| (format!("key file {}", path.display()), Unlock::IdentityFile(path.clone())));
    let command = config
        .key_command
        .as_ref()
        .map(|command| (format!("key command {}", command.program()), Unlock::Command(command.clone())));
    file.into_iter().chain(command).collect()
}

/// Opens a configured repository.
pub(crate) fn open(config: &RepositoryConfig) -> anyhow::Result<Repository> {
    let store = config.store.open()?;
    Ok(Repository::open(Arc::from(store), &unlock(config))?)
}

/// A configured repository, and what opening it gave.
pub(crate) struct Opened {
    pub(crate) config: RepositoryConfig,
    pub(crate) repository: anyhow::Result<Repository>,
}

/// Opens the repositories that are meant, in their order.
pub(crate) fn open_each(config: &Config) -> anyhow::Result<Vec<Opened>> {
    let open = |config: RepositoryConfig| Opened { repository: open(&config), config };
    Ok(config.repositories()?.into_iter().map(open).collect())
}

/// Reads the configuration and opens the repositories that are meant.
pub(crate) fn open_configured(context: &Context) -> anyhow::Result<(Config, Vec<Opened>)> {
    let config = context.config()?;
    crate::account::become_repository_owner(&config)?;
    let opened = open_each(&config)?;
    Ok((config, opened))
}

/// Reads the configuration and opens the one repository that is meant.
pub(crate) fn open_one(context: &Context) -> anyhow::Result<(RepositoryConfig, Repository)> {
    let config = context.config()?;
    crate::account::become_repository_owner(&config)?;
    let config = config.one_repository()?;
    let repository = open(&config)?;
    Ok((config, repository))
}

/// The repositories that are meant, to be opened when they are needed.
pub(crate) fn named(config: &Config) -> Result<Vec<NamedRepository>, ConfigError> {
    let name = |config: RepositoryConfig| {
        let (name, place, required) = (config.name.clone(), config.store.describe(), config.required);
        NamedRepository::new(name, place, required, move || {
            let store = config.store.open().map_err(Error::store("open the repository"))?;
            Repository::open(Arc::from(store), &unlock(&config))
        })
    };
    Ok(config.repositories()?.into_iter().map(name).collect())
}

/// The same without those that a recovery was told to leave out.
pub(crate) fn named_without(config: &Config, without: &[String]) -> anyhow::Result<Vec<NamedRepository>> {
    let mut repositories = named(config)?;
    // One that is not configured was taken out of the file meanwhile, which comes to the same.
    repositories.retain(|repository| !without.contains(&repository.name));
    match repositories.is_empty() {
        true => Err(Refused::new(
            "repository-none-left",
            "no repository is left to be asked",
            "leave out one --without",
        )
        .into()),
        false => Ok(repositories),
    }
}

/// Reads the catalogs of all lineages.
pub(crate) fn catalogs(repository: &Repository, scope: Scope) -> anyhow::Result<Vec<LineageCatalog>> {
    read_all(repository, lineages(repository)?, scope)
}

/// Reads the catalogs of all dumps.
pub(crate) fn dump_catalogs(repository: &Repository, scope: Scope) -> anyhow::Result<Vec<LineageCatalog>> {
    read_all(repository, dump_lineages(repository)?, scope)
}

fn read_all(
    repository: &Repository,
    lineages: Vec<Lineage>,
    scope: Scope,
) -> anyhow::Result<Vec<LineageCatalog>> {
    let read = |lineage: Lineage| LineageCatalog::read(repository, lineage, scope, LeaseTimes::default());
    lineages
        .into_iter()
        .map(|lineage| read(lineage).with_context(|| format!("could not read system {}", lineage.system())))
        .collect()
}

/// What a person named, for commands that do the same to backups and dumps: a backup, else a dump of this name.
pub(crate) fn with_dumps(
    repository: &Repository,
    mut catalogs: Vec<LineageCatalog>,
    named: &str,
) -> anyhow::Result<Vec<LineageCatalog>> {
    // `latest` is a backup: what may be restored is asked for more often.
    if named != "latest" {
        catalogs.extend(dump_catalogs(repository, Scope::Backups)?);
    }
    Ok(catalogs)
}

/// The catalog whose newest backup is the newest of all; none when there is no backup.
pub(crate) fn newest(catalogs: &[LineageCatalog]) -> Option<&LineageCatalog> {
    let newest_of = |catalog: &&LineageCatalog| {
        catalog.published().filter_map(|backup| backup.summary.as_ref().map(|s| s.stopped)).max()
    };
    catalogs.iter().filter(|catalog| newest_of(catalog).is_some()).max_by_key(newest_of)
}

/// Finds the backup that a person named: its name, the beginning of it, or `latest`.
///
/// # Errors
/// When there is none, or several begin so.
pub(crate) fn find<'a>(
    catalogs: &'a [LineageCatalog],
    named: &str,
) -> Result<(&'a LineageCatalog, &'a CatalogBackup), Refused> {
    let listed = "run `pgproof list` to see which backups there are";
    if named == "latest" {
        let found = newest(catalogs).and_then(|catalog| {
            let good = catalog.published().rfind(|backup| backup.marked.is_none() && backup.is_good());
            Some((catalog, good.or_else(|| catalog.published().next_back())?))
        });
        return found.ok_or_else(|| {
            Refused::new("backup-absent", "there is no backup yet", "take one: `pgproof backup`")
        });
    }
    let all = catalogs.iter().flat_map(|catalog| catalog.backups.iter().map(move |backup| (catalog, backup)));
    let mut matching = all.filter(|(_, backup)| backup.id.as_str().starts_with(named));
    match (matching.next(), matching.next()) {
        (Some(found), None) => Ok(found),
        (None, _) => Err(Refused::new("backup-absent", format!("there is no backup `{named}`"), listed)),
        (Some(_), Some(_)) => {
            let message = format!("`{named}` is the beginning of several backups");
            Err(Refused::new("backup-ambiguous", message, listed))
        }
    }
}

/// Finds a backup that exists: published, and with a manifest that can be read.
pub(crate) fn find_published<'a>(
    catalogs: &'a [LineageCatalog],
    named: &str,
) -> Result<(&'a LineageCatalog, &'a CatalogBackup), Refused> {
    let (catalog, backup) = find(catalogs, named)?;
    match &backup.state {
        BackupState::Published => Ok((catalog, backup)),
        state => {
            let message = format!("backup {} cannot be used: {}", backup.id, describe(state));
            Err(Refused::new("backup-unusable", message, "run `pgproof list` to see the state of each"))
        }
    }
}

/// A state in a few words.
pub(crate) fn describe(state: &BackupState) -> String {
    match state {
        BackupState::Published => "complete".to_owned(),
        BackupState::Running => "running".to_owned(),
        BackupState::Interrupted { .. } => "interrupted".to_owned(),
        BackupState::Revoked { why } => format!("given up: {why}"),
        BackupState::Removing => "being removed".to_owned(),
        BackupState::Remains => "removed".to_owned(),
        BackupState::Damaged { what } => format!("damaged: {what}"),
    }
}

/// The lineage that is meant: the one named, else the only one.
pub(crate) fn lineage(repository: &Repository, named: Option<&str>) -> anyhow::Result<Lineage> {
    if let Some(text) = named {
        let system: SystemIdentifier = text.parse().map_err(|_| {
            let hint = "`pgproof list` shows them";
            Refused::new("system-invalid", format!("`{text}` is not a system identifier"), hint)
        })?;
        return Ok(Lineage::new(system));
    }
    match lineages(repository)?.as_slice() {
        [only] => Ok(*only),
        [] => Err(Refused::new(
            "repository-empty",
            "the repository holds nothing yet",
            "take a backup: `pgproof backup`",
        )
        .into()),
        several => {
            let names: Vec<_> = several.iter().map(|lineage| lineage.system().to_string()).collect();
            let message = format!("the repository holds several systems: {}", names.join(", "));
            Err(Refused::new("system-ambiguous", message, "name one with --system").into())
        }
    }
}

/// A backup's name, as typed for `--backup`.
pub(crate) fn parse_backup(text: &str) -> Option<BackupId> {
    text.parse().ok()
}

//! Looks at everything `check` judges. What cannot be looked at becomes part of the observation, not an error: one broken
//! part must not hide the others.

use super::observation::{
    ArchiveTest, ArchiverFacts, CommandTarget, DirectoryFacts, LastBackup, Observation, RepositoryFacts,
    Room, Seen, ServerFacts, Trouble, UserFacts, WriterFacts,
};
use super::{archive_test, files};
use crate::account::can_run;
use crate::archive_command::{self, ArchiveCommand};
use crate::args::high::Context;
use crate::config::{Config, RepositoryConfig, RetentionConfig};
use crate::fault::Fault;
use crate::repository::Opened;
use crate::{instance, repository};
use jiff::Timestamp;
use pgproof_pg::SystemIdentifier;
use pgproof_repo::catalog::{LineageCatalog, Scope, lineages};
use pgproof_repo::lease::LeaseTimes;
use pgproof_repo::{Lineage, Repository, Suite};
use pgproof_server::{Facts, Instance, Owner, Session};
use pgproof_store::StoreConfig;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the caller wants looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckOptions {
    /// How long the archive test waits; none leaves it out.
    pub(crate) archive_test: Option<Duration>,
}

/// Turns an error into what is shown of it.
pub(super) fn trouble(error: &anyhow::Error) -> Trouble {
    let fault = Fault::new(error);
    let mut message = fault.message;
    for cause in fault.causes {
        message += ": ";
        message += &cause;
    }
    Trouble { code: fault.code, message, hint: fault.hint }
}

fn seen<T>(result: anyhow::Result<T>) -> Seen<T> {
    match result {
        Ok(value) => Seen::Yes(value),
        Err(error) => Seen::No(trouble(&error)),
    }
}

/// Looks. The process is the data directory's owner by now, where it could become that. There is one observation for each repository, by
/// name; the server is looked at once.
pub(crate) fn observe(
    context: &Context,
    config: &Config,
    instance: anyhow::Result<Instance>,
    options: CheckOptions,
) -> Vec<(String, Observation)> {
    let program = crate::program::own_path().unwrap_or_default();
    let instance = seen(instance);
    let files = match &instance {
        Seen::Yes(instance) => seen(files::observe(instance)),
        Seen::No(trouble) => Seen::No(trouble.clone()),
    };
    let mut session = match &instance {
        Seen::Yes(instance) => {
            let options = instance::connect_options(&config.instance, instance);
            seen(Session::open(&options).map_err(anyhow::Error::from))
        }
        Seen::No(trouble) => Seen::No(trouble.clone()),
    };
    let facts = match &mut session {
        Seen::Yes(session) => seen(Facts::observe(session).map_err(anyhow::Error::from)),
        Seen::No(trouble) => Seen::No(trouble.clone()),
    };
    let system = facts.ok().map(|facts| facts.system_identifier);
    let system = system.or_else(|| files.ok().and_then(|files: &DirectoryFacts| files.system_identifier));
    let data = data_places(&files, facts.ok());
    let mut looks = Vec::new();
    for one in repositories(config) {
        let repository = match &one.repository {
            Ok(repository) => seen(repository_facts(&one, repository, system, &data)),
            Err(error) => Seen::No(trouble(error)),
        };
        let test = match (&mut session, facts.ok(), &one.repository) {
            (Seen::Yes(session), Some(facts), Ok(repository)) => {
                archive_test::run(context, session, facts, repository, options.archive_test)
            }
            _ => ArchiveTest::NotRun { why: "server or repository cannot be reached".to_owned() },
        };
        looks.push((one, repository, test));
    }
    // After the tests: what the archiver did with them counts.
    let server = match (session, facts) {
        (Seen::Yes(mut session), Seen::Yes(first)) => {
            let facts = Facts::observe(&mut session).unwrap_or(first);
            Seen::Yes(server_facts(&facts, session.server()))
        }
        (Seen::No(trouble), _) | (_, Seen::No(trouble)) => Seen::No(trouble),
    };
    let command_target = server.ok().and_then(|server| command_target(server.setting("archive_command")));
    let user = user_facts(&program);
    let one = |(one, repository, archive_test): (Looked, Seen<RepositoryFacts>, ArchiveTest)| {
        let observation = Observation {
            user: user.clone(),
            config_file: config.file.as_deref().map(|file| resolved(&context.absolute(file))),
            command_target: command_target.clone(),
            program: program.clone(),
            files: files.clone(),
            server: server.clone(),
            repository,
            required: one.config.as_ref().is_none_or(|config| config.required),
            retention: one.config.as_ref().is_some_and(|config| has_retention(&config.retention)),
            archive_test,
        };
        (one.config.map(|config| config.name).unwrap_or_default(), observation)
    };
    looks.into_iter().map(one).collect()
}

/// A repository that is looked at; without configuration where that says nothing usable of any.
struct Looked {
    config: Option<RepositoryConfig>,
    repository: anyhow::Result<Repository>,
}

fn repositories(config: &Config) -> Vec<Looked> {
    match repository::open_each(config) {
        Ok(opened) => opened
            .into_iter()
            .map(|Opened { config, repository }| Looked { config: Some(config), repository })
            .collect(),
        Err(error) => vec![Looked { config: None, repository: Err(error) }],
    }
}

fn has_retention(r: &RetentionConfig) -> bool {
    r.keep_within.is_some()
        || [r.keep_last, r.keep_daily, r.keep_weekly, r.keep_monthly, r.keep_yearly]
            .iter()
            .any(Option::is_some)
}

/// Symbolic links resolved; as it was where that fails.
fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn user_facts(program: &Path) -> UserFacts {
    let user = Owner::current();
    UserFacts { name: user.to_string(), uid: user.uid, program_runs: can_run(program) }
}

fn command_target(command: &str) -> Option<CommandTarget> {
    let ArchiveCommand::Ours(ours) = archive_command::parse(command) else { return None };
    if !ours.program.is_absolute() {
        return None;
    }
    // One that may not be looked at is there for all that is known; whether it runs is another finding.
    let absent = ours.program.try_exists().is_ok_and(|exists| !exists);
    Some(CommandTarget { program_exists: !absent, config: ours.config.map(|path| resolved(&path)) })
}

fn server_facts(facts: &Facts, target: &str) -> ServerFacts {
    ServerFacts {
        target: target.to_owned(),
        version_num: facts.version_num,
        system_identifier: facts.system_identifier,
        data_directory: facts.data_directory.clone(),
        in_recovery: facts.in_recovery,
        block_size: facts.block_size,
        checksums: facts.checksums,
        may_back_up: facts.may_back_up,
        settings: facts.settings.clone(),
        pending_restart: facts.pending_restart.clone(),
        archiver: ArchiverFacts {
            last_archived_age_s: facts.archiver.last_archived_age_s,
            last_failed: facts.archiver.last_failed.clone(),
            last_failed_age_s: facts.archiver.last_failed_age_s,
        },
    }
}

/// The data directory and the tablespaces, links resolved.
fn data_places(files: &Seen<DirectoryFacts>, facts: Option<&Facts>) -> Vec<PathBuf> {
    let data = files.ok().map(|files| resolved(&files.path));
    let spaces = facts.into_iter().flat_map(|facts| &facts.tablespaces);
    data.into_iter().chain(spaces.map(|space| resolved(&space.location))).collect()
}

fn repository_facts(
    looked: &Looked,
    repository: &Repository,
    system: Option<SystemIdentifier>,
    data: &[PathBuf],
) -> anyhow::Result<RepositoryFacts> {
    let store = repository.store();
    let capabilities = store.probe()?;
    let clock_ahead_ms = store.now()?.as_millisecond() - Timestamp::now().as_millisecond();
    let directory = looked.config.as_ref().and_then(directory);
    let inside = directory.as_deref().and_then(|directory| {
        let directory = resolved(directory);
        data.iter().find(|place| directory.starts_with(place)).cloned()
    });
    let known: Vec<SystemIdentifier> = lineages(repository)?.iter().map(Lineage::system).collect();
    let ours = system.filter(|system| known.contains(system)).map(Lineage::new);
    let catalog = ours
        .map(|lineage| LineageCatalog::read(repository, lineage, Scope::Backups, LeaseTimes::default()))
        .transpose()?;
    let writer = catalog.as_ref().and_then(|catalog| catalog.writer.as_ref()).map(|writer| WriterFacts {
        epoch: writer.value.epoch,
        host: writer.value.host.clone(),
        pgdata: writer.value.pgdata.clone(),
    });
    Ok(RepositoryFacts {
        place: store.describe(),
        encrypted: repository.suite() != Suite::None,
        recipients: repository.description().recipients().count(),
        capabilities,
        clock_ahead_ms,
        room: directory.as_deref().and_then(|directory| room(directory).ok()),
        inside,
        lineages: known,
        writer,
        last_backup: catalog.as_ref().and_then(last_backup),
    })
}

fn directory(repository: &RepositoryConfig) -> Option<PathBuf> {
    match &repository.store {
        StoreConfig::Directory(directory) => Some(directory.path.clone()),
        _ => None,
    }
}

fn last_backup(catalog: &LineageCatalog) -> Option<LastBackup> {
    let good = catalog.published().filter(|backup| backup.is_good() && backup.marked.is_none());
    let newest = good.filter_map(|backup| Some((backup.summary.as_ref()?.stopped, backup.id))).max()?;
    let age = catalog.at.duration_since(newest.0);
    Some(LastBackup { id: newest.1.to_string(), age_s: u64::try_from(age.as_secs()).unwrap_or(0) })
}

/// The space of the file system that `path` lies on.
pub(super) fn room(path: &Path) -> anyhow::Result<Room> {
    use std::os::unix::fs::MetadataExt;
    let found = rustix::fs::statvfs(path)?;
    Ok(Room {
        available: found.f_bavail * found.f_frsize,
        total: found.f_blocks * found.f_frsize,
        device: std::fs::metadata(path)?.dev(),
    })
}

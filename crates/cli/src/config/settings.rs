//! The configuration as the commands use it: typed, one struct for each table.

use super::ConfigError;
use super::definitions::Section;
#[cfg(test)]
use super::effective::NAMED;
use super::effective::{FlagValue, Origin, Setting, Settings, settle};
use super::find::Places;
use super::read::{FileValues, read};
use super::value::{CommandWords, FromValue};
use pgproof_base::Bytes;
use pgproof_repo::{Codec, KeyCommand, layout};
use pgproof_server::TlsOptions;
use pgproof_store::{AzureConfig, GcsConfig, LockMode, ObjectLock, S3Config, Secret, StoreConfig};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All of the configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// The file it came from, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// The usual places of the file, for messages.
    pub(crate) searched: Vec<PathBuf>,
    /// Every setting with its origin.
    pub(crate) settings: Settings,
    pub(crate) instance: InstanceConfig,
    pub(crate) backup: BackupConfig,
    pub(crate) archive: ArchiveConfig,
    pub(crate) objectives: ObjectivesConfig,
    pub(crate) drill: DrillConfig,
    pub(crate) doctor: pgproof_doctor::Config,
}

/// `[instance]`
#[derive(Debug, Default, Clone)]
pub(crate) struct InstanceConfig {
    pub(crate) pgdata: Option<PathBuf>,
    pub(crate) port: Option<u16>,
    pub(crate) socket_directory: Option<PathBuf>,
    pub(crate) host: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) database: String,
    pub(crate) tls: TlsOptions,
}

/// `[repository.NAME]`
#[derive(Debug, Clone)]
pub(crate) struct RepositoryConfig {
    pub(crate) name: String,
    pub(crate) store: StoreConfig,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) key_command: Option<KeyCommand>,
    /// Whether WAL counts as archived only when it is held here.
    pub(crate) required: bool,
    /// What holds for all, where this repository does not say otherwise.
    pub(crate) retention: RetentionConfig,
}

/// What is backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BackupFrom {
    Primary,
    Standby,
    Remote,
}

impl FromValue for BackupFrom {
    fn from_value(text: &str) -> Result<Self, String> {
        match text {
            "primary" => Ok(Self::Primary),
            "standby" => Ok(Self::Standby),
            "remote" => Ok(Self::Remote),
            _ => Err("write primary, standby or remote".to_owned()),
        }
    }
}

/// `[backup]`
#[derive(Debug, Clone)]
pub(crate) struct BackupConfig {
    pub(crate) from: BackupFrom,
    pub(crate) primary_conninfo: Option<Secret>,
    pub(crate) processes: Option<usize>,
    pub(crate) compression: Codec,
    pub(crate) fast_checkpoint: bool,
    pub(crate) archive_timeout: Duration,
    pub(crate) read_all_after: u32,
    pub(crate) pack_size: Bytes,
    pub(crate) max_rate: Option<Bytes>,
}

/// `[archive]`
#[derive(Debug, Clone)]
pub(crate) struct ArchiveConfig {
    pub(crate) compression: Codec,
    pub(crate) push_ahead: usize,
    pub(crate) read_ahead: usize,
}

/// `[drill]`
#[derive(Debug, Clone)]
pub(crate) struct DrillConfig {
    pub(crate) scratch: Option<PathBuf>,
    pub(crate) check_time: Duration,
    pub(crate) ignore: Option<String>,
    pub(crate) assertions: Option<PathBuf>,
    pub(crate) command: Option<Vec<String>>,
    pub(crate) command_time: Duration,
}

/// `[retention]` and `[repository.NAME.retention]`
#[derive(Debug, Clone)]
pub(crate) struct RetentionConfig {
    pub(crate) keep_last: Option<u32>,
    pub(crate) keep_within: Option<Duration>,
    pub(crate) wal_within: Option<Duration>,
    pub(crate) keep_daily: Option<u32>,
    pub(crate) keep_weekly: Option<u32>,
    pub(crate) keep_monthly: Option<u32>,
    pub(crate) keep_yearly: Option<u32>,
    pub(crate) sweep_after: Duration,
}

impl RetentionConfig {
    /// Whether anything ever expires.
    pub(crate) fn keeps_by_rule(&self) -> bool {
        let counts = [self.keep_last, self.keep_daily, self.keep_weekly, self.keep_monthly, self.keep_yearly];
        counts.iter().any(Option::is_some) || self.keep_within.is_some()
    }
}

/// `[objectives]`
#[derive(Debug, Clone, Default)]
pub(crate) struct ObjectivesConfig {
    pub(crate) rpo: Option<Duration>,
    pub(crate) rto: Option<Duration>,
    pub(crate) restore_rto: Option<Duration>,
    pub(crate) backup_max_age: Option<Duration>,
    pub(crate) verify_every: Option<Duration>,
    pub(crate) drill_every: Option<Duration>,
}

impl Config {
    /// Finds, reads and checks the configuration.
    ///
    /// # Errors
    /// A named file that is missing, anything wrong in the file, a variable or a flag.
    pub(crate) fn load(
        places: &Places,
        environment: &BTreeMap<String, String>,
        flags: &[FlagValue],
    ) -> Result<Self, ConfigError> {
        let file = places.find(Path::exists)?;
        let text = match &file {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.clone(), source })?,
        };
        Self::from_text(file.map(|path| (path, text)), places.usual(), environment, flags)
    }

    /// The same from the text of a file, without I/O.
    pub(crate) fn from_text(
        file: Option<(PathBuf, String)>,
        searched: Vec<PathBuf>,
        environment: &BTreeMap<String, String>,
        flags: &[FlagValue],
    ) -> Result<Self, ConfigError> {
        let mut values = match &file {
            Some((path, text)) => read(path, text)?,
            None => FileValues::default(),
        };
        // A place on the command line is another repository than the file's: mixing their keys and endpoints helps nobody.
        let mut known = Vec::new();
        if flags.iter().any(FlagValue::is_elsewhere) {
            known.extend(values.repositories.drain(..).map(|(name, _)| name));
            values.values.retain(|value| value.repository.is_none());
        }
        let path = file.map(|(path, _)| path);
        let settings = settle(path.as_deref().map(|path| (path, &values)), environment, flags, &known)?;
        // Looked at here too, so that a setting of the wrong shape is found whatever the command.
        retention(&settings, None)?;
        Ok(Self {
            instance: instance(&settings)?,
            backup: backup(&settings)?,
            archive: archive(&settings)?,
            objectives: objectives(&settings)?,
            drill: drill(&settings)?,
            doctor: values.doctor,
            file: path,
            searched,
            settings,
        })
    }

    /// The repositories that are meant, in the order in which they are read: the one named on the command line, else all. There is at
    /// least one.
    ///
    /// # Errors
    /// None is configured; one of them is not described well; none is required.
    pub(crate) fn repositories(&self) -> Result<Vec<RepositoryConfig>, ConfigError> {
        match &self.settings.chosen {
            // Whoever names one alone wants what was asked for done there.
            Some(name) => Ok(vec![RepositoryConfig { required: true, ..repository(&self.settings, name)? }]),
            None => self.all_repositories(),
        }
    }

    /// The same, whichever of them was named: those that the server archives into.
    ///
    /// # Errors
    /// As for [`Self::repositories`].
    pub(crate) fn all_repositories(&self) -> Result<Vec<RepositoryConfig>, ConfigError> {
        let names = &self.settings.repositories;
        let found: Vec<_> =
            names.iter().map(|name| repository(&self.settings, name)).collect::<Result<_, _>>()?;
        if found.is_empty() {
            return Err(ConfigError::NoRepository {
                searched: self.searched.clone(),
                file: self.file.clone(),
            });
        }
        if !found.iter().any(|repository| repository.required) {
            return Err(ConfigError::NoneRequired { names: names.clone() });
        }
        for (at, second) in found.iter().enumerate() {
            let place = second.store.describe();
            if let Some(first) = found[..at].iter().find(|first| first.store.describe() == place) {
                let (first, second) = (first.name.clone(), second.name.clone());
                return Err(ConfigError::SamePlace { first, second, place });
            }
        }
        Ok(found)
    }

    /// The repository that is meant, for what is done with one alone.
    ///
    /// # Errors
    /// As for [`Self::repositories`]; several are configured, and none is named.
    pub(crate) fn one_repository(&self) -> Result<RepositoryConfig, ConfigError> {
        let mut meant = self.repositories()?;
        match meant.len() {
            1 => Ok(meant.remove(0)),
            _ => Err(ConfigError::WhichRepository { names: meant.into_iter().map(|one| one.name).collect() }),
        }
    }

    /// The repository of this name.
    ///
    /// # Errors
    /// It is not configured, or not described well.
    pub(crate) fn configured(&self, name: &str) -> Result<RepositoryConfig, ConfigError> {
        if !self.settings.repositories.iter().any(|known| known == name) {
            return Err(ConfigError::UnknownRepository {
                name: name.to_owned(),
                names: self.settings.repositories.clone(),
                file: self.file.clone(),
            });
        }
        repository(&self.settings, name)
    }

    /// A repository that need not be configured.
    ///
    /// # Errors
    /// The retention for all cannot be used.
    pub(crate) fn elsewhere(&self, store: StoreConfig) -> Result<RepositoryConfig, ConfigError> {
        Ok(RepositoryConfig {
            name: store.describe(),
            store,
            key_file: None,
            key_command: None,
            required: true,
            retention: retention(&self.settings, None)?,
        })
    }

    /// Whether the repositories are those of the file, so that whoever reads the file finds them.
    pub(crate) fn is_of_file(&self) -> bool {
        let said_by_flag = |setting: &Setting| {
            setting.key.section == Section::Repository
                && ["path", "url"].contains(&setting.key.name)
                && matches!(setting.origin, Origin::Flag { .. })
        };
        self.file.is_some() && !self.settings.all.iter().any(said_by_flag)
    }
}

/// Reads a setting that has a fixed default.
fn fixed<T: FromValue>(settings: &Settings, section: Section, name: &str) -> Result<T, ConfigError> {
    let value = settings.get(section, None, name)?;
    Ok(value.unwrap_or_else(|| unreachable!("{name} has a default in the table of settings")))
}

fn number<N: TryFrom<i64>>(
    settings: &Settings,
    section: Section,
    name: &str,
) -> Result<Option<N>, ConfigError> {
    let number: Option<i64> = settings.get(section, None, name)?;
    // The table's range fits the type, except for counts beyond four thousand million: those mean "all".
    Ok(number.and_then(|number| N::try_from(number.min(u32::MAX.into())).ok()))
}

fn instance(settings: &Settings) -> Result<InstanceConfig, ConfigError> {
    let section = Section::Instance;
    let host: Option<String> = settings.get(section, None, "host")?;
    let mut socket_directory: Option<PathBuf> = settings.get(section, None, "socket_directory")?;
    // libpq: a host that begins with a slash is the directory of the Unix socket.
    let host = match host {
        Some(directory) if directory.starts_with('/') => {
            socket_directory = socket_directory.or(Some(directory.into()));
            None
        }
        host => host,
    };
    Ok(InstanceConfig {
        pgdata: settings.get(section, None, "pgdata")?,
        port: number(settings, section, "port")?,
        socket_directory,
        host,
        user: settings.get(section, None, "user")?,
        database: fixed(settings, section, "database")?,
        tls: TlsOptions {
            sslmode: settings.get(section, None, "sslmode")?,
            sslrootcert: settings.get(section, None, "sslrootcert")?,
            sslcert: settings.get(section, None, "sslcert")?,
            sslkey: settings.get(section, None, "sslkey")?,
            channel_binding: settings.get(section, None, "channel_binding")?,
        },
    })
}

fn repository(settings: &Settings, name: &str) -> Result<RepositoryConfig, ConfigError> {
    let one = One { settings, name };
    let path: Option<PathBuf> = one.get("path")?;
    let url: Option<String> = one.get("url")?;
    let mut store = match (path, url) {
        (Some(path), None) => StoreConfig::directory(path),
        (None, Some(url)) => StoreConfig::from_url(&url)
            .map_err(|source| ConfigError::Store { name: name.to_owned(), source })?,
        (None, None) => return Err(ConfigError::Location { name: name.to_owned(), has: "neither" }),
        (Some(_), Some(_)) => return Err(ConfigError::Location { name: name.to_owned(), has: "both" }),
    };
    match &mut store {
        StoreConfig::Directory(_) => {}
        StoreConfig::S3(bucket) => one.fill(bucket)?,
        StoreConfig::Gcs(bucket) => one.fill_gcs(bucket)?,
        StoreConfig::Azure(container) => one.fill_azure(container)?,
    }
    let limit: Option<Duration> = one.get("key_command_timeout")?;
    let limit = limit.unwrap_or_else(|| unreachable!("key_command_timeout has a default"));
    let key_command = one.get("key_command")?.map(|CommandWords(words)| KeyCommand::new(words, limit));
    Ok(RepositoryConfig {
        name: name.to_owned(),
        store,
        key_file: one.get("key_file")?,
        key_command,
        required: one.get("required")?.unwrap_or(true),
        retention: retention(settings, Some(name))?,
    })
}

/// The settings of one repository.
struct One<'a> {
    settings: &'a Settings,
    name: &'a str,
}

impl One<'_> {
    fn get<T: FromValue>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        self.settings.get(Section::Repository, Some(self.name), key)
    }

    /// Settings of their own beat those in the URL.
    fn fill(&self, bucket: &mut S3Config) -> Result<(), ConfigError> {
        bucket.endpoint = self.get("endpoint")?.or(bucket.endpoint.take());
        bucket.region = self.get("region")?.or(bucket.region.take());
        bucket.path_style = self.get("path_style")?.or(bucket.path_style);
        bucket.access_key_id = self.get("access_key_id")?.or(bucket.access_key_id.take());
        bucket.secret_access_key = self.get::<String>("secret_access_key")?.map(Secret::new);
        bucket.secret_access_key_file =
            self.get("secret_access_key_file")?.or(bucket.secret_access_key_file.take());
        bucket.session_token = self.get::<String>("session_token")?.map(Secret::new);
        bucket.allow_http |= self.get("allow_http")?.unwrap_or(false);
        bucket.bulk_delete &= self.get("bulk_delete")?.unwrap_or(true);
        let seconds = |duration: Duration| duration.as_secs();
        bucket.timeout_s = self.get("request_timeout")?.map_or(bucket.timeout_s, seconds);
        bucket.retry_s = self.get("retry_for")?.map_or(bucket.retry_s, seconds);
        bucket.object_lock = self.object_lock()?;
        Ok(())
    }

    fn object_lock(&self) -> Result<Option<ObjectLock>, ConfigError> {
        let days: Option<i64> = self.get("object_lock_days")?;
        let Some(days) = days.and_then(|days| u32::try_from(days).ok()) else { return Ok(None) };
        let mode = self.get("object_lock_mode")?.unwrap_or(LockMode::Governance);
        let spare = layout::REWRITTEN.map(str::to_owned).to_vec();
        Ok(Some(ObjectLock { mode, days, spare }))
    }

    fn fill_gcs(&self, bucket: &mut GcsConfig) -> Result<(), ConfigError> {
        bucket.endpoint = self.own_endpoint()?.or(bucket.endpoint.take());
        bucket.service_account_file =
            self.get("service_account_file")?.or(bucket.service_account_file.take());
        bucket.anonymous |= self.get("anonymous")?.unwrap_or(false);
        bucket.allow_http |= self.get("allow_http")?.unwrap_or(false);
        bucket.timeout_s = self.get::<Duration>("request_timeout")?.map_or(bucket.timeout_s, |d| d.as_secs());
        bucket.retry_s = self.get::<Duration>("retry_for")?.map_or(bucket.retry_s, |d| d.as_secs());
        Ok(())
    }

    fn fill_azure(&self, container: &mut AzureConfig) -> Result<(), ConfigError> {
        container.endpoint = self.own_endpoint()?.or(container.endpoint.take());
        container.account = self.get("account")?.or(container.account.take());
        container.access_key = self.get::<String>("access_key")?.map(Secret::new);
        container.access_key_file = self.get("access_key_file")?.or(container.access_key_file.take());
        container.sas_token_file = self.get("sas_token_file")?.or(container.sas_token_file.take());
        container.allow_http |= self.get("allow_http")?.unwrap_or(false);
        container.timeout_s =
            self.get::<Duration>("request_timeout")?.map_or(container.timeout_s, |d| d.as_secs());
        container.retry_s = self.get::<Duration>("retry_for")?.map_or(container.retry_s, |d| d.as_secs());
        Ok(())
    }

    /// The endpoint, unless it comes from AWS's variable: that one is not meant for Google or Azure.
    fn own_endpoint(&self) -> Result<Option<String>, ConfigError> {
        let settings = self.settings;
        match settings.is_from_variable(Section::Repository, Some(self.name), "endpoint") {
            true => Ok(None),
            false => self.get("endpoint"),
        }
    }
}

fn backup(settings: &Settings) -> Result<BackupConfig, ConfigError> {
    let section = Section::Backup;
    Ok(BackupConfig {
        from: fixed(settings, section, "from")?,
        primary_conninfo: settings.get::<String>(section, None, "primary_conninfo")?.map(Secret::new),
        processes: number(settings, section, "processes")?,
        compression: fixed(settings, section, "compression")?,
        fast_checkpoint: fixed(settings, section, "fast_checkpoint")?,
        archive_timeout: fixed(settings, section, "archive_timeout")?,
        read_all_after: u32::try_from(fixed::<i64>(settings, section, "read_all_after")?).unwrap_or(u32::MAX),
        pack_size: fixed(settings, section, "pack_size")?,
        max_rate: settings.get(section, None, "max_rate")?,
    })
}

fn archive(settings: &Settings) -> Result<ArchiveConfig, ConfigError> {
    Ok(ArchiveConfig {
        compression: fixed(settings, Section::Archive, "compression")?,
        push_ahead: number(settings, Section::Archive, "push_ahead")?.unwrap_or(0),
        read_ahead: number(settings, Section::Archive, "read_ahead")?.unwrap_or(0),
    })
}

fn objectives(settings: &Settings) -> Result<ObjectivesConfig, ConfigError> {
    let get = |name| settings.get(Section::Objectives, None, name);
    Ok(ObjectivesConfig {
        rpo: get("rpo")?,
        rto: get("rto")?,
        restore_rto: get("restore_rto")?,
        backup_max_age: get("backup_max_age")?,
        verify_every: get("verify_every")?,
        drill_every: get("drill_every")?,
    })
}

fn drill(settings: &Settings) -> Result<DrillConfig, ConfigError> {
    let section = Section::Drill;
    let command = settings.get(section, None, "command")?;
    Ok(DrillConfig {
        scratch: settings.get(section, None, "scratch")?,
        check_time: fixed(settings, section, "check_time")?,
        ignore: settings.get(section, None, "ignore")?,
        assertions: settings.get(section, None, "assertions")?,
        command: command.map(|CommandWords(words)| words),
        command_time: fixed(settings, section, "command_time")?,
    })
}

/// The retention of a repository, setting by setting its own or that for all.
fn retention(settings: &Settings, repository: Option<&str>) -> Result<RetentionConfig, ConfigError> {
    let own = Retention { settings, repository };
    Ok(RetentionConfig {
        keep_last: own.count("keep_last")?,
        keep_within: own.get("keep_within")?,
        wal_within: own.get("wal_within")?,
        keep_daily: own.count("keep_daily")?,
        keep_weekly: own.count("keep_weekly")?,
        keep_monthly: own.count("keep_monthly")?,
        keep_yearly: own.count("keep_yearly")?,
        sweep_after: match own.get("sweep_after")? {
            Some(said) => said,
            None => fixed(settings, Section::Retention, "sweep_after")?,
        },
    })
}

struct Retention<'a> {
    settings: &'a Settings,
    repository: Option<&'a str>,
}

impl Retention<'_> {
    fn get<T: FromValue>(&self, name: &str) -> Result<Option<T>, ConfigError> {
        let own = match self.repository {
            Some(_) => self.settings.get(Section::Retention, self.repository, name)?,
            None => None,
        };
        match own {
            Some(said) => Ok(Some(said)),
            None => self.settings.get(Section::Retention, None, name),
        }
    }

    fn count(&self, name: &str) -> Result<Option<u32>, ConfigError> {
        // Counts beyond four thousand million mean "all".
        let count: Option<i64> = self.get(name)?;
        Ok(count.and_then(|count| u32::try_from(count.min(u32::MAX.into())).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str, flags: &[FlagValue]) -> Result<Config, ConfigError> {
        let file = ("/etc/pgproof/pgproof.toml".into(), text.to_owned());
        Config::from_text(Some(file), Vec::new(), &BTreeMap::new(), flags)
    }

    #[test]
    fn an_empty_file_gives_defaults_and_no_repository() {
        let config = config("", &[]).unwrap();
        assert_eq!(config.instance.database, "postgres");
        assert_eq!(config.backup.compression, Codec::Zstd { level: 3 });
        assert_eq!(config.repositories().unwrap_err().code(), "config-no-repository");
    }

    #[test]
    fn every_repository_has_exactly_one_place_of_its_own() {
        let code = |text: &str| config(text, &[]).unwrap().repositories().map_err(|e| e.code());
        let found = code("[repository.main]\npath = \"/r\"\n").unwrap();
        assert_eq!(found[0].store, StoreConfig::directory("/r"));
        assert_eq!(found[0].retention.sweep_after, Duration::from_secs(3600));
        assert_eq!(code("[repository.main]\n").unwrap_err(), "config-location");
        let both = "[repository.main]\npath = \"/r\"\nurl = \"s3://b\"\n";
        assert_eq!(code(both).unwrap_err(), "config-location");
        let same = "[repository.a]\npath = \"/a\"\n[repository.b]\npath = \"/a\"\n";
        assert_eq!(code(same).unwrap_err(), "config-same-place");
    }

    /// Read first what was written first; each key of the retention is the repository's own, else that for all.
    #[test]
    fn several_repositories_keep_their_order_and_their_own_retention() {
        let text = "[repository.near]\npath = \"/n\"\n[repository.near.retention]\nkeep_last = 3\n\
                    [repository.far]\npath = \"/f\"\nrequired = false\n\
                    [retention]\nkeep_last = 9\nkeep_daily = 7\n";
        let found = config(text, &[]).unwrap().repositories().unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|one| (one.name.as_str(), one.required, one.retention.keep_last, one.retention.keep_daily))
            .collect();
        assert_eq!(shown, [("near", true, Some(3), Some(7)), ("far", false, Some(9), Some(7))]);
        let none = text.replace("[repository.near]\n", "[repository.near]\nrequired = false\n");
        let error = config(&none, &[]).unwrap().repositories().unwrap_err();
        assert_eq!(error.code(), "config-none-required");
    }

    #[test]
    fn one_of_several_is_named_on_the_command_line() {
        let text = "[repository.near]\npath = \"/n\"\n[repository.far]\npath = \"/f\"\nrequired = false\n";
        let flag = |name, text: &str| FlagValue {
            section: Section::Repository,
            name,
            text: text.to_owned(),
            flag: "--repository",
        };
        let far = config(text, &[flag(NAMED, "far"), flag("key_file", "/k")]).unwrap();
        let found = far.repositories().unwrap();
        assert_eq!((found.len(), found[0].name.as_str(), found[0].required), (1, "far", true));
        assert_eq!(found[0].key_file, Some("/k".into()));
        let unknown = config(text, &[flag(NAMED, "fat")]).unwrap_err();
        assert_eq!(unknown.code(), "config-unknown-repository");
        assert!(unknown.hint().unwrap().contains("near, far"), "{:?}", unknown.hint());
        assert_eq!(config(text, &[flag("key_file", "/k")]).unwrap_err().code(), "config-whose-key");
        assert_eq!(config(text, &[flag("path", "/other")]).unwrap().repositories().unwrap().len(), 1);
        assert_eq!(far.one_repository().unwrap().name, "far");
        let which = config(text, &[]).unwrap().one_repository().unwrap_err();
        assert_eq!(which.code(), "config-which-repository");
        assert_eq!(which.hint().unwrap(), "name it with --repository: near, far");
    }

    #[test]
    fn a_repository_on_the_command_line_replaces_the_files() {
        let flag = |name, text: &str| FlagValue {
            section: Section::Repository,
            name,
            text: text.to_owned(),
            flag: "--repository",
        };
        let text = "[repository.main]\nurl = \"s3://b\"\nkey_file = \"/k\"\n";
        let replaced = config(text, &[flag("path", "/other")]).unwrap().repositories().unwrap().remove(0);
        assert_eq!((replaced.store, replaced.key_file), (StoreConfig::directory("/other"), None));
        let other_key = config(text, &[flag("key_file", "/k2")]).unwrap().repositories().unwrap().remove(0);
        assert_eq!(other_key.key_file, Some("/k2".into()));
    }

    #[test]
    fn settings_of_their_own_beat_those_in_the_url() {
        let text = "[repository.main]\nurl = \"s3://b/p?region=here&endpoint=http://a\"\nregion = \"there\"\nretry_for = \"5s\"\n";
        let StoreConfig::S3(bucket) = config(text, &[]).unwrap().repositories().unwrap().remove(0).store
        else {
            panic!("not a bucket");
        };
        assert_eq!((bucket.bucket.as_str(), bucket.prefix.as_str()), ("b", "p"));
        assert_eq!(bucket.region.as_deref(), Some("there"));
        assert_eq!(bucket.endpoint.as_deref(), Some("http://a"));
        assert_eq!(bucket.retry_s, 5);
    }

    #[test]
    fn each_kind_of_object_storage_takes_its_own_settings() {
        let store = |text: &str| config(text, &[]).unwrap().one_repository().unwrap().store;
        let google = store(
            "[repository.main]\nurl = \"gs://b/p\"\nservice_account_file = \"/k\"\nendpoint = \"https://e\"\n",
        );
        let StoreConfig::Gcs(google) = google else { panic!("not Google's: {google:?}") };
        assert_eq!((google.bucket.as_str(), google.prefix.as_str()), ("b", "p"));
        assert_eq!(google.service_account_file, Some("/k".into()));
        assert_eq!(google.endpoint.as_deref(), Some("https://e"));
        let azure = store("[repository.main]\nurl = \"az://c\"\naccount = \"a\"\naccess_key = \"hunter2\"\n");
        assert!(!format!("{azure:?}").contains("hunter2"));
        let StoreConfig::Azure(azure) = azure else { panic!("not Azure's: {azure:?}") };
        assert_eq!(azure.account.as_deref(), Some("a"));
        assert_eq!(azure.access_key, Some(Secret::new("hunter2")));
        let locked =
            "[repository.main]\nurl = \"s3://b\"\nobject_lock_days = 30\nobject_lock_mode = \"compliance\"\n";
        let StoreConfig::S3(locked) = store(locked) else { panic!("not S3") };
        let lock = locked.object_lock.unwrap();
        assert_eq!((lock.mode, lock.days), (LockMode::Compliance, 30));
    }

    #[test]
    fn a_variable_of_aws_does_not_lead_google_astray() {
        let file = ("/etc/pgproof/pgproof.toml".into(), "[repository.main]\nurl = \"gs://b\"\n".to_owned());
        let environment = [("AWS_ENDPOINT_URL".to_owned(), "https://minio".to_owned())].into();
        let config = Config::from_text(Some(file), Vec::new(), &environment, &[]).unwrap();
        let StoreConfig::Gcs(google) = config.one_repository().unwrap().store else { panic!("not Google's") };
        assert_eq!(google.endpoint, None);
    }

    #[test]
    fn a_host_that_is_a_directory_is_the_socket() {
        let config = config("[instance]\nhost = \"/run/pg\"\n", &[]).unwrap();
        assert_eq!(config.instance.socket_directory, Some("/run/pg".into()));
        assert_eq!(config.instance.host, None);
    }
}

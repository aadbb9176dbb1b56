//! Which value of each setting counts, and who said so.
//!
//! A flag beats a `PGPROOF_` variable, which beats the file, which beats the variables of libpq and AWS. Those come last because
//! they are ambient: a `PGDATA` in somebody's profile names whatever server they like to work on, and a backup of another
//! cluster than the file's would be a worse surprise than a variable that is not heeded.

use super::ConfigError;
use super::definitions::{KEYS, Key, Kind, Otherwise, Section, find};
use super::read::{FileValues, nearest};
use super::value::{FromValue, check_value};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Who said a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub(crate) enum Origin {
    /// Nobody; this counts otherwise.
    Default,
    /// A line of the file.
    File { path: PathBuf, line: usize },
    /// A variable of the environment.
    Environment { name: String },
    /// An argument.
    Flag { name: String },
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { name } => write!(f, "environment variable {name}"),
            Self::Flag { name } => f.write_str(name),
        }
    }
}

/// One setting as it counts.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) key: &'static Key,
    pub(crate) repository: Option<String>,
    /// None when nobody set it and there is no fixed default.
    pub(crate) text: Option<String>,
    pub(crate) origin: Origin,
}

impl Setting {
    /// Its name as the reference writes it: `backup.processes`, `repository.main.path`.
    pub(crate) fn name(&self) -> String {
        qualified(self.key, self.repository.as_deref())
    }

    fn error(&self, why: &str) -> ConfigError {
        let shown =
            if self.key.kind == Kind::Secret { "(hidden)" } else { self.text.as_deref().unwrap_or("") };
        ConfigError::Value {
            origin: self.origin.clone(),
            name: self.name(),
            value: shown.to_owned(),
            why: why.to_owned(),
        }
    }
}

fn qualified(key: &Key, repository: Option<&str>) -> String {
    match (key.section, repository) {
        (Section::Repository, Some(repository)) => format!("repository.{repository}.{}", key.name),
        (section, Some(repository)) => format!("repository.{repository}.{}.{}", section.name(), key.name),
        (section, None) => format!("{}.{}", section.name(), key.name),
    }
}

/// A value given as an argument of the command.
#[derive(Debug, Clone)]
pub(crate) struct FlagValue {
    pub(crate) section: Section,
    pub(crate) name: &'static str,
    pub(crate) text: String,
    /// The flag as typed, for messages: `--pgdata`.
    pub(crate) flag: &'static str,
}

impl FlagValue {
    /// Describes a repository, instead of naming one that is configured.
    fn describes_repository(&self) -> bool {
        self.section == Section::Repository && self.name != NAMED
    }

    /// Says where a repository is that need not be configured.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.describes_repository() && !["key_file", "key_command"].contains(&self.name)
    }
}

/// `--repository NAME`: no setting, but the choice of a table.
pub(crate) const NAMED: &str = "NAME";

/// All settings as they count.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) all: Vec<Setting>,
    /// In the order of the file.
    pub(crate) repositories: Vec<String>,
    /// The one that was named on the command line.
    pub(crate) chosen: Option<String>,
}

/// The name of a repository that only flags or variables describe.
const UNNAMED: &str = "main";

/// Settles every setting. `environment` holds all variables of the process; `known` are repositories that do not count now, but
/// whose variables are none of anybody's mistakes.
///
/// # Errors
/// A value that cannot be used, with its origin; a misspelt `PGPROOF_` variable; a repository that nobody configured.
pub(crate) fn settle(
    file: Option<(&Path, &FileValues)>,
    environment: &BTreeMap<String, String>,
    flags: &[FlagValue],
    known: &[String],
) -> Result<Settings, ConfigError> {
    let mut repositories: Vec<String> = file
        .iter()
        .flat_map(|(_, values)| values.repositories.iter().map(|(name, _)| name.clone()))
        .collect();
    let described_elsewhere = flags.iter().any(FlagValue::describes_repository)
        || environment
            .keys()
            .any(|name| name.starts_with(&variable_prefix(Section::Repository, Some(UNNAMED))));
    if repositories.is_empty() && described_elsewhere {
        repositories.push(UNNAMED.to_owned());
    }
    refuse_unknown_variables(environment, &[&repositories, known].concat())?;
    let chosen = choose(file.map(|(path, _)| path), flags, &repositories)?;

    let mut all = Vec::new();
    for key in KEYS {
        if key.section != Section::Repository {
            all.push(settle_one(key, None, file, environment, flags)?);
        }
        if key.section != Section::Repository && key.section != Section::Retention {
            continue;
        }
        for name in &repositories {
            // The flags mean one repository: the named one, else the only one.
            let meant = chosen.as_ref().is_none_or(|chosen| chosen == name);
            let flags = if meant { flags } else { &[] };
            let setting = settle_one(key, Some(name), file, environment, flags)?;
            // What a repository does not say of its own retention is the table's for all.
            if key.section == Section::Repository || setting.origin != Origin::Default {
                all.push(setting);
            }
        }
    }
    Ok(Settings { all, repositories, chosen })
}

/// The repository that `--repository NAME` names.
fn choose(
    file: Option<&Path>,
    flags: &[FlagValue],
    repositories: &[String],
) -> Result<Option<String>, ConfigError> {
    let named = flags.iter().rev().find(|flag| flag.section == Section::Repository && flag.name == NAMED);
    match named {
        Some(flag) if repositories.contains(&flag.text) => Ok(Some(flag.text.clone())),
        Some(flag) => Err(ConfigError::UnknownRepository {
            name: flag.text.clone(),
            names: repositories.to_vec(),
            file: file.map(Path::to_owned),
        }),
        None if repositories.len() > 1 && flags.iter().any(FlagValue::describes_repository) => {
            Err(ConfigError::WhoseKey { names: repositories.to_vec() })
        }
        None => Ok(None),
    }
}

fn settle_one(
    key: &'static Key,
    repository: Option<&str>,
    file: Option<(&Path, &FileValues)>,
    environment: &BTreeMap<String, String>,
    flags: &[FlagValue],
) -> Result<Setting, ConfigError> {
    let from_flag = || {
        let flag = flags.iter().rev().find(|flag| flag.section == key.section && flag.name == key.name)?;
        Some((flag.text.clone(), Origin::Flag { name: flag.flag.to_owned() }))
    };
    let from_variable = |name: String| {
        let text = environment.get(&name)?.clone();
        (!text.is_empty()).then_some((text, Origin::Environment { name }))
    };
    let from_file = || {
        let (path, values) = file?;
        // By name, not by address: the compiler may lay out a constant table more than once.
        let is_ours = |v: &&super::read::FileValue| {
            v.key.section == key.section && v.key.name == key.name && v.repository.as_deref() == repository
        };
        let value = values.values.iter().find(is_ours)?;
        Some((value.text.clone(), Origin::File { path: path.to_owned(), line: value.line }))
    };
    let own_variable = format!("{}{}", variable_prefix(key.section, repository), key.name.to_uppercase());
    let said = from_flag()
        .or_else(|| from_variable(own_variable))
        .or_else(from_file)
        .or_else(|| from_variable(key.variable?.to_owned()));
    let (text, origin) = match (said, key.otherwise) {
        (Some((text, origin)), _) => (Some(text), origin),
        (None, Otherwise::Value(text)) => (Some(text.to_owned()), Origin::Default),
        (None, Otherwise::Found(_)) => (None, Origin::Default),
    };
    let setting = Setting { key, repository: repository.map(str::to_owned), text, origin };
    if let Some(text) = &setting.text {
        check_value(key.kind, text).map_err(|why| setting.error(&why))?;
    }
    Ok(setting)
}

fn variable_prefix(section: Section, repository: Option<&str>) -> String {
    let table = section.name().to_uppercase();
    match repository.map(|name| name.to_uppercase().replace('-', "_")) {
        Some(name) if section == Section::Repository => format!("PGPROOF_REPOSITORY_{name}_"),
        Some(name) => format!("PGPROOF_REPOSITORY_{name}_{table}_"),
        None => format!("PGPROOF_{table}_"),
    }
}

/// Only names that begin like one of our tables: `PGPROOF_CONFIG` and whatever other programs may set are none of these.
fn refuse_unknown_variables(
    environment: &BTreeMap<String, String>,
    repositories: &[String],
) -> Result<(), ConfigError> {
    let mut known = Vec::new();
    for key in KEYS {
        if key.section != Section::Repository {
            known.push(variable_prefix(key.section, None) + &key.name.to_uppercase());
        }
        if key.section == Section::Repository || key.section == Section::Retention {
            let names = repositories.iter().map(|name| variable_prefix(key.section, Some(name)));
            known.extend(names.map(|prefix| prefix + &key.name.to_uppercase()));
        }
    }
    let of_ours = |name: &&String| {
        Section::ALL.iter().any(|section| name.starts_with(&variable_prefix(*section, None)))
    };
    match environment.keys().filter(of_ours).find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => Err(ConfigError::Variable {
            name: name.clone(),
            near: nearest(name, known.iter().map(String::as_str)).map(str::to_owned),
        }),
    }
}

impl Settings {
    /// Whether a setting's value is that of the foreign variable which its definition names.
    pub(crate) fn is_from_variable(&self, section: Section, repository: Option<&str>, name: &str) -> bool {
        let of = |setting: &&Setting| {
            setting.key.section == section
                && setting.key.name == name
                && setting.repository.as_deref() == repository
        };
        self.all.iter().find(of).is_some_and(|setting| {
            let foreign = setting.key.variable;
            matches!(&setting.origin, Origin::Environment { name } if foreign == Some(name.as_str()))
        })
    }

    /// The value of a setting, none when nothing was said and nothing counts otherwise.
    ///
    /// # Errors
    /// A value of the wrong shape; `settle` has refused those before.
    pub(crate) fn get<T: FromValue>(
        &self,
        section: Section,
        repository: Option<&str>,
        name: &str,
    ) -> Result<Option<T>, ConfigError> {
        debug_assert!(find(section, name).is_some(), "{name} is not defined");
        let is_it = |s: &&Setting| {
            s.key.section == section && s.key.name == name && s.repository.as_deref() == repository
        };
        let Some(setting) = self.all.iter().find(is_it) else { return Ok(None) };
        let Some(text) = &setting.text else { return Ok(None) };
        T::from_value(text).map(Some).map_err(|why| setting.error(&why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::read;

    fn settled(
        text: &str,
        environment: &[(&str, &str)],
        flags: &[FlagValue],
    ) -> Result<Settings, ConfigError> {
        let path = Path::new("/etc/pgproof/pgproof.toml");
        let values = read(path, text)?;
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        settle(Some((path, &values)), &environment, flags, &[])
    }

    fn pgdata(settings: &Settings) -> (String, String) {
        let value: Option<PathBuf> = settings.get(Section::Instance, None, "pgdata").unwrap();
        let is_pgdata = |s: &&Setting| s.key.section == Section::Instance && s.key.name == "pgdata";
        let origin = &settings.all.iter().find(is_pgdata).unwrap().origin;
        (value.unwrap().display().to_string(), origin.to_string())
    }

    #[test]
    fn flags_beat_our_variables_beat_the_file_beats_ambient_variables() {
        let file = "[instance]\npgdata = \"/file\"\n";
        let ambient = ("PGDATA", "/ambient");
        let ours = ("PGPROOF_INSTANCE_PGDATA", "/ours");
        let flag = FlagValue {
            section: Section::Instance,
            name: "pgdata",
            text: "/flag".to_owned(),
            flag: "--pgdata",
        };
        let is = |settings: Settings, value: &str, origin: &str| {
            assert_eq!(pgdata(&settings), (value.to_owned(), origin.to_owned()));
        };
        is(settled("", &[ambient], &[]).unwrap(), "/ambient", "environment variable PGDATA");
        is(settled(file, &[ambient], &[]).unwrap(), "/file", "/etc/pgproof/pgproof.toml:2");
        let variable = "environment variable PGPROOF_INSTANCE_PGDATA";
        is(settled(file, &[ambient, ours], &[]).unwrap(), "/ours", variable);
        is(settled(file, &[ambient, ours], &[flag]).unwrap(), "/flag", "--pgdata");
    }

    #[test]
    fn values_out_of_range_name_their_line() {
        let error = settled("[backup]\n\nprocesses = 99\n", &[], &[]).unwrap_err();
        let expected = "/etc/pgproof/pgproof.toml:3: backup.processes cannot be `99`: it must be a whole number, 1 to 16";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn secrets_are_not_shown_in_errors() {
        let error = settled("[repository.main]\nsecret_access_key = \"\"\n", &[], &[]).unwrap_err();
        assert!(error.to_string().contains("(hidden)"), "{error}");
    }

    #[test]
    fn misspelt_variables_are_refused_but_foreign_ones_are_none_of_our_business() {
        let error = settled("", &[("PGPROOF_BACKUP_PROCESES", "2")], &[]).unwrap_err();
        assert_eq!(error.to_string(), "unknown environment variable PGPROOF_BACKUP_PROCESES");
        assert_eq!(error.hint().unwrap(), "did you mean `PGPROOF_BACKUP_PROCESSES`?");
        assert!(settled("", &[("PGPROOF_HOME", "/x"), ("PGPROOF_CONFIG", "/y")], &[]).is_ok());
    }

    #[test]
    fn a_repository_says_otherwise_than_the_retention_for_all() {
        let file = "[repository.main]\npath = \"/r\"\n[repository.main.retention]\nkeep_last = 3\n[retention]\nkeep_daily = 7\n";
        let variable = ("PGPROOF_REPOSITORY_MAIN_RETENTION_KEEP_WEEKLY", "2");
        let settings = settled(file, &[variable], &[]).unwrap();
        let own =
            settings.all.iter().filter(|s| s.key.section == Section::Retention && s.repository.is_some());
        let shown: Vec<_> = own.map(|s| format!("{} {}", s.name(), s.origin)).collect();
        assert_eq!(
            shown,
            [
                "repository.main.retention.keep_last /etc/pgproof/pgproof.toml:4",
                "repository.main.retention.keep_weekly environment variable PGPROOF_REPOSITORY_MAIN_RETENTION_KEEP_WEEKLY",
            ]
        );
    }

    #[test]
    fn a_repository_can_be_described_by_flags_alone() {
        let flag = FlagValue {
            section: Section::Repository,
            name: "path",
            text: "/r".to_owned(),
            flag: "--repository",
        };
        let settings = settled("", &[], &[flag]).unwrap();
        assert_eq!(settings.repositories, ["main"]);
        let path: Option<PathBuf> = settings.get(Section::Repository, Some("main"), "path").unwrap();
        assert_eq!(path, Some("/r".into()));
    }
}

//! What can be wrong with the configuration.

use super::effective::Origin;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why the configuration cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    /// A file that was named is not there.
    #[error("{}, named by {by}, does not exist", path.display())]
    Missing { path: PathBuf, by: &'static str },
    /// The file is there and cannot be read.
    #[error("could not read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// Something in the file is not TOML, or not known.
    #[error("{}:{line}: {message}", path.display())]
    File { path: PathBuf, line: usize, message: String, near: Option<String> },
    /// A value cannot be used.
    #[error("{origin}: {name} cannot be `{value}`: {why}")]
    Value { origin: Origin, name: String, value: String, why: String },
    /// A misspelt variable.
    #[error("unknown environment variable {name}")]
    Variable { name: String, near: Option<String> },
    /// No repository is configured.
    #[error("no repository is configured")]
    NoRepository { searched: Vec<PathBuf>, file: Option<PathBuf> },
    /// `--repository` names one that is not configured.
    #[error("no repository `{name}` is configured")]
    UnknownRepository { name: String, names: Vec<String>, file: Option<PathBuf> },
    /// `--key-file` with several repositories.
    #[error("--key-file is the key of one repository, and {} are configured", names.len())]
    WhoseKey { names: Vec<String> },
    /// Several repositories, for what is done with one.
    #[error("this is done with one repository, and {} are configured", names.len())]
    WhichRepository { names: Vec<String> },
    /// PostgreSQL would remove WAL that nobody holds.
    #[error("none of the repositories {} is required", names.join(", "))]
    NoneRequired { names: Vec<String> },
    /// Two names for one place.
    #[error("the repositories `{first}` and `{second}` are one and the same: {place}")]
    SamePlace { first: String, second: String, place: String },
    /// A repository whose URL cannot be read.
    #[error("repository `{name}` cannot be used")]
    Store { name: String, source: pgproof_store::StoreError },
    /// A repository without, or with two, places.
    #[error("repository `{name}` needs either `path` or `url`, and has {has}")]
    Location { name: String, has: &'static str },
}

impl ConfigError {
    /// The stable code of this kind of error.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "config-missing",
            Self::Read { .. } => "config-unreadable",
            Self::File { .. } => "config-invalid",
            Self::Value { .. } => "config-value",
            Self::Variable { .. } => "config-variable",
            Self::NoRepository { .. } => "config-no-repository",
            Self::UnknownRepository { .. } => "config-unknown-repository",
            Self::WhoseKey { .. } => "config-whose-key",
            Self::WhichRepository { .. } => "config-which-repository",
            Self::NoneRequired { .. } => "config-none-required",
            Self::SamePlace { .. } => "config-same-place",
            Self::Store { .. } => "config-store",
            Self::Location { .. } => "config-location",
        }
    }

    /// What the operator can do.
    pub(crate) fn hint(&self) -> Option<String> {
        const REFERENCE: &str =
            "docs/manual/configuration.md lists all settings; `pgproof config explain` shows those in effect";
        Some(match self {
            Self::File { near: Some(near), .. } | Self::Variable { near: Some(near), .. } => {
                format!("did you mean `{near}`?")
            }
            Self::File { .. } | Self::Value { .. } | Self::Variable { .. } => REFERENCE.to_owned(),
            Self::Missing { .. } => "is the name right? `pgproof init` writes a new file".to_owned(),
            Self::Read { path, .. } => {
                format!("may this user read it? See `ls -l {}`", path.display())
            }
            Self::NoRepository { file: Some(path), .. } => {
                format!("add a `[repository.main]` table with `path` or `url` to {}", path.display())
            }
            Self::NoRepository { searched, file: None } => {
                let places: Vec<_> = searched.iter().map(|path| path.display().to_string()).collect();
                let places = places.join(", ");
                format!("run `pgproof init`, or name one with --config or --repository; looked for {places}")
            }
            Self::UnknownRepository { name, names, .. } => match names.as_slice() {
                [] => format!("a directory of that name is written `./{name}`"),
                names => format!("configured: {}; a directory is written `./{name}`", names.join(", ")),
            },
            Self::WhoseKey { names } | Self::WhichRepository { names } => format!("name it with --repository: {}", names.join(", ")),
            Self::NoneRequired { .. } => {
                "leave out `required = false` for one of them: WAL counts as archived when every required one holds it"
                    .to_owned()
            }
            Self::SamePlace { .. } => "remove one of the two tables".to_owned(),
            Self::Store { source, .. } => return source.hint(),
            Self::Location { .. } => {
                "write `path` for a directory or `url` for a bucket, not both".to_owned()
            }
        })
    }
}

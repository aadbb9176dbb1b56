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
    /// More than one is.
    #[error("{} configures several repositories: {}", path.display(), names.join(", "))]
    SeveralRepositories { path: PathBuf, names: Vec<String> },
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
            Self::SeveralRepositories { .. } => "config-several-repositories",
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
            Self::SeveralRepositories { .. } => {
                "keep one of them for now, or name another file with --config".to_owned()
            }
            Self::Store { source, .. } => return source.hint(),
            Self::Location { .. } => {
                "write `path` for a directory or `url` for a bucket, not both".to_owned()
            }
        })
    }
}

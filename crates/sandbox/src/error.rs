//! What can keep a sandbox from being made or used, and what can be done about it.

use pgproof_restore::RestoreError;
use pgproof_server::ServerError;
use std::path::PathBuf;

/// What operations of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done to a sandbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that no directory of a sandbox can have.
    #[error("`{name}` cannot be the name of a sandbox")]
    Name {
        /// As it was given.
        name: String,
    },
    /// The name is taken.
    #[error("there is a sandbox {name} already")]
    Exists {
        /// The name.
        name: String,
    },
    /// There is none of this name.
    #[error("there is no sandbox {name} in {}", place.display())]
    Unknown {
        /// The name.
        name: String,
        /// Where it was looked for.
        place: PathBuf,
    },
    /// It is not in the state that is needed.
    #[error("sandbox {name} {state}")]
    State {
        /// The name.
        name: String,
        /// What it is, as the rest of a sentence.
        state: String,
    },
    /// The path of its socket would be too long.
    #[error("the socket {} would have too long a path", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// No backup leads to the instant, or it could not be restored.
    #[error("could not make the sandbox")]
    Restore {
        /// Why not.
        source: Box<RestoreError>,
    },
    /// The repository could not be read.
    #[error("could not {operation}")]
    Repository {
        /// What was being done.
        operation: &'static str,
        /// What it said.
        source: pgproof_repo::Error,
    },
    /// No programs of the backup's version are on this host.
    #[error("PostgreSQL {version} is not on this host")]
    NoPrograms {
        /// The version.
        version: String,
    },
    /// FUSE was insisted on and cannot be used.
    #[error("a lazy sandbox needs FUSE, which cannot be used here: {why}")]
    NoFuse {
        /// Why not.
        why: String,
    },
    /// One of its processes failed, and this is what it said.
    #[error("sandbox {name} failed: {why}")]
    Failed {
        /// The name.
        name: String,
        /// What was said.
        why: String,
    },
    /// The mask failed, so the sandbox is gone.
    #[error("the mask {} failed, and the sandbox was removed: {why}", file.display())]
    Mask {
        /// The file.
        file: PathBuf,
        /// What psql said.
        why: String,
    },
    /// Talking to its server failed.
    #[error("could not {operation}")]
    Server {
        /// What was being done.
        operation: &'static str,
        /// What was seen.
        source: Box<ServerError>,
    },
    /// A file could not be used.
    #[error("could not {operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The system refused something that is no file operation.
    #[error("could not {operation}: {why}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The reason.
        why: String,
    },
}

impl Error {
    /// The stable code of this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name { .. } => "sandbox-name",
            Self::Exists { .. } => "sandbox-exists",
            Self::Unknown { .. } => "sandbox-unknown",
            Self::State { .. } => "sandbox-state",
            Self::PathTooLong { .. } => "sandbox-path-too-long",
            Self::Restore { source } => source.code(),
            Self::Repository { source, .. } => source.code(),
            Self::NoPrograms { .. } => "sandbox-no-programs",
            Self::NoFuse { .. } => "sandbox-no-fuse",
            Self::Failed { .. } => "sandbox-failed",
            Self::Mask { .. } => "sandbox-mask",
            Self::Server { source, .. } => source.code(),
            Self::File { .. } => "sandbox-file",
            Self::System { .. } => "sandbox-system",
        }
    }

    /// What an operator can do, as a command or a question.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Name { .. } => {
                "use letters, digits, `-` and `_`, 40 at most, beginning with a letter".to_owned()
            }
            Self::Exists { name } => {
                format!("choose another name, or remove it: pgproof sandbox drop {name}")
            }
            Self::Unknown { .. } => "`pgproof sandbox list` shows them".to_owned(),
            Self::State { name, .. } => {
                format!("`pgproof sandbox list` shows its state; `pgproof sandbox drop {name}` removes it")
            }
            Self::PathTooLong { .. } => "give a place with a shorter path: --directory DIR".to_owned(),
            Self::Restore { source } => return source.hint(),
            Self::Repository { source, .. } => return source.hint(),
            Self::NoPrograms { version } => {
                format!("install PostgreSQL {version}, or put its programs in PATH")
            }
            Self::NoFuse { .. } => {
                "leave --lazy out, and everything is restored instead; or run it as root".to_owned()
            }
            Self::Failed { .. } => "does its log say why? It is in the message above".to_owned(),
            Self::Mask { .. } => "correct the file and create the sandbox again".to_owned(),
            Self::Server { source, .. } => source.hint(),
            Self::File { .. } | Self::System { .. } => return None,
        };
        Some(hint)
    }

    pub(crate) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    pub(crate) fn repository(operation: &'static str) -> impl FnOnce(pgproof_repo::Error) -> Self {
        move |source| Self::Repository { operation, source }
    }

    pub(crate) fn server(operation: &'static str) -> impl FnOnce(ServerError) -> Self {
        move |source| Self::Server { operation, source: Box::new(source) }
    }

    pub(crate) fn system(operation: &'static str) -> impl FnOnce(String) -> Self {
        move |why| Self::System { operation, why }
    }
}

impl From<RestoreError> for Error {
    fn from(source: RestoreError) -> Self {
        Self::Restore { source: Box::new(source) }
    }
}

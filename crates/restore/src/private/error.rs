//! What can stop a private server. Whatever it is, the directory is removed.

use crate::error::RestoreError;
use pgproof_server::ServerError;
use std::path::PathBuf;

/// Why there is no private server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateError {
    /// The private directory's path is too long for a socket in it.
    #[error("{} is too long a path for the socket of a server", path.display())]
    PathTooLong {
        /// The socket that would be.
        path: PathBuf,
    },
    /// None of the roles tried is a superuser of the restored server.
    #[error("none of the roles {} is a superuser of the restored server", roles.join(", "))]
    NoSuperuser {
        /// The roles tried.
        roles: Vec<String>,
        /// What the server said last.
        source: Option<Box<ServerError>>,
    },
    /// Recovering failed.
    #[error("could not recover")]
    Recovery {
        /// Why.
        source: Box<RestoreError>,
    },
    /// A server did not do what it was asked.
    #[error("could not {operation}")]
    Server {
        /// What was being done.
        operation: &'static str,
        /// Why not.
        source: Box<ServerError>,
    },
    /// A file operation failed.
    #[error("could not {operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl PrivateError {
    pub(crate) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    pub(crate) fn server(operation: &'static str) -> impl FnOnce(ServerError) -> Self {
        move |source| Self::Server { operation, source: Box::new(source) }
    }

    /// The stable code of this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::PathTooLong { .. } => "private-path-too-long",
            Self::NoSuperuser { .. } => "private-no-superuser",
            Self::Recovery { source } => source.code(),
            Self::Server { .. } => "private-server",
            Self::File { .. } => "private-file",
        }
    }

    /// What an operator can do, as a command or a question.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::PathTooLong { .. } => Some("name a directory with a shorter path with --scratch".into()),
            Self::NoSuperuser { .. } => Some("set user in [instance] to a superuser of that server".into()),
            Self::Recovery { source } => source.hint(),
            Self::Server { source, .. } => Some(source.hint()),
            Self::File { .. } => None,
        }
    }
}

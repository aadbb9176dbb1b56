//! What can keep a drill from being made. It says nothing about whether the cluster can be recovered: that is a verdict of the report.

use pgproof_restore::RestoreError;
use pgproof_restore::private::PrivateError;
use pgproof_server::ServerError;
use std::path::PathBuf;

/// Why there was no drill.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrillError {
    /// The restore was asked wrongly, or this host cannot take it.
    #[error("could not drill")]
    Restore {
        /// Why.
        source: Box<RestoreError>,
    },
    /// There is no private server to check.
    #[error("could not drill")]
    Private {
        /// Why.
        source: Box<PrivateError>,
    },
    /// The recovered server could not be stopped.
    #[error("could not {operation}")]
    Server {
        /// What was being done.
        operation: &'static str,
        /// Why not.
        source: Box<ServerError>,
    },
    /// The repository could not be read.
    #[error("could not {operation}")]
    Repository {
        /// What was being done.
        operation: &'static str,
        /// Why not.
        source: Box<pgproof_repo::Error>,
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
    /// A name in the list of what no check complains about cannot be one.
    #[error("`{text}` names no relation")]
    Pattern {
        /// As it was written.
        text: String,
    },
}

impl DrillError {
    pub(crate) fn repository(operation: &'static str) -> impl FnOnce(pgproof_repo::Error) -> Self {
        move |source| Self::Repository { operation, source: Box::new(source) }
    }

    pub(crate) fn server(operation: &'static str) -> impl FnOnce(ServerError) -> Self {
        move |source| Self::Server { operation, source: Box::new(source) }
    }

    pub(crate) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    /// The stable code of this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Restore { source } => source.code(),
            Self::Private { source } => source.code(),
            Self::Server { .. } => "drill-server",
            Self::Repository { source, .. } => source.code(),
            Self::File { .. } => "drill-file",
            Self::Pattern { .. } => "drill-pattern",
        }
    }

    /// What an operator can do, as a command or a question.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Restore { source } => source.hint(),
            Self::Private { source } => source.hint(),
            Self::Server { source, .. } => Some(source.hint()),
            Self::Repository { source, .. } => source.hint(),
            Self::File { .. } => None,
            Self::Pattern { .. } => Some("write schema.name; `*` stands for any letters".to_owned()),
        }
    }
}

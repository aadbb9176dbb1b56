//! What can go wrong while one leader is kept, and what an operator can do about it.

use crate::dcs::DcsError;
use pgproof_server::ServerError;
use std::{io, path::PathBuf};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HaError {
    /// A file, directory or socket of this host could not be used.
    #[error("could not {operation} {}", path.display())]
    Host {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// PostgreSQL did not do what was asked of it.
    #[error("could not {operation}")]
    Server {
        /// What was being done.
        operation: &'static str,
        /// Why not.
        source: ServerError,
    },
    /// A program of PostgreSQL failed.
    #[error("{program} failed: {why}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it said.
        why: String,
    },
    /// The store of the cluster's state did not do what was asked of it.
    #[error("could not {operation}")]
    Store {
        /// What was being done.
        operation: &'static str,
        /// Why not.
        source: DcsError,
    },
    /// What is asked for cannot be kept, or contradicts what is.
    #[error("{why}")]
    Refused {
        /// The arithmetic, or the contradiction.
        why: String,
        /// What to change.
        hint: String,
    },
    /// The fencing process did not answer as it must.
    #[error("the fencing process {why}")]
    Fence {
        /// What it did instead.
        why: String,
    },
    /// Something that was to be seen was not.
    #[error("could not {operation}: {why}")]
    NotSeen {
        /// What was being done.
        operation: &'static str,
        /// What was seen instead.
        why: String,
    },
}

impl HaError {
    /// Makes an error of the system one that names the object.
    pub(crate) fn host(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Host { operation, path, source }
    }

    /// Makes an error of a server one that says what it was for.
    pub(crate) fn server(operation: &'static str) -> impl FnOnce(ServerError) -> Self {
        move |source| Self::Server { operation, source }
    }

    /// Makes an error of the store one that says what it was for.
    pub(crate) fn store(operation: &'static str) -> impl FnOnce(DcsError) -> Self {
        move |source| Self::Store { operation, source }
    }

    /// A stable name of this kind of error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Host { .. } => "cluster-host",
            Self::Server { .. } => "cluster-server",
            Self::Program { .. } => "cluster-program",
            Self::Refused { .. } => "cluster-refused",
            Self::Store { .. } => "cluster-store",
            Self::Fence { .. } => "cluster-fence",
            Self::NotSeen { .. } => "cluster-not-seen",
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Host { path, .. } => Some(format!("may this account use {}?", path.display())),
            Self::Server { source, .. } => Some(source.hint()),
            Self::Program { .. } => None,
            Self::Refused { hint, .. } => Some(hint.clone()),
            Self::Store { .. } => {
                Some("does etcd answer at the endpoints in [cluster], and has it a leader?".to_owned())
            }
            Self::Fence { .. } => {
                Some("is another `pgproof fence` running on this data directory?".to_owned())
            }
            Self::NotSeen { .. } => Some("is its disk answering?".to_owned()),
        }
    }
}

//! What can keep WAL from being archived or fetched.

use pgproof_pg::SystemIdentifier;
use std::path::PathBuf;

/// Why a WAL file was not archived or not delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// The name is none that PostgreSQL archives.
    #[error("{} is not a WAL file", path.display())]
    NotAWalFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with its name.
        source: pgproof_pg::PgError,
    },
    /// The file could not be read.
    #[error("could not read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The content is no WAL segment.
    #[error("{} does not begin as a WAL segment: {reason}", path.display())]
    NotASegment {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The segment is of another cluster than the one that is archived here.
    #[error("{} is WAL of system {found}, but this server is system {expected}", path.display())]
    OtherSystem {
        /// The file.
        path: PathBuf,
        /// Whose WAL it is.
        found: SystemIdentifier,
        /// Whose it should be.
        expected: SystemIdentifier,
    },
    /// The data directory's control file could not be used.
    #[error("could not tell the cluster of {}", pgdata.display())]
    Control {
        /// The data directory.
        pgdata: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The repository refused or could not be reached.
    #[error("could not {operation}")]
    Repo {
        /// What was being done.
        operation: &'static str,
        /// Why not.
        #[source]
        source: pgproof_repo::Error,
    },
}

impl WalError {
    /// What the operator can do next.
    pub fn hint(&self) -> String {
        match self {
            Self::NotAWalFile { .. } => {
                "is the command `pgproof archive push \"%p\"`, or `pgproof archive get \"%f\" \"%p\"`?"
                    .to_owned()
            }
            Self::Unreadable { .. } | Self::Control { .. } => {
                "does the command run in the data directory, as the server's user?".to_owned()
            }
            Self::NotASegment { .. } => {
                "is the file damaged? PostgreSQL keeps it until it was archived".to_owned()
            }
            Self::OtherSystem { .. } => {
                "was a segment copied from another cluster into pg_wal? It does not belong there".to_owned()
            }
            Self::Repo { source, .. } => source.hint().unwrap_or_else(|| "run `pgproof check`".to_owned()),
        }
    }
}

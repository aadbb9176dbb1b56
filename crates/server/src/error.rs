//! What can go wrong between pgproof and a server, in words that name the server.

use std::path::PathBuf;

/// Why something asked of a server was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// No connection could be made.
    #[error("could not connect to PostgreSQL at {server}: {}", message(source))]
    Connect {
        /// Where: socket or host, port, database, user.
        server: String,
        /// Why not.
        source: postgres::Error,
    },
    /// The connection parameters are not valid.
    #[error("the connection parameters are not valid: {reason}")]
    Parameters {
        /// What is wrong with them.
        reason: String,
    },
    /// A statement failed.
    #[error("could not {operation} on {server}: {}", message(source))]
    Statement {
        /// What was being done.
        operation: &'static str,
        /// Where.
        server: String,
        /// Why not.
        source: postgres::Error,
    },
    /// The server answered something that pgproof does not understand.
    #[error("{server} gave {found:?} for {what}")]
    Answer {
        /// Where.
        server: String,
        /// What was asked.
        what: &'static str,
        /// What came.
        found: String,
    },
    /// A program or file of the server's host could not be used.
    #[error("could not {operation} {}", path.display())]
    Host {
        /// What was being done.
        operation: &'static str,
        /// The program or file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The server did not do in time, or did wrongly, what was asked of it.
    #[error("{what}")]
    Failed {
        /// What happened, with the end of the server's log where there is one.
        what: String,
        /// What the operator can do.
        hint: String,
    },
}

/// The server's own message where there is one: `postgres::Error` says only "db error".
fn message(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(answer) => format!("{}: {} ({})", answer.severity(), answer.message(), answer.code().code()),
        None => error.to_string(),
    }
}

impl ServerError {
    /// What the operator can do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Connect { .. } => {
                "is the server running, and do port, socket_directory and user in pgproof.toml fit it? `pgproof check` tells more"
                    .to_owned()
            }
            Self::Parameters { .. } => "correct the [instance] section of pgproof.toml".to_owned(),
            Self::Statement { source, .. } if is_denied(source) => {
                "connect as a superuser, or grant the role pg_read_all_settings and EXECUTE on the backup functions".to_owned()
            }
            Self::Statement { .. } | Self::Answer { .. } => "the server's log tells more".to_owned(),
            Self::Host { .. } => "does the user that runs pgproof own the data directory?".to_owned(),
            Self::Failed { hint, .. } => hint.clone(),
        }
    }
}

fn is_denied(error: &postgres::Error) -> bool {
    error.code() == Some(&postgres::error::SqlState::INSUFFICIENT_PRIVILEGE)
}

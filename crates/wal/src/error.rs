//! What can keep WAL from being archived or fetched.

use pgproof_pg::SystemIdentifier;
use pgproof_server::ServerError;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

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
    /// The place of received WAL could not be used.
    #[error("could not {operation} {}", path.display())]
    Spool {
        /// What was being done.
        operation: &'static str,
        /// The directory or file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another receiver uses the place of received WAL.
    #[error("another receiver of this cluster uses {}", path.display())]
    SpoolTaken {
        /// The directory.
        path: PathBuf,
    },
    /// Another process archives ahead in this data directory.
    #[error("another `archive run` serves {}", pgdata.display())]
    ResidentTaken {
        /// The data directory.
        pgdata: PathBuf,
    },
    /// PostgreSQL's pushes go to another repository than the one that is archived into ahead.
    #[error("archive_command archives into {found} now, and this process into {expected}")]
    OtherRepository {
        /// Where pushes go.
        found: String,
        /// Where this process archives.
        expected: String,
    },
    /// Whoever archives ahead could not archive the file.
    #[error("{message}")]
    Resident {
        /// What it said, with causes.
        message: String,
        /// What it advised.
        hint: String,
    },
    /// A repository that others are not to wait for gave no answer in time.
    #[error("there was no answer within {}", pgproof_base::human_duration(*limit))]
    TooSlow {
        /// How long was waited.
        limit: Duration,
    },
    /// A repository failed a moment ago, and is tried again soon.
    #[error("it failed a moment ago, and rests")]
    Resting,
    /// Earlier attempts in a repository never came to an end.
    #[error("{attempts} earlier attempts hang there")]
    Hanging {
        /// How many.
        attempts: usize,
    },
    /// A repository that has to hold the file did not take it.
    #[error(
        "could not archive {name} into repository `{repository}`; {}",
        if held.is_empty() { "no repository holds it".to_owned() } else { format!("held by {}", held.join(", ")) }
    )]
    NotEverywhere {
        /// The file.
        name: String,
        /// The first that failed.
        repository: String,
        /// Those that hold it.
        held: Vec<String>,
        /// Why it failed.
        source: Box<WalError>,
    },
    /// A file could not be had from any of several repositories, and not all of them proved it absent.
    #[error("could not get {name} from repository `{repository}`, and no other one has it")]
    Nowhere {
        /// The file.
        name: String,
        /// The first that failed.
        repository: String,
        /// Why it failed.
        source: Box<WalError>,
    },
    /// The server did not send WAL.
    #[error("could not {operation}")]
    Server {
        /// What was being done.
        operation: &'static str,
        /// Why not.
        #[source]
        source: ServerError,
    },
    /// Where the server was there is another cluster now.
    #[error("the server is system {found} now, and was system {expected}")]
    OtherServer {
        /// Whose server it is.
        found: SystemIdentifier,
        /// Whose WAL was received.
        expected: SystemIdentifier,
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
            Self::Spool { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                "make room there: what is held leaves once the repository takes it, and commits may wait meanwhile".to_owned()
            }
            Self::Spool { .. } => {
                "does the directory exist, on its own disk, and may this user write there?".to_owned()
            }
            Self::SpoolTaken { .. } => "let that one go on, or give this one a directory of its own".to_owned(),
            Self::ResidentTaken { .. } => {
                "one is enough: it takes on what that data directory's archiver offers".to_owned()
            }
            Self::OtherRepository { .. } => {
                "start `pgproof archive run` again with the configuration that archive_command names".to_owned()
            }
            Self::Resident { hint, .. } => hint.clone(),
            Self::TooSlow { .. } | Self::Resting | Self::Hanging { .. } => {
                "is the repository's network or file system up? `pgproof archive status` shows what it lacks".to_owned()
            }
            Self::NotEverywhere { source, .. } | Self::Nowhere { source, .. } => source.hint(),
            Self::Server { source, .. } => source.hint(),
            Self::OtherServer { .. } => {
                "does the address lead to the right server? Received WAL of the other one was kept".to_owned()
            }
            Self::Repo { source, .. } => source.hint().unwrap_or_else(|| "run `pgproof check`".to_owned()),
        }
    }
}

/// An error in one line, with its causes.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text += &format!(": {cause_text}");
        }
        source = cause.source();
    }
    text
}

//! What can stop a dump or a load, and what the operator can do about it.

use pgproof_base::Bytes;
use pgproof_pg::MajorVersion;
use std::path::PathBuf;

/// Why a dump was not taken or not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// No client programs of a version that can do it are on this host.
    #[error("no pg_dump and pg_restore of PostgreSQL {needed} or newer is on this host")]
    NoPrograms {
        /// The oldest version that can.
        needed: MajorVersion,
        /// The versions that are there, in words.
        found: String,
    },
    /// A version that pgproof does not know.
    #[error("this server cannot be dumped or loaded into")]
    Unsupported {
        /// Which it is, and which are known.
        source: pgproof_pg::PgError,
    },
    /// A schema or table pattern that no program may be given.
    #[error("`{text}` cannot be a {kind}")]
    Selection {
        /// Schema, table or database.
        kind: &'static str,
        /// What was given.
        text: String,
    },
    /// There is no such database to dump, or it accepts no connections.
    #[error("the server has no database `{name}` that accepts connections")]
    NoDatabase {
        /// Its name.
        name: String,
    },
    /// The dump does not hold such a database.
    #[error("dump {dump} does not hold database `{name}`")]
    NotInDump {
        /// The dump.
        dump: String,
        /// What was asked for.
        name: String,
        /// What it holds.
        holds: String,
    },
    /// The target is of an older version than the dump.
    #[error("the target server is PostgreSQL {target}, and the dump is of PostgreSQL {dumped}")]
    OlderTarget {
        /// The server to be loaded into.
        target: MajorVersion,
        /// The dumped server.
        dumped: MajorVersion,
    },
    /// The target database holds something.
    #[error("database `{name}` exists on the target and is not empty: it holds {holds}")]
    NotEmpty {
        /// Its name.
        name: String,
        /// What is in it.
        holds: String,
    },
    /// The target is a standby.
    #[error("the server at {server} is in recovery, so nothing can be loaded into it")]
    InRecovery {
        /// How it was reached.
        server: String,
    },
    /// Roles that own something in the dump are missing.
    #[error("the target has no role {}", roles.join(", "))]
    MissingRoles {
        /// Their names.
        roles: Vec<String>,
    },
    /// The dump holds no roles.
    #[error("dump {dump} holds no roles, because it was a selection")]
    NoGlobals {
        /// The dump.
        dump: String,
    },
    /// One of PostgreSQL's programs failed.
    #[error("{program} failed: {said}")]
    Program {
        /// Its name.
        program: String,
        /// The end of what it wrote to standard error.
        said: String,
    },
    /// There is not enough room for temporary files.
    #[error("{} has {free} free, and {needed} are needed", directory.display())]
    NoRoom {
        /// The temporary directory.
        directory: PathBuf,
        /// Free there.
        free: Bytes,
        /// Needed there.
        needed: Bytes,
    },
    /// The temporary directory filled up.
    #[error("{} is full", directory.display())]
    Full {
        /// The temporary directory.
        directory: PathBuf,
        /// What failed for it.
        said: String,
    },
    /// A temporary file or program could not be used.
    #[error("could not {operation} {}", path.display())]
    Host {
        /// What was being done.
        operation: &'static str,
        /// The file or program.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The server refused or went away.
    #[error("could not {operation}")]
    Server {
        /// What was being done.
        operation: &'static str,
        /// Why not.
        #[source]
        source: pgproof_server::ServerError,
    },
    /// The repository refused or went away.
    #[error("could not {operation}")]
    Repo {
        /// What was being done.
        operation: &'static str,
        /// Why not.
        #[source]
        source: pgproof_repo::Error,
    },
    /// A file of a dump is not as it was.
    #[error("{file} of dump {dump} is not whole: {what}")]
    NotWhole {
        /// The dump.
        dump: String,
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// A thread ended by a defect of pgproof.
    #[error("a worker thread failed unexpectedly")]
    WorkerPanicked,
}

impl DumpError {
    pub(crate) fn host(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull => Self::Full { directory: path, said: source.to_string() },
            _ => Self::Host { operation, path, source },
        }
    }

    pub(crate) fn server(operation: &'static str) -> impl FnOnce(pgproof_server::ServerError) -> Self {
        move |source| Self::Server { operation, source }
    }

    pub(crate) fn repo(operation: &'static str) -> impl FnOnce(pgproof_repo::Error) -> Self {
        move |source| Self::Repo { operation, source }
    }

    /// Stable name of the kind of error; `None` where that of the source says more.
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoPrograms { .. } => "dump-no-programs",
            Self::Unsupported { .. } => "dump-unsupported-version",
            Self::Selection { .. } => "dump-selection",
            Self::NoDatabase { .. } | Self::NotInDump { .. } => "dump-no-database",
            Self::OlderTarget { .. } => "load-older-target",
            Self::NotEmpty { .. } => "load-not-empty",
            Self::InRecovery { .. } => "load-in-recovery",
            Self::MissingRoles { .. } => "load-missing-roles",
            Self::NoGlobals { .. } => "load-no-globals",
            Self::Program { .. } => "dump-program-failed",
            Self::NoRoom { .. } | Self::Full { .. } => "dump-no-room",
            Self::Host { .. } => "dump-host",
            Self::NotWhole { .. } => "dump-not-whole",
            Self::Server { .. } | Self::Repo { .. } | Self::WorkerPanicked => return None,
        })
    }

    /// What the operator can do next.
    pub fn hint(&self) -> String {
        match self {
            Self::NoPrograms { needed, found } => {
                format!("install the client package of PostgreSQL {needed}, or add its programs to PATH; found: {found}")
            }
            Self::Unsupported { source } => source.hint(),
            Self::Selection { .. } => "give a name, or a pattern as `pg_dump --help` explains them".to_owned(),
            Self::NoDatabase { .. } => "`SELECT datname FROM pg_database WHERE datallowconn` lists them".to_owned(),
            Self::NotInDump { holds, .. } => format!("it holds {holds}; `pgproof list` shows other dumps"),
            Self::OlderTarget { dumped, .. } => {
                format!("load it into PostgreSQL {dumped} or newer: pg_dump's output is not made for older servers")
            }
            Self::NotEmpty { .. } => {
                "load under another name with --into, or replace what the dump holds with --clean (look first: --dry-run)"
                    .to_owned()
            }
            Self::InRecovery { .. } => "load into the primary".to_owned(),
            Self::MissingRoles { .. } => "create them, or let the dump: --globals".to_owned(),
            Self::NoGlobals { .. } => "take them from a dump of everything: `pgproof list` shows them".to_owned(),
            Self::Program { program, .. } if program == "pg_restore" => {
                "the database may be loaded in part: drop it, or load again with --clean".to_owned()
            }
            Self::Program { .. } => "the server's log tells more".to_owned(),
            Self::NoRoom { .. } | Self::Full { .. } => {
                "name a directory with more room with --temp; docs/manual/dump.md tells how much is needed".to_owned()
            }
            Self::Host { path, .. } => format!("may this account use it? try `ls -ld {}`", path.display()),
            Self::Server { source, .. } => source.hint(),
            Self::Repo { source, .. } => source.hint().unwrap_or_else(|| "run `pgproof verify`".to_owned()),
            Self::NotWhole { .. } => "run `pgproof verify`; older dumps may be whole".to_owned(),
            Self::WorkerPanicked => "this is a defect of pgproof: report it with the lines printed above".to_owned(),
        }
    }
}

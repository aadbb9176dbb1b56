//! What can stop an extraction. Whatever it is, the live server has no new table and the private one is gone.

use crate::error::RestoreError;
use crate::extract::table::{QualifiedName, TableName};
use crate::private::PrivateError;
use pgproof_base::Bytes;
use pgproof_server::ServerError;
use std::path::PathBuf;

/// Why a table was not extracted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// A name that cannot be one.
    #[error("`{text}` is no name of a table: {why}")]
    Name {
        /// As it was typed.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The table did not exist at that instant.
    #[error("there was no table {table} in database {database} at {target}")]
    Absent {
        /// The table asked for.
        table: TableName,
        /// The database.
        database: String,
        /// The instant, in words.
        target: String,
        /// Tables of that instant that look like it.
        similar: Vec<String>,
    },
    /// Several schemas have a table of this name.
    #[error("there were several tables {table}: {}", list(found))]
    Ambiguous {
        /// The table asked for.
        table: TableName,
        /// Those there are.
        found: Vec<QualifiedName>,
    },
    /// It is a view or something else without rows of its own.
    #[error("{table} was not a table but a {kind}")]
    NotATable {
        /// What was asked for.
        table: QualifiedName,
        /// What it is.
        kind: &'static str,
    },
    /// The file to be written exists.
    #[error("{} exists already", path.display())]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// The table to be made exists.
    #[error("{table} exists already in database {database} of {server}")]
    TableExists {
        /// The table.
        table: QualifiedName,
        /// The database.
        database: String,
        /// The server.
        server: String,
    },
    /// The schema to put it into does not exist.
    #[error("there is no schema {schema} in database {database} of {server}")]
    NoSchema {
        /// The schema.
        schema: String,
        /// The database.
        database: String,
        /// The server.
        server: String,
    },
    /// The server to put it into takes no writes.
    #[error("{server} is a standby, which takes no table")]
    Standby {
        /// The server.
        server: String,
    },
    /// The dump may not fit.
    #[error("{} has {} left, and the table has {}", path.display(), Bytes(*available), Bytes(*needed))]
    NoSpace {
        /// A directory of the file system.
        path: PathBuf,
        /// Bytes of the table.
        needed: u64,
        /// Bytes available to this user.
        available: u64,
    },
    /// No `pg_dump` that can read the restored server.
    #[error("found no pg_dump of PostgreSQL {version} or later")]
    NoPrograms {
        /// Major version of the backup.
        version: String,
    },
    /// There is no private server.
    #[error("could not bring the database back")]
    Private {
        /// Why not.
        source: Box<PrivateError>,
    },
    /// Restoring or recovering failed.
    #[error("could not bring the database back")]
    Restore {
        /// Why.
        source: Box<RestoreError>,
    },
    /// Replay passed over pages of the wanted database.
    #[error("database {database} came back damaged: {}", lines.first().map_or("", String::as_str))]
    Damaged {
        /// The database.
        database: String,
        /// Lines of the server's log.
        lines: Vec<String>,
    },
    /// A server did not do what it was asked.
    #[error("could not {operation}")]
    Server {
        /// What was being done.
        operation: &'static str,
        /// Why not.
        source: Box<ServerError>,
    },
    /// A program failed.
    #[error("{program} failed: {said}")]
    Program {
        /// `pg_dump`, `pg_restore`.
        program: &'static str,
        /// What it wrote to its standard error.
        said: String,
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
    /// The copy in the live server has not as many rows as the table had.
    #[error("{table} has {found} rows, and the table had {expected}")]
    RowsDiffer {
        /// The new table.
        table: QualifiedName,
        /// Rows in the live server.
        found: i64,
        /// Rows at the instant.
        expected: i64,
    },
}

impl ExtractError {
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

    pub(crate) fn private(source: PrivateError) -> Self {
        match source {
            PrivateError::Recovery { source } => Self::Restore { source },
            source => Self::Private { source: Box::new(source) },
        }
    }

    /// The stable code of this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name { .. } => "extract-name",
            Self::Absent { .. } => "extract-table-absent",
            Self::Ambiguous { .. } => "extract-table-ambiguous",
            Self::NotATable { .. } => "extract-not-a-table",
            Self::FileExists { .. } => "extract-file-exists",
            Self::TableExists { .. } => "extract-table-exists",
            Self::NoSchema { .. } => "extract-no-schema",
            Self::Standby { .. } => "extract-standby",
            Self::NoSpace { .. } => "extract-no-space",
            Self::NoPrograms { .. } => "extract-no-programs",
            Self::Private { source } => source.code(),
            Self::Restore { source } => source.code(),
            Self::Damaged { .. } => "extract-damaged",
            Self::Server { .. } => "extract-server",
            Self::Program { .. } => "extract-program",
            Self::File { .. } => "extract-file",
            Self::RowsDiffer { .. } => "extract-rows-differ",
        }
    }

    /// What an operator can do, as a command or a question.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Name { .. } => "write table, schema.table, or \"Quoted\".\"Names\"".into(),
            Self::Absent { similar, .. } if similar.is_empty() => {
                "was it dropped by then, or made later? Try another time with --at; `pgproof list` shows the windows".into()
            }
            Self::Absent { similar, .. } => format!(
                "is {} meant? Or was it dropped by then: try an earlier time with --at",
                similar.join(" or ")
            ),
            Self::Ambiguous { .. } => "name it with its schema".into(),
            Self::NotATable { .. } => "extract the tables that it reads".into(),
            Self::FileExists { .. } => "choose another file; nothing is overwritten".into(),
            Self::TableExists { .. } => "give the copy another name with --as; nothing is overwritten".into(),
            Self::NoSchema { .. } => "create it first, or name another one with --schema".into(),
            Self::Standby { .. } => "name the primary with --into".into(),
            Self::NoSpace { .. } => "write to a larger file system".into(),
            Self::NoPrograms { version } => {
                format!("install the client programs of PostgreSQL {version}, such as the package postgresql-client-{version}")
            }
            Self::Private { source } => return source.hint(),
            Self::Restore { source } => return source.hint(),
            Self::Damaged { .. } => {
                "try another backup with --backup, and `pgproof verify`; is full_page_writes off on the origin?".into()
            }
            Self::Server { source, .. } => source.hint(),
            Self::Program { program: "pg_restore", .. } => {
                "nothing was changed in the live server; --to writes a file instead, from which you choose what to restore".into()
            }
            Self::Program { .. } | Self::RowsDiffer { .. } | Self::File { .. } => return None,
        })
    }
}

fn list(tables: &[QualifiedName]) -> String {
    tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

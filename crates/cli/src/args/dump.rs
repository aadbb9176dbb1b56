//! What is typed for logical backups.

use super::low::RepositoryArgs;
use clap::{ArgAction, Args, ValueHint};
use std::path::PathBuf;

/// Which server, for commands that need no data directory.
#[derive(Debug, Args, Default)]
pub(crate) struct ServerArgs {
    /// Data directory of the server
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = ["host", "port"])]
    pub(crate) pgdata: Option<PathBuf>,
    /// Host of the server, or the directory of its socket
    #[arg(long, value_name = "HOST|DIR", help_heading = "Another server than the configured one")]
    pub(crate) host: Option<String>,
    /// Its port
    #[arg(long, value_name = "PORT", help_heading = "Another server than the configured one")]
    pub(crate) port: Option<u16>,
    /// Role to connect as
    #[arg(long, value_name = "ROLE", help_heading = "Another server than the configured one")]
    pub(crate) user: Option<String>,
}

/// `pgproof dump`
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Dump this database only; may be repeated
    #[arg(long, value_name = "NAME", action = ArgAction::Append, help_heading = "Selection")]
    pub(crate) database: Vec<String>,
    /// Dump schemas that match this pattern of pg_dump only; may be repeated
    #[arg(long, value_name = "PATTERN", action = ArgAction::Append, requires = "database", help_heading = "Selection")]
    pub(crate) schema: Vec<String>,
    /// Dump tables that match this pattern of pg_dump only; may be repeated
    #[arg(long, value_name = "PATTERN", action = ArgAction::Append, requires = "database", help_heading = "Selection")]
    pub(crate) table: Vec<String>,
    /// Store everything anew, also what an earlier dump holds
    #[arg(long)]
    pub(crate) full: bool,
    /// Processes of pg_dump, and threads that compress and store
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<u16>,
    /// How to compress: zstd:LEVEL, lz4 or none
    #[arg(long, value_name = "CODEC")]
    pub(crate) compression: Option<String>,
    /// Where pg_dump writes what is then stored
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) temp: Option<PathBuf>,
}

/// `pgproof load`
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The dump, its beginning if that is unique, or `latest`
    #[arg(value_name = "DUMP", default_value = "latest")]
    pub(crate) dump: String,
    /// Load this database of the dump
    #[arg(long, value_name = "NAME", required_unless_present = "globals")]
    pub(crate) database: Option<String>,
    /// Load it under this name
    #[arg(long, value_name = "NAME", requires = "database")]
    pub(crate) into: Option<String>,
    /// Load this schema only; may be repeated
    #[arg(long, value_name = "NAME", action = ArgAction::Append, requires = "database")]
    pub(crate) schema: Vec<String>,
    /// Load this table only, without its indexes and constraints; may be repeated
    #[arg(long, value_name = "NAME", action = ArgAction::Append, requires = "database")]
    pub(crate) table: Vec<String>,
    /// Make the roles of the dump that are missing; those that exist are left as they are
    #[arg(long)]
    pub(crate) globals: bool,
    /// Drop what the dump holds before loading it into a database that is not empty
    #[arg(long, requires = "database")]
    pub(crate) clean: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Dumps of this system, when the repository holds those of several
    #[arg(long, value_name = "SYSTEM-ID")]
    pub(crate) system: Option<String>,
    /// Processes of pg_restore, and threads that fetch
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<u16>,
    /// Do not run ANALYZE at the end
    #[arg(long)]
    pub(crate) no_analyze: bool,
    /// Where files are put for pg_restore
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) temp: Option<PathBuf>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

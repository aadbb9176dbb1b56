//! What is typed for the diagnosis of a server.

use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;

/// `pgproof doctor`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DoctorArgs {
    #[command(subcommand)]
    pub(crate) command: Option<DoctorCommand>,
    #[command(flatten)]
    pub(crate) look: LookArgs,
    /// Judge what a bundle holds instead of looking
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "fix")]
    pub(crate) from: Option<PathBuf>,
    /// Carry out the first remedy of this finding, and look again; CODE:SUBJECT where several have the code
    #[arg(long, value_name = "CODE", help_heading = "Mending")]
    pub(crate) fix: Option<String>,
    /// Do not ask before a remedy that interrupts nobody
    #[arg(short, long, requires = "fix", help_heading = "Mending")]
    pub(crate) yes: bool,
    /// Allow a remedy that interrupts service
    #[arg(long, requires = "fix", help_heading = "Mending")]
    pub(crate) disruptive: bool,
    /// Allow a remedy that removes something, after a copy of that was kept in the working directory or beside it
    #[arg(long, requires = "fix", help_heading = "Mending")]
    pub(crate) destructive: bool,
    /// Exit codes of a monitoring plugin: 0 in order, 1 warning, 2 critical, 3 unknown
    #[arg(long)]
    pub(crate) nagios: bool,
}

/// The verbs under `pgproof doctor`.
#[derive(Debug, Subcommand)]
pub(crate) enum DoctorCommand {
    /// Print the page of a check, or the list of all
    Explain {
        /// Code of the check
        #[arg(value_name = "CODE")]
        code: Option<String>,
    },
    /// Write what can be seen of a server into a file, without rows, statements and secrets
    Bundle {
        /// The file; one that is there is not overwritten
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        #[command(flatten)]
        look: LookArgs,
    },
}

/// Which server, and for how long.
#[derive(Debug, Args, Default)]
pub(crate) struct LookArgs {
    /// The server, as a connection string of libpq
    #[arg(value_name = "DSN")]
    pub(crate) dsn: Option<String>,
    /// Data directory of the server
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pgdata: Option<PathBuf>,
    /// Host of the server, or the directory of its socket
    #[arg(long, value_name = "HOST|DIR")]
    pub(crate) host: Option<String>,
    /// Its port
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Role to connect as
    #[arg(long, value_name = "ROLE")]
    pub(crate) user: Option<String>,
    /// Database to connect to
    #[arg(long, value_name = "NAME")]
    pub(crate) database: Option<String>,
    /// Log of the server, where its settings do not tell
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) log: Option<PathBuf>,
    /// How long looking may take
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) budget: String,
}

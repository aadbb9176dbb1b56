//! The arguments of `pgproof sandbox`.

use super::low::RepositoryArgs;
use clap::{Args, Subcommand, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

/// `pgproof sandbox`
#[derive(Debug, Subcommand)]
pub(crate) enum SandboxCommand {
    /// Make a running clone of an instant, its pages fetched when they are read
    Create(Box<CreateArgs>),
    /// List the sandboxes of this account
    List(PlaceArgs),
    /// Open psql in a sandbox
    Psql(ExecArgs),
    /// Run a command with the PG* variables of a sandbox
    Exec(ExecArgs),
    /// Stop a sandbox; it can be started again
    Stop(NamedArgs),
    /// Start a sandbox that was stopped
    Start(NamedArgs),
    /// Remove a sandbox
    Drop(NamedArgs),
    /// Remove the sandboxes whose time is over
    Gc(PlaceArgs),
    /// Keep a sandbox; `sandbox create` starts it
    #[command(hide = true)]
    Keep(KeepArgs),
    /// Serve the files of a sandbox; its keeper starts it
    #[command(hide = true)]
    Files(FilesArgs),
    /// Fetch WAL for a sandbox; its server runs it
    #[command(hide = true)]
    Fetch(FetchArgs),
}

/// Where sandboxes lie.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Directory of the sandboxes, on a disk with room for what they change; its path must be short
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) directory: Option<PathBuf>,
}

/// `pgproof sandbox create`
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// The instant: a time such as '2026-11-22 14:05:00+01', an LSN, xid:NUMBER, name:RESTORE-POINT, or latest
    #[arg(long, value_name = "TARGET")]
    pub(crate) at: Option<String>,
    /// From this backup, instead of the best one; without --at the instant at which it became consistent
    #[arg(long, value_name = "BACKUP")]
    pub(crate) backup: Option<String>,
    /// Its name; made from the time when not given
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// How long it may live
    #[arg(long, value_name = "DURATION", default_value = "4h")]
    pub(crate) ttl: String,
    /// Restore everything first
    #[arg(long)]
    pub(crate) full: bool,
    /// Fail where FUSE cannot be used, instead of restoring everything
    #[arg(long, conflicts_with = "full")]
    pub(crate) lazy: bool,
    /// Run this SQL with psql before anybody else can connect; if it fails there is no sandbox
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) mask: Option<PathBuf>,
    /// The database in which the mask begins
    #[arg(long, value_name = "DATABASE", default_value = "postgres", requires = "mask")]
    pub(crate) mask_database: String,
    /// Listen on this port of localhost too, with passwords; the server then has the host's network
    #[arg(long, value_name = "PORT")]
    pub(crate) tcp: Option<u16>,
    /// The most that it may change, such as 10GB; beyond it the clone sees a full disk
    #[arg(long, value_name = "SIZE")]
    pub(crate) layer_limit: Option<String>,
    /// Of this system, when the repository holds several
    #[arg(long, value_name = "SYSTEM-ID")]
    pub(crate) system: Option<String>,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

/// A sandbox by its name.
#[derive(Debug, Args)]
pub(crate) struct NamedArgs {
    /// The sandbox
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

/// `pgproof sandbox exec` and `psql`
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The sandbox
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The command, or for psql its arguments
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<OsString>,
}

/// `pgproof sandbox keep`
#[derive(Debug, Args)]
pub(crate) struct KeepArgs {
    /// Directory of the sandbox
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// What namespaces there are
    #[arg(long, value_name = "STAGE")]
    pub(crate) stage: Option<String>,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
}

/// `pgproof sandbox files`
#[derive(Debug, Args)]
pub(crate) struct FilesArgs {
    /// Directory of the sandbox
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
}

/// `pgproof sandbox fetch`
#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// Socket of the desk
    #[arg(value_name = "DESK")]
    pub(crate) desk: PathBuf,
    /// The wanted file: %f in restore_command
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Where to put it: %p in restore_command
    #[arg(value_name = "PATH")]
    pub(crate) path: String,
}

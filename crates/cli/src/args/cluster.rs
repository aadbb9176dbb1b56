//! Arguments of what keeps a cluster available.

use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;

/// `pgproof agent`
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// Data directory of this node; need not exist yet
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pgdata: Option<PathBuf>,
    /// Do what is due now, one after another, and end; takes no part in a cluster
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) once: bool,
    /// Show what is due when, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `pgproof cluster`
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the members, their roles and how far they are
    Status(ClusterArgs),
    /// Say who would be promoted now, what blocks it, and how many failures are survivable
    Explain(ClusterArgs),
    /// Move the primary to another node, on purpose and without loss
    Switchover(SwitchoverArgs),
    /// Elect a new primary although the present one may run; never loses an acknowledged commit
    Failover(FailoverArgs),
    /// Let the agents neither elect, restart nor rejoin until `resume`
    Pause(PauseArgs),
    /// Let the agents act again
    Resume(ClusterArgs),
    /// Print a connection string that finds the primary
    Dsn(ClusterArgs),
}

/// Commands without arguments of their own.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {}

/// `pgproof cluster switchover`
#[derive(Debug, Args)]
pub(crate) struct SwitchoverArgs {
    /// The node to move to; the most advanced one when not given
    #[arg(long, value_name = "NODE")]
    pub(crate) to: Option<String>,
    /// Not before this time, such as '2026-11-22 14:05:00+01'
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,
    /// How long to wait until it is done
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub(crate) timeout: String,
}

/// `pgproof cluster failover`
#[derive(Debug, Args)]
pub(crate) struct FailoverArgs {
    /// How long to wait until it is done
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub(crate) timeout: String,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// `pgproof cluster pause`
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    /// Who asks, and why; shown by `cluster status`
    #[arg(long, value_name = "TEXT", default_value = "an operator")]
    pub(crate) reason: String,
}

/// `pgproof fence`
#[derive(Debug, Args)]
pub(crate) struct FenceArgs {
    /// Directory of its socket
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) directory: PathBuf,
    /// The data directory to guard
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pgdata: PathBuf,
}

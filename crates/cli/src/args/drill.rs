//! What is typed for drills and the heartbeat.

use super::dump::ServerArgs;
use super::low::RepositoryArgs;
use clap::{ArgGroup, Args, ValueHint};
use std::path::PathBuf;

/// `pgproof drill`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("instant").multiple(false))]
pub(crate) struct DrillArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Recover as far as the archive goes; this is what happens without any instant
    #[arg(long, group = "instant", help_heading = "Instant")]
    pub(crate) latest: bool,
    /// Recover to this time, such as '2026-11-22 14:05:00+01'
    #[arg(long, group = "instant", value_name = "TIME", help_heading = "Instant")]
    pub(crate) at: Option<String>,
    /// Recover to some position that can be reached
    #[arg(long, group = "instant", help_heading = "Instant")]
    pub(crate) random: bool,
    /// With --random: choose the same position again
    #[arg(long, value_name = "N", requires = "random", help_heading = "Instant")]
    pub(crate) seed: Option<u64>,
    /// Start from this backup instead of the best one
    #[arg(long, value_name = "BACKUP", help_heading = "Instant")]
    pub(crate) backup: Option<String>,
    /// Recover this lineage, when the repository holds several
    #[arg(long, value_name = "SYSTEM-ID", help_heading = "Instant")]
    pub(crate) system: Option<String>,
    /// Restore every file, as a disaster would need it; this is the only way so far
    #[arg(long)]
    pub(crate) full: bool,
    /// Fail when the first query comes later than this after the begin
    #[arg(long, value_name = "DURATION", help_heading = "Objectives")]
    pub(crate) rto: Option<String>,
    /// Fail when commits of more than this are lost
    #[arg(long, value_name = "DURATION", help_heading = "Objectives")]
    pub(crate) rpo: Option<String>,
    /// How many other recoveries are tried when this one fails by its backup
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) try_older: usize,
    /// Directory in which the private one is made [default: scratch in [drill], else TMPDIR, else /var/tmp]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) scratch: Option<PathBuf>,
    /// Threads that fetch, check and write
    #[arg(short, long, value_name = "N")]
    pub(crate) processes: Option<u16>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `pgproof heartbeat`
#[derive(Debug, Args)]
pub(crate) struct HeartbeatArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Database of the heartbeat, when it is not that of [instance]
    #[arg(long, value_name = "NAME")]
    pub(crate) database: Option<String>,
    /// Make its table and role where they are missing, and beat once
    #[arg(long, conflicts_with = "every")]
    pub(crate) create: bool,
    /// Print the SQL that makes them, and do nothing
    #[arg(long, conflicts_with_all = ["every", "create"])]
    pub(crate) show_sql: bool,
    /// Beat at this interval until interrupted, such as 1s
    #[arg(long, value_name = "DURATION")]
    pub(crate) every: Option<String>,
}

//! What was typed: one definition for each argument feeds the parser, `--help`, the man pages and the completions.
//!
//! Nothing is interpreted here beyond its shape; [`super::high`] says what it means.

use super::cluster::{AgentArgs, ClusterCommand, FenceArgs};
use super::doctor::DoctorArgs;
use super::drill::{DrillArgs, HeartbeatArgs};
use super::dump::{DumpArgs, LoadArgs};
use super::key::KeyCommand;
use super::sandbox::SandboxCommand;
use super::transfer::{CopyArgs, RepairArgs};
use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint};
use std::path::PathBuf;

/// Makes a running PostgreSQL recoverable, and proves it.
#[derive(Debug, Parser)]
#[command(name = "pgproof", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done; 1 done, and the answer is bad; 2 wrong usage; 3 could not do it. \
    `archive get` and `archive push` follow PostgreSQL's rules instead: see docs/manual/exit-codes.md"
)]
pub(crate) struct LowArgs {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: LowCommand,
}

/// Arguments of every command.
#[derive(Debug, Args)]
pub(crate) struct GlobalArgs {
    /// Read this configuration file
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Global options")]
    pub(crate) config: Option<PathBuf>,
    /// Print the result as one JSON document
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Never use colour; the variable NO_COLOR does the same
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) no_color: bool,
    /// Show neither progress nor notes
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// Show more: every file, every reason
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub(crate) verbose: bool,
    /// End when this process, which started this one, does; the agent says so of what it starts
    #[arg(long, global = true, hide = true, value_name = "PID")]
    pub(crate) child_of: Option<i32>,
    /// Write the exit code to this open file when everything else is written
    #[arg(long, global = true, hide = true, value_name = "FD")]
    pub(crate) tell: Option<i32>,
}

/// Which repository, for the commands that use one.
#[derive(Debug, Args, Default)]
pub(crate) struct RepositoryArgs {
    /// Use this repository only: a configured one by its name, a directory (/path or ./path), s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or
    /// az://CONTAINER/PREFIX
    #[arg(long, value_name = "NAME|PATH|URL", value_hint = ValueHint::DirPath)]
    pub(crate) repository: Option<String>,
    /// File with the age identity that opens the repository
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key_file: Option<PathBuf>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum LowCommand {
    /// Set up backups and archiving of a running server
    Init(InitArgs),
    /// Find everything that would make a backup, the archive or a restore fail
    Check(CheckArgs),
    /// Take a backup: the first is full, later ones incremental, each restorable alone
    Backup(BackupArgs),
    /// Archive WAL, hand it out, compare the archive with the server
    #[command(subcommand)]
    Archive(ArchiveCommand),
    /// Bring an instant back
    Restore(RestoreArgs),
    /// Bring one table of an instant back, as a dump or beside the live one
    Extract(ExtractArgs),
    /// Disposable running clones of any instant
    #[command(subcommand)]
    Sandbox(SandboxCommand),
    /// Recover without need, check what came back, measure how long it took and how much would be lost
    Drill(DrillArgs),
    /// Write the row by which drills measure data loss
    Heartbeat(HeartbeatArgs),
    /// Dump databases and roles with pg_dump, and store them like backups
    Dump(DumpArgs),
    /// Load a dump into a server with pg_restore
    Load(LoadArgs),
    /// List backups and recovery windows
    List(ListArgs),
    /// Show everything about one backup
    Show(ShowArgs),
    /// Say whether the stated objectives are kept, and what proves it
    Status(ObjectivesArgs),
    /// Read the repository again and compare it with what was stored
    Verify(VerifyArgs),
    /// Remove backups and WAL that the retention no longer wants
    Expire(ExpireArgs),
    /// Copy backups and WAL into a second repository, which has keys of its own
    Copy(CopyArgs),
    /// Heal a repository from a second one that holds the same backups or WAL
    Repair(RepairArgs),
    /// Keep a backup whatever the retention says
    Pin(PinArgs),
    /// Let the retention decide about a backup again
    Unpin(UnpinArgs),
    /// Keep the objectives: take backups, verify, rehearse and tell in time; keep this node part of its cluster, where there is one
    Agent(AgentArgs),
    /// Show a highly available cluster, and change it
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Guard a data directory against its agent's death; the agent starts it
    #[command(hide = true)]
    Fence(FenceArgs),
    /// Find what is wrong with a server, up or down, and what exactly mends it
    Doctor(DoctorArgs),
    /// Say who can open the repository, and change it
    #[command(subcommand)]
    Key(KeyCommand),
    /// Show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or write those of all commands into a directory
    Man(ManArgs),
}

/// `pgproof init`
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Data directory of the server; needed when several servers run
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pgdata: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Name of the repository in the configuration; a new name adds the repository to a configuration that is there
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Where the store listens, when it is not AWS
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// Region of the bucket
    #[arg(long, value_name = "NAME")]
    pub(crate) region: Option<String>,
    /// Store everything readable by whoever reads the repository
    #[arg(long, conflicts_with = "key_file")]
    pub(crate) no_encryption: bool,
    /// Let the identity of this age recipient open the repository too; may be repeated
    #[arg(long, value_name = "AGE", action = ArgAction::Append, conflicts_with = "no_encryption")]
    pub(crate) recipient: Vec<String>,
    /// Let this program wrap the repository's key, instead of a key file unless --key-file names one
    #[arg(long, value_name = "COMMAND", conflicts_with = "no_encryption")]
    pub(crate) key_command: Option<String>,
    /// Restart the server if a setting needs it
    #[arg(long)]
    pub(crate) restart: bool,
    /// Replace an archive_command or archive_library that is in use
    #[arg(long)]
    pub(crate) replace_archive_command: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// `pgproof check`
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Data directory of the server
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pgdata: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Leave out the test that writes WAL and waits until it is archived
    #[arg(long)]
    pub(crate) no_archive_test: bool,
    /// How long that test waits
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub(crate) timeout: String,
}

/// `pgproof backup`
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Data directory of the server
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pgdata: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Read and store everything, reuse nothing
    #[arg(long)]
    pub(crate) full: bool,
    /// Read everything, store only what changed, and see whether WAL had named every change
    #[arg(long, conflicts_with = "full")]
    pub(crate) read_all: bool,
    /// Threads that read, compress and store
    #[arg(short, long, value_name = "N")]
    pub(crate) processes: Option<u16>,
    /// How to compress: zstd:LEVEL, lz4 or none
    #[arg(long, value_name = "CODEC")]
    pub(crate) compression: Option<String>,
    /// Back up the standby that runs on this host
    #[arg(long)]
    pub(crate) from_standby: bool,
    /// Back up a server that sends its files over the replication protocol
    #[arg(long, conflicts_with = "from_standby")]
    pub(crate) remote: bool,
    /// Read at most so much of the data files in a second, such as 50MB
    #[arg(short = 'r', long, value_name = "SIZE")]
    pub(crate) max_rate: Option<String>,
}

/// `pgproof archive`
#[derive(Debug, Subcommand)]
pub(crate) enum ArchiveCommand {
    /// Store a WAL file; for archive_command
    Push(PushArgs),
    /// Fetch a WAL file; for restore_command
    Get(GetArgs),
    /// Archive ahead of PostgreSQL's archiver, several files at a time, until interrupted
    Run(RunArgs),
    /// Compare the server's position with the archive: lag, gaps, and what repairs each
    Status(StatusArgs),
    /// Receive WAL as it is written, like a standby, until interrupted
    Receive(ReceiveArgs),
    /// Fetch segments ahead of replay; `archive get` starts it
    #[command(hide = true)]
    Prefetch(PrefetchArgs),
}

/// `pgproof archive push`
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The file to store: %p in archive_command
    #[arg(value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
}

/// `pgproof archive get`
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The wanted file: %f in restore_command
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Where to put it: %p in restore_command
    #[arg(value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Do not ask this repository; may be repeated
    #[arg(long, value_name = "NAME", action = ArgAction::Append)]
    pub(crate) without: Vec<String>,
    /// Do not fetch segments ahead
    #[arg(long)]
    pub(crate) no_prefetch: bool,
    /// Directory where `archive receive` holds what the repository may not have yet
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) spool: Option<PathBuf>,
}

/// `pgproof archive status`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Replication slot that `archive receive` uses
    #[arg(long, value_name = "SLOT", default_value = "pgproof")]
    pub(crate) slot: String,
    /// Data directory of the server
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pgdata: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
}

/// `pgproof status`
#[derive(Debug, Args)]
pub(crate) struct ObjectivesArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
}

/// `pgproof archive receive`
#[derive(Debug, Args)]
pub(crate) struct ReceiveArgs {
    /// Directory that holds received WAL until the repository has it; it must exist, on a disk that outlives the server's
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) spool: PathBuf,
    /// Name of this receiver, for synchronous_standby_names
    #[arg(long, value_name = "NAME", default_value = "pgproof")]
    pub(crate) name: String,
    /// Replication slot that keeps what was not received yet; made where there is none
    #[arg(long, value_name = "SLOT", default_value = "pgproof")]
    pub(crate) slot: String,
    /// Use no slot: the server may then remove WAL before it was received
    #[arg(long, conflicts_with = "slot")]
    pub(crate) no_slot: bool,
    /// Connection string of the server, when it is not the configured one
    #[arg(short, long, value_name = "CONNSTR")]
    pub(crate) dbname: Option<String>,
    /// Data directory of the server, when it is on this host
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pgdata: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
}

/// `pgproof archive run`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Data directory of the server
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pgdata: Option<PathBuf>,
    /// End when nothing was to be done for a minute
    #[arg(long)]
    pub(crate) until_idle: bool,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
}

/// `pgproof archive prefetch`
#[derive(Debug, Args)]
pub(crate) struct PrefetchArgs {
    /// Data directory whose replay is served
    #[arg(long, value_name = "DIR")]
    pub(crate) pgdata: PathBuf,
    /// Do not ask this repository; may be repeated
    #[arg(long, value_name = "NAME", action = ArgAction::Append)]
    pub(crate) without: Vec<String>,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
}

/// `pgproof restore`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").multiple(false))]
pub(crate) struct RestoreArgs {
    /// Directory to restore into; empty, absent, or with --delta an existing data directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pgdata: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Recover as far as the archive goes; this is what happens without any target
    #[arg(long, group = "target", help_heading = "Target")]
    pub(crate) latest: bool,
    /// Recover to this time, such as '2026-11-22 14:05:00+01'
    #[arg(long, group = "target", value_name = "TIME", help_heading = "Target")]
    pub(crate) time: Option<String>,
    /// Recover to this WAL position
    #[arg(long, group = "target", value_name = "LSN", help_heading = "Target")]
    pub(crate) lsn: Option<String>,
    /// Recover to this transaction
    #[arg(long, group = "target", value_name = "XID", help_heading = "Target")]
    pub(crate) xid: Option<u32>,
    /// Recover to this restore point (pg_create_restore_point)
    #[arg(long, group = "target", value_name = "NAME", help_heading = "Target")]
    pub(crate) name: Option<String>,
    /// Recover only until the backup is consistent
    #[arg(long, group = "target", help_heading = "Target")]
    pub(crate) immediate: bool,
    /// Stop just before the target instead of just after
    #[arg(long, help_heading = "Target")]
    pub(crate) exclusive: bool,
    /// Follow this timeline: latest, current (the backup's own) or a number
    #[arg(long, value_name = "TIMELINE", default_value = "latest", help_heading = "Target")]
    pub(crate) timeline: String,
    /// Start from this backup instead of the best one
    #[arg(long, value_name = "BACKUP", help_heading = "Target")]
    pub(crate) backup: Option<String>,
    /// Restore this lineage, when the repository holds several
    #[arg(long, value_name = "SYSTEM-ID", help_heading = "Target")]
    pub(crate) system: Option<String>,
    /// What the server does at the target
    #[arg(long, value_enum, default_value_t = LowTargetAction::Promote, value_name = "ACTION", help_heading = "Target")]
    pub(crate) target_action: LowTargetAction,
    /// End before a gap in the archived WAL instead of refusing to lose what lies behind it
    #[arg(long, help_heading = "Target")]
    pub(crate) accept_gap: bool,
    /// Also replay what `archive receive` holds in this directory and the repository may not have yet
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Target")]
    pub(crate) spool: Option<PathBuf>,
    /// Write only what differs onto the existing data directory
    #[arg(long)]
    pub(crate) delta: bool,
    /// With --delta: whatever is in the directory may be overwritten or removed
    #[arg(long, requires = "delta")]
    pub(crate) force: bool,
    /// Restore only this database, by name or number, and what all share; the others are left empty; may be repeated
    #[arg(long, value_name = "NAME", action = ArgAction::Append, conflicts_with = "take_over")]
    pub(crate) database: Vec<String>,
    /// Put a tablespace, by name or number, into another directory; may be repeated
    #[arg(long, value_name = "NAME=DIR", action = ArgAction::Append)]
    pub(crate) tablespace: Vec<String>,
    /// Put every other tablespace into a directory of its own below this one
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) tablespace_root: Option<PathBuf>,
    /// Restore configuration that lay outside the data directory into this one
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) external: Option<PathBuf>,
    /// Go on archiving into the repository: the old server's pushes are refused from now on
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Start the server, wait for the target, and report
    #[arg(long)]
    pub(crate) start: bool,
    /// Port of the started server
    #[arg(long, value_name = "PORT", requires = "start")]
    pub(crate) port: Option<u16>,
    /// How long the started server may take to reach the target
    #[arg(long, value_name = "DURATION", requires = "start")]
    pub(crate) timeout: Option<String>,
    /// Threads that fetch, check and write
    #[arg(short, long, value_name = "N")]
    pub(crate) processes: Option<u16>,
    /// Show what would be done and how long it should take, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `pgproof extract`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("instant").required(true).args(["at", "latest", "backup"]).multiple(true))]
#[command(group = ArgGroup::new("destination").required(true).args(["to", "into"]))]
pub(crate) struct ExtractArgs {
    /// The table, with or without its schema; partitions come along
    #[arg(value_name = "TABLE")]
    pub(crate) table: String,
    /// Database of the table, by the name that it had when the backup was taken
    #[arg(long, value_name = "NAME")]
    pub(crate) from_database: String,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// The table as it was at this time, such as '2026-11-22 14:05:00+01'
    #[arg(long, value_name = "TIME", conflicts_with = "latest", help_heading = "Instant")]
    pub(crate) at: Option<String>,
    /// The table as far as the archive goes
    #[arg(long, help_heading = "Instant")]
    pub(crate) latest: bool,
    /// The table as it is in this backup; with --at or --latest: start from this backup
    #[arg(long, value_name = "BACKUP", help_heading = "Instant")]
    pub(crate) backup: Option<String>,
    /// Take it from this lineage, when the repository holds several
    #[arg(long, value_name = "SYSTEM-ID", help_heading = "Instant")]
    pub(crate) system: Option<String>,
    /// Write a dump to this file, which must not exist: for psql when it ends with .sql, else for pg_restore
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Destination")]
    pub(crate) to: Option<PathBuf>,
    /// Make a new table in this server, given by a connection string; in the configured one without
    #[arg(long, value_name = "CONNSTR", num_args = 0..=1, default_missing_value = "", help_heading = "Destination")]
    pub(crate) into: Option<String>,
    /// Name of the new table; TABLE_recovered when not given
    #[arg(long = "as", value_name = "NAME", conflicts_with = "to", help_heading = "Destination")]
    pub(crate) new_name: Option<String>,
    /// Schema of the new table; the original's when not given
    #[arg(long, value_name = "NAME", conflicts_with = "to", help_heading = "Destination")]
    pub(crate) schema: Option<String>,
    /// Directory in which a private one is made for the restored database [default: TMPDIR, else /var/tmp]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) scratch: Option<PathBuf>,
    /// Threads that fetch, check and write
    #[arg(short, long, value_name = "N")]
    pub(crate) processes: Option<u16>,
    /// Show what would be done and how long it should take, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `--target-action`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LowTargetAction {
    /// Become a primary on a new timeline
    Promote,
    /// Stay read-only, to look around
    Pause,
    /// Stop
    Shutdown,
}

/// `pgproof list`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
}

/// `pgproof show`
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The backup, its beginning if that is unique, or `latest`
    #[arg(value_name = "BACKUP", default_value = "latest")]
    pub(crate) backup: String,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
}

/// `pgproof verify`
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Verify only this system, when the repository holds several
    #[arg(long, value_name = "SYSTEM-ID")]
    pub(crate) system: Option<String>,
    /// Do not read again what a verification read within this duration
    #[arg(long, value_name = "DURATION")]
    pub(crate) skip_within: Option<String>,
    /// Threads that read
    #[arg(short, long, value_name = "N")]
    pub(crate) processes: Option<u16>,
}

/// `pgproof expire`
#[derive(Debug, Args)]
pub(crate) struct ExpireArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Keep the newest so many backups
    #[arg(long, value_name = "N", help_heading = "Retention (instead of the configured one)")]
    pub(crate) keep_last: Option<u32>,
    /// Keep what is needed to reach any instant within this duration
    #[arg(long, value_name = "DURATION", help_heading = "Retention (instead of the configured one)")]
    pub(crate) keep_within: Option<String>,
    /// Keep one backup for each of so many days
    #[arg(long, value_name = "N", help_heading = "Retention (instead of the configured one)")]
    pub(crate) keep_daily: Option<u32>,
    /// Keep one backup for each of so many weeks
    #[arg(long, value_name = "N", help_heading = "Retention (instead of the configured one)")]
    pub(crate) keep_weekly: Option<u32>,
    /// Keep one backup for each of so many months
    #[arg(long, value_name = "N", help_heading = "Retention (instead of the configured one)")]
    pub(crate) keep_monthly: Option<u32>,
    /// Keep one backup for each of so many years
    #[arg(long, value_name = "N", help_heading = "Retention (instead of the configured one)")]
    pub(crate) keep_yearly: Option<u32>,
    /// Let go of a whole system, whatever the rules say; pins still hold; may be repeated
    #[arg(long, value_name = "SYSTEM-ID", action = ArgAction::Append)]
    pub(crate) drop_lineage: Vec<String>,
    /// How long marked backups wait before they are removed
    #[arg(long, value_name = "DURATION")]
    pub(crate) sweep_after: Option<String>,
    /// Show what would be removed and why the rest is kept, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `pgproof pin`
#[derive(Debug, Args)]
pub(crate) struct PinArgs {
    /// The backup, its beginning if that is unique, or `latest`
    #[arg(value_name = "BACKUP")]
    pub(crate) backup: String,
    /// Why it is kept; `list` shows it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
}

/// `pgproof unpin`
#[derive(Debug, Args)]
pub(crate) struct UnpinArgs {
    /// The backup, its beginning if that is unique, or `latest`
    #[arg(value_name = "BACKUP")]
    pub(crate) backup: String,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
}

/// `pgproof config`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show every setting in effect and who said so
    Explain(ExplainArgs),
}

/// `pgproof config explain`
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Only settings whose name contains this
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Data directory of the server
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) pgdata: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
}

/// `pgproof completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// `pgproof man`
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write one page for each command into this directory instead
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definitions_are_consistent() {
        LowArgs::command().debug_assert();
    }
}

//! The arguments of `pgproof copy` and `pgproof repair`.

use clap::{ArgAction, Args, ValueHint};
use std::path::PathBuf;

/// `pgproof copy`
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// Repository to copy from: a directory, s3://BUCKET/PREFIX, or the name of a configured one
    #[arg(long, value_name = "PATH|URL|NAME", value_hint = ValueHint::DirPath)]
    pub(crate) from: String,
    /// Repository to copy to; it exists already
    #[arg(long, value_name = "PATH|URL|NAME", value_hint = ValueHint::DirPath)]
    pub(crate) to: String,
    /// File with the age identity that opens the repository to copy from
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) from_key_file: Option<PathBuf>,
    /// File with the age identity that opens the repository to copy to
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) to_key_file: Option<PathBuf>,
    /// Make the repository to copy to, if there is none: encrypted for the key of --to-key-file, which is made too where it is missing
    #[arg(long)]
    pub(crate) create: bool,
    /// With --create: without encryption
    #[arg(long, requires = "create", conflicts_with = "to_key_file")]
    pub(crate) no_encryption: bool,
    /// Copy only this backup, its beginning if that is unique, or `latest`; may be repeated
    #[arg(long, value_name = "BACKUP", action = ArgAction::Append)]
    pub(crate) backup: Vec<String>,
    /// Copy only backups that were finished at this time or later
    #[arg(long, value_name = "TIME", conflicts_with = "backup")]
    pub(crate) since: Option<String>,
    /// Copy only this system, when the repository holds several
    #[arg(long, value_name = "SYSTEM-ID")]
    pub(crate) system: Option<String>,
    /// Leave out the WAL that no copied backup needs to be consistent
    #[arg(long)]
    pub(crate) no_wal: bool,
    /// Objects copied at a time
    #[arg(short, long, value_name = "N")]
    pub(crate) processes: Option<u16>,
    /// Show what would be copied, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `pgproof repair`
#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// Repository to heal: a directory, s3://BUCKET/PREFIX, or the name of a configured one
    #[arg(long, value_name = "PATH|URL|NAME", value_hint = ValueHint::DirPath)]
    pub(crate) repository: String,
    /// Repository that holds the same backups or WAL
    #[arg(long, value_name = "PATH|URL|NAME", value_hint = ValueHint::DirPath)]
    pub(crate) from: String,
    /// File with the age identity that opens the repository to heal
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key_file: Option<PathBuf>,
    /// File with the age identity that opens the other repository
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) from_key_file: Option<PathBuf>,
    /// Repair only this system, when the repository holds several
    #[arg(long, value_name = "SYSTEM-ID")]
    pub(crate) system: Option<String>,
    /// Take for whole what a verification read within this duration
    #[arg(long, value_name = "DURATION")]
    pub(crate) skip_within: Option<String>,
    /// Objects read at a time
    #[arg(short, long, value_name = "N")]
    pub(crate) processes: Option<u16>,
    /// Verify, show what would be healed, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

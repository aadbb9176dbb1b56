//! What was typed after `pgproof key`: a file of its own, because these verbs share only the repository with the others.

use super::low::RepositoryArgs;
use clap::{ArgAction, ArgGroup, Args, Subcommand, ValueHint};
use std::path::PathBuf;

/// `pgproof key`
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List who can open the repository; needs no key
    List(KeyListArgs),
    /// Let somebody else open the repository too
    Add(KeyAddArgs),
    /// Let somebody no longer open the repository
    ///
    /// What lies in the repository is not written again: whoever could open it before may have kept its data key, and with that reads what
    /// is stored from now on too, as far as he can reach the store. To shut somebody out who has opened it, make a new repository.
    Remove(KeyRemoveArgs),
    /// Give this host a new key: make it, add it, see that it opens the repository, remove the old one
    ///
    /// The key file is replaced at once, and the old one is kept beside it. What lies in the repository is not written again: whoever had the
    /// old key before may have kept the data key.
    Rotate(KeyRotateArgs),
    /// Write a new key into a file and print its recipient; no repository is touched
    Generate(KeyGenerateArgs),
    /// Open the repository by each way that is configured, and say which recipient matched
    Check(KeyCheckArgs),
}

/// `pgproof key list`
#[derive(Debug, Args)]
pub(crate) struct KeyListArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
}

/// `pgproof key add`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("who").required(true).multiple(true))]
pub(crate) struct KeyAddArgs {
    /// Let the identity of this age recipient open the repository; may be repeated
    #[arg(long, group = "who", value_name = "AGE", action = ArgAction::Append)]
    pub(crate) recipient: Vec<String>,
    /// Let those in this file do so: one on a line, `#` begins a comment
    #[arg(long, group = "who", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) recipients_file: Option<PathBuf>,
    /// Let the configured key command wrap the key; again, when it has done so before
    #[arg(long, group = "who")]
    pub(crate) command: bool,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `pgproof key remove`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("who").required(true).multiple(false))]
pub(crate) struct KeyRemoveArgs {
    /// The age recipient whose identity is no longer to open the repository
    #[arg(long, group = "who", value_name = "AGE")]
    pub(crate) recipient: Option<String>,
    /// Remove what the key command wrapped
    #[arg(long, group = "who")]
    pub(crate) command: bool,
    /// Do it even when this host can then no longer open the repository
    #[arg(long)]
    pub(crate) lock_out_this_host: bool,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `pgproof key rotate`
#[derive(Debug, Args)]
pub(crate) struct KeyRotateArgs {
    /// Open the repository with the identity in this file: when the configured key is lost
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) open_with: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `pgproof key generate`
#[derive(Debug, Args)]
pub(crate) struct KeyGenerateArgs {
    /// The file to write; it must not exist
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `pgproof key check`
#[derive(Debug, Args)]
pub(crate) struct KeyCheckArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
}

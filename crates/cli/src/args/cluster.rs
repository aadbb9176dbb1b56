//! Arguments of what keeps a cluster available.

use clap::{Args, ValueHint};
use std::path::PathBuf;

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

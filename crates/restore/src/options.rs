//! What a person asked of a restore, with nothing left to default.

use crate::choose::Request;
use pgproof_pg::SystemIdentifier;
use pgproof_server::Owner;
use serde::Serialize;
use std::path::PathBuf;

/// What may be in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Onto {
    /// Nothing: it is empty or does not exist.
    Empty,
    /// A data directory of the same cluster, of which only what differs is written.
    Delta,
    /// Whatever is there becomes the data directory (`--delta --force`).
    Anything,
}

impl Onto {
    /// Whether what is there is compared.
    pub fn is_delta(self) -> bool {
        self != Self::Empty
    }
}

/// Where tablespaces go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TablespaceMapping {
    /// Single ones, by oid or name.
    pub single: Vec<(String, PathBuf)>,
    /// A directory in which each other tablespace gets one of its own, named by its oid.
    pub root: Option<PathBuf>,
}

/// Whether the restored server archives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Archiving {
    /// No: a copy must not write into the archive of its origin.
    Off,
    /// Yes, and the repository refuses everybody who archived before.
    TakeOver {
        /// Why, for the record in the repository.
        reason: String,
    },
}

/// The commands that the restored server runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Commands {
    /// `restore_command`.
    pub restore: String,
    /// `archive_command`, used when it takes over.
    pub archive: String,
}

/// What to restore, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreOptions {
    /// Target, timeline, backup.
    pub request: Request,
    /// Of which cluster, where the repository holds several.
    pub system: Option<SystemIdentifier>,
    /// The data directory to be.
    pub directory: PathBuf,
    /// What may be in it.
    pub onto: Onto,
    /// Only these databases, by name or number, and those that every server has; all of them when empty.
    pub databases: Vec<String>,
    /// Where tablespaces go.
    pub tablespaces: TablespaceMapping,
    /// Where configuration from outside of the data directory goes; nowhere when not given.
    pub external: Option<PathBuf>,
    /// Whether the restored server archives.
    pub archiving: Archiving,
    /// What the restored server runs.
    pub commands: Commands,
    /// Threads that read and write.
    pub workers: usize,
    /// To whom files are given, when this process is root.
    pub owner: Option<Owner>,
}

/// Workers for this machine: enough to keep its processors busy, few enough that memory stays small.
pub fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 8)
}

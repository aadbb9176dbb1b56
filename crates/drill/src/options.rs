//! What a person asked of a drill, with nothing left to default.

use crate::check::{Assertion, Pattern};
use crate::heartbeat::PrimaryBeat;
use pgproof_pg::SystemIdentifier;
use pgproof_repo::BackupId;
use pgproof_repo::walset::Target;
use pgproof_restore::Commands;
use pgproof_restore::private::Purpose;
use std::path::PathBuf;
use std::time::Duration;

/// Whose private directories these are.
pub const PURPOSE: Purpose = Purpose {
    prefix: "pgproof-drill-",
    command: "pgproof drill",
    content: "a recovered cluster and the\nserver on which it is checked",
};

/// Which instant is brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// As far as the archive goes: what a disaster now would need.
    Latest,
    /// Some position that can be reached. The same seed chooses the same one.
    Random {
        /// What it is chosen by.
        seed: u64,
    },
    /// This one.
    At(Target),
}

/// What the operator wants to be true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Objectives {
    /// From the begin of the recovery until the first query is answered.
    pub rto: Option<Duration>,
    /// Commits of so long may be lost.
    pub rpo: Option<Duration>,
}

/// How the checks are made.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// How long each check may take that could read the whole cluster: amcheck, row counts, sequences.
    pub time: Duration,
    /// Relations that no check of rows or sequences complains about.
    pub ignored: Vec<Pattern>,
    /// The operator's own.
    pub assertions: Vec<Assertion>,
    /// Database of assertions that name none, of the command and of the heartbeat.
    pub database: String,
    /// A program and its arguments.
    pub command: Option<Vec<String>>,
    /// How long the program and each assertion may take.
    pub own_time: Duration,
    /// Threads that read files.
    pub workers: usize,
}

/// A drill.
#[derive(Debug, Clone)]
pub struct DrillOptions {
    /// Which instant.
    pub when: When,
    /// From this backup, instead of the best one.
    pub backup: Option<BackupId>,
    /// Of which cluster, where the repository holds several.
    pub system: Option<SystemIdentifier>,
    /// In which directory the private one is made.
    pub scratch: PathBuf,
    /// What the private server runs.
    pub commands: Commands,
    /// Roles that may be superuser of the recovered server, tried in turn.
    pub roles: Vec<String>,
    /// Threads that restore.
    pub workers: usize,
    /// The checks.
    pub checks: CheckOptions,
    /// What is judged.
    pub objectives: Objectives,
    /// How many other recoveries are tried when this one fails by its backup.
    pub older: usize,
    /// The last heartbeat that the primary knew when the drill began, where it could be asked.
    pub primary: Option<PrimaryBeat>,
}

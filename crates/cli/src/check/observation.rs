//! What `check` sees: plain data, taken at one time, complete enough to judge without another look.

use pgproof_pg::SystemIdentifier;
use pgproof_store::Capabilities;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Something that was looked at, or why it could not be.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Seen<T> {
    Yes(T),
    No(Trouble),
}

impl<T> Seen<T> {
    pub(crate) fn ok(&self) -> Option<&T> {
        match self {
            Self::Yes(value) => Some(value),
            Self::No(_) => None,
        }
    }
}

/// Why something could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Trouble {
    /// Stable code of the error.
    pub(crate) code: String,
    /// The error with its causes.
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Everything that is judged about one repository and its server.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Observation {
    /// This program, absolute.
    pub(crate) program: PathBuf,
    /// The configuration in use, absolute.
    pub(crate) config_file: Option<PathBuf>,
    /// Who looked.
    pub(crate) user: UserFacts,
    pub(crate) files: Seen<DirectoryFacts>,
    pub(crate) server: Seen<ServerFacts>,
    pub(crate) repository: Seen<RepositoryFacts>,
    /// Whether WAL counts as archived only when this repository holds it.
    pub(crate) required: bool,
    /// What the server's `archive_command` leads to, when it is ours with absolute paths.
    pub(crate) command_target: Option<CommandTarget>,
    /// Whether any retention rule is configured.
    pub(crate) retention: bool,
    pub(crate) archive_test: ArchiveTest,
}

/// What an `archive_command` of ours leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CommandTarget {
    pub(crate) program_exists: bool,
    /// Its configuration, symbolic links resolved as in [`Observation::config_file`].
    pub(crate) config: Option<PathBuf>,
}

/// The operating system's user that looked, compared with the server's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct UserFacts {
    pub(crate) name: String,
    pub(crate) uid: u32,
    /// Whether this user could run the program that `archive_command` names.
    pub(crate) program_runs: Result<(), String>,
}

/// The running server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ServerFacts {
    /// Where the connection led.
    pub(crate) target: String,
    /// `server_version_num`
    pub(crate) version_num: u32,
    pub(crate) system_identifier: SystemIdentifier,
    pub(crate) data_directory: PathBuf,
    pub(crate) in_recovery: bool,
    pub(crate) block_size: u32,
    pub(crate) checksums: bool,
    /// Whether the role may start and stop a backup.
    pub(crate) may_back_up: bool,
    pub(crate) settings: BTreeMap<String, String>,
    /// Settings that wait for a restart.
    pub(crate) pending_restart: Vec<String>,
    pub(crate) archiver: ArchiverFacts,
}

impl ServerFacts {
    /// A setting, empty where it is not known.
    pub(crate) fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }
}

/// `pg_stat_archiver`, with ages instead of times.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct ArchiverFacts {
    pub(crate) last_archived_age_s: Option<f64>,
    pub(crate) last_failed: Option<String>,
    pub(crate) last_failed_age_s: Option<f64>,
}

/// The data directory, seen as files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DirectoryFacts {
    pub(crate) path: PathBuf,
    pub(crate) owner_uid: u32,
    pub(crate) owner: String,
    /// From `PG_VERSION`.
    pub(crate) version: String,
    /// From the control file; none when it could not be read.
    pub(crate) system_identifier: Option<SystemIdentifier>,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) unreadable: u64,
    /// The first few of them, with the reason.
    pub(crate) unreadable_first: Vec<(PathBuf, String)>,
    /// Directories instead of links in `pg_tblspc`.
    pub(crate) in_place_tablespaces: Vec<String>,
    pub(crate) wal_room: Option<Room>,
    /// Files waiting for the archiver.
    pub(crate) ready: u64,
    /// Of these the first by name.
    pub(crate) ready_first: Option<String>,
    /// Epoch this server archives under.
    pub(crate) epoch: u64,
}

/// Space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Room {
    pub(crate) available: u64,
    pub(crate) total: u64,
    /// Tells file systems apart.
    pub(crate) device: u64,
}

/// The repository as this server's user sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RepositoryFacts {
    pub(crate) place: String,
    pub(crate) encrypted: bool,
    /// How many can open it; none when it is not encrypted.
    pub(crate) recipients: usize,
    pub(crate) capabilities: Capabilities,
    /// How far the store's clock is ahead of this host's, in milliseconds.
    pub(crate) clock_ahead_ms: i64,
    /// Space of the file system; none for S3.
    pub(crate) room: Option<Room>,
    /// The data directory or tablespace that it lies in.
    pub(crate) inside: Option<PathBuf>,
    pub(crate) lineages: Vec<SystemIdentifier>,
    pub(crate) writer: Option<WriterFacts>,
    /// The newest good backup of this cluster.
    pub(crate) last_backup: Option<LastBackup>,
}

/// Who archives into the lineage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct WriterFacts {
    pub(crate) epoch: u64,
    pub(crate) host: String,
    pub(crate) pgdata: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LastBackup {
    pub(crate) id: String,
    pub(crate) age_s: u64,
}

/// What came of writing WAL and waiting for it in the repository.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ArchiveTest {
    /// It was not tried, and why.
    NotRun { why: String },
    /// The segment is there.
    Stored { segment: String, seconds: f64, summary: bool },
    /// It did not come in time.
    Missing { segment: String, seconds: f64 },
    /// The test itself failed.
    Failed(Trouble),
}

//! Observes the cluster that is backed up: the server's own words, its control file, its timeline history, and where its settings lie.

use crate::archive::NeededWal;
use crate::error::BackupError;
use crate::kinds::Kinds;
use crate::scan::{Entry, EntryKind};
use crate::standby;
use pgproof_pg::{ControlFile, Lsn, TimelineHistory, TimelineId};
use pgproof_repo::Lineage;
use pgproof_repo::manifest::summary::Origin;
use pgproof_server::{ConnectOptions, Facts, Session};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

/// A running cluster whose files can be read here.
#[derive(Debug)]
pub struct Cluster {
    /// How to connect, for further sessions.
    pub connect: ConnectOptions,
    /// The session that holds the backup open.
    pub session: Session,
    /// What the server said.
    pub facts: Facts,
    /// What the server is.
    pub role: Role,
    /// The data directory.
    pub pgdata: PathBuf,
    /// The data directory, as later backups recognise it.
    pub origin: Origin,
    /// Its control file.
    pub control: ControlFile,
    /// `PG_15_202209061`: this version's directory in a tablespace.
    pub tablespace_directory: String,
}

/// What a server is whose files are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It writes WAL.
    Primary,
    /// It replays WAL.
    Standby {
        /// How to reach the primary, to have the backup's last segment archived soon.
        primary: Option<ConnectOptions>,
    },
}

/// Key of the advisory lock that keeps two backups of one cluster apart: the bytes of `pgproofb`.
const LOCK_KEY: i64 = i64::from_be_bytes(*b"pgproofb");

/// Under this name in a manifest lie files from outside the data directory.
pub const EXTERNAL: &str = "pgproof_external";

/// `pg_control` is written in one piece of one sector, but a reader can still see it half done on some file systems.
const CONTROL_READS: u32 = 10;

impl Cluster {
    /// Connects to a primary, and checks that the data directory is that of the server that answered.
    ///
    /// # Errors
    /// [`BackupError::Server`], [`BackupError::OtherDataDirectory`], [`BackupError::InRecovery`], [`BackupError::AlreadyRunning`],
    /// [`BackupError::Unsupported`].
    pub fn open(connect: &ConnectOptions, pgdata: Option<&Path>) -> Result<Self, BackupError> {
        Self::open_as(Role::Primary, connect, pgdata)
    }

    /// As [`Self::open`], for a server in this role.
    ///
    /// # Errors
    /// Also [`BackupError::NotInRecovery`], and [`BackupError::NotThePrimary`] where the primary that is named is none of this standby.
    pub fn open_as(role: Role, connect: &ConnectOptions, pgdata: Option<&Path>) -> Result<Self, BackupError> {
        let server = |operation| move |source| BackupError::Server { operation, source };
        let mut session = Session::open(connect).map_err(server("connect to the server"))?;
        let facts = Facts::observe(&mut session).map_err(server("look at the server"))?;
        let described = || session.server().to_owned();
        match &role {
            Role::Primary if facts.in_recovery => {
                return Err(BackupError::InRecovery { server: described() });
            }
            Role::Standby { .. } if !facts.in_recovery => {
                return Err(BackupError::NotInRecovery { server: described() });
            }
            // Before the copy, so that a wrong setting does not show after hours only.
            Role::Standby { primary: Some(primary) } => standby::check_primary(primary, &facts)?,
            Role::Primary | Role::Standby { .. } => {}
        }
        let major = facts.major().map_err(|source| BackupError::Unsupported { source })?;
        let pgdata = pgdata.map_or_else(|| facts.data_directory.clone(), Path::to_owned);
        let control = read_control(&pgdata)?.1;
        if control.system_identifier != facts.system_identifier {
            return Err(BackupError::OtherDataDirectory {
                pgdata,
                found: control.system_identifier,
                expected: facts.system_identifier,
            });
        }
        let row = session
            .query_one("take the backup lock", "SELECT pg_try_advisory_lock($1)", &[&LOCK_KEY])
            .map_err(server("take the backup lock"))?;
        if !row.get::<_, bool>(0) {
            return Err(BackupError::AlreadyRunning);
        }
        let tablespace_directory = major.tablespace_directory(facts.catalog_version);
        let origin = origin_of(&pgdata)?;
        let connect = connect.clone();
        Ok(Self { connect, session, facts, role, pgdata, origin, control, tablespace_directory })
    }

    /// WAL that a backup of it needs.
    pub(crate) fn needed_wal(&self, timeline: TimelineId, start: Lsn, stop: Lsn) -> NeededWal {
        let lineage = Lineage::new(self.facts.system_identifier);
        NeededWal { lineage, size: self.facts.wal_segment_size, timeline, start, stop }
    }

    /// Whether the files are those of a server in recovery.
    pub fn is_standby(&self) -> bool {
        matches!(self.role, Role::Standby { .. })
    }

    /// The history of a timeline, from `pg_wal`, where a server keeps that of its own.
    pub fn history(&self, timeline: TimelineId) -> Result<TimelineHistory, BackupError> {
        let path = self.pgdata.join("pg_wal").join(timeline.history_file_name());
        match fs::read(&path) {
            Ok(content) => TimelineHistory::parse(timeline, &content)
                .map_err(|source| BackupError::History { path, source }),
            Err(source) if source.kind() == ErrorKind::NotFound => Ok(TimelineHistory::root(timeline)),
            Err(source) => Err(BackupError::Unreadable { path, source }),
        }
    }

    /// The access methods of all relations of databases that can be connected to.
    pub(crate) fn kinds(&self) -> Result<Kinds, BackupError> {
        let open = self.facts.databases.iter().filter(|database| database.allows_connections);
        Kinds::ask(&self.connect, open.map(|database| database.name.as_str()))
            .map_err(|source| BackupError::Server { operation: "ask how pages are to be compared", source })
    }

    /// Settings files outside the data directory (Debian keeps all of them there), as entries of the manifest with their content.
    pub fn external_files(&self) -> Result<Vec<(Entry, Vec<u8>)>, BackupError> {
        let mut paths: Vec<PathBuf> = ["config_file", "hba_file", "ident_file"]
            .iter()
            .map(|name| PathBuf::from(self.facts.setting(name)))
            .filter(|path| path.is_absolute() && !path.starts_with(&self.pgdata))
            .collect();
        if let Some(directory) = paths.first().and_then(|path| path.parent()).map(Path::to_owned) {
            paths.extend(settings_below(&directory.join("conf.d")));
            paths.extend(settings_below(&directory));
        }
        paths.sort();
        paths.dedup();
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let content = match fs::read(&path) {
                Ok(content) => content,
                Err(source) if source.kind() == ErrorKind::NotFound => continue,
                Err(source) => return Err(BackupError::Unreadable { path, source }),
            };
            let mode = fs::metadata(&path).map_or(0o600, |metadata| metadata.mode() & 0o7777);
            let entry = Entry {
                path: format!("{EXTERNAL}{}", path.display()),
                kind: EntryKind::File,
                mode,
                modified: 0,
                length: content.len() as u64,
                relation: None,
            };
            files.push((entry, content));
        }
        Ok(files)
    }
}

/// The name of this host.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A copy of a data directory on the same host is another directory; one moved to another disk is taken for another one, which costs one
/// backup that reads all.
fn origin_of(pgdata: &Path) -> Result<Origin, BackupError> {
    let metadata =
        fs::metadata(pgdata).map_err(|source| BackupError::Unreadable { path: pgdata.to_owned(), source })?;
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    Ok(Origin::Directory {
        host: host(),
        inode: metadata.ino(),
        born: born.and_then(|born| u64::try_from(born.as_nanos()).ok()),
    })
}

/// Files of a settings directory; what cannot be listed is not there.
fn settings_below(directory: &Path) -> Vec<PathBuf> {
    let Ok(listing) = fs::read_dir(directory) else { return Vec::new() };
    listing
        .filter_map(Result::ok)
        .map(|item| item.path())
        .filter(|path| path.is_file() && path.extension().is_some_and(|kind| kind == "conf"))
        .collect()
}

/// Reads `global/pg_control` until its checksum holds; returns its bytes too.
pub(crate) fn read_control(pgdata: &Path) -> Result<(Vec<u8>, ControlFile), BackupError> {
    let path = pgdata.join("global/pg_control");
    let mut attempts = 0;
    loop {
        let bytes =
            fs::read(&path).map_err(|source| BackupError::Unreadable { path: path.clone(), source })?;
        attempts += 1;
        match ControlFile::parse(&bytes) {
            Ok(control) => return Ok((bytes, control)),
            Err(_) if attempts < CONTROL_READS => thread::sleep(Duration::from_millis(10)),
            Err(source) => return Err(BackupError::ControlFile { path, attempts, source }),
        }
    }
}

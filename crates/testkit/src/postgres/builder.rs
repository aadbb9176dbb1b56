//! What a test wants of its server, and how a cluster comes to be: from a template, or by `initdb` where the template
//! would be large.

use super::{Postgres, template, watcher::Watcher};
use crate::{Account, Server, free_port};
use anyhow::{Context, Result};
use pgproof_pg::MajorVersion;
use std::{
    env,
    fmt::Write,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tempfile::TempDir;

/// Settings of every test server. `fsync` is off because a killed process loses nothing that it wrote; what a power cut
/// does is another test. The rest keeps servers small, and lets tests use two-phase commit and replication.
const SETTINGS: [(&str, &str); 8] = [
    ("fsync", "off"),
    ("listen_addresses", ""),
    ("shared_buffers", "32MB"),
    ("max_connections", "50"),
    ("max_prepared_transactions", "10"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
];

/// What `initdb` is to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) checksums: bool,
    pub(super) wal_segment_size_mb: u32,
    pub(super) initdb_arguments: Vec<String>,
}

/// A server in preparation; ends with [`Builder::start`] or [`Builder::create`].
#[derive(Debug, Clone)]
pub struct Builder {
    version: MajorVersion,
    shape: Shape,
    settings: Vec<(String, String)>,
    tablespaces: Vec<String>,
    data: Option<PathBuf>,
}

impl Builder {
    pub(super) fn new(version: MajorVersion) -> Self {
        let shape = Shape { checksums: true, wal_segment_size_mb: 16, initdb_arguments: Vec::new() };
        Self { version, shape, settings: Vec::new(), tablespaces: Vec::new(), data: None }
    }

    /// Whether data pages carry checksums; they do unless said otherwise, on every version.
    #[must_use]
    pub fn checksums(mut self, on: bool) -> Self {
        self.shape.checksums = on;
        self
    }

    /// Size of a WAL segment: a power of two from 1 to 1024.
    #[must_use]
    pub fn wal_segment_size_mb(mut self, megabytes: u32) -> Self {
        self.shape.wal_segment_size_mb = megabytes;
        self
    }

    /// A further argument for `initdb`.
    #[must_use]
    pub fn initdb_argument(mut self, argument: &str) -> Self {
        self.shape.initdb_arguments.push(argument.to_owned());
        self
    }

    /// A line of `postgresql.conf`; the value is quoted here. Later ones win.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A tablespace of this name, created once the server runs; see [`Postgres::tablespace_dir`].
    #[must_use]
    pub fn tablespace(mut self, name: &str) -> Self {
        self.tablespaces.push(name.to_owned());
        self
    }

    /// Where the data directory shall be, instead of the server's own temporary directory. Must not exist or be empty,
    /// and its parent must let the server's account in. It is not removed on drop.
    #[must_use]
    pub fn data_directory(mut self, path: &Path) -> Self {
        self.data = Some(path.to_owned());
        self
    }

    /// Archiving with `cp` into [`Postgres::archive_dir`], for tests that need an archive but not pgproof's.
    #[must_use]
    pub fn archive_by_copying(self) -> Self {
        self.setting("archive_mode", "on").setting("archive_command", COPY_TO_ARCHIVE)
    }

    /// Makes the cluster without starting it.
    ///
    /// # Errors
    /// Fails when the version cannot be had, or `initdb` fails.
    pub fn create(self) -> Result<Postgres> {
        let server = Server::of(self.version)?;
        let account = Account::for_servers()?;
        let ground = ground(&account)?;
        let data = self.data.clone().unwrap_or_else(|| ground.path().join("data"));
        template::make_cluster(&server, &account, &self.shape, &data)?;
        let port = free_port()?;
        let postgres = Postgres {
            server,
            account,
            data,
            port,
            overrides: Vec::new(),
            child: Mutex::new(None),
            watcher: Mutex::new(None),
            ground: Arc::new(ground),
        };
        for name in ["archive", "tablespaces"] {
            postgres.dir(name)?;
        }
        write_configuration(&postgres, &self.settings)?;
        for name in &self.tablespaces {
            postgres.account.create_dir(&postgres.tablespace_dir(name))?;
        }
        let watcher = Watcher::new(&postgres.data, Some(postgres.ground.path()))?;
        postgres.watcher.lock().expect("no panic holds it").replace(watcher);
        Ok(postgres)
    }

    /// Makes the cluster, starts it, and waits until it accepts connections.
    ///
    /// # Errors
    /// As [`Self::create`], and with the end of the server's log when it does not come up.
    pub fn start(self) -> Result<Postgres> {
        let tablespaces = self.tablespaces.clone();
        let postgres = self.create()?;
        postgres.start()?;
        for name in &tablespaces {
            let location = postgres.tablespace_dir(name);
            postgres.sql(&format!("CREATE TABLESPACE {name} LOCATION '{}'", location.display()))?;
        }
        Ok(postgres)
    }
}

/// `%p` and `%f` are PostgreSQL's; the archive lies beside the data directory. Copies under another name first, as
/// PostgreSQL's documentation asks: a crash must not leave half a segment under the final name.
const COPY_TO_ARCHIVE: &str =
    "test ! -f ../archive/%f && cp %p ../archive/.%f.part && mv ../archive/.%f.part ../archive/%f";

impl Postgres {
    /// Where a tablespace of [`Builder::tablespace`] lies.
    #[must_use]
    pub fn tablespace_dir(&self, name: &str) -> PathBuf {
        self.ground().join("tablespaces").join(name)
    }

    /// Where [`Builder::archive_by_copying`] puts segments.
    #[must_use]
    pub fn archive_dir(&self) -> PathBuf {
        self.ground().join("archive")
    }

    /// Appends settings to `postgresql.conf`; they take effect at the next reload or restart, as PostgreSQL has it.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn append_settings(&self, settings: &[(&str, &str)]) -> Result<()> {
        let path = self.data.join("postgresql.conf");
        let mut text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        for (name, value) in settings {
            writeln!(text, "{name} = '{}'", value.replace('\'', "''"))?;
        }
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }
}

/// A server, not yet started, on a data directory that somebody else made.
pub(super) fn adopt(version: MajorVersion, data: &Path) -> Result<Postgres> {
    let account = Account::for_servers()?;
    let ground = ground(&account)?;
    let socket = ground.path().join("socket");
    let port = free_port()?;
    let overrides = [
        ("port", port.to_string()),
        ("unix_socket_directories", socket.display().to_string()),
        ("listen_addresses", String::new()),
        ("fsync", "off".to_owned()),
    ];
    let watcher = Watcher::new(data, Some(ground.path()))?;
    Ok(Postgres {
        server: Server::of(version)?,
        account,
        data: data.to_owned(),
        port,
        overrides: overrides.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        child: Mutex::new(None),
        watcher: Mutex::new(Some(watcher)),
        ground: Arc::new(ground),
    })
}

/// Where servers are put: in memory where there is room, because a test server spends half of its time on syncing and removing a thousand
/// small files. `TMPDIR` names another place; what happens when the power is cut is tested on a file system of its own ([`crate::powercut`]).
fn place() -> PathBuf {
    const MEMORY: &str = "/dev/shm";
    const ROOM: u64 = 4 << 30;
    let has_room = rustix::fs::statvfs(MEMORY).is_ok_and(|found| found.f_bavail * found.f_frsize >= ROOM);
    match env::var_os("TMPDIR") {
        None if has_room => PathBuf::from(MEMORY),
        _ => env::temp_dir(),
    }
}

/// The temporary directory of a server: short, because the path of a socket may have 107 bytes at most.
fn ground(account: &Account) -> Result<TempDir> {
    let place = place();
    let ground = tempfile::Builder::new().prefix("pgproof-").tempdir_in(&place);
    let ground = ground.with_context(|| format!("create a temporary directory in {}", place.display()))?;
    fs::set_permissions(ground.path(), fs::Permissions::from_mode(0o755))?;
    account.own(ground.path())?;
    account.create_dir(&ground.path().join("socket"))?;
    Ok(ground)
}

fn write_configuration(postgres: &Postgres, settings: &[(String, String)]) -> Result<()> {
    let port = postgres.port.to_string();
    let socket = postgres.socket_dir().display().to_string();
    let own = [("port", port.as_str()), ("unix_socket_directories", socket.as_str())];
    let given = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let all: Vec<(&str, &str)> = SETTINGS.into_iter().chain(own).chain(given).collect();
    postgres.append_settings(&all)
}

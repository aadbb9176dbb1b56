//! One running PostgreSQL of any supported version, in a temporary directory, gone when dropped.
//!
//! ```no_run
//! # use pgproof_testkit::{Postgres, StopMode};
//! # use pgproof_pg::MajorVersion;
//! # fn main() -> anyhow::Result<()> {
//! let server = Postgres::builder(MajorVersion::V17).checksums(true).start()?;
//! server.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")?;
//! assert_eq!(server.value("SELECT count(*) FROM t")?, "1");
//! server.stop(StopMode::Fast)?;
//! # Ok(())
//! # }
//! ```
//!
//! The server listens on a private socket only, runs as an ordinary account even when the test is root, and does not
//! outlive the test: dropping kills it, and a watcher kills it when the test process itself is killed. It runs with
//! `fsync = off`: tests that cut the power say `.setting("fsync", "on")`. Nothing here knows pgproof.

mod builder;
mod compare;
mod process;
mod sql;
mod template;
mod watcher;

use crate::{Account, Server};
use anyhow::{Context, Result};
pub use builder::Builder;
pub use compare::TableSum;
use pgproof_pg::MajorVersion;
pub use process::StopMode;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use watcher::Watcher;

/// A server of a test. See the module's example.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    account: Account,
    data: PathBuf,
    port: u16,
    /// Settings on the command line of the server, above every configuration file.
    overrides: Vec<(String, String)>,
    child: Mutex<Option<Child>>,
    watcher: Mutex<Option<Watcher>>,
    /// Socket, log, tablespaces and everything else. Shared by the servers that stand on one another's ground.
    ground: Arc<TempDir>,
}

impl Postgres {
    /// A new cluster of this version.
    #[must_use]
    pub fn builder(version: MajorVersion) -> Builder {
        Builder::new(version)
    }

    /// A server on a data directory that exists already, a restored one for example; it is not started yet. Port and
    /// socket are private whatever its configuration says. The data directory belongs to the caller and is not removed.
    ///
    /// # Errors
    /// Fails when the version is missing, or on a file system error.
    pub fn on(version: MajorVersion, data: &Path) -> Result<Self> {
        builder::adopt(version, data)
    }

    /// A server that a program under test started on `data`, a copy of this one: its configuration names this one's socket directory, and
    /// its port is its own. It is killed on drop; the data directory stays the caller's.
    ///
    /// # Errors
    /// Fails when its end cannot be watched over.
    pub fn copy_started_at(&self, data: &Path, port: u16) -> Result<Self> {
        Ok(Self {
            server: self.server.clone(),
            account: self.account.clone(),
            data: data.to_owned(),
            port,
            overrides: Vec::new(),
            child: Mutex::new(None),
            watcher: Mutex::new(Some(Watcher::new(data, None)?)),
            ground: Arc::clone(&self.ground),
        })
    }

    /// The installation it runs from.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Its major version.
    #[must_use]
    pub fn version(&self) -> MajorVersion {
        self.server.major()
    }

    /// The account it runs as.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Its data directory.
    #[must_use]
    pub fn pgdata(&self) -> &Path {
        &self.data
    }

    /// Directory of its programs.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.server.bin()
    }

    /// Its port, which names the socket in [`Self::socket_dir`]; nothing listens on TCP.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Directory of its socket.
    #[must_use]
    pub fn socket_dir(&self) -> PathBuf {
        self.ground.path().join("socket")
    }

    /// The temporary directory that holds everything of this server; removed when it is dropped.
    #[must_use]
    pub fn ground(&self) -> &Path {
        self.ground.path()
    }

    /// A directory below [`Self::ground`] that the server's account may write: for a repository, an archive.
    ///
    /// # Errors
    /// Fails when it cannot be created.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.ground.path().join(name);
        self.account.create_dir(&path)?;
        Ok(path)
    }

    /// A connection string for libpq and pgproof.
    #[must_use]
    pub fn connection_string(&self) -> String {
        format!("host={} port={} user=postgres dbname=postgres", self.socket_dir().display(), self.port)
    }

    /// The `PG*` variables by which programs find it.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("PGHOST", self.socket_dir().display().to_string()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", "postgres".to_owned()),
            ("PGDATABASE", "postgres".to_owned()),
        ]
    }

    /// What the server has written to its log so far.
    ///
    /// # Errors
    /// Fails when the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let path = self.log_path();
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Where its log lies.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.ground.path().join(format!("server-{}.log", self.port))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Nobody needs what is in this server any more, so its whole family is killed; a failure to kill leaves the
        // watcher to do it.
        let _ = self.kill9();
    }
}

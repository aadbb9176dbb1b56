//! A sandbox that exists: how it is found, asked, stopped and removed.

use crate::desk;
use crate::keeper::Event;
use crate::place::{Keeper, Place, names};
use crate::record::{Connection, Record, Statistics, Status};
use crate::spec::Spec;
use crate::{Error, Result};
use jiff::Timestamp;
use pgproof_pg::MajorVersion;
use pgproof_server::{ConnectOptions, TlsOptions, find};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a keeper may take to stop its server and end.
const STOP_LIMIT: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(20);

/// A sandbox. Dropping the value does nothing to it.
#[derive(Debug, Clone)]
pub struct Sandbox {
    place: Place,
    record: Record,
}

/// The sandboxes of an account, in order of name.
///
/// # Errors
/// [`Error::File`].
pub fn list(place: &Path) -> Result<Vec<Sandbox>> {
    // One that is removed meanwhile is none.
    Ok(names(place)?.iter().filter_map(|name| Sandbox::open(place, name).ok()).collect())
}

impl Sandbox {
    /// Finds a sandbox by its name.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::File`].
    pub fn open(place: &Path, name: &str) -> Result<Self> {
        let found = Place::of(place, name)?;
        let unknown = || Error::Unknown { name: name.to_owned(), place: place.to_owned() };
        if !found.directory().is_dir() {
            return Err(unknown());
        }
        let record = found.read_record()?;
        Ok(Self::new(found, record))
    }

    pub(crate) fn new(place: Place, mut record: Record) -> Self {
        let lives = matches!(record.status, Status::Running | Status::Creating);
        if lives && place.keeper() == Keeper::Gone {
            record.status = Status::Failed;
            record.failure.get_or_insert_with(|| "its keeper was killed; nothing of it runs".to_owned());
        }
        Self { place, record }
    }

    /// What is known of it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// How a database of it is reached: as superuser, through its socket.
    pub fn connect_options(&self, database: &str) -> ConnectOptions {
        let Connection { socket_directory, port, user, .. } = &self.record.connection;
        ConnectOptions {
            host: Some(socket_directory.display().to_string()),
            port: Some(*port),
            user: Some(user.clone()),
            database: Some(database.to_owned()),
            connection_string: None,
            tls: TlsOptions::default(),
        }
    }

    /// The `PG*` variables by which programs find it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let Connection { socket_directory, port, user, database, .. } = &self.record.connection;
        vec![
            ("PGHOST", socket_directory.display().to_string()),
            ("PGPORT", port.to_string()),
            ("PGUSER", user.clone()),
            ("PGDATABASE", database.clone()),
        ]
    }

    /// A psql for it.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn psql(&self) -> Result<PathBuf> {
        Ok(psql(&self.place.read_spec()?))
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.record.expires.is_some_and(|expires| expires <= now)
    }

    /// What its file system has read so far.
    ///
    /// # Errors
    /// [`Error::State`] when it does not run.
    pub fn statistics(&self) -> Result<Statistics> {
        desk::statistics(&self.place.desk()).map_err(|why| self.state(format!("cannot be asked: {why}")))
    }

    /// The end of its server's log.
    pub fn log_tail(&self) -> String {
        tail(&self.place.server_log())
    }

    /// Stops its server in good order; it can be started again.
    ///
    /// # Errors
    /// [`Error::State`] when it does not run, or does not end.
    pub fn stop(&mut self) -> Result<()> {
        if self.place.keeper() == Keeper::Gone {
            return Err(self.state("does not run".to_owned()));
        }
        self.signal(Signal::TERM)?;
        self.wait_for_end()?;
        self.record = self.place.read_record()?;
        Ok(())
    }

    /// Starts it again after it was stopped.
    ///
    /// # Errors
    /// [`Error::State`] unless it was stopped, [`Error::Failed`] with what its processes said.
    pub fn start(&mut self) -> Result<()> {
        if self.place.keeper() == Keeper::Lives {
            return Err(self.state("runs already".to_owned()));
        }
        if self.record.status != Status::Stopped {
            return Err(self.state("was not stopped in good order, and cannot be started again".to_owned()));
        }
        let mut nobody = |_: Event| {};
        crate::create::run_keeper(&self.place, &self.record.name, &mut nobody)?;
        self.record = self.place.read_record()?;
        Ok(())
    }

    /// Ends its processes and removes it.
    ///
    /// # Errors
    /// [`Error::State`] when its keeper does not end, [`Error::File`] when something cannot be removed.
    pub fn discard(self) -> Result<()> {
        if self.place.keeper() == Keeper::Lives {
            // Nothing in it is of any more use: no shutdown is waited for.
            self.signal(Signal::KILL)?;
            self.wait_for_end()?;
        }
        crate::create::stop_strays(&self.place);
        self.place.remove()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let current = self.place.read_record()?;
        let pid = current.keeper.and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.ok_or_else(|| self.state("has a keeper of unknown process number".to_owned()))?;
        match kill_process(pid, signal) {
            // It ended by itself just now.
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(errno) => Err(self.state(format!("does not let itself be ended: {errno}"))),
        }
    }

    fn wait_for_end(&self) -> Result<()> {
        let deadline = Instant::now() + STOP_LIMIT;
        while self.place.keeper() == Keeper::Lives {
            if Instant::now() >= deadline {
                return Err(self.state(format!("has not ended after {} s", STOP_LIMIT.as_secs())));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn state(&self, state: String) -> Error {
        Error::State { name: self.record.name.clone(), state }
    }
}

/// Removes the sandboxes of an account whose time is over; says which, or why not.
///
/// # Errors
/// [`Error::File`] when they cannot be listed.
pub fn collect(place: &Path, now: Timestamp) -> Result<Vec<(Record, Result<()>)>> {
    let expired = list(place)?.into_iter().filter(|sandbox| sandbox.is_expired(now));
    Ok(expired.map(|sandbox| (sandbox.record.clone(), sandbox.discard())).collect())
}

/// A psql that knows the server's version. It need not lie beside the server: packages of clients are others.
pub(crate) fn psql(spec: &Spec) -> PathBuf {
    let version = MajorVersion::from_server_version_num(spec.server_version).ok();
    let clients = version.and_then(|version| find::clients(version, Some(&spec.programs)).ok());
    let places = std::iter::once(spec.programs.clone()).chain(clients.map(|clients| clients.directory));
    let found = places.map(|directory| directory.join("psql")).find(|psql| psql.is_file());
    found.unwrap_or_else(|| PathBuf::from("psql"))
}

/// The last lines of a log.
pub(crate) fn tail(path: &Path) -> String {
    const LINES: usize = 15;
    let text =
        std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

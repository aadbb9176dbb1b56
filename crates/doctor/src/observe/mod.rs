//! Looks at a server from outside and inside, whatever state it is in, and returns plain data.
//!
//! Promises to return within the time budget with what it has: every source is looked at by a thread of its own, and one that does not
//! answer in time (a hung disk, a stopped server) is left behind and named. There is one connection at a time, its statements are bounded,
//! and nothing is asked that waits for a lock on a relation. What could not be seen says why, and a [`Source`] says what that hides.
//!
//! Deliberately judges nothing: see [`crate::diagnose`].

mod around;
mod catalog;
mod connect;
mod directory;
mod disk;
pub mod hba;
mod kernel;
pub mod log;
mod memory;
mod place;
mod process;
mod race;
mod relations;
pub mod settings;
mod slot;
mod socket;

pub use around::{AgentSeen, Around, ClusterSeen, MemberSeen, ObjectiveSeen, RepositorySeen};
pub use catalog::{
    About, Archiver, Checkpoints, DatabaseRow, FileError, HbaError, LockHolder, Locked, Prepared, Receiver,
    RoleRow, Running, ServerSeen, SessionRow, SettingRow, SlotRow, StandbyRow, WaitRow, WalFiles,
};
pub use connect::{Attempt, By, Outcome};
pub use directory::{CertificateSeen, Directory, FileSeen, StartProbe};
pub use disk::{Disk, Foreign};
pub use hba::HbaFile;
pub use kernel::{Kernel, KernelLine};
pub use log::{Log, LogEntry};
pub use memory::Memory;
pub use place::{Account, Place};
pub use process::{PostgresProcess, Processes};
pub use relations::{
    BloatRow, ConstraintRow, DatabaseSeen, ForeignKeyRow, IndexRow, KeyRow, NameRow, OldRelation,
    PublishedRow, SequenceRow, SubscriptionRow, TableRow, TriggerRow,
};
pub use settings::SettingsFiles;
pub use slot::SlotFile;
pub use socket::{Listener, Listening};

use crate::DoctorError;
use jiff::Timestamp;
use pgproof_server::{ConnectOptions, Owner, Reached};
use race::Race;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Something that was looked at, or why it could not be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Looked<T> {
    /// This was there.
    Seen(T),
    /// It could not be looked at, for this reason.
    Unseen(String),
    /// It does not concern this server, or nothing says where it is.
    #[default]
    NotLooked,
}

impl<T> Looked<T> {
    /// What was seen.
    pub fn ok(&self) -> Option<&T> {
        match self {
            Self::Seen(value) => Some(value),
            Self::Unseen(_) | Self::NotLooked => None,
        }
    }

    /// Why it was not seen.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Unseen(why) => Some(why),
            Self::Seen(_) | Self::NotLooked => None,
        }
    }
}

impl<T> Looked<Vec<T>> {
    /// What was seen; nothing where it could not be looked at.
    pub fn rows(&self) -> &[T] {
        self.ok().map_or(&[], Vec::as_slice)
    }
}

impl<T> From<Result<T, String>> for Looked<T> {
    fn from(result: Result<T, String>) -> Self {
        match result {
            Ok(value) => Self::Seen(value),
            Err(why) => Self::Unseen(why),
        }
    }
}

/// What there is to look at.
#[derive(Debug, Clone)]
pub struct Target {
    /// How the operator connects.
    pub connect: ConnectOptions,
    /// The data directory, where it is known.
    pub pgdata: Option<PathBuf>,
    /// Where the server logs, when its settings do not tell.
    pub log: Option<PathBuf>,
    /// How long the whole may take.
    pub budget: Duration,
}

/// Format of a serialised observation.
pub const FORMAT: u32 = 2;

/// Everything that was seen, at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// [`FORMAT`]
    pub format: u32,
    /// When looking began.
    pub at: Timestamp,
    /// How long it took.
    pub took_ms: u64,
    /// How long it was allowed to take.
    pub budget_ms: u64,
    /// Who looked.
    pub user: Account,
    /// Where the operator's parameters lead, or why nowhere.
    pub asked: Result<Reached, String>,
    /// Whether the server is on this host, as far as is known.
    pub local: bool,
    /// The instance on this host.
    pub place: Looked<Place>,
    /// Instances on this host besides.
    pub others: Vec<Place>,
    /// Every attempt to connect, in order.
    pub attempts: Vec<Attempt>,
    /// Processes of PostgreSQL.
    pub processes: Looked<Processes>,
    /// Sockets that something listens on.
    pub listening: Looked<Listening>,
    /// The data directory.
    pub directory: Looked<Directory>,
    /// The settings files.
    pub settings: Looked<SettingsFiles>,
    /// `pg_hba.conf`
    pub hba: Looked<HbaFile>,
    /// The end of the log.
    pub log: Looked<Log>,
    /// File systems that the server writes to.
    pub disks: Looked<Vec<Disk>>,
    /// Memory of the host and limits of the container.
    pub memory: Looked<Memory>,
    /// What the kernel says of the server.
    pub kernel: Looked<Kernel>,
    /// The server as it shows itself to a session.
    pub server: Looked<ServerSeen>,
    /// Its databases, each looked at by a session of its own.
    pub databases: Vec<DatabaseSeen>,
    /// How much was left on its disks when it was looked at earlier; whoever looks again adds it.
    pub earlier: Vec<EarlierDisk>,
    /// What pgproof itself keeps around it.
    pub around: Looked<Around>,
}

/// A file system at an earlier look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierDisk {
    /// When.
    pub at: Timestamp,
    /// A directory on it.
    pub path: PathBuf,
    /// Bytes that were left.
    pub available: u64,
}

/// How much of the budget goes to finding the instance: the rest depends on it.
const PLACE_SHARE: u32 = 3;

/// Looks; `around` gathers what pgproof itself keeps, beside everything else.
///
/// # Errors
/// [`DoctorError::Thread`]; whatever else cannot be looked at is part of the observation.
pub fn observe(
    target: &Target,
    around: Option<impl FnOnce() -> Result<Around, String> + Send + 'static>,
) -> Result<Observation, DoctorError> {
    let at = Timestamp::now();
    let race = Race::begin(target.budget);
    let around = match around {
        Some(gather) => race.start("around", gather)?,
        None => race::Runner::Absent,
    };
    let asked = target.connect.reached().map_err(|error| error.to_string());
    let local = asked.as_ref().map_or(true, |reached| socket::is_local(&reached.host));
    let finding = {
        let (target, reached) = (target.clone(), asked.clone().ok());
        race.start("place", move || place::find(&target, reached.as_ref(), local))?
    };
    let (place, others) = match finding.wait(&race, target.budget / PLACE_SHARE) {
        Looked::Seen((place, others)) => (place, others),
        Looked::Unseen(why) => (Looked::Unseen(why), Vec::new()),
        Looked::NotLooked => (Looked::NotLooked, Vec::new()),
    };
    let connecting = connect::Connecting::start(&race, target, place.ok().cloned())?;
    let on_host = |start: bool| local && start;
    let known = place.ok().cloned();
    let processes = race.start_if(on_host(true), "processes", process::observe)?;
    let listening = race.start_if(on_host(true), "sockets", socket::observe)?;
    let memory = race.start_if(on_host(true), "memory", memory::observe)?;
    let kernel = race.start_if(on_host(true), "kernel", kernel::observe)?;
    let directory = race.start_with(known.clone(), "directory", directory::observe)?;
    let settings = race.start_with(known.clone(), "settings", settings::observe)?;
    let hba = race.start_with(known.clone(), "hba", hba::observe)?;
    let disks = race.start_with(known.clone(), "disks", disk::observe)?;
    let own_log = target.log.clone();
    let log = race.start_with(known, "log", move |place| log::observe(&place, own_log.as_deref(), at))?;
    let seen = connecting.wait(&race);
    Ok(Observation {
        format: FORMAT,
        at,
        budget_ms: millis(target.budget),
        user: Account::of(Owner::current()),
        asked,
        local,
        place,
        others,
        attempts: seen.attempts,
        processes: processes.end(&race),
        listening: listening.end(&race),
        directory: directory.end(&race),
        settings: settings.end(&race),
        hba: hba.end(&race),
        log: log.end(&race),
        disks: disks.end(&race),
        memory: memory.end(&race),
        kernel: kernel.end(&race),
        server: seen.server,
        databases: seen.databases,
        earlier: Vec::new(),
        around: around.end(&race),
        took_ms: millis(race.elapsed()),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

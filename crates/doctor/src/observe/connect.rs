//! Attempts to connect, and what the server shows to the one that succeeded.
//!
//! First the operator's own parameters, because their failure is what there is to explain. Where they fail and the server is on this host,
//! the socket as the account that owns it: from inside, more can be seen. One connection at a time, each with limits; a server that
//! accepts and then says nothing is noticed by the race, and what was seen until then is kept.

use super::catalog::{self, ServerSeen};
use super::place::{Place, said};
use super::race::Race;
use super::relations::{self, DatabaseSeen};
use super::{Looked, Target};
use crate::DoctorError;
use pgproof_server::privilege::act_as;
use pgproof_server::{ConnectOptions, LookLimits, Owner, Reached, ServerError, Session};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Whose parameters an attempt used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// The operator's.
    Operator,
    /// Doctor's own: the socket, as the account that the server runs as.
    Owner,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A session.
    Connected,
    /// The server said no.
    Refused {
        /// Its code for why.
        sqlstate: String,
        /// Its words.
        message: String,
        /// What it adds.
        detail: Option<String>,
    },
    /// The system said no: nobody listens, no such socket.
    Unreachable {
        /// `ConnectionRefused`, `NotFound`...
        kind: String,
        /// Its words.
        message: String,
    },
    /// The server wants TLS to be there, or the client does, and it is not.
    NoTls,
    /// The client library gave up.
    Failed {
        /// Why.
        message: String,
    },
    /// Nobody said anything.
    Silent {
        /// For so long.
        after_ms: u64,
    },
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Whose parameters.
    pub by: By,
    /// Where to, as whom.
    pub to: Reached,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took_ms: u64,
}

/// What was seen so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    pub(super) attempts: Vec<Attempt>,
    pub(super) server: Looked<ServerSeen>,
    pub(super) databases: Vec<DatabaseSeen>,
    /// An attempt that has not ended.
    pending: Option<(By, Reached, Instant)>,
    /// The database that is being looked at.
    looking: Option<String>,
    done: bool,
}

/// A thread that connects and looks.
#[derive(Debug)]
pub(super) struct Connecting {
    progress: Arc<Mutex<Progress>>,
}

/// A lock that is not free at once is somebody's who matters more.
const LOCK_LIMIT: Duration = Duration::from_millis(100);
/// Databases looked at, each through a session of its own.
const DATABASES_MAX: usize = 20;
/// Time that is left to the other sources to end.
const RESERVE: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(5);

impl Connecting {
    pub(super) fn start(race: &Race, target: &Target, place: Option<Place>) -> Result<Self, DoctorError> {
        let progress = Arc::new(Mutex::new(Progress::default()));
        let (shared, race, target) = (Arc::clone(&progress), *race, target.clone());
        let look = move || {
            Looking { shared: &shared, race }.run(&target, place.as_ref());
            lock(&shared).done = true;
        };
        thread::Builder::new()
            .name("doctor-connect".to_owned())
            .spawn(look)
            .map_err(|source| DoctorError::Thread { source })?;
        Ok(Self { progress })
    }

    /// What was seen by the end, or by the time that the budget is used up.
    pub(super) fn wait(&self, race: &Race) -> Progress {
        while !lock(&self.progress).done && race.left() > RESERVE {
            thread::sleep(PAUSE);
        }
        let mut seen = lock(&self.progress).clone();
        if let Some((by, to, began)) = seen.pending.take() {
            let after_ms = super::millis(began.elapsed());
            seen.attempts.push(Attempt { by, to, outcome: Outcome::Silent { after_ms }, took_ms: after_ms });
        }
        if let Some(name) = seen.looking.take() {
            seen.databases.push(DatabaseSeen::unseen(&name, "it did not answer within the time budget"));
        }
        seen
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Looking<'a> {
    shared: &'a Mutex<Progress>,
    race: Race,
}

impl Looking<'_> {
    fn run(&self, target: &Target, place: Option<&Place>) {
        if self.attempt(By::Operator, &target.connect, Owner::current()) {
            return;
        }
        let silent = lock(self.shared)
            .attempts
            .iter()
            .any(|attempt| matches!(attempt.outcome, Outcome::Silent { .. }));
        if let Some(place) = place.filter(|place| !silent && place.postmaster.is_some()) {
            let owner = place.owner();
            let options = own_options(place);
            // Not being allowed to act as the owner is the usual state of things for whoever is neither root nor the owner.
            let _ = act_as(owner, || self.attempt(By::Owner, &options, owner));
        }
    }

    /// Connects, and looks where that worked.
    fn attempt(&self, by: By, options: &ConnectOptions, _as_account: Owner) -> bool {
        let Ok(to) = options.reached() else { return false };
        let began = Instant::now();
        lock(self.shared).pending = Some((by, to.clone(), began));
        let opened = Session::open_to_look(options, self.limits());
        let outcome = match &opened {
            Ok(_) => Outcome::Connected,
            Err(error) => outcome(error),
        };
        {
            let mut progress = lock(self.shared);
            progress.pending = None;
            progress.attempts.push(Attempt {
                by,
                to: to.clone(),
                outcome,
                took_ms: super::millis(began.elapsed()),
            });
        }
        let Ok(mut session) = opened else { return false };
        let server = catalog::look(&mut session);
        let names = server.as_ref().map(|server| server.database_names(&to.database)).unwrap_or_default();
        let version = server.as_ref().map_or(0, |server| server.about.version_num);
        lock(self.shared).server = server.into();
        let mut session = Some(session);
        for name in names.into_iter().take(DATABASES_MAX) {
            if self.race.left() < RESERVE * 2 {
                lock(self.shared).databases.push(DatabaseSeen::unseen(&name, "the time budget was used up"));
                continue;
            }
            lock(self.shared).looking = Some(name.clone());
            // The first is the one that the session is in; the next one is opened after that one has ended.
            let own = if name == to.database { session.take() } else { None };
            drop(session.take());
            let opened =
                own.map_or_else(|| Session::open_to_look(&options.with_database(&name), self.limits()), Ok);
            let seen = match opened {
                Ok(mut session) => relations::look(&mut session, &name, version),
                Err(error) => DatabaseSeen::unseen(&name, &said(&error)),
            };
            let mut progress = lock(self.shared);
            progress.looking = None;
            progress.databases.push(seen);
        }
        true
    }

    fn limits(&self) -> LookLimits {
        // Several statements follow each other: none may use up what is left.
        let statement = (self.race.left() / 3).clamp(Duration::from_millis(100), Duration::from_secs(3));
        LookLimits { lock: LOCK_LIMIT, statement }
    }
}

/// The socket of an instance, as its owner.
fn own_options(place: &Place) -> ConnectOptions {
    let socket = place.socket_directory.as_ref().map(|folder| folder.display().to_string());
    ConnectOptions {
        host: Some(socket.unwrap_or_else(|| "localhost".to_owned())),
        port: Some(place.port),
        user: Some(place.owner.name.clone()),
        database: Some("postgres".to_owned()),
        ..ConnectOptions::default()
    }
}

fn outcome(error: &ServerError) -> Outcome {
    let ServerError::Connect { source, .. } = error else {
        return Outcome::Failed { message: said(error) };
    };
    if source.lacks_tls() {
        return Outcome::NoTls;
    }
    if let Some(code) = source.code() {
        let detail = source.detail().0.map(str::to_owned);
        // The library's display: "FATAL: words (28P01)".
        let text = source.to_string();
        let words = text.split_once(": ").map_or(text.as_str(), |(_, words)| words);
        let message = words.strip_suffix(&format!(" ({})", code.code())).unwrap_or(words).to_owned();
        return Outcome::Refused { sqlstate: code.code().to_owned(), message, detail };
    }
    match source.system_kind() {
        Some(std::io::ErrorKind::TimedOut) => Outcome::Silent { after_ms: 10_000 },
        Some(kind) => Outcome::Unreachable { kind: format!("{kind:?}"), message: source.to_string() },
        None => Outcome::Failed { message: source.to_string() },
    }
}

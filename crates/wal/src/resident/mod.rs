//! `archive run`: archives ahead of PostgreSQL's archiver, several files at a time, and answers its `archive push` from what is durable
//! already.
//!
//! Promises that a push hears "stored" only of a file that is durable in the repositories that it means, with the content that the file has
//! now. Nothing depends on this process: a push that finds nobody, silence, or somebody who serves another repository archives by itself,
//! and a file that is stored twice is stored once. What is durable is remembered in memory only, so no leftover on disk can claim it.
//!
//! [`call`] is what the two say to each other, [`desk`] decides what is done next, [`queue`] sees what waits.

mod call;
mod desk;
mod queue;

pub use call::ask;
pub use queue::waiting;

use crate::error::{WalError, with_causes};
use crate::push::{Confirm, Offer, PushReport, PushRequest, Pushed, judge, push_offer};
use crate::repositories::{NamedRepository, Rests};
use call::{Answer, Caller, LISTEN};
use desk::{Desk, Next, Outcome, RETRY, Whose};
use pgproof_repo::walobject::StoreOptions;
use queue::Identity;
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

/// Pushes that are answered at a time; PostgreSQL makes one.
const CALLERS_MAX: usize = 16;

/// What is archived ahead, and how.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The data directory.
    pub pgdata: PathBuf,
    /// Files that are archived at a time.
    pub workers: usize,
    /// How segments are stored.
    pub options: StoreOptions,
    /// Ends when nothing was to be done for so long; never where there is none.
    pub idle_max: Option<Duration>,
}

/// What happens meanwhile, for whoever watches.
#[derive(Debug)]
pub enum RunEvent<'a> {
    /// Every repository that is required holds a file.
    Stored {
        /// What was done.
        pushed: &'a Pushed,
    },
    /// A repository that is not required did not take a file, and rests.
    Behind {
        /// The repository.
        repository: &'a str,
        /// The file.
        name: &'a str,
        /// Why not.
        why: String,
        /// When it is tried again.
        again_in: Duration,
    },
    /// A repository that is required did not take a file.
    NotStored {
        /// Its name.
        name: &'a str,
        /// Why not.
        why: String,
        /// When work ahead goes on; what PostgreSQL asks for is tried at once.
        again_in: Duration,
    },
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RunReport {
    /// Files that a repository took.
    pub stored: u64,
    /// Bytes that they take there.
    pub bytes_stored: u64,
    /// Pushes that were answered.
    pub answered: u64,
}

/// Archives ahead until `stop` is set, or there was nothing to do for long enough.
///
/// # Errors
/// [`WalError::ResidentTaken`] when somebody else does; [`WalError::Unreadable`] when the queue cannot be seen any more;
/// [`WalError::OtherRepository`] when PostgreSQL's own pushes name another repository.
pub fn run(
    repositories: &[NamedRepository],
    request: &RunRequest,
    stop: &AtomicBool,
    tell: &(dyn Fn(RunEvent<'_>) + Sync),
) -> Result<RunReport, WalError> {
    open_required(repositories)?;
    let listener = call::listen(&request.pgdata).map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => WalError::ResidentTaken { pgdata: request.pgdata.clone() },
        _ => WalError::Unreadable { path: request.pgdata.clone(), source },
    })?;
    let resident = Resident {
        repositories,
        places: call::places(repositories),
        rests: Rests::default(),
        held: Mutex::default(),
        request,
        tell,
        desk: Mutex::new(Desk::new(Instant::now())),
        changed: Condvar::new(),
    };
    thread::scope(|scope| {
        let (resident, listener) = (&resident, &listener);
        let workers: Vec<_> = (0..request.workers.max(1)).map(|_| scope.spawn(|| resident.work())).collect();
        let accepting = scope.spawn(move || resident.accept(scope, listener));
        resident.wait_for_end(stop, || workers.iter().any(|worker| worker.is_finished()));
        resident.close();
        // Whoever waits for a caller is woken by one, also where the data directory is gone by now.
        drop(listener.local_addr().and_then(|address| UnixStream::connect_addr(&address)));
        drop(accepting.join());
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok::<(), WalError>(())
    })?;
    let desk = resident.desk.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    desk.over.map_or(Ok(desk.report), Err)
}

/// Opens what has to hold every file, so that one which is made anew in its place from now on is noticed. One that is away keeps nobody
/// from bringing WAL to the others.
fn open_required(repositories: &[NamedRepository]) -> Result<(), WalError> {
    let required = repositories.iter().filter(|repository| repository.required);
    let opened: Vec<_> = required.map(NamedRepository::open).collect();
    match opened.iter().any(Result::is_ok) {
        true => Ok(()),
        false => opened.into_iter().find_map(Result::err).map_or(Ok(()), Err),
    }
}

/// Another repository lies in the place of one that was opened.
pub(crate) fn is_replaced(error: &WalError) -> bool {
    match error {
        WalError::Repo { source: pgproof_repo::Error::Replaced { .. }, .. } => true,
        WalError::NotEverywhere { source, .. } => is_replaced(source),
        _ => false,
    }
}

/// A file as it was, and what each repository that holds it made of it.
type Held = (Identity, BTreeMap<String, PushReport>);

struct Resident<'a> {
    repositories: &'a [NamedRepository],
    places: String,
    /// Repositories that failed a moment ago.
    rests: Rests,
    /// Files that some repositories hold already. As what is durable: in memory only.
    held: Mutex<BTreeMap<String, Held>>,
    request: &'a RunRequest,
    tell: &'a (dyn Fn(RunEvent<'_>) + Sync),
    desk: Mutex<Desk>,
    changed: Condvar,
}

impl Resident<'_> {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        // A panic elsewhere leaves the desk whole: each change of it is one call.
        self.desk.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn wait_for_end(&self, stop: &AtomicBool, is_over: impl Fn() -> bool) {
        while !stop.load(Ordering::Relaxed) && !is_over() {
            {
                let desk = self.desk();
                let idle = desk.idle_for(Instant::now());
                if desk.over.is_some() || self.request.idle_max.is_some_and(|max| idle >= max) {
                    return;
                }
            }
            thread::sleep(LISTEN);
        }
    }

    fn close(&self) {
        self.desk().is_closing = true;
        self.changed.notify_all();
    }

    /// One worker: archives what is asked for, else what waits, until the end.
    fn work(&self) -> Result<(), WalError> {
        let mut desk = self.desk();
        loop {
            match desk.next(Instant::now()) {
                Next::End => return Ok(()),
                Next::Wait(at_most) => {
                    let waited = self.changed.wait_timeout(desk, at_most);
                    desk = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
                }
                Next::Look => {
                    drop(desk);
                    let waiting = queue::list(&self.request.pgdata)?;
                    self.lock_held().retain(|name, _| waiting.contains(name));
                    desk = self.desk();
                    desk.take_queue(waiting);
                    self.changed.notify_all();
                }
                Next::Archive(name, whose) => {
                    drop(desk);
                    let outcome = self.archive(&name, whose);
                    desk = self.desk();
                    desk.done(name, outcome, Instant::now());
                    self.changed.notify_all();
                }
            }
        }
    }

    fn archive(&self, name: &str, whose: Whose) -> Outcome {
        let path = Path::new("pg_wal").join(name);
        // Before its content is read: what is said of it later holds for the file as it was then.
        let file = queue::identity(&self.request.pgdata.join(&path));
        let request = PushRequest { pgdata: self.request.pgdata.clone(), path };
        let file = match file {
            Ok(file) => file,
            // PostgreSQL removed it, which it does with what was archived.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Outcome::Gone,
            Err(source) => {
                return self.failed(name, &WalError::Unreadable { path: request.path, source });
            }
        };
        match Offer::observe(&request).and_then(|offer| self.push(&offer, &file, whose)) {
            Err(error) if is_replaced(&error) => {
                self.desk().over = Some(error);
                Outcome::Gone
            }
            Ok(pushed) => {
                (self.tell)(RunEvent::Stored { pushed: &pushed });
                Outcome::Stored(file, pushed)
            }
            Err(error) => self.failed(name, &error),
        }
    }

    /// Pushes to the repositories that do not hold the file yet. What failed a moment ago is left out unless somebody waits. This process
    /// may be older than the repositories, so each is looked at again.
    fn push(&self, offer: &Offer, file: &Identity, whose: Whose) -> Result<Pushed, WalError> {
        let (name, now) = (&offer.text, Instant::now());
        let mut known = self.held(name, file);
        let rests = |one: &NamedRepository| {
            (whose == Whose::Ahead || !one.required) && self.rests.is_resting(&one.name, now)
        };
        let tried: Vec<&NamedRepository> =
            self.repositories.iter().filter(|one| !known.contains_key(&one.name) && !rests(one)).collect();
        let results = push_offer(&tried, offer.clone(), self.request.options, Confirm::BothTimes);
        let mut failed = BTreeMap::new();
        for (repository, result) in tried.into_iter().zip(results) {
            match result {
                Ok(report) => {
                    self.rests.worked(&repository.name);
                    known.insert(repository.name.clone(), report);
                }
                Err(error) => {
                    self.note(repository, name, &error);
                    failed.insert(repository.name.clone(), error);
                }
            }
        }
        self.lock_held().insert(name.clone(), (file.clone(), known.clone()));
        let all: Vec<&NamedRepository> = self.repositories.iter().collect();
        let result = |one: &&NamedRepository| match known.remove(&one.name) {
            Some(report) => Ok(report),
            None => Err(failed.remove(&one.name).unwrap_or(WalError::Resting)),
        };
        let results = all.iter().map(result).collect();
        let pushed = judge(name, &all, results)?;
        self.lock_held().remove(name);
        offer.clear_spool();
        Ok(pushed)
    }

    /// The repositories that hold this file as it is now.
    fn held(&self, name: &str, file: &Identity) -> BTreeMap<String, PushReport> {
        let held = self.lock_held();
        held.get(name).filter(|(then, _)| then == file).map(|(_, held)| held.clone()).unwrap_or_default()
    }

    fn lock_held(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A repository did not take a file.
    fn note(&self, repository: &NamedRepository, name: &str, error: &WalError) {
        let again_in = self.rests.failed(repository, Instant::now());
        if repository.required {
            return;
        }
        if is_replaced(error) {
            repository.forget();
            self.lock_held().values_mut().for_each(|(_, held)| drop(held.remove(&repository.name)));
        }
        let (repository, why) = (repository.name.as_str(), with_causes(error));
        (self.tell)(RunEvent::Behind { repository, name, why, again_in });
    }

    fn failed(&self, name: &str, error: &WalError) -> Outcome {
        let (message, hint) = (with_causes(error), error.hint());
        match error {
            // Nothing was tried, and nothing is new.
            WalError::NotEverywhere { source, held, .. } if matches!(**source, WalError::Resting) => {
                match held.is_empty() {
                    true => Outcome::Failed { message, hint },
                    false => Outcome::Partly { message, hint },
                }
            }
            WalError::NotEverywhere { held, .. } if !held.is_empty() => {
                (self.tell)(RunEvent::NotStored { name, why: message.clone(), again_in: RETRY });
                Outcome::Partly { message, hint }
            }
            _ => {
                (self.tell)(RunEvent::NotStored { name, why: message.clone(), again_in: RETRY });
                Outcome::Failed { message, hint }
            }
        }
    }

    fn accept<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, listener: &'scope UnixListener) {
        loop {
            let Ok((stream, _)) = listener.accept() else {
                // No descriptor left, for example: what is asked meanwhile is archived by whoever asks.
                thread::sleep(LISTEN);
                continue;
            };
            let mut desk = self.desk();
            if desk.is_closing {
                return;
            }
            if desk.callers < CALLERS_MAX {
                desk.callers += 1;
                drop(desk);
                scope.spawn(move || {
                    // A caller that cannot be read or written to has gone, and archives by itself.
                    let _ = self.serve(&mut Caller::new(stream));
                    self.desk().callers -= 1;
                });
            }
        }
    }

    /// Answers one push.
    fn serve(&self, caller: &mut Caller) -> std::io::Result<()> {
        let call = caller.read()?;
        if call.repository != self.places {
            if call.is_queued {
                let expected = self.places.clone();
                self.desk().over = Some(WalError::OtherRepository { found: call.repository, expected });
            }
            return caller.answer(&Answer::Elsewhere);
        }
        let mut desk = self.desk();
        desk.ask(&call.name, Instant::now());
        self.changed.notify_all();
        loop {
            if let Some(answer) = desk.answer(&call.name, &call.file) {
                drop(desk);
                return caller.answer(&answer);
            }
            let waited = self.changed.wait_timeout(desk, call::WORKING_EVERY);
            let (guard, timeout) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
            desk = guard;
            if timeout.timed_out() {
                drop(desk);
                caller.answer(&Answer::Working)?;
                desk = self.desk();
            }
        }
    }
}

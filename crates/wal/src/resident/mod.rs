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
use crate::push::{
    Confirm, Offer, PushOutcome, PushReport, PushRequest, Pushed, PushedTo, judge, push_offer,
};
use crate::repositories::{NamedRepository, Rests};
use call::{Answer, Caller, LISTEN};
use desk::{Desk, Next, Outcome, RETRY};
use pgproof_repo::walobject::StoreOptions;
use serde::Serialize;
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
    let listener = call::listen(&request.pgdata).map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => WalError::ResidentTaken { pgdata: request.pgdata.clone() },
        _ => WalError::Unreadable { path: request.pgdata.clone(), source },
    })?;
    let resident = Resident {
        repositories,
        places: call::places(repositories),
        rests: Rests::default(),
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

/// Another repository lies in the place of one that was opened.
pub(crate) fn is_replaced(error: &WalError) -> bool {
    match error {
        WalError::Repo { source: pgproof_repo::Error::Replaced { .. }, .. } => true,
        WalError::NotEverywhere { source, .. } => is_replaced(source),
        _ => false,
    }
}

struct Resident<'a> {
    repositories: &'a [NamedRepository],
    places: String,
    /// Repositories that are not required and failed.
    rests: Rests,
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
                    let waiting = queue::list(&self.request.pgdata);
                    desk = self.desk();
                    desk.take_queue(waiting?);
                    self.changed.notify_all();
                }
                Next::Archive(name) => {
                    drop(desk);
                    let outcome = self.archive(&name);
                    desk = self.desk();
                    desk.done(name, outcome, Instant::now());
                    self.changed.notify_all();
                }
            }
        }
    }

    fn archive(&self, name: &str) -> Outcome {
        let path = Path::new("pg_wal").join(name);
        // Before its content is read: what is said of it later holds for the file as it was then.
        let file = queue::identity(&self.request.pgdata.join(&path));
        let request = PushRequest { pgdata: self.request.pgdata.clone(), path };
        let pushed = Offer::observe(&request).and_then(|offer| self.push(offer));
        match (pushed, file) {
            (Err(error), _) if is_replaced(&error) => {
                self.desk().over = Some(error);
                Outcome::Gone
            }
            (Ok(pushed), Ok(file)) => {
                (self.tell)(RunEvent::Stored { pushed: &pushed });
                Outcome::Stored(file, pushed)
            }
            // PostgreSQL removed it, which it does with what was archived.
            (_, Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Outcome::Gone,
            (Ok(_), Err(source)) => self.failed(name, &WalError::Unreadable { path: request.path, source }),
            (Err(error), _) => self.failed(name, &error),
        }
    }

    /// Pushes to all that are awake. This process may be older than the repositories, so each is looked at again.
    fn push(&self, offer: Offer) -> Result<Pushed, WalError> {
        let awake = self.rests.awake(self.repositories, Instant::now());
        let name = offer.text.clone();
        let results = push_offer(&awake, offer.clone(), self.request.options, Confirm::BothTimes);
        for (repository, result) in awake.iter().zip(&results).filter(|(repository, _)| !repository.required)
        {
            self.note(repository, &name, result);
        }
        let mut pushed = judge(&name, &awake, results)?;
        for resting in
            self.repositories.iter().filter(|one| !awake.iter().any(|other| other.name == one.name))
        {
            let why = "it failed a moment ago, and rests".to_owned();
            let outcome = PushOutcome::Behind { why };
            pushed.repositories.push(PushedTo { repository: resting.name.clone(), outcome });
        }
        offer.clear_spool();
        Ok(pushed)
    }

    /// What a repository that is not required made of a file.
    fn note(&self, repository: &NamedRepository, name: &str, result: &Result<PushReport, WalError>) {
        let Err(error) = result else { return self.rests.worked(&repository.name) };
        if is_replaced(error) {
            repository.forget();
        }
        let again_in = self.rests.failed(&repository.name, Instant::now());
        let (repository, why) = (repository.name.as_str(), with_causes(error));
        (self.tell)(RunEvent::Behind { repository, name, why, again_in });
    }

    fn failed(&self, name: &str, error: &WalError) -> Outcome {
        let why = with_causes(error);
        (self.tell)(RunEvent::NotStored { name, why: why.clone(), again_in: RETRY });
        Outcome::Failed { message: why, hint: error.hint() }
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

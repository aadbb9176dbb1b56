//! The repositories of a configuration, as archiving uses them: opened when they are needed, worked on all at once.
//!
//! Promises that work on one of them never waits for another one, and that one that is not required holds nobody up for longer than
//! [`OPTIONAL_LIMIT`]. What is done in each of them is the caller's: [`crate::push`] stores, [`crate::get`] reads.

use crate::error::WalError;
use pgproof_repo::Repository;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long everybody waits for repositories that are not required, from the beginning on: enough for a segment over a slow line, and
/// short against `archive_timeout`.
pub const OPTIONAL_LIMIT: Duration = Duration::from_secs(5);

/// How long reading waits for one of several repositories to open, before the next one is asked.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Attempts that may hang in one repository that is not required. Each is a thread, and a network file system may hang for days.
const HANGING_MAX: usize = 4;

/// A repository that failed rests for so long; one that is not required then for twice as long, up to five minutes.
const REST_FIRST: Duration = Duration::from_secs(5);
const REST_MAX: Duration = Duration::from_secs(300);

type Opener = dyn Fn() -> pgproof_repo::Result<Repository> + Send + Sync;

/// A configured repository.
#[derive(Clone)]
pub struct NamedRepository {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is, as its store describes itself.
    pub place: String,
    /// Whether WAL counts as archived only when it is held here.
    pub required: bool,
    state: Arc<State>,
}

struct State {
    opener: Box<Opener>,
    opened: Mutex<Option<Repository>>,
    hanging: AtomicUsize,
}

impl std::fmt::Debug for NamedRepository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NamedRepository({}, {})", self.name, self.place)
    }
}

/// What is set when nobody waits any more: the file may be overwritten from then on.
pub(crate) type Withdrawn = AtomicBool;

/// What is done in one repository.
type Work<T> = dyn Fn(&NamedRepository, &Withdrawn) -> Result<T, WalError> + Send + Sync;

impl NamedRepository {
    /// Names a repository and how it is opened.
    pub fn new(
        name: impl Into<String>,
        place: impl Into<String>,
        required: bool,
        opener: impl Fn() -> pgproof_repo::Result<Repository> + Send + Sync + 'static,
    ) -> Self {
        let state =
            State { opener: Box::new(opener), opened: Mutex::default(), hanging: AtomicUsize::new(0) };
        Self { name: name.into(), place: place.into(), required, state: Arc::new(state) }
    }

    /// The repository, opened once.
    ///
    /// # Errors
    /// [`WalError::Repo`].
    pub fn open(&self) -> Result<Repository, WalError> {
        if let Some(opened) = lock(&self.state.opened).as_ref() {
            return Ok(opened.clone());
        }
        // Not under the lock: this may hang, and whoever only asks whether it is open must not.
        let opened = (self.state.opener)()
            .map_err(|source| WalError::Repo { operation: "open the repository", source })?;
        Ok(lock(&self.state.opened).get_or_insert(opened).clone())
    }

    /// The same, but not for longer than reading may wait where others can be asked.
    pub(crate) fn open_soon(&self) -> Result<Repository, WalError> {
        let own = self.clone();
        let (send, receive) = mpsc::channel();
        thread::spawn(move || send.send(own.open()));
        receive.recv_timeout(OPEN_LIMIT).unwrap_or(Err(WalError::TooSlow { limit: OPEN_LIMIT }))
    }

    /// Opens it anew the next time: what was opened is no longer what lies in its place.
    pub(crate) fn forget(&self) {
        *lock(&self.state.opened) = None;
    }
}

/// Does `work` in each repository at once. The results are in the repositories' order; one of a repository that is not required may be
/// [`WalError::TooSlow`], and its work then goes on with `Withdrawn` set.
pub(crate) fn in_each<T: Send + 'static>(
    repositories: &[&NamedRepository],
    work: Arc<Work<T>>,
) -> Vec<Result<T, WalError>> {
    let began = Instant::now();
    let never = Withdrawn::new(false);
    thread::scope(|scope| {
        let started: Vec<Started<'_, T>> = repositories
            .iter()
            .map(|repository| match repository.required {
                // One alone needs no thread.
                true if repositories.len() == 1 => Started::Done(work(repository, &never)),
                true => Started::Required(scope.spawn(|| work(repository, &never))),
                false => start_optional(repository, &work),
            })
            .collect();
        // The required ones first: meanwhile the others have all that time.
        let ended: Vec<Ended<T>> = started
            .into_iter()
            .map(|started| match started {
                Started::Done(result) => Ended::Done(result),
                Started::Required(thread) => {
                    Ended::Done(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                }
                Started::Optional(attempt) => Ended::Awaited(attempt),
            })
            .collect();
        ended
            .into_iter()
            .map(|ended| match ended {
                Ended::Done(result) => result,
                Ended::Awaited(attempt) => attempt.result_until(began + OPTIONAL_LIMIT),
            })
            .collect()
    })
}

enum Started<'scope, T> {
    Done(Result<T, WalError>),
    Required(thread::ScopedJoinHandle<'scope, Result<T, WalError>>),
    Optional(Attempt<T>),
}

enum Ended<T> {
    Done(Result<T, WalError>),
    Awaited(Attempt<T>),
}

/// Work in a repository that is not required, in a thread that nobody has to wait for.
struct Attempt<T> {
    result: mpsc::Receiver<Result<T, WalError>>,
    course: Arc<Course>,
    state: Arc<State>,
}

/// What that thread and whoever started it tell each other.
struct Course {
    withdrawn: Withdrawn,
    phase: Mutex<Phase>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Working,
    /// Nobody waits any more; it hangs, for all that is known.
    Abandoned,
    Ended,
}

fn start_optional<'scope, T: Send + 'static>(
    repository: &NamedRepository,
    work: &Arc<Work<T>>,
) -> Started<'scope, T> {
    if repository.state.hanging.load(Ordering::SeqCst) >= HANGING_MAX {
        return Started::Done(Err(WalError::Hanging { attempts: HANGING_MAX }));
    }
    let (send, result) = mpsc::channel();
    let course = Arc::new(Course { withdrawn: Withdrawn::new(false), phase: Mutex::new(Phase::Working) });
    let attempt = Attempt { result, course: Arc::clone(&course), state: Arc::clone(&repository.state) };
    let (repository, work) = (repository.clone(), Arc::clone(work));
    thread::spawn(move || {
        let done = work(&repository, &course.withdrawn);
        // Whoever asked may have gone.
        let _ = send.send(done);
        if std::mem::replace(&mut *lock(&course.phase), Phase::Ended) == Phase::Abandoned {
            repository.state.hanging.fetch_sub(1, Ordering::SeqCst);
        }
    });
    Started::Optional(attempt)
}

impl<T> Attempt<T> {
    fn result_until(self, until: Instant) -> Result<T, WalError> {
        match self.result.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => {
                self.course.withdrawn.store(true, Ordering::SeqCst);
                let mut phase = lock(&self.course.phase);
                if *phase == Phase::Working {
                    *phase = Phase::Abandoned;
                    self.state.hanging.fetch_add(1, Ordering::SeqCst);
                }
                // It may have come to its end in this very moment.
                self.result.try_recv().unwrap_or(Err(WalError::TooSlow { limit: OPTIONAL_LIMIT }))
            }
            // A panic, which has printed itself.
            Err(RecvTimeoutError::Disconnected) => Err(WalError::TooSlow { limit: OPTIONAL_LIMIT }),
        }
    }
}

/// Which repositories rest after a failure, in a process that lives long.
#[derive(Debug, Default)]
pub(crate) struct Rests(Mutex<BTreeMap<String, Rest>>);

#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    last: Duration,
}

impl Rests {
    /// Whether one failed a moment ago.
    pub(crate) fn is_resting(&self, name: &str, now: Instant) -> bool {
        lock(&self.0).get(name).is_some_and(|rest| now < rest.until)
    }

    /// One failed: how long it rests now.
    pub(crate) fn failed(&self, named: &NamedRepository, now: Instant) -> Duration {
        let mut rests = lock(&self.0);
        // PostgreSQL waits for one that is required.
        let max = if named.required { REST_FIRST } else { REST_MAX };
        let next = |rest: &Rest| (rest.last * 2).min(max);
        let last = rests.get(&named.name).map_or(REST_FIRST, next);
        rests.insert(named.name.clone(), Rest { until: now + last, last });
        last
    }

    /// Nobody rests any more.
    pub(crate) fn clear(&self) {
        lock(&self.0).clear();
    }

    /// One works.
    pub(crate) fn worked(&self, name: &str) {
        lock(&self.0).remove(name);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change under these locks is one call, so a panic leaves them whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, required: bool) -> NamedRepository {
        NamedRepository::new(name, name, required, || unreachable!("nobody opens it"))
    }

    /// What hangs is let go of, and told to store nothing any more.
    #[test]
    fn a_repository_that_is_not_required_holds_nobody_up() {
        let all = [named("near", true), named("far", false)];
        let all: Vec<_> = all.iter().collect();
        let (send, receive) = mpsc::channel();
        let (send, began) = (Mutex::new(send), Instant::now());
        let results = in_each::<()>(
            &all,
            Arc::new(move |repository, withdrawn| {
                while !repository.required && !withdrawn.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(10));
                }
                if !repository.required {
                    let _ = lock(&send).send("was withdrawn");
                }
                Ok(())
            }),
        );
        assert!(results[0].is_ok() && began.elapsed() < 2 * OPTIONAL_LIMIT);
        assert!(matches!(results[1], Err(WalError::TooSlow { .. })), "{:?}", results[1]);
        assert_eq!(receive.recv_timeout(OPTIONAL_LIMIT), Ok("was withdrawn"));
    }

    #[test]
    fn one_failure_keeps_no_other_from_its_work() {
        let all = [named("near", true), named("far", true), named("spare", false)];
        let all: Vec<_> = all.iter().collect();
        let results = in_each(
            &all,
            Arc::new(|repository, _| match repository.name.as_str() {
                "near" => Err(WalError::TooSlow { limit: OPEN_LIMIT }),
                name => Ok(name.to_owned()),
            }),
        );
        assert!(results[0].is_err());
        assert_eq!((results[1].as_deref().ok(), results[2].as_deref().ok()), (Some("far"), Some("spare")));
    }

    #[test]
    fn rests_end_and_grow_only_for_those_that_nobody_waits_for() {
        let (now, rests) = (Instant::now(), Rests::default());
        let [near, far] = [named("near", true), named("far", false)];
        assert!(!rests.is_resting("far", now));
        assert_eq!(rests.failed(&far, now), REST_FIRST);
        assert_eq!((0..3).map(|_| rests.failed(&near, now)).last(), Some(REST_FIRST));
        assert!(rests.is_resting("near", now) && !rests.is_resting("near", now + REST_FIRST));
        assert_eq!(rests.failed(&far, now), 2 * REST_FIRST);
        assert_eq!((0..10).map(|_| rests.failed(&far, now)).last(), Some(REST_MAX));
        rests.worked("far");
        assert!(!rests.is_resting("far", now));
        assert_eq!(rests.failed(&far, now), REST_FIRST);
    }
}

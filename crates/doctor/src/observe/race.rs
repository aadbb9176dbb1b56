//! Sources that race against one deadline. A thread that loses is left behind: a system call on a hung disk cannot be interrupted, and
//! the process ends soon anyway.

use super::Looked;
use crate::DoctorError;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// The time that all sources have together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Race {
    began: Instant,
    deadline: Instant,
}

/// A source that is being looked at.
#[derive(Debug)]
pub(super) enum Runner<T> {
    /// It runs.
    Runs(Receiver<Result<T, String>>),
    /// It does not concern this server.
    Absent,
}

impl Race {
    pub(super) fn begin(budget: Duration) -> Self {
        let began = Instant::now();
        Self { began, deadline: began + budget }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Starts to look at a source.
    pub(super) fn start<T: Send + 'static>(
        &self,
        name: &str,
        look: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<Runner<T>, DoctorError> {
        let (send, receive) = mpsc::channel();
        let thread = thread::Builder::new().name(format!("doctor-{name}"));
        // A receiver that is gone has what it wanted, or gave up.
        let run = move || drop(send.send(look()));
        thread.spawn(run).map_err(|source| DoctorError::Thread { source })?;
        Ok(Runner::Runs(receive))
    }

    pub(super) fn start_if<T: Send + 'static>(
        &self,
        wanted: bool,
        name: &str,
        look: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<Runner<T>, DoctorError> {
        if wanted { self.start(name, look) } else { Ok(Runner::Absent) }
    }

    /// Starts to look at something of a thing that may be unknown.
    pub(super) fn start_with<P: Send + 'static, T: Send + 'static>(
        &self,
        of: Option<P>,
        name: &str,
        look: impl FnOnce(P) -> Result<T, String> + Send + 'static,
    ) -> Result<Runner<T>, DoctorError> {
        match of {
            Some(of) => self.start(name, move || look(of)),
            None => Ok(Runner::Absent),
        }
    }
}

impl<T> Runner<T> {
    /// What it saw, if it comes within `limit` and the budget.
    pub(super) fn wait(self, race: &Race, limit: Duration) -> Looked<T> {
        let Self::Runs(receive) = self else { return Looked::NotLooked };
        let limit = limit.min(race.left());
        match receive.recv_timeout(limit) {
            Ok(result) => result.into(),
            Err(RecvTimeoutError::Timeout) => {
                let after = pgproof_base::human_duration(race.elapsed());
                Looked::Unseen(format!("it did not answer within {after}"))
            }
            Err(RecvTimeoutError::Disconnected) => Looked::Unseen("looking at it failed".to_owned()),
        }
    }

    /// The same with all that is left of the budget.
    pub(super) fn end(self, race: &Race) -> Looked<T> {
        self.wait(race, race.left())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_hangs_is_left_behind_and_named() {
        let race = Race::begin(Duration::from_millis(50));
        let (hold, held) = mpsc::channel::<()>();
        let hung = race.start("hung", move || held.recv().map_err(|error| error.to_string())).unwrap();
        let quick = race.start("quick", || Ok(7)).unwrap();
        assert_eq!(quick.end(&race), Looked::Seen(7));
        assert!(hung.end(&race).why().unwrap().contains("did not answer"));
        drop(hold);
    }
}

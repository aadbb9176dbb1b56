//! What the workers of `archive run` do next, and what callers are told: state without I/O.

use super::RunReport;
use super::call::Answer;
use super::queue::Identity;
use crate::error::WalError;
use crate::push::Pushed;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// How often the queue is looked at while nothing is known to wait: PostgreSQL's own call comes first anyway.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long work ahead rests after a failure. What PostgreSQL asks for is tried at once: it has waited by itself.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// Files that may be durable before PostgreSQL has asked for them, and that are taken from the queue at a time.
const AHEAD_MAX: usize = 256;

/// What a worker does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Archive this file.
    Archive(String, Whose),
    /// Look at the queue.
    Look,
    /// Wait for a change, at most so long.
    Wait(Duration),
    /// Nothing any more.
    End,
}

/// Why a file is archived now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Somebody waits for it.
    Asked,
    /// It waits in the queue.
    Ahead,
}

/// What came of archiving a file.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is durable, as it was then.
    Stored(Identity, Pushed),
    /// It is not.
    Failed { message: String, hint: String },
    /// It is in some repositories, and not in all that are required.
    Partly { message: String, hint: String },
    /// There is no such file any more, or it is not this process's to archive.
    Gone,
}

#[derive(Debug)]
pub(super) struct Desk {
    pub(super) is_closing: bool,
    /// Pushes that are being answered.
    pub(super) callers: usize,
    /// Why this process is of no use any more.
    pub(super) over: Option<WalError>,
    pub(super) report: RunReport,
    /// Durable, and not asked for yet.
    durable: BTreeMap<String, (Identity, Pushed)>,
    failed: BTreeMap<String, (String, String)>,
    gone: BTreeSet<String>,
    under_way: BTreeSet<String>,
    /// Callers wait for these.
    asked: VecDeque<String>,
    queue: VecDeque<String>,
    /// Some repositories hold these, and the others are tried again then. Meanwhile the next files have their turn.
    later: BTreeMap<String, Instant>,
    looked: Option<Instant>,
    rests_until: Option<Instant>,
    busy: Instant,
}

impl Desk {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            is_closing: false,
            callers: 0,
            over: None,
            report: RunReport::default(),
            durable: BTreeMap::new(),
            failed: BTreeMap::new(),
            gone: BTreeSet::new(),
            under_way: BTreeSet::new(),
            asked: VecDeque::new(),
            queue: VecDeque::new(),
            later: BTreeMap::new(),
            looked: None,
            rests_until: None,
            busy: now,
        }
    }

    /// How long nothing was to be done.
    pub(super) fn idle_for(&self, now: Instant) -> Duration {
        match self.callers == 0 && self.queue.is_empty() && self.under_way.is_empty() {
            true => now.saturating_duration_since(self.busy),
            false => Duration::ZERO,
        }
    }

    /// Gives a worker something to do: what callers wait for comes first.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if self.is_closing {
            return Next::End;
        }
        while let Some(name) = self.asked.pop_front() {
            self.queue.retain(|queued| *queued != name);
            if !self.durable.contains_key(&name) && self.under_way.insert(name.clone()) {
                return Next::Archive(name, Whose::Asked);
            }
        }
        let rests = self.rests_until.is_some_and(|until| now < until);
        if rests || self.durable.len() + self.under_way.len() >= AHEAD_MAX {
            return Next::Wait(LOOK_EVERY);
        }
        while let Some(name) = self.queue.pop_front() {
            let is_later = self.later.get(&name).is_some_and(|until| now < *until);
            if !is_later && !self.durable.contains_key(&name) && self.under_way.insert(name.clone()) {
                return Next::Archive(name, Whose::Ahead);
            }
        }
        match self.looked.map(|looked| now.saturating_duration_since(looked)) {
            Some(since) if since < LOOK_EVERY => Next::Wait(LOOK_EVERY - since),
            _ => {
                self.looked = Some(now);
                Next::Look
            }
        }
    }

    /// Takes a look at what waits. What was durable and waits no longer PostgreSQL is done with.
    pub(super) fn take_queue(&mut self, mut waiting: Vec<String>) {
        let names: BTreeSet<&String> = waiting.iter().collect();
        self.durable.retain(|name, _| names.contains(name));
        self.failed.retain(|name, _| names.contains(name));
        self.later.retain(|name, _| names.contains(name));
        self.gone.clear();
        waiting.retain(|name| !self.durable.contains_key(name) && !self.under_way.contains(name));
        waiting.truncate(AHEAD_MAX);
        self.queue = waiting.into();
    }

    /// Notes what came of a file.
    pub(super) fn done(&mut self, name: String, outcome: Outcome, now: Instant) {
        self.busy = now;
        self.under_way.remove(&name);
        match outcome {
            Outcome::Stored(file, pushed) => {
                self.report.stored += u64::from(!pushed.was_there());
                self.report.bytes_stored += pushed.bytes_stored();
                self.rests_until = None;
                self.later.remove(&name);
                self.durable.insert(name, (file, pushed));
            }
            Outcome::Failed { message, hint } => {
                self.rests_until = Some(now + RETRY);
                self.failed.insert(name, (message, hint));
            }
            Outcome::Partly { message, hint } => {
                self.later.insert(name.clone(), now + RETRY);
                self.failed.insert(name, (message, hint));
            }
            Outcome::Gone => drop(self.gone.insert(name)),
        }
    }

    /// A caller wants a file archived. What failed before is tried again.
    pub(super) fn ask(&mut self, name: &str, now: Instant) {
        self.busy = now;
        if !self.under_way.contains(name) {
            self.failed.remove(name);
            self.gone.remove(name);
            self.asked.push_back(name.to_owned());
        }
    }

    /// What the caller is told about its file; nothing while that is not known. What is durable of another state of the file does not
    /// count, and is asked for again.
    pub(super) fn answer(&mut self, name: &str, now_is: &Identity) -> Option<Answer> {
        if let Some((file, pushed)) = self.durable.remove(name) {
            if file == *now_is {
                self.report.answered += 1;
                return Some(Answer::Stored { pushed });
            }
            return Some(Answer::Elsewhere);
        }
        if let Some((message, hint)) = self.failed.remove(name) {
            return Some(Answer::Failed { message, hint });
        }
        (self.is_closing || self.gone.contains(name)).then_some(Answer::Elsewhere)
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue;
    use super::*;
    use crate::push::{PushOutcome, PushedTo};

    fn file(content: &str) -> Identity {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        std::fs::write(&path, content).unwrap();
        queue::identity(&path).unwrap()
    }

    fn stored(name: &str) -> Pushed {
        let outcome = PushOutcome::Stored { bytes_stored: 7, was_there: false };
        let repositories = vec![PushedTo { repository: "main".to_owned(), outcome }];
        Pushed { name: name.to_owned(), repositories }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn archive(name: &str) -> Next {
        Next::Archive(name.to_owned(), Whose::Ahead)
    }

    fn asked(name: &str) -> Next {
        Next::Archive(name.to_owned(), Whose::Asked)
    }

    #[test]
    fn what_postgresql_asks_for_comes_before_what_waits_and_nothing_is_done_twice() {
        let now = Instant::now();
        let mut desk = Desk::new(now);
        assert_eq!(desk.next(now), Next::Look);
        desk.take_queue(names(&["1", "2", "3"]));
        assert_eq!(desk.next(now), archive("1"));
        desk.ask("3", now);
        desk.ask("1", now);
        assert_eq!(desk.next(now), asked("3"));
        assert_eq!(desk.next(now), archive("2"));
        assert!(matches!(desk.next(now), Next::Wait(_)), "the queue was looked at just now");
        assert_eq!(desk.next(now + LOOK_EVERY), Next::Look);
        desk.take_queue(names(&["1", "2", "3", "4"]));
        assert_eq!(desk.next(now), archive("4"));
    }

    #[test]
    fn only_the_file_that_was_stored_is_said_to_be_stored() {
        let now = Instant::now();
        let mut desk = Desk::new(now);
        let (one, other) = (file("one"), file("other one"));
        desk.ask("1", now);
        assert_eq!(desk.answer("1", &one), None);
        assert_eq!(desk.next(now), asked("1"));
        desk.done("1".to_owned(), Outcome::Stored(one.clone(), stored("1")), now);
        assert_eq!(desk.answer("1", &other), Some(Answer::Elsewhere), "it was made anew");
        assert_eq!(desk.answer("1", &one), None, "it is asked for once");
        desk.done("1".to_owned(), Outcome::Stored(one.clone(), stored("1")), now);
        assert_eq!(desk.answer("1", &one), Some(Answer::Stored { pushed: stored("1") }));
        assert_eq!((desk.report.stored, desk.report.answered), (2, 1));
    }

    #[test]
    fn a_failure_is_told_once_and_work_ahead_rests_but_what_is_asked_for_does_not() {
        let now = Instant::now();
        let mut desk = Desk::new(now);
        desk.take_queue(names(&["1", "2"]));
        assert_eq!(desk.next(now), archive("1"));
        desk.ask("1", now);
        let failed = || Outcome::Failed { message: "no answer".to_owned(), hint: "look".to_owned() };
        desk.done("1".to_owned(), failed(), now);
        assert!(matches!(desk.answer("1", &file("")), Some(Answer::Failed { .. })));
        // The call that came while it was under way is not done again for nobody.
        assert_eq!(desk.answer("1", &file("")), None);
        assert!(matches!(desk.next(now), Next::Wait(_)));
        desk.ask("1", now);
        assert_eq!(desk.next(now), asked("1"));
        desk.done("1".to_owned(), Outcome::Stored(file("one"), stored("1")), now);
        assert_eq!(desk.next(now), archive("2"), "it works again");
        assert_eq!(Desk::new(now).idle_for(now + RETRY), RETRY);
        assert_eq!(desk.idle_for(now + RETRY), Duration::ZERO, "something is under way");
    }

    /// One repository of two is away: the other one gets everything meanwhile.
    #[test]
    fn a_file_that_some_repositories_hold_lets_the_next_ones_pass() {
        let now = Instant::now();
        let mut desk = Desk::new(now);
        desk.take_queue(names(&["1", "2"]));
        assert_eq!(desk.next(now), archive("1"));
        let partly = || Outcome::Partly { message: "one is away".to_owned(), hint: "look".to_owned() };
        desk.done("1".to_owned(), partly(), now);
        desk.take_queue(names(&["1", "2"]));
        assert_eq!(desk.next(now), archive("2"), "nothing rests");
        desk.done("2".to_owned(), partly(), now);
        desk.take_queue(names(&["1", "2"]));
        assert!(matches!(desk.next(now), Next::Look | Next::Wait(_)), "both were tried a moment ago");
        desk.ask("1", now);
        assert_eq!(desk.next(now), asked("1"), "whoever asks is served at once");
        desk.take_queue(names(&["1", "2"]));
        assert_eq!(desk.next(now + RETRY), archive("2"));
    }

    #[test]
    fn memory_is_bounded_however_much_waits() {
        let now = Instant::now();
        let mut desk = Desk::new(now);
        let all: Vec<String> = (0..10 * AHEAD_MAX).map(|number| format!("{number:06}")).collect();
        desk.take_queue(all.clone());
        for _ in 0..AHEAD_MAX {
            let Next::Archive(name, _) = desk.next(now) else { panic!("there is more") };
            desk.done(name.clone(), Outcome::Stored(file(""), stored(&name)), now);
        }
        assert!(matches!(desk.next(now), Next::Wait(_)), "PostgreSQL comes first now");
        desk.take_queue(all[AHEAD_MAX / 2..].to_vec());
        assert_eq!(desk.durable.len(), AHEAD_MAX / 2, "it is done with the others");
        assert_eq!(desk.next(now), archive(&format!("{AHEAD_MAX:06}")));
    }

    #[test]
    fn whoever_waits_at_the_end_is_sent_away() {
        let now = Instant::now();
        let mut desk = Desk::new(now);
        desk.ask("1", now);
        desk.is_closing = true;
        assert_eq!(desk.next(now), Next::End);
        assert_eq!(desk.answer("1", &file("")), Some(Answer::Elsewhere));
    }
}

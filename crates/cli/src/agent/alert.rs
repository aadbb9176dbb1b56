//! Tells people that an objective is at risk, is broken, or holds again; and that work failed.
//!
//! [`Levels`] decides, purely, what is new; the rest delivers it, in a thread of its own, because whoever is told may take his time.

use super::watch::Found;
use crate::objectives::{Line, Status, Verdict};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How bad it is, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Level {
    Kept,
    AtRisk,
    Unproven,
    Broken,
}

/// What somebody is told, as it is sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Alert {
    pub(super) at: Timestamp,
    pub(super) host: String,
    pub(super) repository: String,
    /// An objective's name; `repository` when it cannot be read; or the command that failed.
    pub(super) about: String,
    pub(super) level: Level,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wanted_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) measured_s: Option<f64>,
    /// Commands that help.
    pub(super) remedies: Vec<String>,
}

/// What is known to be how bad, so that nobody is told twice.
#[derive(Debug)]
pub(super) struct Levels {
    host: String,
    /// An objective is at risk from this part of what is wanted on.
    at_risk: f64,
    known: BTreeMap<(String, String), Level>,
}

/// Stands for the server, where other alerts name a repository.
const DOCTOR: &str = "doctor";

impl Levels {
    pub(super) fn new(host: String, at_risk_percent: i64) -> Self {
        Self { host, at_risk: at_risk_percent as f64 / 100.0, known: BTreeMap::new() }
    }

    /// What is new in what was judged of a repository.
    pub(super) fn judged(&mut self, repository: &str, status: &Status) -> Vec<Alert> {
        let mut alerts: Vec<Alert> = Vec::new();
        for line in &status.objectives {
            let level = self.level(line);
            let message = sentence(line, level);
            let alert = self.change(status.at, repository, line.objective, level, message);
            alerts.extend(alert.map(|alert| Alert {
                wanted_s: Some(line.wanted_s),
                measured_s: line.measured_s,
                remedies: line.remedies.iter().map(|remedy| remedy.command.clone()).collect(),
                ..alert
            }));
        }
        let (level, message) = match status.ledger_flaws.first() {
            Some(flaw) => (Level::Broken, format!("the ledger cannot be believed: {}", flaw.seen)),
            None => (Level::Kept, "the ledger can be believed".to_owned()),
        };
        alerts.extend(self.change(status.at, repository, "ledger", level, message));
        let readable = "the repository can be read".to_owned();
        alerts.extend(self.change(status.at, repository, "repository", Level::Kept, readable));
        alerts
    }

    /// A repository that could not be read.
    pub(super) fn unreadable(&mut self, at: Timestamp, repository: &str, why: &str) -> Option<Alert> {
        let message = format!("the repository cannot be read: {why}");
        self.change(at, repository, "repository", Level::Broken, message)
    }

    /// Work that failed, each time; or works again.
    pub(super) fn worked(
        &mut self,
        at: Timestamp,
        repository: &str,
        work: &str,
        failure: Option<&str>,
    ) -> Option<Alert> {
        if failure.is_some() {
            self.known.remove(&(repository.to_owned(), work.to_owned()));
        }
        let (level, message) = match failure {
            Some(why) => (Level::Broken, format!("pgproof {work} failed: {why}")),
            None => (Level::Kept, format!("pgproof {work} works again")),
        };
        self.change(at, repository, work, level, message)
    }

    /// What doctor finds that somebody must know, and what is gone of that.
    pub(super) fn watched(&mut self, at: Timestamp, found: &[Found]) -> Vec<Alert> {
        let alarming: Vec<&Found> = found.iter().filter(|one| one.is_alarming()).collect();
        let mut alerts = Vec::new();
        for one in &alarming {
            let message = format!("doctor finds {}: {}", one.id(), one.seen);
            let alert = self.change(at, DOCTOR, &one.id(), Level::Broken, message);
            alerts.extend(alert.map(|alert| Alert { remedies: one.commands(), ..alert }));
        }
        let known = self.known.iter().filter(|((of, _), level)| of == DOCTOR && **level == Level::Broken);
        let gone = known.map(|((_, about), _)| about.clone());
        let gone: Vec<String> = gone.filter(|about| !alarming.iter().any(|one| one.id() == *about)).collect();
        for about in gone {
            let message = format!("doctor does not find {about} any more");
            alerts.extend(self.change(at, DOCTOR, &about, Level::Kept, message));
        }
        alerts
    }

    fn level(&self, line: &Line) -> Level {
        let near = self.at_risk * line.wanted_s as f64;
        match line.verdict {
            Verdict::Broken => Level::Broken,
            Verdict::Unproven => Level::Unproven,
            Verdict::Kept if line.measured_s.is_some_and(|measured| measured > near) => Level::AtRisk,
            Verdict::Kept => Level::Kept,
        }
    }

    /// Nothing where the level is what it was, or is good from the beginning on.
    fn change(
        &mut self,
        at: Timestamp,
        repository: &str,
        about: &str,
        level: Level,
        message: String,
    ) -> Option<Alert> {
        let before =
            self.known.insert((repository.to_owned(), about.to_owned()), level).unwrap_or(Level::Kept);
        (before != level).then(|| Alert {
            at,
            host: self.host.clone(),
            repository: repository.to_owned(),
            about: about.to_owned(),
            level,
            message,
            wanted_s: None,
            measured_s: None,
            remedies: Vec::new(),
        })
    }
}

fn sentence(line: &Line, level: Level) -> String {
    let wanted = pgproof_base::human_duration(Duration::from_secs(line.wanted_s));
    let measured = line.measured_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let measured = measured.map_or("nothing".to_owned(), pgproof_base::human_duration);
    let is = match level {
        Level::Kept => "is kept again",
        Level::AtRisk => "is at risk",
        Level::Unproven => "is not proven",
        Level::Broken => "is broken",
    };
    format!("objective {} {is}: wanted {wanted}, measured {measured} ({})", line.objective, line.by)
}

/// Whom to tell.
#[derive(Debug, Clone, Default)]
pub(super) struct Receivers {
    /// Gets each alert as JSON on its standard input.
    pub(super) command: Option<Vec<String>>,
    /// Gets each alert as JSON in a POST request.
    pub(super) url: Option<String>,
}

/// How long a command or a service may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Delivers alerts in the background until it is dropped.
#[derive(Debug)]
pub(super) struct Teller {
    queue: Option<Sender<Alert>>,
    /// Why alerts were not delivered.
    complaints: Receiver<String>,
    thread: Option<JoinHandle<()>>,
}

impl Teller {
    pub(super) fn start(receivers: Receivers) -> Self {
        let (queue, alerts) = channel();
        let (complain, complaints) = channel();
        let thread = thread::spawn(move || deliver_all(&alerts, &receivers, &complain));
        Self { queue: Some(queue), complaints, thread: Some(thread) }
    }

    /// What could not be delivered since this was asked last, and why.
    pub(super) fn complaints(&self) -> impl Iterator<Item = String> + '_ {
        self.complaints.try_iter()
    }

    pub(super) fn tell(&self, alert: Alert) {
        if let Some(queue) = &self.queue {
            // The thread ends with this value only.
            let _ = queue.send(alert);
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn deliver_all(alerts: &Receiver<Alert>, receivers: &Receivers, complain: &Sender<String>) {
    for alert in alerts {
        let text = serde_json::to_string(&alert).unwrap_or_default();
        if let Some(command) = &receivers.command
            && let Err(why) = run(command, &text)
        {
            // Whoever listens ends after this thread.
            let _ = complain.send(format!("an alert was not delivered: {} {why}", command.join(" ")));
        }
        if let Some(url) = &receivers.url
            && let Err(why) = post(url, text)
        {
            let _ = complain.send(format!("an alert was not delivered to {url}: {why}"));
        }
    }
}

fn run(command: &[String], text: &str) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("is empty")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("could not be started: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read is told all the same by its being run.
        let _ = stdin.write_all(text.as_bytes());
    }
    let until = Instant::now() + LIMIT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("ended with {status}")),
            Err(error) => return Err(format!("is lost: {error}")),
            Ok(None) if Instant::now() > until => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("took longer than {} s", LIMIT.as_secs()));
            }
            Ok(None) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn post(url: &str, text: String) -> Result<(), String> {
    let said = |error: reqwest::Error| crate::fault::Fault::of(&error.without_url()).one_line();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let client = reqwest::Client::builder().timeout(LIMIT).build().map_err(said)?;
        let request = client.post(url).header("content-type", "application/json").body(text);
        request.send().await.and_then(reqwest::Response::error_for_status).map(drop).map_err(said)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(measured_s: f64) -> Line {
        let verdict = if measured_s <= 100.0 { Verdict::Kept } else { Verdict::Broken };
        let by = "the newest drill".to_owned();
        Line {
            objective: "rto",
            wanted_s: 100,
            verdict,
            measured_s: Some(measured_s),
            at: None,
            by,
            remedies: Vec::new(),
        }
    }

    fn told(levels: &mut Levels, measured_s: f64) -> Option<Level> {
        let status = Status {
            at: Timestamp::UNIX_EPOCH,
            repository: String::new(),
            system: None,
            objectives: vec![line(measured_s)],
            windows: Vec::new(),
            estimate: None,
            running: Vec::new(),
            ledger_flaws: Vec::new(),
        };
        let alerts = levels.judged("main", &status);
        assert!(alerts.len() <= 1, "{alerts:?}");
        alerts.first().map(|alert| alert.level)
    }

    #[test]
    fn people_are_told_before_an_objective_breaks_and_once_for_each_change() {
        let mut levels = Levels::new("db1".to_owned(), 90);
        let seen: Vec<Option<Level>> =
            [50.0, 91.0, 95.0, 101.0, 300.0, 20.0, 20.0].map(|measured| told(&mut levels, measured)).into();
        let (risk, broken, kept) = (Some(Level::AtRisk), Some(Level::Broken), Some(Level::Kept));
        assert_eq!(seen, [None, risk, None, broken, None, kept, None]);
    }

    #[test]
    fn work_that_fails_is_told_each_time_and_a_repository_once() {
        let mut levels = Levels::new("db1".to_owned(), 90);
        let at = Timestamp::UNIX_EPOCH;
        assert!(levels.worked(at, "main", "drill", None).is_none(), "it worked before");
        for _ in 0..2 {
            let alert = levels.worked(at, "main", "drill", Some("no space")).unwrap();
            assert_eq!(alert.message, "pgproof drill failed: no space");
        }
        assert!(levels.worked(at, "main", "drill", None).is_some());
        assert!(levels.unreadable(at, "main", "away").is_some());
        assert!(levels.unreadable(at, "main", "still away").is_none());
        assert_eq!(told(&mut levels, 1.0), Some(Level::Kept), "it is back");
    }
}

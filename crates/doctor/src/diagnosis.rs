//! From what was seen to what is wrong: every check, then silences, then causes. Pure.

use crate::cause;
use crate::check::{Case, checks};
use crate::limits::{Config, Silence};
use crate::observe::{Attempt, Observation, Outcome};
use jiff::Timestamp;
use pgproof_base::{Finding, Remedy, Severity};
use serde::Serialize;

/// A finding in its place among the others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diagnosed {
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
    /// What it is about: a slot, a table, a file.
    pub subject: String,
    /// Code and subject of what causes it; none for a root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

impl Diagnosed {
    /// Code and subject, by which it is told from every other finding.
    #[must_use]
    pub fn id(&self) -> String {
        cause::id(&self.finding.code, &self.subject)
    }
}

/// Something that could not be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unseen {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
    /// Which troubles would go unnoticed for that.
    pub hides: String,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diagnosis {
    /// When it was looked at.
    pub at: Timestamp,
    /// Roots first, the worst first; effects follow their root.
    pub findings: Vec<Diagnosed>,
    /// Findings that the configuration wants silent.
    pub silenced: Vec<Diagnosed>,
    /// What could not be seen.
    pub unseen: Vec<Unseen>,
}

impl Diagnosis {
    /// The worst that was found.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|one| one.finding.severity).max()
    }

    /// Whether nothing at all could be learned of the server.
    #[must_use]
    pub fn is_blind(&self, seen: &Observation) -> bool {
        seen.attempts.is_empty() && seen.place.ok().is_none()
    }
}

/// Judges an observation.
#[must_use]
pub fn diagnose(seen: &Observation, config: &Config) -> Diagnosis {
    let case = Case { seen, config };
    let found: Vec<_> = checks().flat_map(|check| (check.judge)(&case)).collect();
    let today = seen.at.to_zoned(jiff::tz::TimeZone::UTC).date();
    let is_silent = |one: &Diagnosed| {
        config.silences.iter().any(|silence| silence.until >= today && covers(silence, one))
    };
    let (silenced, mut findings): (Vec<_>, Vec<_>) = cause::link(found).into_iter().partition(is_silent);
    findings.extend(expired(config, today));
    Diagnosis { at: seen.at, findings, silenced, unseen: unseen(seen) }
}

fn covers(silence: &Silence, one: &Diagnosed) -> bool {
    silence.code == one.finding.code && silence.subject.as_ref().is_none_or(|subject| *subject == one.subject)
}

fn expired(config: &Config, today: jiff::civil::Date) -> Vec<Diagnosed> {
    let over = config.silences.iter().filter(|silence| silence.until < today);
    over.map(|silence| {
        let seen = format!("the silence of {} ended on {}", silence.code, silence.until);
        let finding = Finding::new("silence-expired", Severity::Info, seen, "it no longer silences anything")
            .shown_by(format!("reason: {}", silence.reason))
            .with(Remedy::safe("remove it from pgproof.toml, or give it another day", ""));
        Diagnosed { finding, subject: silence.code.clone(), cause: None }
    })
    .collect()
}

fn unseen(seen: &Observation) -> Vec<Unseen> {
    let mut found = Vec::new();
    let mut add = |what: &str, why: Option<&str>, hides: &str| {
        found.extend(why.map(|why| Unseen {
            what: what.to_owned(),
            why: why.to_owned(),
            hides: hides.to_owned(),
        }));
    };
    add("the instance", seen.place.why(), "everything that files and processes of the host tell");
    add("processes", seen.processes.why(), "who is connected when no slot is free; stopped processes");
    add("listening sockets", seen.listening.why(), "wrong ports and addresses");
    add("the data directory", seen.directory.why(), "why a server does not start");
    add("the settings files", seen.settings.why(), "errors in them");
    add("pg_hba.conf", seen.hba.why(), "which line refuses a connection");
    add("the log", seen.log.why(), "the server's own words about failures");
    add("disks", seen.disks.why(), "full and read-only file systems");
    add("memory", seen.memory.why(), "settings larger than the memory");
    add("the kernel's log", seen.kernel.why(), "processes killed for want of memory, failing disks");
    add("the server from inside", seen.server.why(), "everything that only a session sees");
    if seen.server.ok().is_none() && seen.server.why().is_none() {
        let why = seen.attempts.last().map_or_else(|| "nothing says where it is".to_owned(), described);
        add("the server from inside", Some(&why), "everything that only a session sees");
    }
    if !seen.local {
        add("the server's host", Some("it is another one"), "disks, files, processes and the log");
    } else if seen.place.ok().is_none() && seen.place.why().is_none() {
        add(
            "the server's files",
            Some("nothing says where its data directory is: name it with --pgdata"),
            "disks, files and the log",
        );
    }
    for (what, why) in seen.server.ok().map(crate::observe::ServerSeen::hidden).unwrap_or_default() {
        add(what, Some(why), "troubles that show only there");
    }
    add("repositories, cluster and agent", seen.around.why(), "whether the objectives are kept");
    for database in &seen.databases {
        for (what, why) in database.hidden() {
            add(&format!("database {}: {what}", database.name), Some(why), "troubles that show only there");
        }
    }
    found
}

/// How an attempt ended, as a person says it.
pub(crate) fn described(attempt: &Attempt) -> String {
    match &attempt.outcome {
        Outcome::Connected => "the connection broke off".to_owned(),
        Outcome::Refused { sqlstate, message, .. } => format!("{message} ({sqlstate})"),
        Outcome::Unreachable { message, .. } | Outcome::Failed { message } => message.clone(),
        Outcome::NoTls => "the server has no TLS".to_owned(),
        Outcome::Silent { after_ms } => format!("no answer within {after_ms} ms"),
    }
}

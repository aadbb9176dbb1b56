//! The checks of a recovered server, one file each: what is observed, and how it is judged.
//!
//! Each reads what the drill may change (it is thrown away), and none stops the others: a check that cannot observe has failed, and says
//! why. A page that the server refuses to read is left to [`checksums`], and a library that does not load to [`extensions`], so that one
//! fault fails one check.

mod amcheck;
mod assertions;
mod checksums;
mod command;
mod data_loss;
mod databases;
mod extensions;
mod pattern;
mod recovery_time;
mod rows;
mod sequences;

pub use assertions::{Assertion, assertions_in};
pub(crate) use data_loss::data_loss;
pub use pattern::Pattern;
pub(crate) use recovery_time::recovery_time;

use crate::blame::in_one_line;
use crate::error::DrillError;
use crate::heartbeat;
use crate::options::{CheckOptions, DrillOptions};
use crate::recover::Recovered;
use crate::report::{CheckName, CheckReport, DataLoss};
use jiff::Timestamp;
use pgproof_base::{Finding, Severity};
use pgproof_server::ServerError;
use std::time::{Duration, Instant};

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// All of it.
    Everything,
    /// What a backup by itself can fail.
    Backup,
}

/// A database that lets the drill in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenDatabase {
    pub(crate) oid: u32,
    pub(crate) name: String,
}

/// What a check looks at.
pub(crate) struct Ground<'a> {
    pub(crate) recovered: &'a Recovered,
    pub(crate) options: &'a CheckOptions,
    pub(crate) databases: Vec<OpenDatabase>,
}

/// What a check says.
pub(crate) enum Outcome {
    /// It looked.
    Looked { covered: String, findings: Vec<Finding> },
    /// It did not, and why.
    NotDone(String),
}

/// The end of the time that a check has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// Milliseconds left, as `statement_timeout` takes them; none when it is over.
    pub(crate) fn left_ms(self) -> Option<u128> {
        let left = self.0.saturating_duration_since(Instant::now()).as_millis();
        (left > 0).then_some(left)
    }
}

/// Makes the checks. The server is stopped then, because files are read.
pub(crate) fn all(
    recovered: &Recovered,
    options: &DrillOptions,
    depth: Depth,
    now: Timestamp,
) -> Result<(Vec<CheckReport>, Option<DataLoss>), DrillError> {
    let mut reports = Vec::new();
    let began = Instant::now();
    let (databases, outcome) = match databases::check(recovered) {
        Ok((databases, outcome)) => (databases, Ok(outcome)),
        Err(error) => (Vec::new(), Err(error)),
    };
    reports.push(told(CheckName::Databases, began, outcome));
    let ground = Ground { recovered, options: &options.checks, databases };
    let mut make = |check, observe: fn(&Ground<'_>) -> Result<Outcome, ServerError>| {
        let began = Instant::now();
        reports.push(told(check, began, observe(&ground)));
    };
    let mut data_loss = None;
    if depth == Depth::Everything {
        make(CheckName::Extensions, extensions::check);
        make(CheckName::Rows, rows::check);
        make(CheckName::Sequences, sequences::check);
    }
    make(CheckName::Amcheck, amcheck::check);
    if depth == Depth::Everything {
        make(CheckName::Assertions, assertions::check);
        make(CheckName::Command, command::check);
        let beat = heartbeat::recovered_beat(recovered, &options.checks.database);
        // Whatever runs on this host, only the cluster that was recovered can say what it lost.
        let primary = options.primary.as_ref().filter(|primary| primary.system == recovered.summary.system);
        data_loss = beat.map(|beat| heartbeat::loss(beat, primary, now));
    }
    let names = checksums::names(&ground);
    stop(recovered)?;
    let began = Instant::now();
    let outcome = checksums::check(recovered, &names, options.checks.workers)?;
    reports.push(told(CheckName::Checksums, began, Ok(outcome)));
    Ok((reports, data_loss))
}

fn told(check: CheckName, began: Instant, outcome: Result<Outcome, ServerError>) -> CheckReport {
    let elapsed_s = began.elapsed().as_secs_f64();
    match outcome {
        Ok(Outcome::Looked { covered, findings }) => CheckReport::judged(check, elapsed_s, covered, findings),
        Ok(Outcome::NotDone(why)) => CheckReport::not_done(check, why),
        Err(error) => {
            let why = "the recovered server did not let the check look, which one in order does";
            let finding = Finding::new("drill-check-broke", Severity::Critical, in_one_line(&error), why);
            CheckReport::judged(check, elapsed_s, "", vec![finding])
        }
    }
}

/// How long a clean stop may take: it writes a checkpoint.
const STOP_LIMIT: Duration = Duration::from_secs(600);

fn stop(recovered: &Recovered) -> Result<(), DrillError> {
    let stopped = pgproof_server::find::at(&recovered.scratch.data())
        .and_then(|instance| instance.control())
        .and_then(|control| control.stop(pgproof_server::StopMode::Fast, STOP_LIMIT));
    stopped.map_err(DrillError::server("stop the recovered server"))
}

/// The server's code for what a statement failed by.
pub(crate) fn sqlstate(error: &ServerError) -> Option<&str> {
    match error {
        ServerError::Statement { source, .. } | ServerError::Connect { source, .. } => {
            source.code().map(postgres::error::SqlState::code)
        }
        _ => None,
    }
}

/// What the server said.
pub(crate) fn said(error: &ServerError) -> String {
    match error {
        ServerError::Statement { source, .. } | ServerError::Connect { source, .. } => source.to_string(),
        other => in_one_line(other),
    }
}

/// Why a relation could not be looked at by this check, where another check tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// A page of it that the server refuses, which is for the checksums.
    Page,
    /// A library that does not load, which is for the extensions.
    Library,
    /// Time was up.
    Time,
}

/// Sorts a statement's failure. None where it is this check's own matter.
pub(crate) fn unseen(error: &ServerError) -> Option<Unseen> {
    match sqlstate(error)? {
        // `PageIsVerified` failed ("invalid page in block"), for which amcheck's own reports use the same code.
        "XX001" if said(error).contains("invalid page in block") => Some(Unseen::Page),
        "58P01" => Some(Unseen::Library),
        "57014" => Some(Unseen::Time),
        _ => None,
    }
}

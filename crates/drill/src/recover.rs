//! Brings the instant back in a private directory, and measures it. What fails on the way is blamed on a check, or ends the drill.

use crate::blame::{self, Blame};
use crate::error::DrillError;
use crate::options::{DrillOptions, PURPOSE};
use crate::replay;
use crate::report::{CheckName, CheckReport, Measured, Source};
use jiff::Timestamp;
use pgproof_base::{Bytes, Progress};
use pgproof_repo::{BackupSummary, Repository};
use pgproof_restore::private::{self, Private, PrivateOptions, Scratch};
use pgproof_restore::{
    Archiving, Onto, Prepared, Request, RestoreError, RestoreOptions, TablespaceMapping, prepare,
};
use pgproof_server::{ConnectOptions, START_LOG, Session};
use std::fs;
use std::time::Instant;

/// A cluster that came back, and runs.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) scratch: Scratch,
    /// As a superuser; its database is `template1`.
    pub(crate) connect: ConnectOptions,
    pub(crate) summary: BackupSummary,
}

impl Recovered {
    /// A session in a database.
    pub(crate) fn open(&self, database: &str) -> Result<Session, pgproof_server::ServerError> {
        Session::open(&self.connect.with_database(database))
    }
}

/// How far it came.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    pub(crate) recovered: Option<Recovered>,
    pub(crate) source: Option<Source>,
    pub(crate) checks: Vec<CheckReport>,
    pub(crate) measured: Measured,
    pub(crate) notes: Vec<String>,
}

impl Attempt {
    fn passed(&mut self, check: CheckName, since: Instant, covered: String) {
        self.checks.push(CheckReport::judged(check, since.elapsed().as_secs_f64(), covered, Vec::new()));
    }

    /// The checks that were on the way to the one that failed have passed.
    fn failed(mut self, blame: Blame, since: Instant) -> Self {
        for check in CheckName::ALL.into_iter().filter(|check| *check < blame.check) {
            if self.checks.iter().all(|done| done.check != check) {
                self.checks.push(CheckReport::judged(check, 0.0, "", Vec::new()));
            }
        }
        self.checks.retain(|done| done.check != blame.check);
        let elapsed_s = since.elapsed().as_secs_f64();
        self.checks.push(CheckReport::judged(blame.check, elapsed_s, "", vec![blame.finding]));
        self
    }
}

/// Settings above the private ones: durable, as the restore that a disaster would need, so that what is measured is not flattered.
const DURABLE: [(&str, &str); 2] = [("fsync", "on"), ("full_page_writes", "on")];

/// Restores, starts, waits.
///
/// # Errors
/// What proves nothing about the backups.
pub(crate) fn recover(
    repository: &Repository,
    options: &DrillOptions,
    request: Request,
    now: Timestamp,
    progress: &dyn Progress,
) -> Result<Attempt, DrillError> {
    let began = Instant::now();
    let mut attempt = Attempt::default();
    attempt.passed(CheckName::Repository, began, repository.store().describe());
    let scratch = Scratch::create(&options.scratch, &PURPOSE)
        .map_err(|source| DrillError::Private { source: Box::new(source) })?;
    let prepared = match prepare(repository, &restore_options(options, request), now) {
        Ok(prepared) => prepared,
        Err(error) => return blamed(attempt, error, began),
    };
    planned(&mut attempt, &prepared, began);
    progress.note(&format!("recovering to {} in {}", prepared.plan.target, scratch.path().display()));
    let restoring = Instant::now();
    let restored = match pgproof_restore::run(repository, &prepared, progress) {
        Ok(restored) => restored,
        Err(error) => return blamed(attempt, error, restoring),
    };
    attempt.measured.restore_s = Some(restored.total_s);
    attempt.measured.bytes_restored = Some(prepared.plan.bytes);
    let covered = format!("{} files, {}", prepared.plan.files, Bytes(prepared.plan.bytes));
    attempt.passed(CheckName::Files, restoring, covered);
    attempt.notes.extend(restored.notes.iter().cloned());
    let starting = Instant::now();
    let how = PrivateOptions { roles: &options.roles, settings: &DURABLE };
    let summary = prepared.manifest.summary();
    match private::run(&restored.plan, summary, &scratch, &how, progress) {
        Ok(private) => {
            attempt.measured.first_query_s = Some(began.elapsed().as_secs_f64());
            reached(&mut attempt, &private, &scratch, starting);
            let summary = summary.clone();
            attempt.recovered = Some(Recovered { scratch, connect: private.connect, summary });
            Ok(attempt)
        }
        Err(error) => match blame::of_private(&error) {
            Some(blame) => Ok(attempt.failed(blame, starting)),
            None => Err(DrillError::Private { source: Box::new(error) }),
        },
    }
}

fn blamed(attempt: Attempt, error: RestoreError, since: Instant) -> Result<Attempt, DrillError> {
    match blame::of_restore(&error) {
        Some(blame) => Ok(attempt.failed(blame, since)),
        None => Err(DrillError::Restore { source: Box::new(error) }),
    }
}

fn planned(attempt: &mut Attempt, prepared: &Prepared, since: Instant) {
    let plan = &prepared.plan;
    attempt.source = Some(Source {
        system: plan.system,
        backup: plan.chosen.backup,
        backup_stopped: plan.backup_stopped,
        server_version: plan.server_version,
        target: plan.target.clone(),
        timeline: plan.chosen.timeline,
    });
    attempt.notes.extend(plan.notes.iter().cloned());
    let bytes = Bytes(plan.chosen.replay_bytes);
    attempt.passed(CheckName::Wal, since, format!("at most {bytes} from {} on", plan.chosen.replay_from));
}

fn reached(attempt: &mut Attempt, private: &Private, scratch: &Scratch, since: Instant) {
    let recovery = &private.recovery;
    attempt.measured.recovery_s = Some(recovery.replay_s);
    attempt.measured.reached = recovery.reached;
    attempt.measured.last_commit = recovery.last_commit;
    let log = fs::read(scratch.data().join(START_LOG)).unwrap_or_default();
    attempt.measured.wal = replay::replayed(&String::from_utf8_lossy(&log));
    let at = recovery.reached.map_or_else(String::new, |at| format!("open for writing at {at}"));
    attempt.passed(CheckName::Consistency, since, at);
}

/// A restore of everything into the private directory.
pub(crate) fn restore_options(options: &DrillOptions, request: Request) -> RestoreOptions {
    let place = private::of_this_process(&options.scratch, &PURPOSE);
    RestoreOptions {
        request,
        system: options.system,
        directory: place.join("data"),
        onto: Onto::Empty,
        databases: Vec::new(),
        tablespaces: TablespaceMapping { single: Vec::new(), root: Some(place.join("tablespaces")) },
        external: None,
        archiving: Archiving::Off,
        commands: options.commands.clone(),
        workers: options.workers,
        owner: None,
    }
}

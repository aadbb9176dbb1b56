//! Evidence: what a command has finished becomes a record of the repository's ledger.
//!
//! Only what is durable is recorded, and a ledger that cannot be written is a warning: the work is done all the same.

use crate::args::high::Context;
use jiff::{SignedDuration, Timestamp};
use pgproof_backup::BackupReport;
use pgproof_base::{Progress as _, Severity};
use pgproof_drill::{DrillReport, Verdict};
use pgproof_dump::DumpReport;
use pgproof_pg::SystemIdentifier;
use pgproof_repo::expire::ExpireReport;
use pgproof_repo::ledger::{self, Outcome, Record, RecordKind, Subject, Unit, name};
use pgproof_repo::transfer::{CopyState, LineageCopy};
use pgproof_repo::verify::{LineageReport, VerifyReport};
use pgproof_repo::{Content, Lineage, Repository};
use std::time::Duration;

/// Appends a record.
pub(crate) fn keep(context: &Context, repository: &Repository, lineage: Lineage, record: &Record) {
    if let Err(error) = ledger::append(repository, lineage, record) {
        context.talk.note(&format!("warning: the ledger does not tell of this: {error}"));
    }
}

/// A record of what has just ended.
fn ended_now(kind: RecordKind, elapsed: Duration) -> Record {
    let ended = Timestamp::now();
    let elapsed = SignedDuration::try_from(elapsed).unwrap_or_default();
    Record::new(kind, ended.checked_sub(elapsed).unwrap_or(ended), ended)
}

fn outcome(good: bool) -> Outcome {
    if good { Outcome::Good } else { Outcome::Bad }
}

/// PostgreSQL's version of a `server_version_num`.
pub(crate) fn version(number: u32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

pub(crate) fn of_backup(report: &BackupReport) -> Record {
    let kind = if report.base.is_some() { "incremental" } else { "full" };
    let subject = Subject {
        backup: Some(report.id),
        timeline: Some(report.timeline),
        lsn: Some(report.stop_lsn),
        ..Subject::default()
    };
    ended_now(RecordKind::Backup, report.elapsed)
        .about(subject)
        .measured(name::LOGICAL_BYTES, report.bytes_logical as f64, Unit::Bytes)
        .measured(name::READ_BYTES, report.bytes_read as f64, Unit::Bytes)
        .measured(name::STORED_BYTES, (report.bytes_stored + report.bytes_manifest) as f64, Unit::Bytes)
        .measured(name::FINDINGS, (report.bad_pages.len() + report.unnamed_changes.len()) as f64, Unit::Count)
        .ending(outcome(report.is_reassuring()), format!("{kind} backup {}", report.id))
}

pub(crate) fn of_dump(report: &DumpReport) -> Record {
    ended_now(RecordKind::Dump, report.elapsed)
        .with_postgres(report.program_version)
        .about(Subject { backup: Some(report.id), ..Subject::default() })
        .measured(name::LOGICAL_BYTES, report.bytes as f64, Unit::Bytes)
        .measured(name::STORED_BYTES, report.bytes_stored as f64, Unit::Bytes)
        .ending(Outcome::Good, format!("dump {}", report.id))
}

/// One record for each lineage that was read.
pub(crate) fn of_verify(report: &VerifyReport) -> Vec<(Lineage, Record)> {
    report
        .lineages
        .iter()
        .map(|lineage| (whose(lineage.system, lineage.content), of_lineage(report, lineage)))
        .collect()
}

/// The lineage that a record of this content belongs to.
pub(crate) fn whose(system: SystemIdentifier, content: Content) -> Lineage {
    match content {
        Content::Cluster => Lineage::new(system),
        Content::Dumps => Lineage::dumps(system),
    }
}

fn of_lineage(report: &VerifyReport, lineage: &LineageReport) -> Record {
    let bad = lineage.findings.iter().filter(|found| found.finding.severity > Severity::Info).count();
    let counts = lineage.counts;
    Record::new(RecordKind::Verify, report.began, report.ended)
        .measured(name::OBJECTS, counts.objects as f64, Unit::Count)
        .measured(name::READ_BYTES, counts.bytes.0 as f64, Unit::Bytes)
        .measured("skipped-objects", counts.skipped as f64, Unit::Count)
        .measured(name::FINDINGS, bad as f64, Unit::Count)
        .ending(outcome(bad == 0), format!("{} objects read again, {bad} things wrong", counts.objects))
}

pub(crate) fn of_restore(report: &pgproof_restore::Report) -> Record {
    let plan = &report.plan;
    let started = report.recovery.as_ref();
    let replay_s = started.map_or(0.0, |recovery| recovery.replay_s);
    let reached = started.and_then(|recovery| recovery.reached);
    let subject = Subject {
        backup: Some(plan.chosen.backup),
        timeline: started.and_then(|recovery| recovery.timeline).or(Some(plan.chosen.timeline)),
        lsn: reached,
        instant: started.and_then(|recovery| recovery.last_commit),
        ..Subject::default()
    };
    let damaged = started.is_some_and(|recovery| !recovery.invalid_pages.is_empty());
    let elapsed = Duration::try_from_secs_f64(report.total_s + replay_s).unwrap_or_default();
    let mut record = ended_now(RecordKind::Restore, elapsed)
        .with_postgres(version(plan.server_version))
        .about(subject)
        .measured(name::RESTORE_BYTES, report.placed.work.bytes_written as f64, Unit::Bytes)
        .measured(name::RESTORE_SECONDS, report.total_s, Unit::Seconds);
    if let Some(reached) = reached {
        let replayed = reached.0.saturating_sub(plan.chosen.replay_from.0);
        record = record
            .measured(name::REPLAY_BYTES, replayed as f64, Unit::Bytes)
            .measured(name::REPLAY_SECONDS, replay_s, Unit::Seconds)
            .measured(name::RECOVERY_SECONDS, report.total_s + replay_s, Unit::Seconds);
    }
    record.ending(outcome(!damaged), format!("restored {} to {}", plan.chosen.backup, plan.target))
}

/// A drill's record and the cluster that it is about; none where the repository did not open, and so has no place for it either.
pub(crate) fn of_drill(report: &DrillReport) -> Option<(Lineage, Record)> {
    let source = report.source.as_ref()?;
    let measured = &report.measured;
    let subject = Subject {
        backup: Some(source.backup),
        timeline: Some(source.timeline),
        lsn: measured.reached,
        instant: measured.last_commit,
        ..Subject::default()
    };
    let elapsed = Duration::try_from_secs_f64(report.total_s).unwrap_or_default();
    // Without the primary's own last heartbeat only the bound is known.
    let loss = measured.data_loss.map(|loss| loss.lost_s.unwrap_or(loss.at_most_s));
    let wal = measured.wal.as_ref();
    let numbers = [
        (name::RESTORE_BYTES, measured.bytes_restored.map(|bytes| bytes as f64), Unit::Bytes),
        (name::RESTORE_SECONDS, measured.restore_s, Unit::Seconds),
        (name::REPLAY_BYTES, wal.map(|wal| wal.bytes as f64), Unit::Bytes),
        (name::REPLAY_SECONDS, wal.map(|wal| wal.elapsed_s), Unit::Seconds),
        (name::FIRST_QUERY, measured.first_query_s, Unit::Seconds),
        // A drill restores in full, so its first query comes when all is recovered.
        (name::RECOVERY_SECONDS, measured.first_query_s, Unit::Seconds),
        (name::DATA_LOSS, loss, Unit::Seconds),
    ];
    let mut record =
        ended_now(RecordKind::Drill, elapsed).with_postgres(version(source.server_version)).about(subject);
    for (name, value, unit) in numbers {
        if let Some(value) = value {
            record = record.measured(name, value, unit);
        }
    }
    for check in &report.checks {
        let verdict = match check.verdict {
            Verdict::Passed => ledger::Verdict::Passed,
            Verdict::Failed => ledger::Verdict::Failed,
            Verdict::NotDone => ledger::Verdict::Skipped,
        };
        let told = ledger::Check::new(check.check.name(), verdict, (check.elapsed_s * 1000.0) as u64);
        record = record.checked(told.saying(&check.covered));
    }
    let summary = match &report.culprit {
        None => format!("recovered {} to {}", source.backup, source.target),
        Some(culprit) => format!("{} failed: {}", culprit.check, culprit.seen),
    };
    Some((Lineage::new(source.system), record.ending(outcome(report.passed()), summary)))
}

pub(crate) fn of_expire(report: &ExpireReport, elapsed: Duration) -> Record {
    let (swept, segments) = (report.swept.len(), report.segments);
    ended_now(RecordKind::Expire, elapsed)
        .measured(name::BACKUPS, swept as f64, Unit::Count)
        .measured(name::SEGMENTS, segments as f64, Unit::Count)
        .measured("freed-bytes", report.bytes.0 as f64, Unit::Bytes)
        .ending(Outcome::Good, format!("{swept} backups and {segments} WAL segments removed"))
}

pub(crate) fn of_copy(report: &LineageCopy, from: &str, elapsed: Duration) -> Record {
    let copied = report.backups.iter().filter(|backup| backup.state == CopyState::Copied).count();
    let whole = report.problems.is_empty() && report.backups.iter().all(|b| b.state != CopyState::Left);
    ended_now(RecordKind::Copy, elapsed)
        .about(Subject { name: Some(from.to_owned()), ..Subject::default() })
        .measured(name::BACKUPS, copied as f64, Unit::Count)
        .measured(name::SEGMENTS, report.segments as f64, Unit::Count)
        .ending(outcome(whole), format!("{copied} backups copied from {from}"))
}

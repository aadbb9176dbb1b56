//! Compares what was stated with what was measured. Pure: now is part of the observation.
//!
//! An objective that nothing proves is not kept: it is unproven, and the exit code says so.

use super::observe::{NewestBackup, Observation, Told};
use crate::config::ObjectivesConfig;
use jiff::Timestamp;
use pgproof_base::{Bytes, Remedy};
use pgproof_pg::SystemIdentifier;
use pgproof_repo::ledger::{Flaw, Outcome, RecordKind, name};
use pgproof_repo::walset::RecoveryWindow;
use serde::Serialize;
use std::time::Duration;

/// Whether an objective is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Kept,
    Broken,
    /// Nothing was measured.
    Unproven,
}

/// One objective.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Line {
    /// Its name in the configuration.
    pub(crate) objective: &'static str,
    pub(crate) wanted_s: u64,
    pub(crate) verdict: Verdict,
    /// The number it was compared with.
    pub(crate) measured_s: Option<f64>,
    /// When that was measured, by the store's clock.
    pub(crate) at: Option<Timestamp>,
    /// By what.
    pub(crate) by: String,
    pub(crate) remedies: Vec<Remedy>,
}

/// What a recovery to the end of the archive would take today, from measured rates.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Estimate {
    pub(crate) restore_s: Option<f64>,
    pub(crate) replay_s: Option<f64>,
    /// Both, where both are known.
    pub(crate) total_s: Option<f64>,
    /// Bytes of the newest backup's cluster.
    pub(crate) logical_bytes: u64,
    /// Bytes of WAL behind the newest backup.
    pub(crate) wal_bytes: u64,
    /// The WAL behind the newest backup from which on `rto` cannot be kept; zero when restoring alone takes longer.
    pub(crate) wal_bytes_max: Option<u64>,
    /// The size of the cluster from which on `restore_rto` cannot be kept.
    pub(crate) logical_bytes_max: Option<u64>,
}

/// The screen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Status {
    pub(crate) at: Timestamp,
    pub(crate) repository: String,
    pub(crate) system: Option<SystemIdentifier>,
    pub(crate) objectives: Vec<Line>,
    pub(crate) windows: Vec<RecoveryWindow>,
    pub(crate) estimate: Option<Estimate>,
    pub(crate) running: Vec<String>,
    /// What does not fit in the ledger.
    pub(crate) ledger_flaws: Vec<Flaw>,
}

impl Status {
    /// Whether every objective is kept by evidence that can be believed.
    pub(crate) fn is_kept(&self) -> bool {
        self.ledger_flaws.is_empty() && self.objectives.iter().all(|line| line.verdict == Verdict::Kept)
    }
}

/// Judges.
pub(crate) fn judge(seen: Observation, stated: &ObjectivesConfig) -> Status {
    let rates = Rates::of(&seen.told);
    let estimate = seen.newest.as_ref().map(|newest| estimate(newest, &rates, stated));
    let mut objectives = Vec::new();
    let mut add = |wanted: Option<Duration>, judged: &dyn Fn(Duration) -> Line| {
        objectives.extend(wanted.map(judged));
    };
    add(stated.rpo, &|wanted| rpo(&seen, wanted));
    add(stated.rto, &|wanted| rto(&seen, estimate.as_ref(), wanted));
    add(stated.restore_rto, &|wanted| restore_rto(&seen, estimate.as_ref(), wanted));
    add(stated.backup_max_age, &|wanted| backup_age(&seen, wanted));
    add(stated.verify_every, &|wanted| {
        let remedy = Remedy::safe("Read the repository again", "pgproof verify");
        every("verify_every", RecordKind::Verify, &seen, wanted, remedy)
    });
    add(stated.drill_every, &|wanted| {
        let remedy = Remedy::safe("Rehearse a recovery", "pgproof drill");
        every("drill_every", RecordKind::Drill, &seen, wanted, remedy)
    });
    Status {
        at: seen.now,
        repository: seen.repository,
        system: seen.system,
        objectives,
        windows: seen.windows,
        estimate,
        running: seen.running,
        ledger_flaws: seen.flaws,
    }
}

/// Compares a number with what is wanted; without one nothing is proven.
fn line(
    objective: &'static str,
    wanted: Duration,
    measured: Option<(f64, Option<Timestamp>)>,
    by: String,
    remedy: Remedy,
) -> Line {
    let verdict = match measured {
        None => Verdict::Unproven,
        Some((seconds, _)) if seconds <= wanted.as_secs_f64() => Verdict::Kept,
        Some(_) => Verdict::Broken,
    };
    Line {
        objective,
        wanted_s: wanted.as_secs(),
        verdict,
        measured_s: measured.map(|(seconds, _)| seconds),
        at: measured.and_then(|(_, at)| at),
        by,
        remedies: if verdict == Verdict::Kept { Vec::new() } else { vec![remedy] },
    }
}

fn age_s(now: Timestamp, at: Timestamp) -> f64 {
    now.duration_since(at).as_secs_f64().max(0.0)
}

/// What would be lost if the server's disk were lost now is at most what was written since the archive last grew. A drill that measured more
/// is believed instead.
fn rpo(seen: &Observation, wanted: Duration) -> Line {
    let silent = seen.last_wal.map(|at| (age_s(seen.now, at), Some(at)));
    let drilled = last(seen, |told| told.record.measurement(name::DATA_LOSS).is_some());
    let lost = drilled.and_then(|told| Some((told.record.measurement(name::DATA_LOSS)?, Some(told.at))));
    let by_archive = "at most: since the archive last grew".to_owned();
    let (measured, by) = match (silent, lost) {
        (Some(silent), Some(lost)) if lost.0 > silent.0 => (Some(lost), "the newest drill".to_owned()),
        (None, _) => (None, "no WAL is archived".to_owned()),
        (silent, _) => (silent, by_archive),
    };
    let remedy = Remedy::safe(
        "Look where WAL waits; archive_timeout must be shorter than rpo",
        "pgproof archive status",
    );
    line("rpo", wanted, measured, by, remedy)
}

/// The worse of what was measured last and what today's size and WAL would take at measured rates.
fn rto(seen: &Observation, estimate: Option<&Estimate>, wanted: Duration) -> Line {
    let remedy = rehearse(estimate.and_then(|estimate| estimate.wal_bytes_max));
    slower(
        "rto",
        name::RECOVERY_SECONDS,
        estimate.and_then(|estimate| estimate.total_s),
        seen,
        wanted,
        remedy,
    )
}

fn restore_rto(seen: &Observation, estimate: Option<&Estimate>, wanted: Duration) -> Line {
    let remedy = rehearse(None);
    slower(
        "restore_rto",
        name::RESTORE_SECONDS,
        estimate.and_then(|estimate| estimate.restore_s),
        seen,
        wanted,
        remedy,
    )
}

fn rehearse(wal_bytes_max: Option<u64>) -> Remedy {
    match wal_bytes_max {
        Some(0) | None => {
            Remedy::safe("Measure a recovery of today's size, and make it faster", "pgproof drill --full")
        }
        Some(max) => {
            let what = format!("Take a backup before {} of WAL lie behind the newest one", Bytes(max));
            Remedy::safe(what, "pgproof backup")
        }
    }
}

fn slower(
    objective: &'static str,
    measurement: &'static str,
    today: Option<f64>,
    seen: &Observation,
    wanted: Duration,
    remedy: Remedy,
) -> Line {
    let newest = last(seen, |told| told.record.measurement(measurement).is_some());
    let measured = newest.and_then(|told| Some((told.record.measurement(measurement)?, Some(told.at))));
    let kind = newest.map(|told| told.record.kind.to_string()).unwrap_or_default();
    match (measured, today) {
        (Some((seconds, at)), Some(today)) if today > seconds => line(
            objective,
            wanted,
            Some((today, at)),
            "estimate for today from measured rates".to_owned(),
            remedy,
        ),
        (Some(measured), _) => line(objective, wanted, Some(measured), format!("the newest {kind}"), remedy),
        (None, Some(today)) => line(
            objective,
            wanted,
            Some((today, None)),
            "estimate for today from measured rates".to_owned(),
            remedy,
        ),
        (None, None) => line(objective, wanted, None, "no recovery was measured".to_owned(), remedy),
    }
}

fn backup_age(seen: &Observation, wanted: Duration) -> Line {
    let measured = seen.newest.as_ref().map(|newest| (age_s(seen.now, newest.stopped), Some(newest.stopped)));
    let by = match &seen.newest {
        Some(newest) => format!("backup {}", newest.id),
        None => "there is no good backup".to_owned(),
    };
    line("backup_max_age", wanted, measured, by, Remedy::safe("Take a backup", "pgproof backup"))
}

/// What is to be done regularly: the age of the last time that it was done with a good answer. What came out bad since proves the opposite.
fn every(
    objective: &'static str,
    kind: RecordKind,
    seen: &Observation,
    wanted: Duration,
    remedy: Remedy,
) -> Line {
    let newest = last(seen, |told| told.record.kind == kind);
    let good = last(seen, |told| told.record.kind == kind && told.record.outcome == Outcome::Good);
    let measured = good.map(|told| (age_s(seen.now, told.at), Some(told.at)));
    let by = match (newest, good) {
        (None, _) => format!("no {kind} is on record"),
        (Some(newest), _) if newest.record.outcome != Outcome::Good => {
            let summary = &newest.record.summary;
            let by = format!("the newest {kind} of {} ended badly: {summary}", newest.record.by.host);
            let broken = line(objective, wanted, measured, by, remedy.clone());
            return Line { verdict: Verdict::Broken, remedies: vec![remedy], ..broken };
        }
        (Some(newest), _) => format!("{kind} by {}", newest.record.by.host),
    };
    line(objective, wanted, measured, by, remedy)
}

/// The newest record that fits.
fn last(seen: &Observation, fits: impl Fn(&Told) -> bool) -> Option<&Told> {
    seen.told.iter().rev().find(|told| fits(told))
}

/// Less than a segment of WAL is replayed in the time that the server takes to ask for it: that is no rate.
const REPLAY_BYTES_MIN: f64 = 16_777_216.0;

/// Bytes per second, as last measured.
#[derive(Debug, Default)]
struct Rates {
    restore: Option<f64>,
    replay: Option<f64>,
}

impl Rates {
    fn of(told: &[Told]) -> Self {
        let newest = |bytes: &str, seconds: &str, bytes_min: f64| {
            told.iter().rev().find_map(|told| {
                let (bytes, seconds) = (told.record.measurement(bytes)?, told.record.measurement(seconds)?);
                // Less than a millisecond tells no rate.
                (bytes >= bytes_min && seconds > 0.001).then_some(bytes / seconds)
            })
        };
        Self {
            restore: newest(name::RESTORE_BYTES, name::RESTORE_SECONDS, 1.0),
            replay: newest(name::REPLAY_BYTES, name::REPLAY_SECONDS, REPLAY_BYTES_MIN),
        }
    }
}

fn estimate(newest: &NewestBackup, rates: &Rates, stated: &ObjectivesConfig) -> Estimate {
    let restore_s = rates.restore.map(|rate| newest.logical_bytes as f64 / rate);
    let replay_s = rates.replay.map(|rate| newest.wal_bytes as f64 / rate);
    let left_s = stated.rto.zip(restore_s).map(|(rto, restore_s)| (rto.as_secs_f64() - restore_s).max(0.0));
    Estimate {
        restore_s,
        replay_s,
        total_s: restore_s.zip(replay_s).map(|(restore_s, replay_s)| restore_s + replay_s),
        logical_bytes: newest.logical_bytes,
        wal_bytes: newest.wal_bytes,
        wal_bytes_max: left_s.zip(rates.replay).map(|(left_s, rate)| (left_s * rate) as u64),
        logical_bytes_max: stated
            .restore_rto
            .zip(rates.restore)
            .map(|(limit, rate)| (limit.as_secs_f64() * rate) as u64),
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;

//! Chooses the backup, the timeline and the way through the WAL for a target. Pure.
//!
//! What can be reached is `pgproof_repo::walset`'s answer; here is what a person means by it. A backup that failed its own page
//! checks is taken only when no sound one leads to the target, or when it is named. The end of the archive counts as "latest" only
//! if nothing lies behind it: PostgreSQL would take a missing segment for the end, promote, and lose what follows without a word.

use crate::error::{Refusal, RestoreError, Result};
use crate::settings::{Edge, RecoveryTarget};
use crate::time::show_time;
use jiff::Timestamp;
use pgproof_pg::{Lsn, SegmentName, SystemIdentifier, TimelineId};
use pgproof_repo::BackupId;
use pgproof_repo::walset::{BackupSpan, Choice, Lookup, Target, Unreachable, WalSet, choose_backup};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Which timeline to recover along.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimelineChoice {
    /// The newest one that a backup leads to.
    #[default]
    Latest,
    /// The one on which the backup was taken.
    Current,
    /// This one.
    Number(TimelineId),
}

/// What to do when WAL goes on behind a missing segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapRule {
    /// Refuse.
    #[default]
    Refuse,
    /// Stop before the gap.
    Accept,
}

/// What a person asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Request {
    /// Where recovery is to stop.
    pub target: RecoveryTarget,
    /// Along which timeline.
    pub timeline: TimelineChoice,
    /// From this backup, instead of the best one.
    pub backup: Option<BackupId>,
    /// Whether "latest" may end at a gap.
    pub gap: GapRule,
}

/// Whether a backup is the best it could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Soundness {
    /// It passed its checks.
    Sound,
    /// Pages failed their checksum when it was taken.
    FailedChecks,
}

/// What choosing needs to know of a published backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Where it lies in the WAL.
    pub span: BackupSpan,
    /// Whether it passed its checks.
    pub soundness: Soundness,
    /// Whether it is marked for removal.
    pub expired: bool,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chosen {
    /// The backup.
    pub backup: BackupId,
    /// Why this one.
    pub why: String,
    /// The timeline to recover along.
    pub timeline: TimelineId,
    /// The first position to replay.
    pub replay_from: Lsn,
    /// The first segment to replay.
    pub first_segment: SegmentName,
    /// The segment in which the target lies, or the last there is.
    pub last_segment: SegmentName,
    /// Positions to replay at most, in bytes.
    pub replay_bytes: u64,
    /// Other backups that lead to the target too, newest first.
    pub others: Vec<BackupId>,
    /// What a person should know of the choice.
    pub notes: Vec<String>,
}

/// The archive as far as choosing needs it.
#[derive(Debug)]
pub struct Archive<'a> {
    /// The cluster.
    pub system: SystemIdentifier,
    /// Its published backups in any order.
    pub backups: &'a [Candidate],
    /// Its WAL.
    pub wal: &'a WalSet,
}

/// Chooses, or says why nothing can be chosen. `lookup` answers for a few segments what happened in them.
///
/// # Errors
/// [`RestoreError::Refused`] for a request that cannot be fulfilled, and the errors of `lookup`.
pub fn choose(
    archive: &Archive<'_>,
    request: &Request,
    now: Timestamp,
    lookup: &mut Lookup<'_, RestoreError>,
) -> Result<Chosen> {
    let candidates = admitted(archive, request)?;
    if let Target::Time(time) = request.target.stop
        && time > now
    {
        return Err(Refusal::InTheFuture { time, now }.into());
    }
    let mut refusal = None;
    for timeline in timelines(archive, request, &candidates)? {
        let on_timeline = candidates.iter().filter(|candidate| {
            request.timeline != TimelineChoice::Current || candidate.span.timeline == timeline
        });
        let on_timeline: Vec<&Candidate> = on_timeline.copied().collect();
        match choose_on(archive, request, timeline, &on_timeline, lookup)? {
            Ok(chosen) => return Ok(chosen),
            Err(found) => refusal = refusal.or(Some((timeline, found))),
        }
    }
    let (timeline, found) = refusal.ok_or(Refusal::NoBackup { system: archive.system })?;
    let elsewhere = match request.timeline {
        TimelineChoice::Number(_) | TimelineChoice::Latest => {
            elsewhere(archive, request, timeline, &candidates, lookup)?
        }
        TimelineChoice::Current => Vec::new(),
    };
    let target = describe_target(&request.target);
    Err(Refusal::Unreachable { target, timeline, found, elsewhere }.into())
}

/// The target as a person says it.
pub fn describe_target(target: &RecoveryTarget) -> String {
    let before = if target.edge == Edge::Exclusive { "just before " } else { "" };
    match &target.stop {
        Target::Latest => "the latest instant".to_owned(),
        Target::Immediate => "the end of the backup".to_owned(),
        Target::Time(at) => format!("{before}{}", show_time(*at)),
        Target::Lsn(lsn) => format!("{before}LSN {lsn}"),
        Target::Xid(xid) => format!("{before}transaction {xid}"),
        Target::Name(name) => format!("restore point `{name}`"),
    }
}

fn admitted<'a>(archive: &Archive<'a>, request: &Request) -> Result<Vec<&'a Candidate>> {
    if let Some(backup) = request.backup {
        let found = archive.backups.iter().find(|candidate| candidate.span.backup == backup);
        return match found {
            None => Err(Refusal::UnknownBackup { backup }.into()),
            Some(candidate) if candidate.expired => Err(Refusal::Expired { backup }.into()),
            Some(candidate) => Ok(vec![candidate]),
        };
    }
    let candidates: Vec<&Candidate> = archive.backups.iter().filter(|candidate| !candidate.expired).collect();
    if candidates.is_empty() {
        return Err(Refusal::NoBackup { system: archive.system }.into());
    }
    Ok(candidates)
}

/// The timelines to try, in order.
fn timelines(
    archive: &Archive<'_>,
    request: &Request,
    candidates: &[&Candidate],
) -> Result<Vec<TimelineId>, Refusal> {
    match request.timeline {
        TimelineChoice::Number(timeline) => {
            let known = known_timelines(archive);
            match known.contains(&timeline) {
                true => Ok(vec![timeline]),
                false => Err(Refusal::UnknownTimeline { timeline, known: known.into_iter().collect() }),
            }
        }
        TimelineChoice::Latest => {
            let newest = known_timelines(archive).into_iter().rev();
            Ok(newest.filter(|&timeline| leads_to(archive.wal, candidates, timeline)).take(1).collect())
        }
        TimelineChoice::Current => {
            let mut newest: Vec<&Candidate> = candidates.to_vec();
            newest.sort_by_key(|candidate| std::cmp::Reverse(candidate.span.stopped));
            let mut order: Vec<TimelineId> = Vec::new();
            for candidate in newest {
                if !order.contains(&candidate.span.timeline) {
                    order.push(candidate.span.timeline);
                }
            }
            Ok(order)
        }
    }
}

fn known_timelines(archive: &Archive<'_>) -> BTreeSet<TimelineId> {
    let mut known = archive.wal.timelines();
    known.extend(archive.backups.iter().map(|candidate| candidate.span.timeline));
    known
}

fn leads_to(wal: &WalSet, candidates: &[&Candidate], timeline: TimelineId) -> bool {
    let history = wal.history(timeline);
    candidates.iter().any(|candidate| history.contains(candidate.span.timeline, candidate.span.stop))
}

/// Other timelines on which the target can be reached.
fn elsewhere(
    archive: &Archive<'_>,
    request: &Request,
    tried: TimelineId,
    candidates: &[&Candidate],
    lookup: &mut Lookup<'_, RestoreError>,
) -> Result<Vec<TimelineId>> {
    let spans: Vec<BackupSpan> = candidates.iter().map(|candidate| candidate.span.clone()).collect();
    let mut reached = Vec::new();
    for timeline in known_timelines(archive).into_iter().rev().filter(|&timeline| timeline != tried) {
        let choice = choose_backup(&request.target.stop, timeline, &spans, archive.wal, lookup)?;
        if matches!(choice, Choice::Backup { .. }) {
            reached.push(timeline);
        }
    }
    Ok(reached)
}

/// Chooses on one timeline; the inner error is why the target is not reached on it.
fn choose_on(
    archive: &Archive<'_>,
    request: &Request,
    timeline: TimelineId,
    candidates: &[&Candidate],
    lookup: &mut Lookup<'_, RestoreError>,
) -> Result<Result<Chosen, Unreachable>> {
    let stop = &request.target.stop;
    let sound = candidates.iter().filter(|candidate| candidate.soundness == Soundness::Sound);
    let sound: Vec<BackupSpan> = sound.map(|candidate| candidate.span.clone()).collect();
    let all: Vec<BackupSpan> = candidates.iter().map(|candidate| candidate.span.clone()).collect();
    let mut notes = Vec::new();
    let mut spans = sound;
    let mut choice = choose_backup(stop, timeline, &spans, archive.wal, lookup)?;
    if matches!(choice, Choice::None(_)) && spans.len() < all.len() {
        spans = all;
        choice = choose_backup(stop, timeline, &spans, archive.wal, lookup)?;
        notes.push(
            "pages of this backup failed their checksum when it was taken; see `pgproof show`".to_owned(),
        );
    }
    let (index, segment) = match choice {
        Choice::Backup { index, segment } => (index, segment),
        Choice::None(found) => return Ok(Err(found)),
    };
    let span = &spans[index];
    let way = way(archive.wal, stop, timeline, span, segment);
    if *stop == Target::Latest {
        check_gap(archive.wal, timeline, span, request.gap, &mut notes)?;
    }
    let others = older_ones(archive.wal, timeline, &spans, span);
    let why = match request.backup {
        Some(_) => "it was asked for".to_owned(),
        None => format!("the newest backup from which {} can be reached", describe_target(&request.target)),
    };
    Ok(Ok(Chosen {
        backup: span.backup,
        why,
        timeline,
        replay_from: span.start,
        first_segment: way.first,
        last_segment: way.last,
        replay_bytes: way.end.bytes_since(span.start),
        others,
        notes,
    }))
}

struct Way {
    first: SegmentName,
    last: SegmentName,
    end: Lsn,
}

/// The segments to replay.
fn way(
    wal: &WalSet,
    stop: &Target,
    timeline: TimelineId,
    span: &BackupSpan,
    segment: Option<SegmentName>,
) -> Way {
    let size = wal.segment_size();
    let history = wal.history(timeline);
    let name = |lsn: Lsn| {
        let number = lsn.previous_segment(size);
        wal.find(&history, number).unwrap_or_else(|| history.segment_name(number, size))
    };
    let last = match (segment, stop) {
        (Some(segment), _) if segment.end(size) >= span.stop => segment,
        (None, Target::Latest) => name(wal.unbroken(&history, span.start).end),
        _ => name(span.stop),
    };
    let first = name(span.start.plus(1));
    Way { first, last, end: last.end(size).max(span.stop) }
}

fn check_gap(
    wal: &WalSet,
    timeline: TimelineId,
    span: &BackupSpan,
    rule: GapRule,
    notes: &mut Vec<String>,
) -> Result<(), Refusal> {
    let history = wal.history(timeline);
    let reach = wal.unbroken(&history, span.start);
    let goes_on = wal.last_of(timeline).is_some_and(|last| last.number > reach.missing.number);
    if !goes_on {
        return Ok(());
    }
    let segment = reach.missing.file_name(wal.segment_size());
    match rule {
        GapRule::Refuse => Err(Refusal::Gap { segment, reachable: reach.end }),
        GapRule::Accept => {
            notes.push(format!("recovery ends at {}, before the missing segment {segment}", reach.end));
            Ok(())
        }
    }
}

/// Older backups on the path with unbroken WAL up to the chosen one: what it reaches, they reach.
fn older_ones(
    wal: &WalSet,
    timeline: TimelineId,
    spans: &[BackupSpan],
    chosen: &BackupSpan,
) -> Vec<BackupId> {
    let history = wal.history(timeline);
    let mut others: Vec<&BackupSpan> = spans
        .iter()
        .filter(|span| span.stop < chosen.stop && history.contains(span.timeline, span.stop))
        .filter(|span| wal.unbroken(&history, span.start).end >= chosen.stop)
        .collect();
    others.sort_by_key(|span| std::cmp::Reverse(span.stop));
    others.iter().map(|span| span.backup).collect()
}

#[cfg(test)]
mod tests;

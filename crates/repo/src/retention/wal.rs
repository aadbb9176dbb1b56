//! Which WAL stays: what the kept backups, running backups and readers need along their timelines, and everything later.
//!
//! A segment is let go of only when it is known that nothing kept leads through it. A timeline without its history file may be the
//! present one, so it is treated with suspicion: only what lies before every kept position goes.

use super::{BackupFacts, RetentionPolicy};
use crate::BackupId;
use crate::walset::{Run, WalSet};
use jiff::Timestamp;
use pgproof_pg::{Lsn, SegmentName, SegmentNumber, TimelineId};
use serde::Serialize;
use std::collections::BTreeSet;

/// How far the WAL behind a need matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WalKeep {
    /// Everything later: any instant after it is to be reachable.
    Onward,
    /// Only up to this position, which makes a backup consistent.
    UpTo(Lsn),
}

/// Something that needs WAL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WalNeed {
    /// The timeline on which it begins.
    pub timeline: TimelineId,
    /// The first position needed.
    pub from: Lsn,
    /// How far.
    pub keep: WalKeep,
    /// The backup, for the explanation; `None` for a running backup or reader.
    pub backup: Option<BackupId>,
}

/// What goes of the WAL of one lineage, and why the rest stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WalPlan {
    /// Segments that go, as runs.
    pub remove: Vec<Run>,
    /// For each timeline the first segment that stays, with the reason as a sentence.
    pub kept_from: Vec<WalKept>,
    /// Why nothing goes, when nothing does although WAL is there.
    pub note: Option<String>,
}

/// Where the WAL that stays begins on one timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WalKept {
    /// The timeline.
    pub timeline: TimelineId,
    /// The file name of the first segment that stays.
    pub segment: String,
    /// Why it stays.
    pub why: String,
}

/// What the backups of one lineage need that will still be there. With `wal_within`, those that are not needed to reach every instant
/// of that time keep only the WAL that makes them consistent; the newest one before that time is where it begins.
pub fn wal_needs(policy: &RetentionPolicy, staying: &[&BackupFacts], now: Timestamp) -> Vec<WalNeed> {
    let since = policy.wal_within.map(|within| now.saturating_sub(within).unwrap_or(Timestamp::MIN));
    let before = |since: Timestamp| staying.iter().filter(move |b| b.good && b.stopped <= since);
    let first = since.map(|since| before(since).map(|b| b.stopped).max().unwrap_or(Timestamp::MIN));
    let need = |backup: &&BackupFacts| WalNeed {
        timeline: backup.timeline,
        from: backup.start,
        keep: match first {
            Some(first) if backup.stopped < first => WalKeep::UpTo(backup.stop),
            _ => WalKeep::Onward,
        },
        backup: Some(backup.backup),
    };
    staying.iter().map(need).collect()
}

/// Decides which segments of `wal` go, given everything that needs WAL. Without any need all of it stays: a lineage whose first
/// backup is still to come must not lose what that backup's predecessor may have left.
pub fn wal_plan(needs: &[WalNeed], wal: &WalSet) -> WalPlan {
    if needs.is_empty() {
        let note = "no backup is kept, so which WAL is needed is not known and all of it stays";
        return WalPlan { note: (!wal.is_empty()).then(|| note.to_owned()), ..WalPlan::default() };
    }
    let mut plan = WalPlan::default();
    for timeline in wal.runs().map(|run| run.timeline).collect::<BTreeSet<_>>() {
        let keep = keep_on(timeline, needs, wal);
        plan_timeline(timeline, &keep, wal, &mut plan);
    }
    plan
}

/// The segment numbers of one timeline that stay: some ranges, and everything from a number on.
#[derive(Debug, Default)]
struct KeepOn {
    ranges: Vec<(SegmentNumber, SegmentNumber)>,
    onward: Option<(SegmentNumber, String)>,
}

fn keep_on(timeline: TimelineId, needs: &[WalNeed], wal: &WalSet) -> KeepOn {
    let mut keep = KeepOn::default();
    for need in needs {
        for (from, end) in reached_on(timeline, need, wal) {
            let first = from.segment(wal.segment_size());
            match end {
                // The end of a backup's WAL: the segment that holds the byte before it is the last one needed.
                Some(end) => keep.ranges.push((first, end.previous_segment(wal.segment_size()).max(first))),
                None => lower(&mut keep.onward, first, || why(need)),
            }
        }
    }
    if keep.onward.is_none() {
        keep_out_of_doubt(timeline, needs, wal, &mut keep);
    }
    keep
}

fn lower(onward: &mut Option<(SegmentNumber, String)>, first: SegmentNumber, why: impl FnOnce() -> String) {
    if onward.as_ref().is_none_or(|(present, _)| first < *present) {
        *onward = Some((first, why()));
    }
}

fn why(need: &WalNeed) -> String {
    match need.backup {
        Some(backup) => format!("backup {backup} starts at {}", need.from),
        None => format!("a running backup or reader needs WAL from {}", need.from),
    }
}

/// The positions of `timeline` that `need` leads to, over every known history: from, and to where it ends (`None`: onward).
fn reached_on(timeline: TimelineId, need: &WalNeed, wal: &WalSet) -> Vec<(Lsn, Option<Lsn>)> {
    let end = match need.keep {
        WalKeep::Onward => None,
        WalKeep::UpTo(end) => Some(end),
    };
    if timeline == need.timeline {
        return vec![(need.from, end)];
    }
    let history = wal.history(timeline);
    // A descendant: from where it begins, and only if the need lies before the switch that leads to it.
    if history.switch_of(need.timeline).is_some_and(|switch| need.from <= switch) {
        let begin = history.begin_of(timeline).unwrap_or(Lsn::INVALID).max(need.from);
        return match end {
            // A backup that ran across a promotion ends on the new timeline's positions.
            Some(end) if end > begin => vec![(begin, Some(end))],
            Some(_) => Vec::new(),
            None => vec![(begin, None)],
        };
    }
    // An ancestor: a need that lies before the switch to its own timeline reads the ancestor's segments too.
    let own = wal.history(need.timeline);
    match (own.begin_of(timeline), own.switch_of(timeline)) {
        (Some(begin), Some(switch)) if need.from < switch => {
            vec![(need.from.max(begin), Some(end.map_or(switch, |end| end.min(switch))))]
        }
        _ => Vec::new(),
    }
}

/// A timeline that nothing kept leads to. It is an abandoned branch when a kept timeline is newer and its history is known. Otherwise
/// it may be where the cluster lives now, and only what lies before every kept position goes.
fn keep_out_of_doubt(timeline: TimelineId, needs: &[WalNeed], wal: &WalSet, keep: &mut KeepOn) {
    let newest = needs.iter().map(|need| need.timeline).max();
    let older_than_all = needs.iter().all(|need| timeline < need.timeline);
    let abandoned =
        wal.knows_history(timeline) && newest.is_some_and(|newest| timeline < newest) && older_than_all;
    if abandoned {
        return;
    }
    if let Some(first) = needs.iter().map(|need| need.from).min() {
        let first = first.segment(wal.segment_size());
        let why =
            || format!("nothing kept is known to lead to timeline {timeline}, but it may be the present one");
        lower(&mut keep.onward, first, why);
    }
}

fn plan_timeline(timeline: TimelineId, keep: &KeepOn, wal: &WalSet, plan: &mut WalPlan) {
    let mut first_kept = None;
    let mut removed: Vec<Run> = Vec::new();
    for run in wal.runs_of(timeline) {
        for segment in run.segments() {
            let number = segment.number;
            if keep.onward.as_ref().is_some_and(|(first, _)| number >= *first) {
                first_kept.get_or_insert(number);
                break;
            }
            if keep.ranges.iter().any(|(first, last)| (*first..=*last).contains(&number)) {
                first_kept.get_or_insert(number);
                continue;
            }
            match removed.last_mut() {
                Some(last) if last.last.next() == number => last.last = number,
                _ => removed.push(Run { timeline, first: number, last: number }),
            }
        }
    }
    plan.remove.extend(removed);
    if let Some(number) = first_kept {
        let segment = SegmentName::new(timeline, number).file_name(wal.segment_size());
        let onward = keep.onward.as_ref().filter(|(first, _)| number >= *first).map(|(_, why)| why.clone());
        let why = onward.unwrap_or_else(|| "kept backups need it to be consistent".to_owned());
        plan.kept_from.push(WalKept { timeline, segment, why });
    }
}

#[cfg(test)]
#[path = "wal_tests.rs"]
mod tests;

//! What is missing from the WAL, told by names alone.

use super::hurts::{of_segment, reads};
use super::report::{HurtWindow, Hurts, VerifyFinding};
use super::verified::Known;
use crate::catalog::LineageCatalog;
use crate::walset::{RecoveryWindows, Run, WalSet};
use pgproof_base::{Finding, Remedy, Severity};
use pgproof_pg::{ArchiveName, SegmentName, TimelineId, WalSegmentSize};

/// Gaps, backups without their WAL, timelines without a history, and what an earlier verification saw and is gone.
pub(super) fn judge(
    catalog: &LineageCatalog,
    windows: &RecoveryWindows,
    known: &Known,
) -> Vec<VerifyFinding> {
    let mut findings: Vec<VerifyFinding> = windows
        .broken
        .iter()
        .map(|broken| {
            let size = catalog.wal_set().map_or(WalSegmentSize::DEFAULT, WalSet::segment_size);
            let missing = broken.missing.file_name(size);
            let seen = format!("backup {} needs segment {missing}, which is not archived", broken.backup);
            let why = "without it the backup cannot be made consistent: it cannot be restored";
            let remedy = "Archive the segment, if it is still in pg_wal; otherwise take a new backup";
            let finding = Finding::new("verify-backup-without-wal", Severity::Critical, seen, why)
                .with(Remedy::safe(remedy, format!("pgproof archive push pg_wal/{missing}")));
            let object = catalog.lineage.backup(broken.backup).manifest().to_string();
            VerifyFinding { finding, object, hurts: Hurts::backup(broken.backup) }
        })
        .collect();
    if let Some(wal) = catalog.wal_set() {
        findings.extend(wal.gaps().into_iter().map(|gap| gap_finding(catalog, windows, wal, gap)));
        findings.extend(without_history(catalog, wal));
        findings.extend(vanished(catalog, windows, wal, known));
    }
    findings
}

/// Where old backups keep only the WAL that makes them consistent, the rest was let go of on purpose.
pub(crate) fn is_intended(catalog: &LineageCatalog, wal: &WalSet, gap: Run) -> bool {
    let size = wal.segment_size();
    let spans = catalog.spans();
    let follows = spans.iter().any(|span| span.stop.previous_segment(size).next() == gap.first);
    let leads = spans.iter().any(|span| span.start.segment(size) == gap.last.next());
    follows && leads
}

fn gap_finding(catalog: &LineageCatalog, windows: &RecoveryWindows, wal: &WalSet, gap: Run) -> VerifyFinding {
    let size = wal.segment_size();
    let name = |number| SegmentName::new(gap.timeline, number).file_name(size);
    let seen = match gap.count() {
        1 => format!("segment {} is missing between archived ones", name(gap.first)),
        count => format!("{count} segments are missing, {} to {}", name(gap.first), name(gap.last)),
    };
    let object = catalog.lineage.segment(SegmentName::new(gap.timeline, gap.first), size).to_string();
    if is_intended(catalog, wal, gap) {
        let why = "old backups keep only the WAL that makes them consistent";
        let finding = Finding::new("verify-wal-trimmed", Severity::Info, seen, why);
        return VerifyFinding { finding, object, hurts: Hurts::default() };
    }
    let hurt = windows
        .windows
        .iter()
        .filter(|window| window.gap && (gap.first..=gap.last).contains(&window.ended_by.number));
    let windows = hurt.map(|w| HurtWindow { timeline: w.timeline, from: w.from, to: w.to }).collect();
    let why = "no backup from before the gap reaches an instant after it";
    let finding = Finding::new("verify-wal-gap", Severity::Warning, seen, why)
        .with(Remedy::safe(
            "Archive the missing segments, if they are still in pg_wal",
            format!("pgproof archive push pg_wal/{}", name(gap.first)),
        ))
        .with(Remedy::safe("Take a new backup, from which all later instants are reached", "pgproof backup"));
    VerifyFinding { finding, object, hurts: Hurts { windows, ..Hurts::default() } }
}

/// Without its history file, where a timeline left its parent is not known, and PostgreSQL finds no way to it.
fn without_history(catalog: &LineageCatalog, wal: &WalSet) -> Vec<VerifyFinding> {
    let lacking = wal.timelines().into_iter().filter(|&timeline| !wal.knows_history(timeline));
    lacking
        .map(|timeline: TimelineId| {
            let file = timeline.history_file_name();
            let seen = format!("timeline {timeline} has archived WAL, but {file} is missing");
            let why = "backups of earlier timelines cannot be recovered along this one";
            let command = format!("pgproof archive push pg_wal/{file}");
            let finding = Finding::new("verify-history-missing", Severity::Critical, seen, why)
                .with(Remedy::safe("Archive the history file, if it is still in pg_wal", command));
            let object = catalog.lineage.history(timeline).to_string();
            VerifyFinding { finding, object, hurts: Hurts::default() }
        })
        .collect()
}

/// What an earlier verification read, expiry would not have removed, and is gone.
fn vanished(
    catalog: &LineageCatalog,
    windows: &RecoveryWindows,
    wal: &WalSet,
    known: &Known,
) -> Vec<VerifyFinding> {
    let size = wal.segment_size();
    let mut findings = Vec::new();
    for (path, (_, at)) in known {
        let Some(name) = path.rsplit('/').next().and_then(|name| ArchiveName::parse(name).ok()) else {
            continue;
        };
        let (is_gone, hurts) = match &name {
            ArchiveName::Segment(_) => match name.segment(size) {
                Ok(Some(segment)) => {
                    let gone = !wal.contains(segment) && is_needed(catalog, wal, segment);
                    (gone, of_segment(catalog, &windows.windows, segment))
                }
                _ => continue,
            },
            ArchiveName::History(timeline) => (!wal.knows_history(*timeline), Hurts::default()),
            _ => continue,
        };
        if is_gone {
            let seen = format!("{name} was there when it was verified at {at}, and is not any more");
            let why = "no retention rule lets go of it: something else removed it";
            let finding = Finding::new("verify-wal-vanished", Severity::Critical, seen, why)
                .with(Remedy::safe(
                    "Archive it again, if it is still in pg_wal",
                    format!("pgproof archive push pg_wal/{name}"),
                ))
                .with(Remedy::safe("Take a new backup", "pgproof backup"));
            let object = format!("{}/{path}", catalog.lineage.dir());
            findings.push(VerifyFinding { finding, object, hurts });
        }
    }
    findings
}

/// Whether a published backup leads through the segment or beyond it.
fn is_needed(catalog: &LineageCatalog, wal: &WalSet, segment: SegmentName) -> bool {
    catalog.spans().iter().any(|span| {
        span.start < segment.end(wal.segment_size())
            && wal.history(segment.timeline).contains(span.timeline, span.start)
            && reads(wal, segment.timeline, segment)
    })
}

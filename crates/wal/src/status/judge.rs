//! From what was seen to the report: pure, so that each rule is tested from a table of observations. Codes are described in
//! docs/findings.md.

use super::observation::{ArchiveView, Observation, ReceiverView, Seen, ServerView};
use super::report::{Gap, GapState, Position, PositionSource, Receiver, StatusReport};
use pgproof_base::{Bytes, Finding, Remedy, Severity, human_duration, shell_word};
use pgproof_pg::{Lsn, SegmentName, SegmentNumber};
use pgproof_repo::walset::{Run, WalSet};
use std::time::Duration;

/// From this many waiting files on the archiver has fallen behind; ten times as many are a pile.
const WAITING_WARNING: u64 = 10;
const WAITING_CRITICAL: u64 = 100;
/// A file that has waited so long meets an archiver that does not get on: it tries again every minute.
const WAITING_AGE_WARNING_S: u64 = 600;
/// A disk that is full within a day is worth a word, within an hour an alarm.
const FULL_WITHIN_S: u64 = 86_400;
const FULL_SOON_S: u64 = 3600;
/// Commands shown for one gap; the next look shows the next ones.
const COMMANDS_MAX: usize = 32;
/// A tenth of a large disk is plenty.
const ROOM_PLENTY: u64 = 10 << 30;

/// Compares.
pub fn judge(seen: &Observation) -> StatusReport {
    let position = position(seen);
    let mut report = StatusReport {
        system: seen.system,
        position,
        repository: None,
        last_archived: None,
        archived_to: None,
        lag_bytes: None,
        lag_s: None,
        waiting: seen.local.waiting,
        oldest_waiting: seen.local.oldest.clone(),
        wal_room: seen.local.room,
        wal_full_in_s: full_in_s(seen),
        archiver: None,
        receiver: None,
        gaps: Vec::new(),
        findings: Vec::new(),
    };
    match &seen.server {
        Seen::Yes(server) => {
            report.archiver = Some(server.archiver.clone());
            judge_settings(seen, server, &mut report.findings);
            judge_archiver(seen, server, &mut report.findings);
            if let Some(receiver) = &server.receiver {
                let described = describe_receiver(receiver, server.lsn);
                report.findings.extend(judge_receiver(receiver, described.lag_bytes));
                report.receiver = Some(described);
            }
        }
        Seen::No(why) => report.findings.push(unseen_server(seen, why)),
    }
    judge_queue(seen, report.wal_full_in_s, &mut report.findings);
    judge_room(seen, &mut report.findings);
    match &seen.archive {
        Seen::Yes(archive) => compare(seen, archive, &mut report),
        Seen::No(why) => report.findings.push(unseen_repository(seen, why)),
    }
    report
}

fn position(seen: &Observation) -> Position {
    match &seen.server {
        Seen::Yes(server) => {
            let source = if server.in_recovery { PositionSource::Standby } else { PositionSource::Primary };
            Position { timeline: server.timeline, lsn: server.lsn, source }
        }
        Seen::No(_) => Position {
            timeline: seen.checkpoint_timeline,
            lsn: seen.checkpoint,
            source: PositionSource::ControlFile,
        },
    }
}

/// Lag and gaps.
fn compare(seen: &Observation, archive: &ArchiveView, report: &mut StatusReport) {
    let size = seen.segment_size;
    let position = report.position;
    report.repository = Some(archive.place.clone());
    if archive.wal.is_empty() {
        report.findings.push(empty_archive(seen));
        return;
    }
    let last = archive.wal.last_of(position.timeline);
    // A timeline that has archived nothing yet continues where its parent was left.
    let history = archive.wal.history(position.timeline);
    let handed_over = history.ancestors().last().map(|parent| parent.switch);
    let archived_to = last.map(|last| last.end(size)).or(handed_over);
    report.last_archived = last.map(|last| last.file_name(size));
    report.archived_to = archived_to;
    report.lag_bytes = archived_to.map(|to| position.lsn.0.saturating_sub(to.0));
    report.lag_s = report.lag_bytes.and_then(|lag| match (&seen.local.oldest, lag) {
        (Some(oldest), _) => Some(oldest.age_s),
        (None, 0) => Some(0),
        (None, _) => archive.last_stored_age_s,
    });
    let mut runs: Vec<Run> =
        archive.wal.gaps().into_iter().filter(|gap| !is_intended(archive, *gap)).collect();
    runs.extend(missing_at_the_end(seen, &archive.wal, position, archived_to));
    for run in runs {
        let gap = describe_gap(seen, archive, run);
        report.findings.push(gap_finding(seen, &gap));
        report.gaps.push(gap);
    }
}

/// Where old backups keep only the WAL that makes them consistent, the rest was let go of on purpose.
fn is_intended(archive: &ArchiveView, gap: Run) -> bool {
    let size = archive.wal.segment_size();
    let follows = archive.backups.iter().any(|span| span.stop.previous_segment(size).next() == gap.first);
    let leads = archive.backups.iter().any(|span| span.start.segment(size) == gap.last.next());
    follows && leads
}

/// Segments after the last archived one that are complete but do not wait for the archiver: PostgreSQL takes them for archived. A
/// standby is left out: its primary archives.
fn missing_at_the_end(
    seen: &Observation,
    wal: &WalSet,
    position: Position,
    archived_to: Option<Lsn>,
) -> Vec<Run> {
    let standby = position.source == PositionSource::Standby
        || (position.source == PositionSource::ControlFile && seen.replays);
    let (Some(archived_to), false) = (archived_to, standby) else { return Vec::new() };
    let timeline = position.timeline;
    let first = archived_to.segment(wal.segment_size()).0;
    let writing = position.lsn.segment(wal.segment_size()).0;
    let mut runs: Vec<Run> = Vec::new();
    for number in (first..writing).map(SegmentNumber) {
        if seen.local.ready.contains(&SegmentName::new(timeline, number)) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.last.next() == number => run.last = number,
            _ => runs.push(Run { timeline, first: number, last: number }),
        }
    }
    runs
}

fn describe_gap(seen: &Observation, archive: &ArchiveView, run: Run) -> Gap {
    let size = seen.segment_size;
    let name = |number| SegmentName::new(run.timeline, number).file_name(size);
    let range = SegmentName::new(run.timeline, run.first)..=SegmentName::new(run.timeline, run.last);
    let here = seen.local.segments.range(range).filter(|segment| segment.timeline == run.timeline);
    let in_pg_wal: Vec<String> = here.map(|segment| segment.file_name(size)).collect();
    let passed = archive
        .backups
        .iter()
        .any(|span| span.timeline >= run.timeline && span.start.segment(size) > run.last);
    let holds_all = |wal: &WalSet| run.segments().all(|segment| wal.contains(segment));
    let holding = seen.elsewhere.iter().filter(|(_, wal)| holds_all(wal));
    let held_by: Vec<String> = holding.map(|(name, _)| name.clone()).collect();
    let state = match (in_pg_wal.len() as u64 == run.count(), passed) {
        (true, _) => GapState::Mendable,
        (false, true) => GapState::Passed,
        (false, false) if !held_by.is_empty() => GapState::Mendable,
        (false, false) => GapState::Open,
    };
    Gap { first: name(run.first), last: name(run.last), count: run.count(), state, in_pg_wal, held_by }
}

fn gap_finding(seen: &Observation, gap: &Gap) -> Finding {
    let what = match gap.count {
        1 => format!("segment {} is not in the archive", gap.first),
        count => format!("{count} segments, {} to {}, are not in the archive", gap.first, gap.last),
    };
    let them = if gap.count == 1 { "it" } else { "all of them" };
    match gap.state {
        GapState::Mendable if !gap.held_by.is_empty() => {
            let finding = Finding::new(
                "archive-gap",
                lacking(seen),
                format!("{what}; {} holds {them}", gap.held_by.join(", ")),
                "recovery from this repository alone stops there; one that may ask all repositories goes on",
            )
            .with(repair_remedy(seen, gap.held_by.first().map_or("", String::as_str)));
            match gap.in_pg_wal.is_empty() {
                true => finding,
                false => finding.with(push_remedy(seen, gap)),
            }
        }
        GapState::Mendable => Finding::new(
            "archive-gap",
            lacking(seen),
            format!("{what}; pg_wal still has {them}"),
            "recovery stops there; PostgreSQL takes it for archived, so it may remove it at any checkpoint",
        )
        .with(push_remedy(seen, gap)),
        GapState::Open => {
            let why = "recovery stops there; no backup reaches what comes after it";
            let mut finding = Finding::new("archive-gap", lacking(seen), what, why);
            finding = finding.with(Remedy::safe(
                "take a backup: what happens from then on can be recovered",
                seen.command.call("backup"),
            ));
            match gap.in_pg_wal.is_empty() {
                true => finding,
                false => finding.with(push_remedy(seen, gap)),
            }
        }
        GapState::Passed => {
            let finding = Finding::new(
                "archive-gap-passed",
                Severity::Info,
                what,
                "recovery from older backups stops there; later ones do not need it, so nothing has to be done",
            );
            match gap.held_by.first() {
                None => finding,
                Some(holder) => finding.with(repair_remedy(seen, holder)),
            }
        }
    }
}

/// What a repository lacks that another one has: whatever it is not required to hold is no emergency.
fn lacking(seen: &Observation) -> Severity {
    if seen.required { Severity::Critical } else { Severity::Warning }
}

fn repair_remedy(seen: &Observation, holder: &str) -> Remedy {
    Remedy::safe("copy it from there", repair_from(seen, holder))
}

fn repair_from(seen: &Observation, holder: &str) -> String {
    format!("{} --from {holder}", seen.command.call_for("repair", &seen.name))
}

fn push_remedy(seen: &Observation, gap: &Gap) -> Remedy {
    let data = shell_word(&seen.pgdata.display().to_string());
    let mut lines = vec![format!("cd {data}")];
    let pushes = gap.in_pg_wal.iter().take(COMMANDS_MAX);
    lines.extend(pushes.map(|name| seen.command.call(&format!("archive push pg_wal/{name}"))));
    let what = match gap.in_pg_wal.len() {
        0..=COMMANDS_MAX => "archive what is still there, in the data directory".to_owned(),
        more => format!("archive what is still there, in the data directory; these are the first of {more}"),
    };
    Remedy::safe(what, lines.join("\n"))
}

fn empty_archive(seen: &Observation) -> Finding {
    let finding = Finding::new(
        "archive-empty",
        Severity::Warning,
        format!("the archive holds no WAL of system {}", seen.system),
        "nothing can be recovered beyond a backup",
    );
    let finding = match seen.elsewhere.iter().find(|(_, wal)| !wal.is_empty()) {
        Some((other, _)) => {
            finding.with(Remedy::safe(format!("copy what {other} holds"), repair_from(seen, other)))
        }
        None => finding,
    };
    finding.with(Remedy::safe("see why", seen.command.call("check")))
}

fn unseen_server(seen: &Observation, why: &str) -> Finding {
    let checkpoint = seen.checkpoint;
    Finding::new(
        "server-unreachable",
        Severity::Warning,
        format!("the server could not be asked: {why}"),
        format!(
            "its position is that of its last checkpoint, {checkpoint}; what it wrote since, and whether its archiver works, is not known"
        ),
    )
    .with(Remedy::safe("does it run, and do port, socket_directory and user fit it?", ""))
}

fn unseen_repository(seen: &Observation, why: &str) -> Finding {
    let (severity, hurts) = match seen.required {
        true => (
            Severity::Critical,
            "nothing is archived while it cannot be reached, and gaps are not known; PostgreSQL keeps what waits",
        ),
        false => (
            Severity::Warning,
            "it is not required, so PostgreSQL goes on and does not keep WAL for it; what it lacks is not known",
        ),
    };
    Finding::new(
        "repository-unreachable",
        severity,
        format!("the repository could not be read: {why}"),
        hurts,
    )
}

fn judge_settings(seen: &Observation, server: &ServerView, findings: &mut Vec<Finding>) {
    if server.in_recovery && server.mode != "always" {
        return;
    }
    if server.mode == "off" {
        let finding = Finding::new(
            "archive-mode-off",
            Severity::Critical,
            "archive_mode is off",
            "nothing is archived",
        );
        findings.push(
            finding.with(Remedy::disruptive("turn it on and restart", seen.command.call("init --restart"))),
        );
        return;
    }
    // `(disabled)` is what the server shows while archiving is off.
    if server.command.is_empty() && server.library.is_empty() {
        let why = "PostgreSQL keeps all WAL until a command is set, until the disk is full";
        let finding =
            Finding::new("archive-command-empty", Severity::Critical, "archive_command is empty", why);
        findings.push(finding.with(Remedy::safe("set it", seen.command.call("init"))));
    }
    if server.timeout == "0" {
        let why = "a server that writes little keeps its last changes to itself until a segment is full";
        let finding = Finding::new("archive-timeout-off", Severity::Info, "archive_timeout is 0", why);
        let command = "ALTER SYSTEM SET archive_timeout = '60s'; SELECT pg_reload_conf();";
        findings.push(finding.with(Remedy::safe("close a segment at least every minute", command)));
    }
}

fn judge_archiver(seen: &Observation, server: &ServerView, findings: &mut Vec<Finding>) {
    let archiver = &server.archiver;
    let (Some(file), Some(failed_s)) = (&archiver.last_failed, archiver.last_failed_age_s) else { return };
    if archiver.last_archived_age_s.is_some_and(|archived_s| archived_s <= failed_s) {
        return;
    }
    let ago = human_duration(Duration::from_secs_f64(failed_s.max(0.0)));
    let text = format!("the archiver failed {ago} ago with {file}, and has archived nothing since");
    let data = shell_word(&seen.pgdata.display().to_string());
    findings.push(
        Finding::new(
            "archiver-failing",
            Severity::Critical,
            text,
            "WAL piles up in pg_wal until its disk is full, which stops the server",
        )
        .with(Remedy::safe(
            "try it by hand to see why",
            format!("cd {data}\n{}", seen.command.call(&format!("archive push pg_wal/{file}"))),
        )),
    );
}

fn describe_receiver(receiver: &ReceiverView, flushed: Lsn) -> Receiver {
    let durable = receiver.facts.durable;
    Receiver {
        active: receiver.facts.active,
        synchronous: receiver.facts.synchronous,
        durable,
        // It may have acknowledged more since the server's position was read.
        lag_bytes: durable.map(|durable| flushed.0.saturating_sub(durable.0)),
    }
}

fn judge_receiver(receiver: &ReceiverView, lag_bytes: Option<u64>) -> Option<Finding> {
    let ReceiverView { slot, facts } = receiver;
    let drop = Remedy::disruptive(
        "if it is not to come back: take it out of synchronous_standby_names, and drop its slot",
        format!("SELECT pg_drop_replication_slot('{}');", slot.replace('\'', "''")),
    );
    if facts.lost {
        let seen = format!("the server has removed WAL that the receiver of slot {slot} needs");
        let why = "the receiver cannot go on; what it has not received is covered by archive_command alone";
        return Some(Finding::new("receiver-lost", Severity::Critical, seen, why).with(drop));
    }
    if facts.active {
        return None;
    }
    let (severity, why) = match facts.waiting_commits {
        0 => (
            Severity::Warning,
            "the server keeps all WAL from there on until it comes back, which fills its disk".to_owned(),
        ),
        1 => (Severity::Critical, "a commit waits for a synchronous standby".to_owned()),
        waiting => (Severity::Critical, format!("{waiting} commits wait for a synchronous standby")),
    };
    let behind = lag_bytes.map_or_else(
        || "it never received anything".to_owned(),
        |lag| format!("it is {} behind", Bytes(lag)),
    );
    let seen = format!("nobody receives WAL through slot {slot}; {behind}");
    let start = Remedy::safe("start `pgproof archive receive` again where it ran, with the same --spool", "");
    Some(Finding::new("receiver-away", severity, seen, why).with(start).with(drop))
}

/// When `pg_wal` is full, at the rate at which what waits has piled up. PostgreSQL would switch segments at least each `archive_timeout`, so
/// a few files of an idle server say little: they must be many, or old.
fn full_in_s(seen: &Observation) -> Option<u64> {
    let (room, oldest) = (seen.local.room?, seen.local.oldest.as_ref()?);
    if seen.local.waiting < WAITING_WARNING || oldest.age_s == 0 {
        return None;
    }
    let piled_up = seen.local.waiting.saturating_mul(u64::from(seen.segment_size.bytes()));
    Some((room.available / (piled_up / oldest.age_s).max(1)).max(1))
}

fn judge_queue(seen: &Observation, full_in_s: Option<u64>, findings: &mut Vec<Finding>) {
    let Some(oldest) = &seen.local.oldest else { return };
    let severity = match seen.local.waiting {
        WAITING_CRITICAL.. => Severity::Critical,
        WAITING_WARNING.. => Severity::Warning,
        _ if oldest.age_s >= WAITING_AGE_WARNING_S => Severity::Warning,
        _ => return,
    };
    let age = human_duration(Duration::from_secs(oldest.age_s));
    let files = if seen.local.waiting == 1 { "file waits" } else { "files wait" };
    let why = "what is not archived is lost with this server";
    let (severity, why) = match full_in_s {
        Some(full_in_s) if full_in_s < FULL_WITHIN_S => {
            let left = human_duration(Duration::from_secs(full_in_s));
            let why = format!("{why}; at this rate pg_wal is full in {left}, which stops the server");
            (if full_in_s < FULL_SOON_S { Severity::Critical } else { severity }, why)
        }
        _ => (severity, why.to_owned()),
    };
    findings.push(Finding::new(
        "archive-behind",
        severity,
        format!("{} {files} for the archiver, {} for {age}", seen.local.waiting, oldest.name),
        why,
    ));
}

fn judge_room(seen: &Observation, findings: &mut Vec<Finding>) {
    let Some(room) = seen.local.room else { return };
    if room.available >= ROOM_PLENTY || room.available >= room.total / 10 {
        return;
    }
    let severity = if room.available < room.total / 50 { Severity::Critical } else { Severity::Warning };
    let percent = 100 * room.available / room.total.max(1);
    findings.push(Finding::new(
        "wal-disk-full",
        severity,
        format!("{} left for pg_wal ({percent} %)", Bytes(room.available)),
        "a full disk stops the server; WAL that cannot be archived stays there",
    ));
}

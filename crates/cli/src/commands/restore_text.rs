//! The text of a restore's plan and report.

use super::list::show_version;
use crate::printer::{Page, show_time};
use pgproof_base::{Bytes, human_duration};
use pgproof_restore::databases::Databases;
use pgproof_restore::report::{RecoveredState, RecoveryReport};
use pgproof_restore::{Archiving, Plan, Report};
use std::time::Duration;

pub(super) fn render_plan(page: &mut Page, plan: &Plan) {
    let chosen = &plan.chosen;
    page.line(format!("restore {} into {}", plan.target, plan.directory.display()));
    page.field("backup", format!("{}: {}", chosen.backup, chosen.why));
    let server = show_version(plan.server_version);
    page.field("server", format!("PostgreSQL {server}, system {}", plan.system));
    page.field(
        "finished",
        format!("{}, consistent at {}", show_time(plan.backup_stopped), plan.consistent_at),
    );
    page.field("timeline", chosen.timeline);
    page.field("WAL to replay", Bytes(chosen.replay_bytes));
    page.field("files", format!("{}, {}", plan.files, Bytes(plan.bytes)));
    plan.databases.iter().for_each(|databases| render_databases(page, databases));
    if plan.onto.is_delta() {
        let bytes = Bytes(plan.bytes_to_compare);
        page.field("to compare", format!("{} files, {bytes}", plan.files_to_compare));
        page.field("to remove", format!("{} files and directories", plan.removals.len()));
    }
    for tablespace in &plan.tablespaces {
        let place = tablespace.directory.display();
        page.field("tablespace", format!("{} ({}) into {place}", tablespace.name, tablespace.oid));
    }
    for (origin, place) in &plan.external {
        let place =
            place.as_ref().map_or("not restored, see --external".to_owned(), |p| p.display().to_string());
        page.field("configuration", format!("{origin}: {place}"));
    }
    page.field("archiving", archiving(&plan.archiving));
    let seconds = |s| human_duration(Duration::from_secs(s));
    let expected = &plan.expected;
    page.field(
        "expected",
        format!(
            "{} to write, {} to replay ({})",
            seconds(expected.place_s),
            seconds(expected.replay_s),
            expected.how
        ),
    );
    if page.is_verbose() {
        for setting in &plan.settings {
            page.field("setting", format!("{} = '{}'", setting.name, setting.value));
        }
        for removal in &plan.removals {
            page.field("remove", removal.path.display());
        }
    }
    for note in &plan.notes {
        page.line(format!("  note: {note}"));
    }
}

fn render_databases(page: &mut Page, databases: &Databases) {
    let restored: Vec<String> = databases.restored.iter().map(ToString::to_string).collect();
    page.field("databases", restored.join(", "));
    for left in &databases.left_out {
        page.field("left empty", format!("{}, {} in {} files", left.database, Bytes(left.bytes), left.files));
    }
}

fn archiving(archiving: &Archiving) -> &'static str {
    match archiving {
        Archiving::Off => "off; --take-over lets the restored server archive",
        Archiving::TakeOver { .. } => "on; the server that archived before is refused from now on",
    }
}

pub(super) fn render_report(page: &mut Page, report: &Report) {
    let plan = &report.plan;
    let took = human_duration(Duration::from_secs_f64(report.total_s));
    page.line(format!("restored {} into {} in {took}", plan.chosen.backup, plan.directory.display()));
    page.field("target", &plan.target);
    let placed = &report.placed;
    let work = &placed.work;
    let rate = work.bytes_written as f64 / report.place_s.max(0.001);
    page.field(
        "written",
        format!(
            "{} in {} files, {}/s",
            Bytes(work.bytes_written),
            placed.files_created + placed.files_changed,
            Bytes(rate as u64)
        ),
    );
    if plan.onto.is_delta() {
        let compared = Bytes(work.bytes_compared);
        page.field("left as they were", format!("{} files ({compared} compared)", placed.files_unchanged));
    }
    if let Some(databases) = &plan.databases {
        let saved = report.saved_s.map_or_else(String::new, |s| {
            format!(", which would have taken about {}", human_duration(Duration::from_secs_f64(s)))
        });
        page.field("left out", format!("{}{saved}", Bytes(databases.bytes_left_out)));
    }
    page.field(
        "archiving",
        match report.epoch {
            Some(epoch) => format!("taken over, epoch {epoch}"),
            None => "off".to_owned(),
        },
    );
    match &report.recovery {
        Some(recovery) => render_recovery(page, recovery),
        None => page.line("  start the server to replay WAL up to the target"),
    }
    render_drops(page, report);
    for note in plan.notes.iter().chain(&report.notes) {
        page.line(format!("  note: {note}"));
    }
}

/// How to get rid of the shells: by the names that the server has for them, else by those of the backup.
fn render_drops(page: &mut Page, report: &Report) {
    let planned = report.plan.databases.iter().flat_map(|databases| &databases.left_out);
    let drops: Vec<&String> = match &report.recovery {
        Some(recovery) => recovery.shells.iter().filter_map(|shell| shell.drop.as_ref()).collect(),
        None => planned.filter_map(|left| left.drop.as_ref()).collect(),
    };
    for drop in drops {
        page.field("left empty", drop);
    }
}

fn render_recovery(page: &mut Page, recovery: &RecoveryReport) {
    let state = match recovery.state {
        RecoveredState::Promoted => "open for writing",
        RecoveredState::Paused => "read-only at the target; `SELECT pg_wal_replay_resume()` goes on",
        RecoveredState::ShutDown => "stopped at the target",
    };
    page.field("server", state);
    page.field("replayed in", human_duration(Duration::from_secs_f64(recovery.replay_s)));
    if let Some(reached) = recovery.reached {
        page.field("reached", reached);
    }
    if let Some(last) = recovery.last_commit {
        page.field("last commit", show_time(last));
    }
    if let Some(timeline) = recovery.timeline {
        page.field("timeline", timeline);
    }
    for line in &recovery.invalid_pages {
        page.line(format!("  damaged: {line}"));
    }
}

//! `pgproof status`: are the objectives kept, and what proves it?

use super::each::{Failure, each};
use crate::args::high::Context;
use crate::exit::Exit;
use crate::objectives::{Estimate, Line, Status, Verdict, judge, observe};
use crate::printer::{Align, Page, Report, Table, show_time};
use crate::repository;
use pgproof_base::{Bytes, human_duration};
use pgproof_repo::walset::RecoveryWindow;
use std::time::Duration;

pub(crate) fn status(context: &Context) -> anyhow::Result<Exit> {
    let (config, opened) = repository::open_configured(context)?;
    each(context, "status", opened, Failure::Counts, |_, repository| {
        let status = judge(observe(repository)?, &config.objectives);
        let exit = if status.is_kept() { Exit::Done } else { Exit::BadAnswer };
        Ok((status, exit))
    })
}

fn shown(seconds: f64) -> String {
    human_duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

impl Report for Status {
    fn render(&self, page: &mut Page) {
        page.field("repository", &self.repository);
        if let Some(system) = self.system {
            page.field("system", system);
        }
        for running in &self.running {
            page.field("at work", running);
        }
        render_objectives(page, &self.objectives);
        render_windows(page, &self.windows);
        if let Some(estimate) = &self.estimate {
            render_estimate(page, estimate);
        }
        for flaw in &self.ledger_flaws {
            page.line(format!("the ledger cannot be believed: {}", flaw.seen));
        }
    }
}

fn render_objectives(page: &mut Page, lines: &[Line]) {
    page.heading("Objectives");
    if lines.is_empty() {
        page.line("  none are stated; see [objectives] in docs/manual/configuration.md");
    }
    let columns = [
        ("objective", Align::Left),
        ("wanted", Align::Right),
        ("", Align::Left),
        ("measured", Align::Right),
        ("when", Align::Left),
        ("by", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for line in lines {
        let verdict = match line.verdict {
            Verdict::Kept => "kept",
            Verdict::Broken => "BROKEN",
            Verdict::Unproven => "UNPROVEN",
        };
        table.row(vec![
            line.objective.to_owned(),
            shown(line.wanted_s as f64),
            verdict.to_owned(),
            line.measured_s.map(shown).unwrap_or_default(),
            line.at.map(show_time).unwrap_or_default(),
            line.by.clone(),
        ]);
    }
    page.table(&table);
    for line in lines {
        for remedy in &line.remedies {
            page.line(format!("  {}: {}", line.objective, remedy.what));
            page.line(format!("      {}", remedy.command));
        }
    }
}

fn render_windows(page: &mut Page, windows: &[RecoveryWindow]) {
    page.heading("Recovery windows");
    if windows.is_empty() {
        page.line("  none: nothing can be brought back");
    }
    for window in windows {
        let time = |at: Option<jiff::Timestamp>| at.map_or("an unknown instant".to_owned(), show_time);
        let end = if window.gap { format!(", and a gap at {}", window.to) } else { String::new() };
        page.line(format!(
            "  timeline {}: {} to {}{end}",
            window.timeline,
            time(window.first_time),
            time(window.last_time)
        ));
    }
}

fn render_estimate(page: &mut Page, estimate: &Estimate) {
    page.heading("A recovery today");
    let of = |seconds: Option<f64>| seconds.map_or("never measured".to_owned(), shown);
    page.field("restore", format!("{} of {}", of(estimate.restore_s), Bytes(estimate.logical_bytes)));
    page.field("replay", format!("{} of {} of WAL", of(estimate.replay_s), Bytes(estimate.wal_bytes)));
    if let Some(max) = estimate.wal_bytes_max {
        page.field("rto unreachable", format!("from {} of WAL behind the newest backup", Bytes(max)));
    }
    if let Some(max) = estimate.logical_bytes_max {
        page.field("restore_rto", format!("unreachable from {} of cluster", Bytes(max)));
    }
}

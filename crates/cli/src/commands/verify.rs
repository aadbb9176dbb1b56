//! `pgproof verify`.

use super::each::{Failure, each};
use crate::args::high::Context;
use crate::args::low::VerifyArgs;
use crate::config::parse_duration;
use crate::exit::Exit;
use crate::printer::{Page, Report, render_findings};
use crate::repairs::Others;
use crate::{evidence, repository};
use pgproof_base::{Severity, human_duration};
use pgproof_repo::Content;
use pgproof_repo::verify::{Hurts, VerifyFinding, VerifyOptions, VerifyReport, verify as run};
use std::time::Duration;

/// Files of one finding that are named in text; all are in the JSON.
const FILES_SHOWN: usize = 10;

pub(crate) fn verify(args: &VerifyArgs, context: &Context) -> anyhow::Result<Exit> {
    let (config, opened) = repository::open_configured(context)?;
    let since = args.skip_within.as_deref().map(|text| parse_duration("--skip-within", text)).transpose()?;
    let mut others = Others::new(&config);
    each(context, "verify", opened, Failure::Counts, |one, repository| {
        let defaults = VerifyOptions::default();
        let lineage =
            args.system.as_deref().map(|named| repository::lineage(repository, Some(named))).transpose()?;
        let options = VerifyOptions {
            threads: config.backup.processes.unwrap_or(defaults.threads),
            since,
            lineage: lineage.map(|lineage| lineage.system()),
            ..defaults
        };
        let mut report = run(repository, &options, &context.talk)?;
        others.name_repairs(&one.config.name, &mut report);
        for (lineage, record) in evidence::of_verify(&report) {
            evidence::keep(context, repository, lineage, &record);
        }
        let exit = if report.is_clean() { Exit::Done } else { Exit::BadAnswer };
        Ok((report, exit))
    })
}

impl Report for VerifyReport {
    fn render(&self, page: &mut Page) {
        for lineage in &self.lineages {
            let counts = &lineage.counts;
            page.line(format!(
                "{} {}: {} objects ({}) read, {} ({}) skipped",
                lineage_title(lineage.content),
                lineage.system,
                counts.objects,
                counts.bytes,
                counts.skipped,
                counts.skipped_bytes
            ));
            for found in &lineage.findings {
                render_finding(page, found);
            }
        }
        page.gap();
        let took = self.ended.duration_since(self.began);
        let took = human_duration(Duration::try_from(took).unwrap_or_default());
        let bad = self.findings().filter(|found| found.finding.severity > Severity::Info).count();
        match (bad, self.lineages.is_empty()) {
            (_, true) => page.line("the repository holds nothing yet"),
            (0, _) => page.line(format!("everything is as it was stored ({took})")),
            (bad, _) => page.line(format!("{bad} things are wrong ({took})")),
        }
    }
}

/// What goes before the system identifier.
pub(super) fn lineage_title(content: Content) -> &'static str {
    match content {
        Content::Cluster => "system",
        Content::Dumps => "dumps of system",
    }
}

fn render_finding(page: &mut Page, found: &VerifyFinding) {
    render_findings(page, std::slice::from_ref(&found.finding));
    page.line(format!("  object: {}", found.object));
    if !found.hurts.is_nothing() {
        render_hurts(page, &found.hurts);
    }
}

fn render_hurts(page: &mut Page, hurts: &Hurts) {
    for backup in &hurts.backups {
        page.line(format!("  hurts backup {backup}"));
    }
    let shown = if page.is_verbose() { hurts.files.len() } else { FILES_SHOWN.min(hurts.files.len()) };
    for file in &hurts.files[..shown] {
        page.line(format!("    {} of {}", file.path, file.backup));
    }
    let rest = hurts.files_total.saturating_sub(shown as u64);
    if rest > 0 {
        page.line(format!("    and {rest} more files"));
    }
    for window in &hurts.windows {
        page.line(format!(
            "  hurts recovery on timeline {} from {} to {}",
            window.timeline, window.from, window.to
        ));
    }
}

//! `pgproof expire`: removes what the retention no longer wants.

use super::each::{Failure, each};
use super::verify::lineage_title;
use crate::args::high::Context;
use crate::args::low::ExpireArgs;
use crate::config::{RepositoryConfig, RetentionConfig, parse_duration};
use crate::exit::Exit;
use crate::fault::Refused;
use crate::printer::{Page, Report, show_time};
use crate::{evidence, repository};
use jiff::SignedDuration;
use pgproof_base::{Bytes, Progress as _};
use pgproof_repo::Repository;
use pgproof_repo::catalog::{LineageCatalog, Scope};
use pgproof_repo::expire::{ExpireOptions, ExpirePlan, ExpireReport, plan_expire, run_expire};
use pgproof_repo::retention::{KeepReason, RemoveReason, RetentionPolicy};
use pgproof_store::StoreConfig;
use serde::Serialize;
use std::time::Instant;

/// What was removed, or would be.
#[derive(Debug, Serialize)]
struct Expired {
    dry_run: bool,
    lineages: Vec<LineageExpired>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum LineageExpired {
    Planned(Box<ExpirePlan>),
    Done(Box<ExpireReport>),
}

pub(crate) fn expire(args: &ExpireArgs, context: &Context) -> anyhow::Result<Exit> {
    let (_, opened) = repository::open_configured(context)?;
    // What is asked wrongly is refused before anything is removed anywhere.
    for one in &opened {
        options(args, &one.config.retention)?;
    }
    each(context, "expire", opened, Failure::Counts, |one, repository| {
        let options = options_in(repository, args, &one.config, context)?;
        Ok((expire_in(repository, args, &options, context)?, Exit::Done))
    })
}

/// The rules, and what the store adds to them.
fn options_in(
    repository: &Repository,
    args: &ExpireArgs,
    config: &RepositoryConfig,
    context: &Context,
) -> anyhow::Result<ExpireOptions> {
    let mut options = options(args, &config.retention)?;
    options.locked_for = config.store.locked_for();
    // Every local file system has conditional writes; a service that claims to speak a protocol may not.
    if !matches!(config.store, StoreConfig::Directory(_)) {
        let seen = repository.store().probe()?;
        if seen.writable && !(seen.if_absent && seen.if_match) {
            options = options.with_minimum_age();
            context
                .talk
                .note("the store lacks conditional writes: nothing is removed that is younger than a day");
        }
    }
    Ok(options)
}

fn expire_in(
    repository: &Repository,
    args: &ExpireArgs,
    options: &ExpireOptions,
    context: &Context,
) -> anyhow::Result<Expired> {
    let catalogs = repository::catalogs(repository, Scope::BackupsAndWal)?;
    let newest = repository::newest(&catalogs).map(LineageCatalog::system);
    let dumps = repository::dump_catalogs(repository, Scope::Backups)?;
    let mut lineages = Vec::new();
    for catalog in catalogs.iter().chain(&dumps) {
        let superseded = newest.is_some_and(|newest| newest != catalog.system());
        lineages.push(if args.dry_run {
            LineageExpired::Planned(Box::new(plan_expire(catalog, options, superseded)))
        } else {
            let began = Instant::now();
            let report = run_expire(repository, catalog.lineage, options, superseded, &context.talk)?;
            // A lineage of which nothing stays must not begin anew with a ledger.
            if !report.plan.drops_lineage {
                let record = evidence::of_expire(&report, began.elapsed());
                evidence::keep(context, repository, catalog.lineage, &record);
            }
            LineageExpired::Done(Box::new(report))
        });
    }
    Ok(Expired { dry_run: args.dry_run, lineages })
}

/// The rules of the command line replace the configured ones as a whole: half of one and half of the other is nobody's intention.
fn options(args: &ExpireArgs, configured: &RetentionConfig) -> Result<ExpireOptions, Refused> {
    let asked = args.keep_within.is_some()
        || [args.keep_last, args.keep_daily, args.keep_weekly, args.keep_monthly, args.keep_yearly]
            .iter()
            .any(Option::is_some);
    let keep_within = match &args.keep_within {
        Some(text) => Some(parse_duration("--keep-within", text)?),
        None => None,
    };
    let rules = if asked {
        RetentionConfig {
            keep_last: args.keep_last,
            keep_within,
            keep_daily: args.keep_daily,
            keep_weekly: args.keep_weekly,
            keep_monthly: args.keep_monthly,
            keep_yearly: args.keep_yearly,
            ..configured.clone()
        }
    } else {
        configured.clone()
    };
    let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    let mut drop_lineages = Vec::new();
    for text in &args.drop_lineage {
        let hint = "`pgproof list` shows the systems of this repository";
        let parsed = text.parse().map_err(|_| {
            Refused::new("system-invalid", format!("`{text}` is not a system identifier"), hint)
        })?;
        drop_lineages.push(parsed);
    }
    let policy = RetentionPolicy {
        keep_last: rules.keep_last,
        keep_within: rules.keep_within.map(signed),
        daily: rules.keep_daily.unwrap_or(0),
        weekly: rules.keep_weekly.unwrap_or(0),
        monthly: rules.keep_monthly.unwrap_or(0),
        yearly: rules.keep_yearly.unwrap_or(0),
        wal_within: rules.wal_within.map(signed),
        drop_lineages,
        ..RetentionPolicy::default()
    };
    Ok(ExpireOptions { policy, sweep_after: rules.sweep_after, ..ExpireOptions::default() })
}

impl Report for Expired {
    fn render(&self, page: &mut Page) {
        if self.lineages.is_empty() {
            page.line("the repository holds nothing yet");
        }
        for lineage in &self.lineages {
            match lineage {
                LineageExpired::Planned(plan) => render_plan(page, plan),
                LineageExpired::Done(report) => {
                    render_plan(page, &report.plan);
                    render_done(page, report);
                }
            }
        }
        if self.dry_run {
            page.gap();
            page.line("nothing was changed (--dry-run)");
        }
    }
}

fn render_plan(page: &mut Page, plan: &ExpirePlan) {
    page.heading(format!("{} {}", lineage_title(plan.content), plan.system));
    for kept in &plan.retention.keep {
        let reasons: Vec<_> = kept.reasons.iter().map(keep_reason).collect();
        page.line(format!("  keep    {}  {}", kept.backup, reasons.join(", ")));
    }
    for removed in &plan.retention.remove {
        page.line(format!("  remove  {}  {}", removed.backup, remove_reason(removed.reason)));
    }
    for revoked in &plan.revoke {
        page.line(format!("  revoke  {}  {}", revoked.backup, revoked.why));
    }
    for waiting in &plan.waiting {
        let until =
            waiting.from.map(|from| format!(", removed from {} on", show_time(from))).unwrap_or_default();
        page.line(format!("  waits   {}  {}{until}", waiting.backup, waiting.why));
    }
    let segments: u64 = plan.wal.remove.iter().map(|run| run.count()).sum();
    page.line(format!(
        "  removes now: {} packs ({}), {segments} WAL segments",
        plan.packs.len(),
        plan.pack_bytes
    ));
    for kept in &plan.wal.kept_from {
        page.line(format!("  WAL of timeline {} stays from {}: {}", kept.timeline, kept.segment, kept.why));
    }
    for note in plan.retention.notes.iter().chain(&plan.packs_kept).chain(&plan.wal.note) {
        page.line(format!("  note: {note}"));
    }
}

fn render_done(page: &mut Page, report: &ExpireReport) {
    page.line(format!(
        "  marked {}, removed {} backups, {} packs and {} WAL segments: {} freed",
        report.marked.len(),
        report.swept.len(),
        report.packs,
        report.segments,
        Bytes(report.bytes.0),
    ));
}

fn keep_reason(reason: &KeepReason) -> String {
    match reason {
        KeepReason::NoRule => "no rule removes anything".to_owned(),
        KeepReason::NewestGood => "the newest good backup".to_owned(),
        KeepReason::Pinned { why } if why.is_empty() => "pinned".to_owned(),
        KeepReason::Pinned { why } => format!("pinned: {why}"),
        KeepReason::Last { rank } => format!("keep_last ({rank})"),
        KeepReason::Within => "keep_within".to_owned(),
        KeepReason::Daily { day } => format!("daily {day}"),
        KeepReason::Weekly { week } => format!("weekly {week}"),
        KeepReason::Monthly { month } => format!("monthly {month}"),
        KeepReason::Yearly { year } => format!("yearly {year}"),
        KeepReason::NewerThanGood => "bad pages, but no good backup is newer".to_owned(),
        KeepReason::BaseOfRunning => "a running backup builds on it".to_owned(),
        KeepReason::BeingRead => "a restore or verification reads it".to_owned(),
    }
}

fn remove_reason(reason: RemoveReason) -> &'static str {
    match reason {
        RemoveReason::NoRuleKeeps => "no rule keeps it",
        RemoveReason::FailedChecks => "it has bad pages, and a newer good backup exists",
        RemoveReason::MarkedBefore => "it was marked by an earlier run",
        RemoveReason::LineageDropped => "its lineage is dropped",
    }
}

//! Which backups stay: every rule names those it keeps, and what no rule names goes.

use super::{
    BackupFacts, KeepReason, Kept, LineageFacts, LineagePlan, RemoveReason, Removed, RetentionPolicy,
};
use crate::BackupId;
use jiff::{Timestamp, Zoned, civil::ISOWeekDate, tz::TimeZone};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Decides about one lineage.
pub fn plan_lineage(policy: &RetentionPolicy, facts: &LineageFacts, now: Timestamp) -> LineagePlan {
    let dropped = policy.drop_lineages.contains(&facts.system);
    let mut reasons = Reasons::default();
    keep_in_use(&facts.backups, &mut reasons);
    if !dropped {
        keep_by_rules(policy, &facts.backups, now, &mut reasons);
    }
    let mut ordered: Vec<&BackupFacts> = facts.backups.iter().collect();
    ordered.sort_by_key(|backup| (by_position(backup), backup.backup));
    let mut plan =
        LineagePlan { system: facts.system, keep: Vec::new(), remove: Vec::new(), notes: Vec::new() };
    for backup in ordered {
        let kept = reasons.0.remove(&backup.backup).unwrap_or_default();
        match removal(backup, &kept, dropped) {
            Some(reason) => plan.remove.push(Removed { backup: backup.backup, reason }),
            None => plan.keep.push(Kept { backup: backup.backup, reasons: kept }),
        }
    }
    plan.notes = notes(policy, facts, &plan, dropped);
    plan
}

#[derive(Default)]
struct Reasons(BTreeMap<BackupId, Vec<KeepReason>>);

impl Reasons {
    fn add(&mut self, backup: &BackupFacts, reason: KeepReason) {
        let reasons = self.0.entry(backup.backup).or_default();
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
}

/// Timelines rise along every history, and positions rise along a timeline: this order never contradicts a history.
fn by_position(backup: &BackupFacts) -> (pgproof_pg::TimelineId, pgproof_pg::Lsn, Timestamp) {
    (backup.timeline, backup.start, backup.stopped)
}

fn removal(backup: &BackupFacts, reasons: &[KeepReason], dropped: bool) -> Option<RemoveReason> {
    let in_use = |reason: &KeepReason| {
        matches!(reason, KeepReason::BaseOfRunning | KeepReason::BeingRead | KeepReason::Pinned { .. })
    };
    // A mark is final: whoever saw it has let go of the backup. Only who holds it still delays the removal.
    if backup.marked {
        return (!reasons.iter().any(in_use)).then_some(RemoveReason::MarkedBefore);
    }
    if !reasons.is_empty() {
        return None;
    }
    Some(match (dropped, backup.good) {
        (true, _) => RemoveReason::LineageDropped,
        (false, true) => RemoveReason::NoRuleKeeps,
        (false, false) => RemoveReason::FailedChecks,
    })
}

fn keep_in_use(backups: &[BackupFacts], reasons: &mut Reasons) {
    for backup in backups {
        if let Some(why) = &backup.pinned {
            reasons.add(backup, KeepReason::Pinned { why: why.clone() });
        }
        if backup.base_of_running {
            reasons.add(backup, KeepReason::BaseOfRunning);
        }
        if backup.being_read {
            reasons.add(backup, KeepReason::BeingRead);
        }
    }
}

fn keep_by_rules(policy: &RetentionPolicy, backups: &[BackupFacts], now: Timestamp, reasons: &mut Reasons) {
    // A marked backup counts for no rule: it is as good as gone, and counting it would let go of one that still exists.
    let present: Vec<&BackupFacts> = backups.iter().filter(|backup| !backup.marked).collect();
    let good: Vec<&BackupFacts> = present.iter().copied().filter(|backup| backup.good).collect();
    keep_newest(policy, &good, reasons);
    keep_failed_while_newest(&present, &good, reasons);
    if policy.keeps_everything() {
        present.iter().for_each(|backup| reasons.add(backup, KeepReason::NoRule));
        return;
    }
    if let Some(within) = policy.keep_within {
        let since = now.saturating_sub(within).unwrap_or(Timestamp::MIN);
        let recent = present.iter().filter(|backup| backup.stopped >= since);
        recent.for_each(|backup| reasons.add(backup, KeepReason::Within));
    }
    keep_periods(policy, &good, reasons);
}

/// The newest, in each of the two orders.
fn keep_newest(policy: &RetentionPolicy, good: &[&BackupFacts], reasons: &mut Reasons) {
    let mut newest_first = good.to_vec();
    for by_time in [false, true] {
        match by_time {
            false => newest_first.sort_by_key(|backup| Reverse(by_position(backup))),
            true => {
                newest_first.sort_by_key(|backup| Reverse((backup.stopped, backup.timeline, backup.start)))
            }
        }
        if let Some(newest) = newest_first.first() {
            reasons.add(newest, KeepReason::NewestGood);
        }
        for (rank, backup) in (1..=policy.keep_last.unwrap_or(0)).zip(&newest_first) {
            let ranked = |reason: &KeepReason| matches!(reason, KeepReason::Last { .. });
            if !reasons.0.get(&backup.backup).is_some_and(|present| present.iter().any(ranked)) {
                reasons.add(backup, KeepReason::Last { rank });
            }
        }
    }
}

/// A backup that failed its checks never replaces a good one, but is worth having while nothing better is newer.
fn keep_failed_while_newest(present: &[&BackupFacts], good: &[&BackupFacts], reasons: &mut Reasons) {
    let newest_good = good.iter().map(|backup| backup.stopped).max();
    let failed = present.iter().filter(|backup| !backup.good && Some(backup.stopped) > newest_good);
    failed.for_each(|backup| reasons.add(backup, KeepReason::NewerThanGood));
}

/// The last backup of each of the newest days, weeks, months and years that have one.
fn keep_periods(policy: &RetentionPolicy, good: &[&BackupFacts], reasons: &mut Reasons) {
    let mut newest_first = good.to_vec();
    newest_first.sort_by_key(|backup| Reverse((backup.stopped, by_position(backup))));
    type Period = (u32, fn(&Zoned) -> KeepReason);
    let periods: [Period; 4] = [
        (policy.daily, |at| KeepReason::Daily { day: at.date().to_string() }),
        (policy.weekly, |at| KeepReason::Weekly { week: week(at.date().iso_week_date()) }),
        (policy.monthly, |at| KeepReason::Monthly { month: format!("{:04}-{:02}", at.year(), at.month()) }),
        (policy.yearly, |at| KeepReason::Yearly { year: format!("{:04}", at.year()) }),
    ];
    for (count, period_of) in periods {
        let mut previous = None;
        let mut left = count;
        for backup in &newest_first {
            let period = period_of(&local(backup.stopped, &policy.zone));
            if previous.as_ref() == Some(&period) {
                continue;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            reasons.add(backup, period.clone());
            previous = Some(period);
        }
    }
}

fn local(at: Timestamp, zone: &TimeZone) -> Zoned {
    at.to_zoned(zone.clone())
}

fn week(date: ISOWeekDate) -> String {
    format!("{:04}-W{:02}", date.year(), date.week())
}

fn notes(policy: &RetentionPolicy, facts: &LineageFacts, plan: &LineagePlan, dropped: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if dropped && !plan.keep.is_empty() {
        notes.push("the lineage is to be dropped, but some of its backups are pinned or in use".to_owned());
    }
    if policy.keeps_everything() && !dropped {
        notes.push("no retention rule is set, so every backup is kept".to_owned());
    }
    if facts.superseded && !dropped && !plan.keep.is_empty() {
        notes.push(format!(
            "lineage {0} has older backups than another one (was the cluster upgraded or replaced?). Its backups age by the same \
             rules, counted by themselves, and its newest good one stays until `pgproof expire --drop-lineage {0}`",
            facts.system
        ));
    }
    if !facts.backups.is_empty() && !facts.backups.iter().any(|backup| backup.good && !backup.marked) {
        notes.push(format!("lineage {} has no good backup", facts.system));
    }
    notes
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;

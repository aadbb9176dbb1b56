//! No more was lost than the RPO allows, measured by the heartbeat. Pure: the heartbeat was read on the way.

use crate::options::{DrillOptions, When};
use crate::report::{CheckName, CheckReport, DataLoss, Measured};
use pgproof_base::{Finding, Remedy, Severity, human_duration};
use std::time::Duration;

pub(crate) fn data_loss(measured: &Measured, options: &DrillOptions) -> CheckReport {
    judge(measured.data_loss.as_ref(), &options.when, options.objectives.rpo)
}

fn judge(loss: Option<&DataLoss>, when: &When, rpo: Option<Duration>) -> CheckReport {
    let check = CheckName::DataLoss;
    if *when != When::Latest {
        return CheckReport::not_done(check, "loss is measured at the latest instant only");
    }
    match (loss, rpo) {
        (Some(loss), Some(rpo)) => {
            let covered = format!("{}; the RPO is {}", describe(loss), human_duration(rpo));
            CheckReport::judged(check, 0.0, covered, finding(loss, rpo).into_iter().collect())
        }
        (Some(loss), None) => CheckReport::not_done(check, format!("{}; no RPO is stated", describe(loss))),
        (None, Some(_)) => {
            CheckReport::judged(check, 0.0, "no heartbeat came back", vec![without_heartbeat()])
        }
        (None, None) => CheckReport::not_done(
            check,
            "there is no heartbeat: `pgproof heartbeat --create` makes its table",
        ),
    }
}

fn seconds(s: f64) -> String {
    human_duration(Duration::from_secs_f64(s.max(0.0)))
}

fn describe(loss: &DataLoss) -> String {
    match loss.lost_s {
        Some(lost) => format!("{} of commits lost, at most {}", seconds(lost), seconds(loss.at_most_s)),
        None => {
            format!("at most {} of commits lost; the primary could not be asked", seconds(loss.at_most_s))
        }
    }
}

fn finding(loss: &DataLoss, rpo: Duration) -> Option<Finding> {
    let allowed = rpo.as_secs_f64();
    let status = Remedy::safe("see how far the archive is behind", "pgproof archive status");
    if let Some(lost) = loss.lost_s.filter(|lost| *lost > allowed) {
        let seen = format!(
            "the last heartbeat of the primary is {} newer than the one that came back; the RPO is {}",
            seconds(lost),
            human_duration(rpo)
        );
        let why = "commits of that time would be lost if the primary were lost now";
        return Some(Finding::new("drill-rpo-missed", Severity::Critical, seen, why).with(status));
    }
    if loss.at_most_s <= allowed {
        return None;
    }
    let seen = format!(
        "the newest heartbeat that came back was {} old when the drill began; the RPO is {}",
        seconds(loss.at_most_s),
        human_duration(rpo)
    );
    let why = "no more than the RPO may be lost, but nothing proves it: heartbeats stopped or are rarer than the RPO";
    let beat = Remedy::safe("beat more often than the RPO", "pgproof heartbeat --every 1s");
    Some(Finding::new("drill-rpo-unproven", Severity::Warning, seen, why).with(beat).with(status))
}

fn without_heartbeat() -> Finding {
    Finding::new(
        "drill-no-heartbeat",
        Severity::Warning,
        "no heartbeat came back, so that the data loss is not known",
        "an RPO that nothing measures is a hope",
    )
    .with(Remedy::safe("make the table of the heartbeat", "pgproof heartbeat --create"))
    .with(Remedy::safe("and beat", "pgproof heartbeat --every 1s"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;
    use jiff::Timestamp;

    #[test]
    fn a_loss_beyond_the_rpo_fails_and_a_silent_heartbeat_proves_nothing() {
        let loss = |lost_s, at_most_s| DataLoss {
            recovered_beat: Timestamp::UNIX_EPOCH,
            last_beat: None,
            lost_s,
            at_most_s,
        };
        let check = |loss: DataLoss| {
            let report = judge(Some(&loss), &When::Latest, Some(Duration::from_secs(60)));
            report.findings.first().map(|finding| finding.code.clone()).unwrap_or_default()
        };
        assert_eq!(check(loss(Some(61.0), 62.0)), "drill-rpo-missed");
        assert_eq!(check(loss(Some(1.0), 61.0)), "drill-rpo-unproven");
        assert_eq!(check(loss(None, 61.0)), "drill-rpo-unproven");
        assert_eq!(check(loss(Some(1.0), 2.0)), "");
        let random = When::Random { seed: 1 };
        assert_eq!(judge(None, &random, Some(Duration::ZERO)).verdict, Verdict::NotDone);
        assert_eq!(judge(None, &When::Latest, Some(Duration::ZERO)).verdict, Verdict::Failed);
    }
}

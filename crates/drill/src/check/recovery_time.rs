//! The recovery was as fast as the RTO wants it: from its begin until the first query was answered, by the latest instant's server, open
//! for writing. Pure: the measuring is done on the way.

use crate::report::{CheckName, CheckReport, Measured};
use pgproof_base::{Finding, Severity, human_duration};
use std::time::Duration;

pub(crate) fn recovery_time(measured: &Measured, rto: Option<Duration>) -> CheckReport {
    let check = CheckName::RecoveryTime;
    let Some(took_s) = measured.first_query_s else {
        return CheckReport::not_done(check, "nothing was recovered");
    };
    let took = human_duration(Duration::from_secs_f64(took_s));
    let Some(rto) = rto else {
        return CheckReport::not_done(check, format!("it took {took}; no RTO is stated"));
    };
    let covered = format!("{took} until the first query; the RTO is {}", human_duration(rto));
    let mut findings = Vec::new();
    if took_s > rto.as_secs_f64() {
        let seen = format!(
            "the recovery took {took} ({} to restore, {} to recover), longer than the RTO of {}",
            part(measured.restore_s),
            part(measured.recovery_s),
            human_duration(rto)
        );
        let why = "a disaster now would keep the applications waiting longer than promised";
        findings.push(Finding::new("drill-rto-missed", Severity::Critical, seen, why));
    }
    CheckReport::judged(check, took_s, covered, findings)
}

fn part(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "?".to_owned(), |s| human_duration(Duration::from_secs_f64(s)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;

    #[test]
    fn a_recovery_slower_than_the_rto_fails() {
        let measured = Measured { first_query_s: Some(90.0), ..Measured::default() };
        let verdict = |seconds: u64| recovery_time(&measured, Some(Duration::from_secs(seconds))).verdict;
        assert_eq!((verdict(89), verdict(90)), (Verdict::Failed, Verdict::Passed));
        assert_eq!(recovery_time(&measured, None).verdict, Verdict::NotDone);
    }
}

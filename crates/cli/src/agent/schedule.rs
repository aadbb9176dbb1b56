//! What is due when. Pure: the past and now are arguments.

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::str::FromStr;
use std::time::Duration;

/// Work that is done regularly, in the order in which it is done when several are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    Backup,
    Expire,
    Verify,
    Drill,
}

impl Work {
    pub(crate) const ALL: [Self; 4] = [Self::Backup, Self::Expire, Self::Verify, Self::Drill];

    /// The command that does it.
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Expire => "expire",
            Self::Verify => "verify",
            Self::Drill => "drill",
        }
    }
}

/// When work is to be done.
#[derive(Debug, Clone)]
pub(crate) enum When {
    /// So often that it is never longer ago than this.
    Within(Duration),
    /// At these local times.
    At(Box<Cron>),
    Never,
}

/// Reads the five fields of crontab(5), or six with seconds first.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn cron(text: &str) -> Result<Box<Cron>, String> {
    Cron::from_str(text).map(Box::new).map_err(|error| error.to_string())
}

/// What became of work so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Past {
    /// When it was done last with a good answer.
    pub(crate) good: Option<Timestamp>,
    /// How long that took.
    pub(crate) took: Duration,
    /// Failures in a row since.
    pub(crate) failures: u32,
    /// When the last of them ended, and how.
    pub(crate) failed: Option<(Timestamp, Failure)>,
}

/// How work failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It was done and the answer is bad: soon again it will be the same.
    BadAnswer,
    /// It could not be done.
    Error,
}

/// Something that is due, or will be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Due {
    pub(crate) work: Work,
    pub(crate) repository: String,
    pub(crate) at: Timestamp,
}

/// After the first failure; each further one waits twice as long.
const AGAIN_FIRST: Duration = Duration::from_secs(60);
const AGAIN_MAX: Duration = Duration::from_secs(3600);

/// When work is due next; `None` for never.
///
/// Work with a greatest age begins at three quarters of it, earlier by as long as it takes, and never before half of it: a quarter is left to
/// find out that it failed and to do it again.
pub(crate) fn due_at(when: &When, past: &Past, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let (due, rest) = match (when, past.good) {
        (When::Never, _) => return None,
        (When::Within(most), None) => (now, *most / 4),
        (When::Within(most), Some(good)) => {
            let wait = (*most * 3 / 4).saturating_sub(past.took).max(*most / 2);
            (later(good, wait), *most / 4)
        }
        (When::At(cron), good) => (occurrence(cron, good, now, zone)?, AGAIN_MAX),
    };
    let Some((failed, how)) = past.failed else { return Some(due) };
    let doubled = AGAIN_FIRST.saturating_mul(1 << past.failures.saturating_sub(1).min(20));
    let wait = match how {
        Failure::BadAnswer => rest.max(AGAIN_MAX),
        Failure::Error => doubled.min(AGAIN_MAX),
    };
    Some(due.max(later(failed, wait)))
}

/// The last time that was missed, however many there were, else the next one.
fn occurrence(cron: &Cron, good: Option<Timestamp>, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let here = now.to_zoned(zone.clone());
    let previous = cron.find_previous_occurrence(&here, true).ok().map(|time| time.timestamp());
    match (previous, good) {
        (Some(previous), Some(good)) if good < previous => Some(previous),
        (Some(previous), None) => Some(previous),
        _ => cron.find_next_occurrence(&here, false).ok().map(|time| time.timestamp()),
    }
}

fn later(at: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// What is done first of what is due: by kind of work, then by which is overdue longest.
pub(crate) fn first(mut due: Vec<Due>, now: Timestamp) -> Option<Due> {
    due.retain(|due| due.at <= now);
    due.into_iter().min_by_key(|due| (due.work, due.at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(text: &str) -> Timestamp {
        format!("2026-11-24T{text}Z").parse().unwrap()
    }

    fn check(when: &When, past: Past, now: &str, expected: &str) {
        let due = due_at(when, &past, at(now), &TimeZone::UTC).map(|due| due.to_string());
        assert_eq!(due.as_deref(), Some(expected));
    }

    fn good(time: &str) -> Past {
        Past { good: Some(at(time)), ..Past::default() }
    }

    #[test]
    fn work_begins_before_its_age_is_reached_and_earlier_when_it_takes_long() {
        let within = When::Within(8 * HOUR);
        check(&within, Past::default(), "10:00:00", "2026-11-24T10:00:00Z");
        check(&within, good("01:00:00"), "02:00:00", "2026-11-24T07:00:00Z");
        check(&within, Past { took: HOUR, ..good("01:00:00") }, "02:00:00", "2026-11-24T06:00:00Z");
        // Work that takes longer than there is time for would be done without end.
        check(&within, Past { took: 9 * HOUR, ..good("01:00:00") }, "02:00:00", "2026-11-24T05:00:00Z");
    }

    #[test]
    fn a_failure_is_tried_again_soon_and_a_bad_answer_later() {
        let within = When::Within(8 * HOUR);
        let failed =
            |failures, how| Past { failures, failed: Some((at("09:00:00"), how)), ..good("01:00:00") };
        check(&within, failed(1, Failure::Error), "09:00:01", "2026-11-24T09:01:00Z");
        check(&within, failed(3, Failure::Error), "09:00:01", "2026-11-24T09:04:00Z");
        check(&within, failed(40, Failure::Error), "09:00:01", "2026-11-24T10:00:00Z");
        check(&within, failed(1, Failure::BadAnswer), "09:00:01", "2026-11-24T11:00:00Z");
    }

    #[test]
    fn times_that_were_missed_are_caught_up_once() {
        let nightly = When::At(cron("0 3 * * *").unwrap());
        check(&nightly, good("03:10:00"), "10:00:00", "2026-11-25T03:00:00Z");
        check(&nightly, good("02:50:00"), "10:00:00", "2026-11-24T03:00:00Z");
        let long_ago = Past { good: Some("2026-10-01T03:00:00Z".parse().unwrap()), ..Past::default() };
        check(&nightly, long_ago, "10:00:00", "2026-11-24T03:00:00Z");
        check(&nightly, Past::default(), "10:00:00", "2026-11-24T03:00:00Z");
        assert!(cron("0 3 * *").is_err());
    }

    /// In Berlin 02:30 does not exist on 2026-03-29: the night must not go without.
    #[test]
    fn a_local_time_that_the_clock_skips_is_not_skipped() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let past = Past { good: Some("2026-03-28T01:31:00Z".parse().unwrap()), ..Past::default() };
        let now = "2026-03-29T04:00:00Z".parse().unwrap();
        let due = due_at(&When::At(cron("30 2 * * *").unwrap()), &past, now, &zone).unwrap();
        assert!(due <= now, "{due}");
    }

    #[test]
    fn a_backup_goes_before_a_drill_that_is_overdue_longer() {
        let due = |work, time| Due { work, repository: "main".to_owned(), at: at(time) };
        let all =
            vec![due(Work::Drill, "01:00:00"), due(Work::Backup, "09:00:00"), due(Work::Verify, "11:00:00")];
        assert_eq!(first(all, at("10:00:00")).map(|due| due.work), Some(Work::Backup));
        assert_eq!(first(vec![due(Work::Verify, "11:00:00")], at("10:00:00")), None);
    }
}

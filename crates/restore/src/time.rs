//! Reads the instant that a person asked for.
//!
//! Takes RFC 3339 (`2026-11-22T14:05:00+01:00`) and what PostgreSQL itself prints (`2026-11-22 14:05:00.25+01`,
//! `2026-11-22 14:05:00 UTC`, `... Europe/Berlin`). Without a zone the zone of this host counts, and that is said, because the
//! server may have written its log in another one. Abbreviations such as `CET` or `EST` are refused: they mean different
//! offsets in different places, and an hour's error here is an hour of lost data.
//! Pure: the local zone is an argument.

use crate::error::RestoreError;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Timestamp, Unit};
use serde::Serialize;

/// Where the zone of a time came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZoneOrigin {
    /// It was part of the text.
    Written,
    /// The text had none; this host's was taken.
    Local(String),
}

/// An instant, and how sure we are of what was meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestedTime {
    /// The instant, in whole microseconds as PostgreSQL counts them.
    pub at: Timestamp,
    /// Where its zone came from.
    pub zone: ZoneOrigin,
}

/// Reads a time; `local` is the zone for a text without one.
///
/// # Errors
/// [`RestoreError::TargetTime`] for anything else, for a zone abbreviation, and for a local time that a clock change skipped or
/// repeated.
pub fn parse_time(text: &str, local: &TimeZone) -> Result<RequestedTime, RestoreError> {
    let fail = |why: String| RestoreError::TargetTime { text: text.to_owned(), why };
    let trimmed = text.trim();
    let (date, rest) = split_date(trimmed).ok_or_else(|| fail("it does not begin with a date".to_owned()))?;
    let date: Date = date.parse().map_err(|_| fail(format!("`{date}` is not a date")))?;
    let clock_len = rest.bytes().take_while(|b| b.is_ascii_digit() || matches!(b, b':' | b'.')).count();
    let (clock, zone) = rest.split_at(clock_len);
    let clock: Time = clock.parse().map_err(|_| fail(format!("`{clock}` is not a time of day")))?;
    if clock.subsec_nanosecond() % 1000 != 0 {
        return Err(fail("PostgreSQL counts microseconds, and this is finer".to_owned()));
    }
    let civil = date.to_datetime(clock);
    let (zone, origin) = match zone.trim() {
        "" => (local.clone(), ZoneOrigin::Local(zone_name(local))),
        written => (parse_zone(written).map_err(fail)?, ZoneOrigin::Written),
    };
    let at = resolve(civil, &zone).map_err(fail)?;
    Ok(RequestedTime { at, zone: origin })
}

/// An instant as PostgreSQL reads it on every setting of `TimeZone` and `DateStyle`: ISO order, offset written.
pub fn format_for_postgres(at: Timestamp) -> String {
    let civil = TimeZone::UTC.to_datetime(at);
    let micros = civil.subsec_nanosecond() / 1000;
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{micros:06}+00",
        civil.year(),
        civil.month(),
        civil.day(),
        civil.hour(),
        civil.minute(),
        civil.second()
    )
}

/// An instant as a person reads it: in UTC, to the second or finer where it matters.
pub fn show_time(at: Timestamp) -> String {
    let second = at.round(Unit::Second).is_ok_and(|rounded| rounded == at);
    let civil = TimeZone::UTC.to_datetime(at);
    match second {
        true => civil.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        false => civil.strftime("%Y-%m-%d %H:%M:%S%.6f UTC").to_string(),
    }
}

fn split_date(text: &str) -> Option<(&str, &str)> {
    let at = text.find(['T', 't', ' '])?;
    Some((&text[..at], text[at + 1..].trim_start()))
}

fn zone_name(zone: &TimeZone) -> String {
    match zone.iana_name() {
        Some(name) => name.to_owned(),
        None => "the zone of this host".to_owned(),
    }
}

fn parse_zone(text: &str) -> Result<TimeZone, String> {
    if ["Z", "UTC", "GMT"].iter().any(|utc| text.eq_ignore_ascii_case(utc)) {
        return Ok(TimeZone::UTC);
    }
    if text.starts_with(['+', '-']) {
        return parse_offset(text)
            .map(TimeZone::fixed)
            .ok_or_else(|| format!("`{text}` is not an offset from UTC"));
    }
    if !text.contains('/') {
        return Err(format!("`{text}` means different offsets in different places"));
    }
    TimeZone::get(text).map_err(|_| format!("`{text}` is not a time zone"))
}

/// `+HH`, `+HH:MM`, `+HHMM`, `+HH:MM:SS`, east positive as PostgreSQL prints offsets.
fn parse_offset(text: &str) -> Option<Offset> {
    let (sign, digits) = text.split_at(1);
    let plain: String = digits.chars().filter(|c| *c != ':').collect();
    let colons_fit = !digits.contains(':') || digits.split(':').all(|part| part.len() == 2);
    if !colons_fit || !matches!(plain.len(), 2 | 4 | 6) || !plain.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |at: usize| plain.get(at..at + 2).map_or(Some(0), |two| two.parse::<i32>().ok());
    let (hours, minutes, seconds) = (part(0)?, part(2)?, part(4)?);
    if minutes > 59 || seconds > 59 {
        return None;
    }
    let total = hours * 3600 + minutes * 60 + seconds;
    Offset::from_seconds(if sign == "-" { -total } else { total }).ok()
}

fn resolve(civil: DateTime, zone: &TimeZone) -> Result<Timestamp, String> {
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => {}
        AmbiguousOffset::Gap { .. } => {
            return Err(format!("the clocks of {} skipped this time", zone_name(zone)));
        }
        AmbiguousOffset::Fold { before, after } => {
            return Err(format!(
                "the clocks of {} showed it twice: write {before} or {after} after it",
                zone_name(zone)
            ));
        }
    }
    ambiguous.unambiguous().map_err(|_| "it is out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    fn check(text: &str, expected: &str) {
        let seen = match parse_time(text, &berlin()) {
            Ok(time) => format!("{} {:?}", format_for_postgres(time.at), time.zone),
            Err(RestoreError::TargetTime { why, .. }) => why,
            Err(other) => other.to_string(),
        };
        assert_eq!(seen, expected, "{text}");
    }

    #[test]
    fn reads_rfc_3339_and_what_postgresql_prints() {
        check("2026-11-22T14:05:00Z", "2026-11-22 14:05:00.000000+00 Written");
        check("2026-11-22T14:05:00.25+01:00", "2026-11-22 13:05:00.250000+00 Written");
        check("2026-11-22 14:05:00.123456+01", "2026-11-22 13:05:00.123456+00 Written");
        check("2026-11-22 14:05:00 UTC", "2026-11-22 14:05:00.000000+00 Written");
        check("2026-11-22 14:05:00 America/New_York", "2026-11-22 19:05:00.000000+00 Written");
        check("2026-11-22 14:05:00-03:30", "2026-11-22 17:35:00.000000+00 Written");
        check("2026-11-22 14:05+0530", "2026-11-22 08:35:00.000000+00 Written");
    }

    #[test]
    fn says_when_the_zone_was_taken_from_the_host() {
        check("2026-11-22 14:05:00", "2026-11-22 13:05:00.000000+00 Local(\"Europe/Berlin\")");
    }

    #[test]
    fn refuses_what_can_be_misread() {
        check("2026-11-22 14:05:00 CET", "`CET` means different offsets in different places");
        check(
            "2026-10-25 02:30:00",
            "the clocks of Europe/Berlin showed it twice: write +02 or +01 after it",
        );
        check("2026-03-29 02:30:00", "the clocks of Europe/Berlin skipped this time");
        check("22.11.2026 14:05", "`22.11.2026` is not a date");
        check("14:05", "it does not begin with a date");
        check("2026-11-22 25:05:00Z", "`25:05:00` is not a time of day");
        check("2026-11-22 14:05:00.1234567Z", "PostgreSQL counts microseconds, and this is finer");
        check("2026-11-22 14:05:00+1", "`+1` is not an offset from UTC");
        check("2026-11-22 14:05:00 Not/Azone", "`Not/Azone` is not a time zone");
    }

    #[test]
    fn shows_times_in_utc() {
        assert_eq!(show_time("2026-11-22T14:05:00Z".parse().unwrap()), "2026-11-22 14:05:00 UTC");
        assert_eq!(show_time("2026-11-22T14:05:00.5Z".parse().unwrap()), "2026-11-22 14:05:00.500000 UTC");
    }
}

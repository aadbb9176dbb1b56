//! Reads the text of one setting's value, with PostgreSQL's units.

use super::agent::Schedule;
use super::definitions::Kind;
use crate::agent::cron;
use crate::fault::Refused;
use pgproof_base::Bytes;
use pgproof_repo::{Codec, key_command};
use pgproof_server::{ChannelBinding, SslMode};
use pgproof_store::LockMode;
use std::path::PathBuf;
use std::time::Duration;

/// A type that a setting can have.
pub(crate) trait FromValue: Sized {
    /// Reads it; the error completes the sentence "`VALUE` cannot be used: ...".
    fn from_value(text: &str) -> Result<Self, String>;
}

impl FromValue for String {
    fn from_value(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
    }
}

impl FromValue for PathBuf {
    fn from_value(text: &str) -> Result<Self, String> {
        // archive_command runs inside the data directory and a cron job elsewhere: a relative path would mean two places.
        if !text.starts_with('/') {
            return Err("a path must be absolute, it begins with `/`".to_owned());
        }
        Ok(Self::from(text))
    }
}

impl FromValue for SslMode {
    fn from_value(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

impl FromValue for ChannelBinding {
    fn from_value(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

impl FromValue for bool {
    fn from_value(text: &str) -> Result<Self, String> {
        match text {
            "true" | "on" | "yes" => Ok(true),
            "false" | "off" | "no" => Ok(false),
            _ => Err("write true or false".to_owned()),
        }
    }
}

impl FromValue for i64 {
    fn from_value(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "write a whole number".to_owned())
    }
}

impl FromValue for Bytes {
    fn from_value(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "write a whole number and one of B, kB, MB, GB, TB".to_owned())
    }
}

/// The words of a command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandWords(pub(crate) Vec<String>);

impl FromValue for CommandWords {
    fn from_value(text: &str) -> Result<Self, String> {
        key_command::split(text).map(Self)
    }
}

impl FromValue for Schedule {
    fn from_value(text: &str) -> Result<Self, String> {
        match text {
            "objective" => Ok(Self::Objective),
            "never" => Ok(Self::Never),
            _ => cron(text).map(|_| Self::Cron(text.to_owned())),
        }
    }
}

impl FromValue for Codec {
    fn from_value(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "write zstd, zstd:1 to zstd:22, lz4 or none".to_owned())
    }
}

impl FromValue for LockMode {
    fn from_value(text: &str) -> Result<Self, String> {
        match text {
            "governance" => Ok(Self::Governance),
            "compliance" => Ok(Self::Compliance),
            _ => Err("write governance or compliance".to_owned()),
        }
    }
}

impl FromValue for Duration {
    /// PostgreSQL's units of time (`src/backend/utils/misc/guc.c`, `time_unit_conversion_table`). A bare number is refused,
    /// because each of PostgreSQL's settings gives it another unit.
    fn from_value(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits]
            .parse()
            .map_err(|_| "write a whole number and one of ms, s, min, h, d".to_owned())?;
        let unit_ms = match text[digits..].trim() {
            "ms" => 1,
            "s" => 1000,
            "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => return Err("the unit is missing, write one of ms, s, min, h, d".to_owned()),
            other => return Err(format!("`{other}` is no unit, write one of ms, s, min, h, d")),
        };
        let ms = number.checked_mul(unit_ms).filter(|ms| *ms <= DURATION_MAX_MS);
        ms.map(Self::from_millis).ok_or_else(|| "that is more than a thousand years".to_owned())
    }
}

/// Reads a duration given as an argument.
///
/// # Errors
/// Names the argument.
pub(crate) fn parse_duration(flag: &str, text: &str) -> Result<Duration, Refused> {
    Duration::from_value(text)
        .map_err(|why| Refused::new("argument-invalid", format!("{flag} cannot be `{text}`"), why))
}

/// A thousand years: beyond it instants can no longer be computed with.
const DURATION_MAX_MS: u64 = 1000 * 366 * 86_400_000;

/// Whether a text is a value of this kind, in its range.
pub(crate) fn check_value(kind: Kind, text: &str) -> Result<(), String> {
    match kind {
        Kind::Text | Kind::Secret => String::from_value(text).map(drop),
        Kind::Path => PathBuf::from_value(text).map(drop),
        Kind::Boolean => bool::from_value(text).map(drop),
        Kind::Compression => Codec::from_value(text).map(drop),
        Kind::Schedule => Schedule::from_value(text).map(drop),
        Kind::Command => CommandWords::from_value(text).map(drop),
        Kind::Choice(words) => match words.contains(&text) {
            true => Ok(()),
            false => Err(format!("it must be {}", kind.describe())),
        },
        Kind::Integer { min, max } => in_range(i64::from_value(text)?, min, max, kind),
        Kind::Size { min, max } => in_range(Bytes::from_value(text)?.0, min, max, kind),
        Kind::Duration { min_ms } => {
            in_range(Duration::from_value(text)?.as_millis() as u64, min_ms, u64::MAX, kind)
        }
    }
}

fn in_range<N: PartialOrd>(number: N, min: N, max: N, kind: Kind) -> Result<(), String> {
    if number < min || number > max { Err(format!("it must be a {}", kind.describe())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_postgresql_units() {
        assert_eq!(Duration::from_value("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(Duration::from_value("5 min"), Ok(Duration::from_secs(300)));
        assert_eq!(Duration::from_value("14d"), Ok(Duration::from_secs(14 * 86_400)));
        assert!(Duration::from_value("60").unwrap_err().contains("unit is missing"));
        assert!(Duration::from_value("2 weeks").unwrap_err().contains("`weeks` is no unit"));
        assert!(Duration::from_value("99999999999d").is_err());
        assert!(Duration::from_value("").is_err());
    }

    #[test]
    fn values_out_of_range_name_the_range() {
        let why = check_value(Kind::Integer { min: 1, max: 16 }, "17").unwrap_err();
        assert_eq!(why, "it must be a whole number, 1 to 16");
        let why = check_value(Kind::Size { min: 1 << 20, max: 1 << 30 }, "4kB").unwrap_err();
        assert_eq!(why, "it must be a size, 1.0 MB to 1.0 GB");
    }

    #[test]
    fn relative_paths_are_refused() {
        assert!(check_value(Kind::Path, "repo").is_err());
        assert!(check_value(Kind::Path, "/repo").is_ok());
    }
}

//! Byte counts and durations as people read and write them.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time::Duration};

/// A number of bytes. Displays in binary units as PostgreSQL does (`pg_size_pretty`): `8192 bytes`, `16 MB`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 10 * 1024 {
            return write!(f, "{} bytes", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        if value < 10.0 {
            write!(f, "{value:.1} {}", UNITS[unit])
        } else {
            write!(f, "{value:.0} {}", UNITS[unit])
        }
    }
}

/// Why a text is not a byte count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseBytesError(String);

impl fmt::Display for ParseBytesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a size: write a whole number with B, kB, MB, GB or TB", self.0)
    }
}

impl std::error::Error for ParseBytesError {}

impl FromStr for Bytes {
    type Err = ParseBytesError;

    /// Reads PostgreSQL's memory units: `B`, `kB`, `MB`, `GB`, `TB`, multiples of 1024; bare numbers are bytes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseBytesError(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = trimmed[..digits].parse().map_err(|_| fail())?;
        let factor: u64 = match trimmed[digits..].trim() {
            "" | "B" => 1,
            "kB" => 1 << 10,
            "MB" => 1 << 20,
            "GB" => 1 << 30,
            "TB" => 1 << 40,
            _ => return Err(fail()),
        };
        number.checked_mul(factor).map(Bytes).ok_or_else(fail)
    }
}

/// A duration as a person says it: `340 ms`, `8.4 s`, `2 min 5 s`, `3 h 20 min`, `2 d 4 h`.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..=59 => format!("{:.1} s", duration.as_secs_f64()),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_as_written() {
        assert_eq!("16MB".parse(), Ok(Bytes(16 << 20)));
        assert_eq!("8192".parse(), Ok(Bytes(8192)));
        assert!("16 mb".parse::<Bytes>().is_err());
        assert!("99999999999TB".parse::<Bytes>().is_err());
        assert_eq!(Bytes(16 << 20).to_string(), "16 MB");
        assert_eq!(Bytes(8192).to_string(), "8192 bytes");
    }

    #[test]
    fn durations_read_like_speech() {
        assert_eq!(human_duration(Duration::from_millis(340)), "340 ms");
        assert_eq!(human_duration(Duration::from_millis(8400)), "8.4 s");
        assert_eq!(human_duration(Duration::from_secs(125)), "2 min 5 s");
    }
}

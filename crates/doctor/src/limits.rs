//! `[doctor]` of the configuration: thresholds of checks, and checks that are silent for a stated reason until a stated day.
//!
//! ```toml
//! [doctor.limits]
//! disk-space = [85, 95]            # warning, critical
//!
//! [[doctor.silence]]
//! code = "slot-inactive"
//! subject = "old_standby"          # without it, every finding of the code
//! reason = "moves to the new data centre this week"
//! until = "2026-12-01"
//! ```

use crate::DoctorError;
use crate::check;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use toml_edit::{Item, Table, TableLike, Value};

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Of a hundred.
    Percent,
    /// Of time.
    Seconds,
    /// Of space.
    Bytes,
    /// Of things.
    Count,
}

/// From where on something is a warning, and from where on critical.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// What is counted.
    pub unit: Unit,
    /// A warning from here on.
    pub warning: f64,
    /// Critical from here on.
    pub critical: f64,
}

impl Limit {
    /// As a person reads it.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{} / {} {}", self.warning, self.critical, self.unit.name())
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Percent => "%",
            Self::Seconds => "s",
            Self::Bytes => "bytes",
            Self::Count => "",
        }
    }
}

/// A check that is to be silent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Which check.
    pub code: String,
    /// About what; everything without it.
    pub subject: Option<String>,
    /// Why.
    pub reason: String,
    /// The last day.
    pub until: Date,
}

/// What the configuration says of doctor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    limits: BTreeMap<String, (f64, f64)>,
    /// Silent checks.
    pub silences: Vec<Silence>,
}

impl Config {
    /// Reads the table `[doctor]`.
    ///
    /// # Errors
    /// [`DoctorError::Config`] for anything that is not known or makes no sense.
    pub fn read(table: &Table) -> Result<Self, DoctorError> {
        let mut config = Self::default();
        for (name, item) in table {
            match (name, item) {
                ("limits", item) => config.read_limits(item)?,
                ("silence", Item::ArrayOfTables(all)) => {
                    for one in all {
                        config.silences.push(silence(one)?);
                    }
                }
                _ => {
                    return Err(wrong(format!(
                        "unknown `{name}` in `[doctor]`: there are limits and [[doctor.silence]]"
                    )));
                }
            }
        }
        Ok(config)
    }

    fn read_limits(&mut self, item: &Item) -> Result<(), DoctorError> {
        let table = item.as_table_like().ok_or_else(|| wrong("`limits` must be a table".to_owned()))?;
        for (code, item) in table.iter() {
            let has_limit = check::checks().any(|check| check.code == code && check.limit.is_some());
            if !has_limit {
                return Err(wrong(format!("`{code}` in `[doctor.limits]` is no check that has limits")));
            }
            let pair = item.as_array().map(|array| array.iter().filter_map(number).collect::<Vec<f64>>());
            match pair.as_deref() {
                Some([warning, critical]) if warning <= critical => {
                    self.limits.insert(code.to_owned(), (*warning, *critical));
                }
                _ => {
                    return Err(wrong(format!(
                        "`{code}` must be two numbers, [warning, critical], the smaller first"
                    )));
                }
            }
        }
        Ok(())
    }

    /// The limit that counts for a check.
    #[must_use]
    pub fn limit(&self, code: &str, otherwise: Limit) -> Limit {
        match self.limits.get(code) {
            Some(&(warning, critical)) => Limit { warning, critical, ..otherwise },
            None => otherwise,
        }
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|number| number as f64))
}

fn silence(table: &dyn TableLike) -> Result<Silence, DoctorError> {
    let text = |name: &str| table.get(name).and_then(Item::as_str).map(str::to_owned);
    let needed = |name: &str| {
        text(name)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| wrong(format!("[[doctor.silence]] needs `{name}`")))
    };
    let code = needed("code")?;
    if !check::checks().any(|check| check.code == code) {
        return Err(wrong(format!("[[doctor.silence]] names `{code}`, which is no check")));
    }
    let until = needed("until")?;
    let until = until
        .parse()
        .map_err(|_| wrong(format!("`until` must be a day such as 2026-12-31, not `{until}`")))?;
    Ok(Silence { code, subject: text("subject"), reason: needed("reason")?, until })
}

fn wrong(message: String) -> DoctorError {
    DoctorError::Config { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let document: toml_edit::DocumentMut = text.parse().unwrap();
        Config::read(document["doctor"].as_table().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn limits_and_silences_are_read_and_everything_else_refused() {
        let text = "[doctor.limits]\ndisk-space = [1, 2.5]\n[[doctor.silence]]\ncode = \"slot-inactive\"\nreason = \"r\"\nuntil = \"2026-12-01\"\n";
        let config = read(text).unwrap();
        let limit = config.limit("disk-space", Limit { unit: Unit::Percent, warning: 90.0, critical: 98.0 });
        assert_eq!((limit.warning, limit.critical), (1.0, 2.5));
        assert_eq!(config.silences[0].code, "slot-inactive");
        for (bad, word) in [
            ("[doctor.limits]\nnonsense = [1, 2]\n", "nonsense"),
            ("[doctor.limits]\ndisk-space = [3, 2]\n", "two numbers"),
            ("[[doctor.silence]]\ncode = \"slot-inactive\"\nuntil = \"2026-12-01\"\n", "reason"),
            ("[[doctor.silence]]\ncode = \"slot-inactive\"\nreason = \"r\"\nuntil = \"soon\"\n", "soon"),
            ("[doctor]\nx = 1\n", "unknown `x`"),
        ] {
            assert!(read(bad).unwrap_err().contains(word), "{bad}");
        }
    }
}

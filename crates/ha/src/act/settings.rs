//! The settings that the agent decides about, in a file of their own: `pgproof.conf` in the data directory.
//!
//! It is included at the end of `postgresql.conf`, replaced as a whole and synced before anybody reads it. `ALTER SYSTEM` would win over it,
//! so the same settings are taken out of `postgresql.auto.conf` whenever it is written. Nothing else of the operator's is touched.

use crate::HaError;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::Path,
};

/// The file's name.
pub const MANAGED_FILE: &str = "pgproof.conf";

/// The line that includes it.
const INCLUDE: &str = "include_if_exists = 'pgproof.conf'";

/// What the agent set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManagedSettings(BTreeMap<String, String>);

impl ManagedSettings {
    /// Reads the file; none is an empty one.
    ///
    /// # Errors
    /// [`HaError::Host`].
    pub fn read(data: &Path) -> Result<Self, HaError> {
        let path = data.join(MANAGED_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(HaError::host("read", path)(error)),
        };
        Ok(Self(text.lines().filter_map(parse_line).collect()))
    }

    /// A setting's value; empty where it is not set.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Sets it.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Writes the file durably, and makes sure that it counts.
    ///
    /// # Errors
    /// [`HaError::Host`].
    pub fn write(&self, data: &Path) -> Result<(), HaError> {
        let mut text = String::from("# Written by `pgproof agent`; what is changed here is overwritten.\n");
        for (name, value) in &self.0 {
            text += &format!("{name} = '{}'\n", value.replace('\'', "''"));
        }
        replace(&data.join(MANAGED_FILE), text.as_bytes())?;
        self.take_out_of_auto_conf(data)?;
        include(data)
    }

    fn take_out_of_auto_conf(&self, data: &Path) -> Result<(), HaError> {
        let path = data.join("postgresql.auto.conf");
        let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
        let is_ours = |line: &&str| parse_line(line).is_some_and(|(name, _)| self.0.contains_key(&name));
        if !text.lines().any(|line| is_ours(&line)) {
            return Ok(());
        }
        let kept: String =
            text.lines().filter(|line| !is_ours(line)).map(|line| format!("{line}\n")).collect();
        replace(&path, kept.as_bytes())
    }
}

fn parse_line(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (name, value) = line.split_once('=')?;
    let value = value.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    Some((name.trim().to_owned(), value.replace("''", "'")))
}

fn include(data: &Path) -> Result<(), HaError> {
    let path = data.join("postgresql.conf");
    let text = fs::read_to_string(&path).map_err(HaError::host("read", &path))?;
    // Whatever came after it would win.
    if text.lines().rev().find(|line| !line.trim().is_empty()).map(str::trim) == Some(INCLUDE) {
        return Ok(());
    }
    let kept: String =
        text.lines().filter(|line| line.trim() != INCLUDE).map(|line| format!("{line}\n")).collect();
    replace(&path, format!("{kept}{INCLUDE}\n").as_bytes())
}

/// Replaces a file durably: a reader, and a machine after a power cut, finds the old or the new one.
///
/// # Errors
/// [`HaError::Host`].
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), HaError> {
    let next = path.with_extension("pgproof-new");
    let write = || {
        let mut file = File::create(&next)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    write().map_err(HaError::host("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_counts_and_nothing_else_is_touched() {
        let data = tempfile::tempdir().unwrap();
        let at = |name: &str| data.path().join(name);
        fs::write(at("postgresql.conf"), "port = 5433\n").unwrap();
        fs::write(at("postgresql.auto.conf"), "work_mem = '8MB'\nprimary_conninfo = 'host=old'\n").unwrap();
        let wanted =
            ManagedSettings::default().with("primary_conninfo", "host='it''s' application_name=n2.t8");
        wanted.write(data.path()).unwrap();
        wanted.write(data.path()).unwrap();
        assert_eq!(ManagedSettings::read(data.path()).unwrap(), wanted);
        assert_eq!(fs::read_to_string(at("postgresql.conf")).unwrap(), format!("port = 5433\n{INCLUDE}\n"));
        assert_eq!(fs::read_to_string(at("postgresql.auto.conf")).unwrap(), "work_mem = '8MB'\n");
    }
}

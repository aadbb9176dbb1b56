//! The settings files, read without a server: `postgresql.conf` with its includes, then `postgresql.auto.conf`, with the errors that the
//! server's own reader would name (`src/backend/utils/misc/guc-file.l`), each with file and line.
//!
//! Whether a value fits its setting is the server's to say: [`super::StartProbe`] asks its program where one is there.

mod read;

pub use read::{Parsed, parse};

use super::place::Place;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One setting as a file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its name in lower case.
    pub name: String,
    /// Its value without quotes.
    pub value: String,
    /// The file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: u32,
}

/// Something that keeps the server from starting, or from taking over changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Counted from 1; 0 for the file as a whole.
    pub line: u32,
    /// In the server's words.
    pub why: String,
}

/// All settings files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsFiles {
    /// In the order in which they count: later ones win.
    pub lines: Vec<Line>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl SettingsFiles {
    /// The line that counts for a setting.
    #[must_use]
    pub fn line(&self, name: &str) -> Option<&Line> {
        self.lines.iter().rev().find(|line| line.name == name)
    }

    /// The value that counts.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.line(name).map(|line| line.value.as_str())
    }
}

pub(super) fn observe(place: Place) -> Result<SettingsFiles, String> {
    Ok(read_files(&place.config_file, &place.data_directory.join("postgresql.auto.conf")))
}

fn read_files(config: &Path, auto: &Path) -> SettingsFiles {
    let mut files = SettingsFiles::default();
    read::add(&mut files, config, 0, read::Missing::IsWrong);
    read::add(&mut files, auto, 0, read::Missing::IsFine);
    files
}

/// The values that count, for other sources.
pub(super) fn values(place: &Place) -> BTreeMap<String, String> {
    let files = read_files(&place.config_file, &place.data_directory.join("postgresql.auto.conf"));
    files.lines.into_iter().map(|line| (line.name, line.value)).collect()
}

/// Bytes of a memory setting as PostgreSQL reads it; a bare number counts in `unit` bytes.
#[must_use]
pub fn bytes_of(value: &str, unit: u64) -> Option<u64> {
    let text = value.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].trim() {
        "" => unit,
        "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return None,
    };
    Some((number * factor as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn memory_is_read_with_and_without_units() {
        assert_eq!(bytes_of("128MB", 8192), Some(128 << 20));
        assert_eq!(bytes_of("16384", 8192), Some(128 << 20));
        assert_eq!(bytes_of("1.5 GB", 1), Some(3 << 29));
        assert_eq!(bytes_of("12 parsecs", 1), None);
    }

    #[test]
    fn errors_are_named_with_file_and_line_across_includes() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("conf.d")).unwrap();
        fs::write(path("main.conf"), "port = 1\ninclude_dir = 'conf.d'\ninclude 'none.conf'\nwork_mem 4MB\n")
            .unwrap();
        fs::write(path("conf.d/a.conf"), "# fine\nshared_buffers = = 1\nport = 2\n").unwrap();
        fs::write(path("auto.conf"), "port = '3'\nbroken line here\n").unwrap();
        let files = read_files(&path("main.conf"), &path("auto.conf"));
        assert_eq!(files.get("port"), Some("3"));
        assert_eq!(files.get("work_mem"), Some("4MB"));
        let places: Vec<_> = files
            .problems
            .iter()
            .map(|problem| (problem.file.file_name().unwrap().to_str().unwrap(), problem.line))
            .collect();
        assert_eq!(places, [("a.conf", 2), ("main.conf", 3), ("auto.conf", 2)]);
    }
}

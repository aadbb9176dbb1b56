//! `postgresql.conf` as the server reads it (`src/backend/utils/misc/guc-file.l`): names, values, includes.
//!
//! This is for servers that are stopped or that let nobody in; a running one is asked. Values stay text: units and enums
//! are the server's to judge.

use crate::error::ServerError;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// `CONF_FILE_MAX_DEPTH`: files that include one another deeper than this are an error to the server too.
const DEPTH_MAX: usize = 10;

/// What configuration files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The last value of each setting, by name in lower case.
    pub settings: BTreeMap<String, String>,
    /// Every file that was read.
    pub files: BTreeSet<PathBuf>,
}

impl Configuration {
    /// Reads a configuration file with all that it includes.
    ///
    /// # Errors
    /// [`ServerError::Host`] when a file that must exist cannot be read.
    pub fn read(file: &Path) -> Result<Self, ServerError> {
        let mut configuration = Self::default();
        configuration.add(file, 0)?;
        Ok(configuration)
    }

    /// Reads a further file over this one, as the server does with `postgresql.auto.conf`; it may be missing.
    ///
    /// # Errors
    /// [`ServerError::Host`] when it exists and cannot be read.
    pub fn and_if_exists(mut self, file: &Path) -> Result<Self, ServerError> {
        if file.exists() {
            self.add(file, 0)?;
        }
        Ok(self)
    }

    /// A setting's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    fn add(&mut self, file: &Path, depth: usize) -> Result<(), ServerError> {
        let content = fs::read(file).map_err(ServerError::host("read", file))?;
        self.files.insert(file.to_owned());
        let folder = file.parent().unwrap_or(Path::new("/"));
        for Line { name, value } in lines(&String::from_utf8_lossy(&content)) {
            let included = folder.join(&value);
            match name.as_str() {
                _ if depth >= DEPTH_MAX => {}
                "include" => self.add(&included, depth + 1)?,
                "include_if_exists" if included.exists() => self.add(&included, depth + 1)?,
                "include_if_exists" => {}
                "include_dir" => {
                    for file in files_of(&included)? {
                        self.add(&file, depth + 1)?;
                    }
                }
                _ => drop(self.settings.insert(name, value)),
            }
        }
        Ok(())
    }
}

/// What `include_dir` takes of a directory, in the order of the C locale: `*.conf` that does not begin with a dot.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, ServerError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(ServerError::host("read", folder))? {
        let entry = entry.map_err(ServerError::host("read", folder))?;
        let name = entry.file_name();
        let wanted = name.to_str().is_some_and(|name| name.ends_with(".conf") && !name.starts_with('.'));
        if wanted && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

#[derive(Debug, PartialEq, Eq)]
struct Line {
    name: String,
    value: String,
}

/// The settings of one file, in order. A line that the server would refuse is left out: this reads what is in effect, and
/// the server says itself what is wrong.
fn lines(text: &str) -> impl Iterator<Item = Line> + '_ {
    text.lines().filter_map(|line| {
        let line = line.trim_start();
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$');
        let name_end = line.find(|c: char| !is_name(c)).unwrap_or(line.len());
        let (name, rest) = line.split_at(name_end);
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let rest = rest.trim_start();
        let value = value(rest.strip_prefix('=').unwrap_or(rest).trim_start())?;
        starts_well.then(|| Line { name: name.to_ascii_lowercase(), value })
    })
}

fn value(text: &str) -> Option<String> {
    if let Some(quoted) = text.strip_prefix('\'') {
        return unquote(quoted);
    }
    let end = text.find(|c: char| c.is_whitespace() || c == '#').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// A quoted value from after its first quote (`DeescapeQuotedString`): doubled quotes and C's escapes, octal included.
fn unquote(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut characters = text.chars().peekable();
    loop {
        match characters.next()? {
            '\'' if characters.peek() == Some(&'\'') => value.extend(characters.next()),
            '\'' => return Some(value),
            '\\' => match characters.next()? {
                'b' => value.push('\u{8}'),
                'f' => value.push('\u{c}'),
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                first @ '0'..='7' => {
                    let mut code = first.to_digit(8)?;
                    for _ in 0..2 {
                        let Some(digit) = characters.peek().and_then(|c| c.to_digit(8)) else { break };
                        code = code * 8 + digit;
                        characters.next();
                    }
                    value.extend(char::from_u32(code));
                }
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        lines(text).map(|line| (line.name, line.value)).collect()
    }

    #[test]
    fn every_way_to_write_a_setting_is_read() {
        let text = "port = 5433 # comment\nPORT 5434\n # archive_mode = on\n\
            archive_command='test ! -f ''/a b/%f'' && cp \\'x\\' \\101'\nplpgsql.extra = 'a'\nbad\nwork_mem=4MB#c\n";
        let wanted = [
            ("port", "5433"),
            ("port", "5434"),
            ("archive_command", "test ! -f '/a b/%f' && cp 'x' A"),
            ("plpgsql.extra", "a"),
            ("work_mem", "4MB"),
        ];
        assert_eq!(pairs(text), wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn includes_are_followed_in_order_and_the_last_value_wins() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("conf.d")).unwrap();
        fs::write(
            path("main.conf"),
            "port = 1\ninclude_dir = 'conf.d'\ninclude_if_exists 'none'\nwork_mem = 1MB",
        )
        .unwrap();
        fs::write(path("conf.d/b.conf"), "port = 3").unwrap();
        fs::write(path("conf.d/a.conf"), "port = 2\nwork_mem = 9MB").unwrap();
        fs::write(path("conf.d/.hidden.conf"), "port = 9").unwrap();
        fs::write(path("auto.conf"), "work_mem = '2MB'").unwrap();
        let read =
            Configuration::read(&path("main.conf")).unwrap().and_if_exists(&path("auto.conf")).unwrap();
        assert_eq!(read.get("port"), Some("3"));
        assert_eq!(read.get("work_mem"), Some("2MB"));
        assert_eq!(read.files.len(), 4);
    }

    #[test]
    fn files_that_include_themselves_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.conf");
        fs::write(&file, "include 'a.conf'\nport = 7").unwrap();
        assert_eq!(Configuration::read(&file).unwrap().get("port"), Some("7"));
    }

    #[test]
    fn a_missing_include_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.conf");
        fs::write(&file, "include 'b.conf'").unwrap();
        assert!(Configuration::read(&file).unwrap_err().to_string().contains("b.conf"));
    }
}

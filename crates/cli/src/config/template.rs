//! The file that `pgproof init` writes: what was found is set, everything else stands there as a comment with its default.

use super::definitions::{KEYS, Key, Otherwise, Section, find};
use std::fmt::Write;

/// A value to set in the new file.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) section: Section,
    pub(crate) name: &'static str,
    pub(crate) text: String,
}

/// The text of a new file; `repository` is the name of its only repository.
pub(crate) fn render(repository: &str, entries: &[Entry]) -> String {
    let mut out = String::from(
        "# pgproof: backups, archive and restore of one PostgreSQL server.\n\
         # A setting that is commented out shows its default, or an example and what counts otherwise.\n\
         # `pgproof config explain` shows what is in effect, and why.\n\
         # `pgproof check` tests the whole chain after a change.\n",
    );
    for section in Section::ALL {
        let _ = writeln!(out);
        comment(&mut out, section.doc());
        match section {
            Section::Repository => out.push_str(&format!("[repository.{repository}]\n")),
            section => out.push_str(&format!("[{}]\n", section.name())),
        }
        for key in KEYS.iter().filter(|key| key.section == section) {
            write_key(&mut out, key, entries);
        }
    }
    out
}

fn write_key(out: &mut String, key: &Key, entries: &[Entry]) {
    let set = entries.iter().find(|entry| entry.section == key.section && entry.name == key.name);
    comment(out, key.doc);
    let line = match (set, key.otherwise) {
        (Some(entry), _) => format!("{} = {}\n", key.name, literal(key, &entry.text)),
        (None, Otherwise::Value(text)) => format!("#{} = {}\n", key.name, literal(key, text)),
        (None, Otherwise::Found(how)) => format!("#{} = {}   # otherwise: {how}\n", key.name, key.example),
    };
    out.push_str(&line);
}

/// The value as TOML.
fn literal(key: &Key, text: &str) -> String {
    use super::definitions::Kind;
    match key.kind {
        Kind::Boolean | Kind::Integer { .. } => text.to_owned(),
        _ => toml_edit::Value::from(text).to_string(),
    }
}

/// The same for a file that is edited.
pub(crate) fn value(entry: &Entry) -> toml_edit::Value {
    let key = find(entry.section, entry.name);
    let literal = key.map(|key| literal(key, &entry.text));
    // A value that cannot be read is refused when the file is.
    literal.and_then(|text| text.parse().ok()).unwrap_or_else(|| entry.text.as_str().into())
}

/// Wrapped at a width that fits a terminal.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > 100 {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use expect_test::expect_file;
    use std::collections::BTreeMap;

    fn example() -> String {
        let entry = |section, name, text: &str| Entry { section, name, text: text.to_owned() };
        render(
            "main",
            &[
                entry(Section::Instance, "pgdata", "/var/lib/postgresql/17/main"),
                entry(Section::Instance, "port", "5432"),
                entry(Section::Repository, "path", "/var/lib/pgproof"),
                entry(Section::Repository, "key_file", "/etc/pgproof/main.key"),
                entry(Section::Retention, "keep_within", "14d"),
            ],
        )
    }

    #[test]
    fn a_new_file_shows_every_setting() {
        expect_file!["../../tests/snapshots/pgproof.toml"].assert_eq(&example());
    }

    #[test]
    fn a_new_file_reads_back_as_it_was_meant() {
        let file = ("/etc/pgproof/pgproof.toml".into(), example());
        let config = Config::from_text(Some(file), Vec::new(), &BTreeMap::new(), &[]).unwrap();
        assert_eq!(config.instance.pgdata, Some("/var/lib/postgresql/17/main".into()));
        assert_eq!(config.repositories().unwrap()[0].key_file, Some("/etc/pgproof/main.key".into()));
    }

    #[test]
    fn every_commented_line_is_valid_once_the_comment_mark_is_gone() {
        let uncommented: String = example()
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        let file = ("/etc/pgproof/pgproof.toml".into(), uncommented);
        let config = Config::from_text(Some(file), Vec::new(), &BTreeMap::new(), &[]).unwrap();
        assert_eq!(config.repositories().unwrap_err().code(), "config-location");
    }
}

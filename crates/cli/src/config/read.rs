//! Reads `pgproof.toml` into values that know their line.
//!
//! Unknown names are errors that propose the nearest known one: a misspelt `keep_dayly` that silently kept nothing would be found
//! on the day of the disaster.

use super::ConfigError;
use super::definitions::{KEYS, Key, Section, find};
use std::path::Path;
use toml_edit::{Document, Item, Table, Value};

/// One value of the file.
#[derive(Debug, Clone)]
pub(crate) struct FileValue {
    pub(crate) key: &'static Key,
    /// Which `[repository.NAME]`, or `[repository.NAME.retention]`; none in the other tables.
    pub(crate) repository: Option<String>,
    pub(crate) text: String,
    /// Counted from 1.
    pub(crate) line: usize,
}

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct FileValues {
    pub(crate) values: Vec<FileValue>,
    /// The repositories named, with the line of each, also those without values.
    pub(crate) repositories: Vec<(String, usize)>,
    /// `[doctor]`, whose names are those of the checks.
    pub(crate) doctor: pgproof_doctor::Config,
}

/// Reads the text of a file; `path` is for messages only.
///
/// # Errors
/// Anything that is not TOML, not known, or not a plain value, with its line.
pub(crate) fn read(path: &Path, text: &str) -> Result<FileValues, ConfigError> {
    let place = Place { path, text };
    let document = Document::parse(text).map_err(|error| {
        place.error(error.span().map_or(0, |span| span.start), first_line(error.message()), None)
    })?;
    let mut found = FileValues::default();
    for (name, item) in document.iter() {
        let at = item.span().map_or(0, |span| span.start);
        if let ("doctor", Item::Table(table)) = (name, item) {
            let config = pgproof_doctor::Config::read(table);
            found.doctor = config.map_err(|error| place.error(at, &error.to_string(), None))?;
            continue;
        }
        let Some(section) = Section::ALL.into_iter().find(|section| section.name() == name) else {
            let near = nearest(name, Section::ALL.iter().map(|section| section.name()));
            return Err(place.error(
                at,
                &format!("unknown table `[{name}]`"),
                near.map(|n| format!("[{n}]")),
            ));
        };
        let Item::Table(table) = item else {
            return Err(place.error(at, &format!("`{name}` must be a table, written `[{name}]`"), None));
        };
        if section == Section::Repository {
            read_repositories(&place, table, &mut found)?;
        } else {
            read_table(&place, section, None, table, &mut found)?;
        }
    }
    Ok(found)
}

fn read_repositories(place: &Place<'_>, tables: &Table, found: &mut FileValues) -> Result<(), ConfigError> {
    for (name, item) in tables.iter() {
        let at = item.span().map_or(0, |span| span.start);
        let Item::Table(table) = item else {
            let message = format!("`{name}` must lie in a table with the repository's name");
            return Err(place.error(at, &message, Some("[repository.main]".to_owned())));
        };
        if !is_name(name) {
            let message = format!("`{name}` cannot name a repository: use a-z, 0-9, `-` and `_`");
            return Err(place.error(at, &message, None));
        }
        found.repositories.push((name.to_owned(), place.line(at)));
        let mut own = table.clone();
        if let Some(retention) = own.remove(Section::Retention.name()) {
            let Item::Table(retention) = retention else {
                let message = format!("`retention` must be a table, written `[repository.{name}.retention]`");
                return Err(place.error(at, &message, None));
            };
            read_table(place, Section::Retention, Some(name), &retention, found)?;
        }
        read_table(place, Section::Repository, Some(name), &own, found)?;
    }
    Ok(())
}

fn read_table(
    place: &Place<'_>,
    section: Section,
    repository: Option<&str>,
    table: &Table,
    found: &mut FileValues,
) -> Result<(), ConfigError> {
    for (name, item) in table.iter() {
        let at = table.key(name).and_then(toml_edit::Key::span).map_or(0, |span| span.start);
        let Some(key) = find(section, name) else {
            let known = KEYS.iter().filter(|key| key.section == section).map(|key| key.name);
            let table = section.name();
            let near = nearest(name, known).map(str::to_owned);
            return Err(place.error(at, &format!("unknown setting `{name}` in `[{table}]`"), near));
        };
        let text = match item {
            Item::Value(Value::String(text)) => text.value().clone(),
            Item::Value(Value::Integer(number)) => number.value().to_string(),
            Item::Value(Value::Boolean(value)) => value.value().to_string(),
            _ => {
                let message = format!("`{name}` must be a plain value: {}", key.kind.describe());
                return Err(place.error(at, &message, None));
            }
        };
        found.values.push(FileValue {
            key,
            repository: repository.map(str::to_owned),
            text,
            line: place.line(at),
        });
    }
    Ok(())
}

/// Whether a text can be the name of a repository: it becomes part of variables' names and of messages.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 40
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}

/// The known name most like `name`, if any is like it.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|candidate| (strsim::jaro_winkler(name, candidate), candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    // Below this, proposals are more funny than helpful (`path` for `pgdata`).
    (best.0 > 0.8).then_some(best.1)
}

struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn line(&self, at: usize) -> usize {
        self.text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count() + 1
    }

    fn error(&self, at: usize, message: &str, near: Option<String>) -> ConfigError {
        ConfigError::File {
            path: self.path.to_owned(),
            line: self.line(at),
            message: message.to_owned(),
            near,
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, expected: Expect) {
        let shown = match read(Path::new("/etc/pgproof/pgproof.toml"), text) {
            Ok(found) => {
                let lines = found.values.iter().map(|value| {
                    let table = value.repository.as_deref().unwrap_or("-");
                    format!("{}: {} {} = {}\n", value.line, table, value.key.name, value.text)
                });
                lines.collect()
            }
            Err(error) => format!("{error}\nhint: {}\n", error.hint().unwrap_or_default()),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn values_know_their_table_and_line() {
        check(
            "[instance]\nport = 5433\n\n[repository.main]\npath = \"/r\"\n[backup]\nfast_checkpoint = false\n",
            expect![[r#"
                2: - port = 5433
                5: main path = /r
                7: - fast_checkpoint = false
            "#]],
        );
    }

    #[test]
    fn repositories_keep_the_order_of_the_file_and_may_have_a_retention_of_their_own() {
        let text = "[repository.near]\npath = \"/n\"\n[repository.near.retention]\nkeep_last = 3\n[repository.far]\nrequired = false\n";
        check(
            text,
            expect![[r#"
                4: near keep_last = 3
                2: near path = /n
                6: far required = false
            "#]],
        );
        let names = read(Path::new("x"), text).unwrap().repositories;
        assert_eq!(names, [("near".to_owned(), 1), ("far".to_owned(), 5)]);
        check(
            "[repository.near.retention]\nkeep_lats = 3\n",
            expect![[r#"
                /etc/pgproof/pgproof.toml:2: unknown setting `keep_lats` in `[retention]`
                hint: did you mean `keep_last`?
            "#]],
        );
    }

    #[test]
    fn misspelt_names_are_errors_that_propose_the_right_one() {
        check(
            "[retention]\nkeep_last = 3\nkeep_dayly = 7\n",
            expect![[r#"
                /etc/pgproof/pgproof.toml:3: unknown setting `keep_dayly` in `[retention]`
                hint: did you mean `keep_daily`?
            "#]],
        );
        check(
            "[bakcup]\nprocesses = 3\n",
            expect![[r#"
                /etc/pgproof/pgproof.toml:1: unknown table `[bakcup]`
                hint: did you mean `[backup]`?
            "#]],
        );
        check(
            "[instance]\nqqq = 1\n",
            expect![[r#"
                /etc/pgproof/pgproof.toml:2: unknown setting `qqq` in `[instance]`
                hint: docs/manual/configuration.md lists all settings; `pgproof config explain` shows those in effect
            "#]],
        );
    }

    #[test]
    fn what_is_no_toml_or_no_plain_value_is_refused_with_its_line() {
        check(
            "[instance]\nport = \n",
            expect![[r#"
                /etc/pgproof/pgproof.toml:2: string values must be quoted, expected literal string
                hint: docs/manual/configuration.md lists all settings; `pgproof config explain` shows those in effect
            "#]],
        );
        check(
            "[instance]\nport = [5432]\n",
            expect![[r#"
                /etc/pgproof/pgproof.toml:2: `port` must be a plain value: whole number, 1 to 65535
                hint: docs/manual/configuration.md lists all settings; `pgproof config explain` shows those in effect
            "#]],
        );
        check(
            "[repository]\npath = \"/r\"\n",
            expect![[r#"
                /etc/pgproof/pgproof.toml:2: `path` must lie in a table with the repository's name
                hint: did you mean `[repository.main]`?
            "#]],
        );
    }
}

//! Changing a server's settings through `ALTER SYSTEM`, and seeing what came of it.
//!
//! A change is done when a new session sees it or when the server says that it waits for a restart; anything else, such as
//! a command line that wins over the files, is an error. Restarting is the caller's decision.

use crate::{
    error::ServerError,
    session::{ConnectOptions, Session},
};
use serde::{Deserialize, Serialize};
use std::{
    thread,
    time::{Duration, Instant},
};

/// A setting to be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// Its new value, several for a list (`shared_preload_libraries`); none takes it out of `postgresql.auto.conf`.
    pub values: Vec<String>,
}

impl Change {
    /// Sets one value.
    #[must_use]
    pub fn set(name: &str, value: &str) -> Self {
        Self { name: name.to_owned(), values: vec![value.to_owned()] }
    }

    /// Takes the setting out of `postgresql.auto.conf`.
    #[must_use]
    pub fn reset(name: &str) -> Self {
        Self { name: name.to_owned(), values: Vec::new() }
    }

    /// The statement that does it, also for people to read beforehand.
    #[must_use]
    pub fn statement(&self) -> String {
        let name = quote_identifier(&self.name);
        if self.values.is_empty() {
            return format!("ALTER SYSTEM RESET {name}");
        }
        let values: Vec<String> = self.values.iter().map(|value| quote_literal(value)).collect();
        format!("ALTER SYSTEM SET {name} = {}", values.join(", "))
    }
}

/// What the server says of a setting (`pg_settings`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value in effect, with its unit.
    pub value: String,
    /// When it can change: `postmaster` needs a restart, `sighup` and the others a reload.
    pub context: String,
    /// Where the value comes from: `default`, `configuration file`, `command line`...
    pub source: String,
    /// The file that it comes from.
    pub source_file: Option<String>,
    /// Whether the files hold another value, which waits for a restart.
    pub pending_restart: bool,
}

impl Setting {
    /// Whether a change of it takes effect at a restart only.
    #[must_use]
    pub fn needs_restart(&self) -> bool {
        self.context == "postmaster"
    }
}

/// What came of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Settings that are in effect.
    pub in_effect: Vec<String>,
    /// Settings that wait for a restart.
    pub after_restart: Vec<String>,
}

/// How long the postmaster may take to read its files again: it does so between two events, at once unless it is overloaded.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// Looks at settings by name; unknown ones are left out. An extension's setting is unknown until the extension is loaded.
///
/// # Errors
/// [`ServerError::Statement`].
pub fn look(session: &mut Session, names: &[&str]) -> Result<Vec<Setting>, ServerError> {
    let rows = session.query(
        "look at settings",
        "SELECT name, coalesce(current_setting(name, true), ''), context, source, sourcefile, pending_restart \
         FROM pg_settings WHERE name = ANY($1) ORDER BY name",
        &[&names],
    )?;
    Ok(rows
        .iter()
        .map(|row| Setting {
            name: row.get(0),
            value: row.get(1),
            context: row.get(2),
            source: row.get(3),
            source_file: row.get(4),
            pending_restart: row.get(5),
        })
        .collect())
}

/// Changes settings, reloads, and waits until a new session shows them. If the server refuses one, those before are put
/// back as they were.
///
/// # Errors
/// [`ServerError::Statement`] when the server refuses, [`ServerError::Setting`] when something wins over the change,
/// [`ServerError::Timeout`] when it does not reload.
pub fn change(
    session: &mut Session,
    connect: &ConnectOptions,
    changes: &[Change],
) -> Result<Changed, ServerError> {
    let mut undo = Vec::new();
    for change in changes {
        let before = before(session, &change.name)?;
        if let Err(error) = session.execute("change a setting", &change.statement()) {
            for change in undo.iter().rev() {
                let change: &Change = change;
                session.execute("put a setting back", &change.statement())?;
            }
            return Err(error);
        }
        undo.push(before);
    }
    let mut fresh = reload(session, connect)?;
    judge(&mut fresh, changes)
}

/// What `postgresql.auto.conf` says now, as the change that would say it again. List settings are written there as one text
/// whose items are quoted already, so it is split as the server splits it.
fn before(session: &mut Session, name: &str) -> Result<Change, ServerError> {
    let rows = session.query(
        "look at postgresql.auto.conf",
        "SELECT setting FROM pg_file_settings WHERE name = lower($1) AND sourcefile ~ '/postgresql\\.auto\\.conf$' \
         ORDER BY seqno DESC LIMIT 1",
        &[&name],
    )?;
    Ok(match rows.first().and_then(|row| row.get::<_, Option<String>>(0)) {
        Some(value) if LISTS.contains(&name) => {
            let items = value.split(',').map(|item| item.trim().trim_matches('"').to_owned());
            Change { name: name.to_owned(), values: items.filter(|item| !item.is_empty()).collect() }
        }
        Some(value) => Change::set(name, &value),
        None => Change::reset(name),
    })
}

/// Settings whose items `ALTER SYSTEM` quotes each (`GUC_LIST_QUOTE`; `variable_is_guc_list_quote` in
/// `src/bin/pg_dump/dumputils.c`).
const LISTS: [&str; 5] = [
    "local_preload_libraries",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// Reloads; returns a session that began after the postmaster had read its files. It inherits the postmaster's time of that.
fn reload(session: &mut Session, connect: &ConnectOptions) -> Result<Session, ServerError> {
    let row = session.query_one(
        "reload the configuration",
        "SELECT extract(epoch FROM clock_timestamp())::float8, pg_reload_conf()",
        &[],
    )?;
    let asked: f64 = row.get(0);
    let deadline = Instant::now() + RELOAD_LIMIT;
    loop {
        let mut fresh = Session::open(connect)?;
        let row = fresh.query_one(
            "ask when the configuration was loaded",
            "SELECT extract(epoch FROM pg_conf_load_time())::float8",
            &[],
        )?;
        if row.get::<_, f64>(0) >= asked {
            return Ok(fresh);
        }
        if Instant::now() >= deadline {
            let what = "PostgreSQL to read its configuration".to_owned();
            return Err(ServerError::Timeout { what, limit: RELOAD_LIMIT, log_tail: String::new() });
        }
        thread::sleep(PAUSE);
    }
}

fn judge(fresh: &mut Session, changes: &[Change]) -> Result<Changed, ServerError> {
    let names: Vec<String> = changes.iter().map(|change| change.name.to_ascii_lowercase()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut changed = Changed::default();
    for setting in look(fresh, &names)? {
        let Some(change) = changes.iter().find(|change| change.name.eq_ignore_ascii_case(&setting.name))
        else {
            continue;
        };
        let from_auto =
            setting.source_file.as_deref().is_some_and(|file| file.ends_with("/postgresql.auto.conf"));
        if setting.pending_restart {
            changed.after_restart.push(setting.name);
        } else if from_auto || change.values.is_empty() {
            changed.in_effect.push(setting.name);
        } else {
            let why = format!("its value `{}` comes from the {}", setting.value, setting.source);
            return Err(ServerError::Setting { name: setting.name, wanted: change.values.join(", "), why });
        }
    }
    Ok(changed)
}

fn quote_identifier(name: &str) -> String {
    // A dot separates an extension's prefix from its setting.
    let parts: Vec<String> =
        name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    parts.join(".")
}

/// Escape syntax whenever there is a backslash, so that `standard_conforming_strings` does not matter.
fn quote_literal(value: &str) -> String {
    let quoted = value.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_quote_whatever_they_are_given() {
        assert_eq!(Change::set("archive_mode", "on").statement(), "ALTER SYSTEM SET \"archive_mode\" = 'on'");
        assert_eq!(
            Change::set("archive_command", r"a 'b' \c").statement(),
            r#"ALTER SYSTEM SET "archive_command" = E'a ''b'' \\c'"#
        );
        assert_eq!(Change::reset("x.y").statement(), "ALTER SYSTEM RESET \"x\".\"y\"");
        let list =
            Change { name: "shared_preload_libraries".to_owned(), values: vec!["a".into(), "b".into()] };
        assert_eq!(list.statement(), "ALTER SYSTEM SET \"shared_preload_libraries\" = 'a', 'b'");
    }
}

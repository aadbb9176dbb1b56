//! An observation in a file, from which the same diagnosis follows anywhere.
//!
//! Redacted means: nothing that a message quotes. Statements are never part of an observation; messages of the log keep only what is the
//! server's own text, and what stands in quotes is replaced where it is not the name of something that a finding needs.

use crate::DoctorError;
use crate::observe::{FORMAT, LogEntry, Observation};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Messages whose quoted parts are names of the server's own objects, not values of anybody's rows.
const NAMES_STAY: [&str; 16] = [
    "index \"",
    "lock file",
    "could not",
    "role ",
    "database ",
    "password authentication",
    "no pg_hba.conf",
    "pg_hba.conf rejects",
    "Peer authentication",
    "terminated by",
    "invalid page",
    "recovery",
    "replication",
    "requested WAL",
    "configuration file",
    "archive command",
];

/// Takes out what may be somebody's data: quoted values in the log's messages, addresses of files' contents, names of applications.
#[must_use]
pub fn redacted(seen: &Observation) -> Observation {
    let mut seen = seen.clone();
    if let crate::observe::Looked::Seen(log) = &mut seen.log {
        log.entries.iter_mut().for_each(redact);
    }
    if let crate::observe::Looked::Seen(files) = &mut seen.settings {
        for line in files.lines.iter_mut().filter(|line| is_secret(&line.name)) {
            "(hidden)".clone_into(&mut line.value);
        }
    }
    seen
}

fn is_secret(name: &str) -> bool {
    ["primary_conninfo", "ssl_passphrase_command"].contains(&name)
        || name.contains("password")
        || name.contains("secret")
}

fn redact(entry: &mut LogEntry) {
    let names_stay = NAMES_STAY.iter().any(|start| entry.message.contains(start));
    if !names_stay {
        entry.message = without_quoted(&entry.message);
        entry.detail = entry.detail.as_deref().map(without_quoted);
    }
    // A detail quotes rows: `Key (email)=(ann@example.com) already exists.`
    if let Some(detail) =
        entry.detail.as_mut().filter(|detail| detail.contains(")=(") || detail.starts_with("Failing row"))
    {
        "(row left out)".clone_into(detail);
    }
}

fn without_quoted(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split('"').enumerate() {
        match at % 2 {
            0 => out += part,
            _ => out += "\"...\"",
        }
    }
    out
}

/// Writes a bundle, readable by its owner alone; a file that is there is not overwritten.
///
/// # Errors
/// [`DoctorError::Bundle`].
pub fn write(path: &Path, seen: &Observation) -> Result<(), DoctorError> {
    let fail = |source: io::Error| DoctorError::Bundle { operation: "write", path: path.to_owned(), source };
    let text = serde_json::to_string_pretty(seen).map_err(|error| fail(io::Error::other(error)))?;
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(fail)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .map_err(fail)
}

/// Reads a bundle.
///
/// # Errors
/// [`DoctorError::Bundle`], [`DoctorError::NotABundle`].
pub fn read(path: &Path) -> Result<Observation, DoctorError> {
    let text = fs::read_to_string(path).map_err(|source| DoctorError::Bundle {
        operation: "read",
        path: path.to_owned(),
        source,
    })?;
    let strange = |why: String| DoctorError::NotABundle { path: path.to_owned(), why };
    let seen: Observation = serde_json::from_str(&text).map_err(|error| strange(error.to_string()))?;
    match seen.format {
        FORMAT => Ok(seen),
        other => Err(strange(format!("it is of format {other}, and this version reads {FORMAT}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_rows_are_taken_out_of_messages_and_names_stay() {
        let mut row = LogEntry {
            message: "invalid input syntax for type integer: \"4111 1111\"".to_owned(),
            detail: Some("Key (email)=(ann@example.com) already exists.".to_owned()),
            ..LogEntry::default()
        };
        redact(&mut row);
        assert_eq!(row.message, "invalid input syntax for type integer: \"...\"");
        assert_eq!(row.detail.as_deref(), Some("(row left out)"));
        let mut role = LogEntry { message: "role \"app\" does not exist".to_owned(), ..LogEntry::default() };
        redact(&mut role);
        assert_eq!(role.message, "role \"app\" does not exist");
    }
}

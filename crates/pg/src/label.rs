//! `backup_label` and `tablespace_map`: what `pg_backup_stop` returns and recovery reads.
//!
//! Promises to read them as PostgreSQL's `read_backup_label` and `read_tablespace_map` do
//! (`src/backend/access/transam/xlogrecovery.c`), and to write what those read back. A restore puts the label's own bytes back
//! unchanged; [`BackupLabel`] is for looking.

use crate::{
    error::PgError,
    lsn::{ArchiveName, Lsn, TimelineId},
};
use serde::{Deserialize, Serialize};
use std::fmt;

const LABEL: &str = "backup_label";
const MAP: &str = "tablespace_map";
/// More tablespaces than any cluster has; a map with more is damaged or hostile.
const TABLESPACES_MAX: usize = 1_000_000;

/// From what kind of server a backup was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupFrom {
    /// A primary.
    Primary,
    /// A server in recovery.
    Standby,
}

/// The content of a `backup_label`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupLabel {
    /// Where redo starts: the backup's start LSN.
    pub start: Lsn,
    /// Name of the segment that holds [`Self::start`].
    pub start_segment: String,
    /// The checkpoint record to start from.
    pub checkpoint: Lsn,
    /// `streamed` for online backups.
    pub method: String,
    /// What it was taken from.
    pub from: BackupFrom,
    /// When it began, in the server's `log_timezone`; for people.
    pub start_time: String,
    /// The text given to `pg_backup_start`.
    pub label: String,
    /// Timeline of the start.
    pub start_timeline: TimelineId,
}

impl BackupLabel {
    /// Reads a label.
    ///
    /// # Errors
    /// [`PgError::Malformed`] when a line is missing or holds what PostgreSQL would refuse.
    pub fn parse(text: &str) -> Result<Self, PgError> {
        // `pg_basebackup --incremental` (17+) writes such labels; recovery refuses them, and so do we.
        if find(text, "INCREMENTAL FROM LSN").is_some() {
            return Err(PgError::malformed(LABEL, "it belongs to an incremental backup of pg_basebackup"));
        }
        let start_line = line(text, "START WAL LOCATION")?;
        let (start, file) =
            start_line.split_once(" (file ").ok_or_else(|| bad("START WAL LOCATION", start_line))?;
        let segment = file.strip_suffix(')').ok_or_else(|| bad("START WAL LOCATION", start_line))?;
        if !matches!(ArchiveName::parse(segment), Ok(ArchiveName::Segment(_))) {
            return Err(bad("START WAL LOCATION", start_line));
        }
        let from = match line(text, "BACKUP FROM")? {
            "primary" => BackupFrom::Primary,
            "standby" => BackupFrom::Standby,
            other => return Err(bad("BACKUP FROM", other)),
        };
        Ok(Self {
            start: value(start, "START WAL LOCATION")?,
            start_segment: segment.to_owned(),
            checkpoint: value(line(text, "CHECKPOINT LOCATION")?, "CHECKPOINT LOCATION")?,
            method: line(text, "BACKUP METHOD")?.to_owned(),
            from,
            start_time: line(text, "START TIME")?.to_owned(),
            label: line(text, "LABEL")?.to_owned(),
            start_timeline: value(line(text, "START TIMELINE")?, "START TIMELINE")?,
        })
    }
}

impl fmt::Display for BackupLabel {
    /// Writes the file's content, as `build_backup_content` does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match self.from {
            BackupFrom::Primary => "primary",
            BackupFrom::Standby => "standby",
        };
        writeln!(f, "START WAL LOCATION: {} (file {})", self.start, self.start_segment)?;
        writeln!(f, "CHECKPOINT LOCATION: {}", self.checkpoint)?;
        writeln!(f, "BACKUP METHOD: {}", self.method)?;
        writeln!(f, "BACKUP FROM: {from}")?;
        writeln!(f, "START TIME: {}", self.start_time)?;
        writeln!(f, "LABEL: {}", self.label)?;
        writeln!(f, "START TIMELINE: {}", self.start_timeline)
    }
}

fn find<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}

fn line<'a>(text: &'a str, key: &str) -> Result<&'a str, PgError> {
    find(text, key).ok_or_else(|| PgError::malformed(LABEL, format!("it has no line `{key}`")))
}

fn bad(key: &str, found: &str) -> PgError {
    PgError::malformed(LABEL, format!("{key} is `{found:.80}`"))
}

fn value<T: std::str::FromStr>(text: &str, key: &str) -> Result<T, PgError> {
    text.parse().map_err(|_| bad(key, text))
}

/// Where one tablespace lies: a line of `tablespace_map`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablespaceMapEntry {
    /// OID: the name of the link in `pg_tblspc`.
    pub oid: u32,
    /// Directory it points to.
    pub location: String,
}

/// Reads a `tablespace_map`. A backslash keeps the next character from ending the line.
///
/// # Errors
/// [`PgError::Malformed`] for a line without OID or location, or when the last line has no end.
pub fn parse_tablespace_map(text: &str) -> Result<Vec<TablespaceMapEntry>, PgError> {
    let mut entries = Vec::new();
    let mut line = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => line.extend(characters.next()),
            '\n' | '\r' if line.is_empty() => {}
            '\n' | '\r' => {
                if entries.len() >= TABLESPACES_MAX {
                    return Err(PgError::malformed(MAP, "it has too many lines"));
                }
                entries.push(parse_map_line(&line)?);
                line.clear();
            }
            other => line.push(other),
        }
    }
    if line.is_empty() { Ok(entries) } else { Err(PgError::malformed(MAP, "its last line is cut off")) }
}

fn parse_map_line(line: &str) -> Result<TablespaceMapEntry, PgError> {
    let fail = || PgError::malformed(MAP, format!("line `{line:.80}`"));
    let (oid, location) = line.split_once(' ').ok_or_else(fail)?;
    let oid = oid.parse().ok().filter(|&oid| oid > 0).ok_or_else(fail)?;
    if location.is_empty() {
        return Err(fail());
    }
    Ok(TablespaceMapEntry { oid, location: location.to_owned() })
}

/// Writes a `tablespace_map`; newlines, returns and backslashes in locations are escaped.
pub fn format_tablespace_map(entries: &[TablespaceMapEntry]) -> String {
    let mut text = String::new();
    for entry in entries {
        text.push_str(&entry.oid.to_string());
        text.push(' ');
        for character in entry.location.chars() {
            if matches!(character, '\n' | '\r' | '\\') {
                text.push('\\');
            }
            text.push(character);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n\
        CHECKPOINT LOCATION: 0/2000060\n\
        BACKUP METHOD: streamed\n\
        BACKUP FROM: primary\n\
        START TIME: 2026-11-22 21:00:00 UTC\n\
        LABEL: pgproof nightly: 3\n\
        START TIMELINE: 1\n";

    #[test]
    fn label_reads_and_writes_as_postgresql_does() {
        let label = BackupLabel::parse(REAL).unwrap();
        assert_eq!(label.start, Lsn(0x200_0028));
        assert_eq!(label.checkpoint, Lsn(0x200_0060));
        assert_eq!(label.from, BackupFrom::Primary);
        assert_eq!(label.label, "pgproof nightly: 3");
        assert_eq!(label.start_timeline, TimelineId(1));
        assert_eq!(label.to_string(), REAL);
    }

    #[test]
    fn labels_that_recovery_would_refuse_are_refused() {
        for (old, new) in [
            ("START WAL", "STAR WAL"),
            ("0/2000028", "0-2000028"),
            (" (file 000000010000000000000002)", ""),
            ("primary", "elsewhere"),
            ("START TIMELINE: 1", "START TIMELINE: 0"),
            ("LABEL:", "LABEL"),
        ] {
            assert!(BackupLabel::parse(&REAL.replace(old, new)).is_err(), "{old}");
        }
        assert!(BackupLabel::parse(&format!("{REAL}INCREMENTAL FROM LSN: 0/1\n")).is_err());
    }

    #[test]
    fn tablespace_map_escapes_what_would_end_a_line() {
        let entries = vec![
            TablespaceMapEntry { oid: 16400, location: "/srv/with space".into() },
            TablespaceMapEntry { oid: 16401, location: "/srv/back\\slash\nand line".into() },
        ];
        let text = format_tablespace_map(&entries);
        assert_eq!(text, "16400 /srv/with space\n16401 /srv/back\\\\slash\\\nand line\n");
        assert_eq!(parse_tablespace_map(&text), Ok(entries));
    }

    #[test]
    fn damaged_tablespace_maps_are_refused() {
        for text in ["16400\n", "x /srv\n", "0 /srv\n", "16400 \n", "16400 /srv"] {
            assert!(parse_tablespace_map(text).is_err(), "{text:?}");
        }
        assert_eq!(parse_tablespace_map(""), Ok(Vec::new()));
    }
}

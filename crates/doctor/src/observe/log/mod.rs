//! The end of the server's log, in whichever of its three formats, found from its settings.
//!
//! Promises bounded reading: the last [`TAIL_BYTES`] of the newest file. Statements are dropped as they are read, so that no literal of
//! anybody's query is ever part of an observation; messages, which may quote values, are what doctor lives on.

mod csv;
mod find;
mod json;
mod stderr;

use super::place::Place;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// How the server writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Lines with `log_line_prefix`.
    Stderr,
    /// `csvlog`
    Csv,
    /// `jsonlog`
    Json,
}

/// One message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// When, where the line tells.
    pub at: Option<Timestamp>,
    /// Seconds before the observation.
    pub age_s: Option<i64>,
    /// Which process.
    pub pid: Option<u32>,
    /// Which role.
    pub user: Option<String>,
    /// In which database.
    pub database: Option<String>,
    /// `LOG`, `ERROR`, `FATAL`...
    pub severity: String,
    /// SQLSTATE, where the line tells.
    pub sqlstate: Option<String>,
    /// What it says.
    pub message: String,
    /// `DETAIL`
    pub detail: Option<String>,
    /// `HINT`
    pub hint: Option<String>,
    /// `CONTEXT`, of the server's own work only: that of a session quotes statements.
    pub context: Option<String>,
    /// Byte in the file where it begins.
    pub offset: u64,
}

/// The end of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The file.
    pub file: PathBuf,
    /// Its format.
    pub format: Format,
    /// Its size.
    pub bytes: u64,
    /// Whether the beginning was left out.
    pub cut: bool,
    /// Oldest first.
    pub entries: Vec<LogEntry>,
}

/// Bytes read from the end. A busy log of a minute fits; reading takes milliseconds.
const TAIL_BYTES: u64 = 1 << 20;
/// Messages kept: those that tell something, see [`is_worth_keeping`].
const ENTRIES_MAX: usize = 1500;
/// No message that doctor recognises is longer.
const MESSAGE_MAX: usize = 2000;

pub(super) fn observe(place: &Place, own: Option<&Path>, at: Timestamp) -> Result<Log, String> {
    let values = super::settings::values(place);
    let (file, format) = find::file(place, &values, own)?;
    let (text, start, bytes) =
        tail(&file).map_err(|error| format!("could not read {}: {error}", file.display()))?;
    let prefix = values.get("log_line_prefix").map_or("%m [%p] ", String::as_str);
    let mut entries = read(&text, format, prefix);
    for entry in &mut entries {
        entry.offset += start;
        entry.age_s = entry.at.map(|then| at.duration_since(then).as_secs());
        shorten(&mut entry.message);
    }
    entries.retain(is_worth_keeping);
    let more = entries.len().saturating_sub(ENTRIES_MAX);
    entries.drain(..more);
    Ok(Log { file, format, bytes, cut: start > 0, entries })
}

/// The messages of a text in one of the formats.
#[must_use]
pub fn read(text: &str, format: Format, prefix: &str) -> Vec<LogEntry> {
    let mut entries = match format {
        Format::Stderr => stderr::read(text, prefix),
        Format::Csv => csv::read(text),
        Format::Json => json::read(text),
    };
    entries.iter_mut().for_each(forget_statements);
    entries
}

/// A deadlock's detail ends with the statements of both sides (`DeadLockReport` in `src/backend/storage/lmgr/deadlock.c`), and a session's
/// context quotes what it runs.
fn forget_statements(entry: &mut LogEntry) {
    if let Some(detail) = entry.detail.as_mut().filter(|_| entry.message.contains("deadlock")) {
        let is_statement = |line: &str| {
            let rest = line
                .strip_prefix("Process ")
                .map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
            rest.is_some_and(|rest| rest.starts_with(": "))
        };
        let kept: Vec<&str> = detail.lines().take_while(|line| !is_statement(line)).collect();
        *detail = kept.join("\n");
    }
    let own = |line: &&str| line.starts_with("automatic ");
    entry.context = entry.context.take().and_then(|context| context.lines().find(own).map(str::to_owned));
}

/// Connections, checkpoints and slow statements fill logs and explain nothing.
fn is_worth_keeping(entry: &LogEntry) -> bool {
    const NOISE: [&str; 8] = [
        "connection received",
        "connection authorized",
        "connection authenticated",
        "disconnection:",
        "duration: ",
        "statement: ",
        "execute ",
        "checkpoint complete",
    ];
    !NOISE.iter().any(|noise| entry.message.starts_with(noise))
}

fn shorten(text: &mut String) {
    if text.len() > MESSAGE_MAX {
        let end = (0..=MESSAGE_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
}

/// The last bytes of a file from the beginning of a line on, where they begin, and the size of the file.
fn tail(path: &Path) -> std::io::Result<(String, u64, u64)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let skip = match start {
        0 => 0,
        _ => bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1),
    };
    Ok((String::from_utf8_lossy(&bytes[skip..]).into_owned(), start + skip as u64, length))
}

/// A time as logs write it: `2026-11-24 00:10:00.123 UTC`, with an abbreviation that only UTC's and offsets are sure of.
fn time(text: &str) -> Option<Timestamp> {
    let mut words = text.split_whitespace();
    let (date, clock, zone) = (words.next()?, words.next()?, words.next().unwrap_or("UTC"));
    let local: jiff::civil::DateTime = format!("{date}T{clock}").parse().ok()?;
    let zone = match zone {
        "UTC" | "GMT" | "Etc/UTC" => jiff::tz::TimeZone::UTC,
        // The server's zone is most often the host's; an abbreviation names no zone by itself.
        _ => jiff::tz::TimeZone::system(),
    };
    zone.to_ambiguous_timestamp(local).compatible().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "%m [%p] %q%u@%d ";

    #[test]
    fn the_three_formats_tell_the_same() {
        let stderr = "2026-11-24 00:10:00.123 UTC [77] app@shop FATAL:  password authentication failed for user \"app\"\n\
            2026-11-24 00:10:00.123 UTC [77] app@shop DETAIL:  Role \"app\" does not exist.\n\
            \tsecond line\n2026-11-24 00:10:00.124 UTC [77] app@shop STATEMENT:  SELECT 'secret'\n";
        let csv = "2026-11-24 00:10:00.123 UTC,\"app\",\"shop\",77,\"[local]\",69238.4d,1,\"authentication\",2026-11-24 00:10:00 UTC,3/1,0,FATAL,28P01,\
            \"password authentication failed for user \"\"app\"\"\",\"Role \"\"app\"\" does not exist.\nsecond line\",,,,,\"SELECT 'secret'\",,,\"\",\"client backend\",,0\n";
        let json = "{\"timestamp\":\"2026-11-24 00:10:00.123 UTC\",\"user\":\"app\",\"dbname\":\"shop\",\"pid\":77,\"error_severity\":\"FATAL\",\
            \"state_code\":\"28P01\",\"message\":\"password authentication failed for user \\\"app\\\"\",\
            \"detail\":\"Role \\\"app\\\" does not exist.\\nsecond line\",\"statement\":\"SELECT 'secret'\"}\n";
        let mut seen = Vec::new();
        for (text, format) in [(stderr, Format::Stderr), (csv, Format::Csv), (json, Format::Json)] {
            let entries = read(text, format, PREFIX);
            assert_eq!(entries.len(), 1, "{entries:?}");
            assert!(!format!("{entries:?}").contains("secret"));
            let LogEntry { at, pid, user, database, severity, message, detail, .. } = entries[0].clone();
            seen.push((at, pid, user, database, severity, message, detail));
        }
        assert_eq!(seen[0], seen[1]);
        assert_eq!(seen[1], seen[2]);
        assert_eq!(seen[0].0, Some("2026-11-24T00:10:00.123Z".parse().unwrap()));
        assert_eq!(seen[0].6.as_deref(), Some("Role \"app\" does not exist.\nsecond line"));
    }

    #[test]
    fn a_tail_begins_with_a_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let line = "2026-11-24 00:10:00 UTC LOG:  something\n";
        std::fs::write(&path, line.repeat(40_000)).unwrap();
        let (text, start, length) = tail(&path).unwrap();
        assert!(text.starts_with("2026") && start > 0);
        assert_eq!(start + text.len() as u64, length);
    }
}

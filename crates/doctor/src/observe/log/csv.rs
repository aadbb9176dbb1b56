//! `csvlog`: columns as the manual lists them ("Using CSV-Format Log Output"); newer versions add some at the end.

use super::{LogEntry, time};

pub(super) fn read(text: &str) -> Vec<LogEntry> {
    let mut entries = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let (fields, length) = record(&text[at..]);
        entries.extend(entry(&fields, at as u64));
        at += length;
    }
    entries
}

/// The fields of one record, and its length. A quoted field may hold line ends.
fn record(text: &str) -> (Vec<String>, usize) {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let field = fields.last_mut().unwrap_or_else(|| unreachable!("there is always a field"));
        match c {
            '"' if quoted && characters.peek().is_some_and(|(_, next)| *next == '"') => {
                characters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            '\n' if !quoted => return (fields, at + 1),
            c => field.push(c),
        }
    }
    (fields, text.len())
}

fn entry(fields: &[String], offset: u64) -> Option<LogEntry> {
    let field = |at: usize| fields.get(at).filter(|text| !text.is_empty()).cloned();
    // A record cut in the middle has no time at its beginning.
    let at = time(fields.first()?)?;
    Some(LogEntry {
        at: Some(at),
        age_s: None,
        user: field(1),
        database: field(2),
        pid: field(3).and_then(|pid| pid.parse().ok()),
        severity: field(11)?,
        sqlstate: field(12),
        message: field(13)?,
        detail: field(14),
        hint: field(15),
        context: field(18),
        offset,
    })
}

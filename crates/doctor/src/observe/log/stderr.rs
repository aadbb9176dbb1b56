//! The log as lines: `PREFIX SEVERITY:  message`, continued by lines that begin with a tab, followed by lines of the same message for
//! detail, hint, context and statement (`src/backend/utils/error/elog.c`, `send_message_to_server_log`).
//!
//! The prefix is read backwards from the severity, so that any `log_line_prefix` will do: what it holds is best effort, the message is not.

use super::{LogEntry, time};

const SEVERITIES: [&str; 12] = [
    "LOG", "ERROR", "FATAL", "PANIC", "WARNING", "NOTICE", "INFO", "DEBUG1", "DEBUG2", "DEBUG3", "DEBUG4",
    "DEBUG5",
];
const PARTS: [&str; 7] = ["DETAIL", "HINT", "CONTEXT", "STATEMENT", "QUERY", "LOCATION", "BACKTRACE"];

/// Where continuing lines belong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Message,
    Detail,
    Hint,
    Context,
    Nothing,
}

pub(super) fn read(text: &str, prefix: &str) -> Vec<LogEntry> {
    let mut entries: Vec<LogEntry> = Vec::new();
    let mut part = Part::Nothing;
    let mut offset = 0u64;
    for line in text.split_inclusive('\n') {
        let begins = offset;
        offset += line.len() as u64;
        let line = line.trim_end_matches(['\n', '\r']);
        if let Some(more) = line.strip_prefix('\t') {
            if let Some(entry) = entries.last_mut() {
                extend(entry, part, "\n", more);
            }
            continue;
        }
        let Some((head, word, rest)) = marked(line) else { continue };
        if SEVERITIES.contains(&word) {
            let mut entry = LogEntry {
                severity: word.to_owned(),
                message: rest.to_owned(),
                offset: begins,
                ..LogEntry::default()
            };
            fill(&mut entry, head, prefix);
            entries.push(entry);
            part = Part::Message;
        } else {
            part = match word {
                "DETAIL" => Part::Detail,
                "HINT" => Part::Hint,
                "CONTEXT" => Part::Context,
                _ => Part::Nothing,
            };
            if let Some(entry) = entries.last_mut() {
                extend(entry, part, "", rest);
            }
        }
    }
    entries
}

fn extend(entry: &mut LogEntry, part: Part, between: &str, more: &str) {
    let text = match part {
        Part::Message => &mut entry.message,
        Part::Detail => entry.detail.get_or_insert_default(),
        Part::Hint => entry.hint.get_or_insert_default(),
        Part::Context => entry.context.get_or_insert_default(),
        Part::Nothing => return,
    };
    text.push_str(between);
    text.push_str(more);
}

/// What stands before the first marker of a line, the marker, and what follows it.
fn marked(line: &str) -> Option<(&str, &str, &str)> {
    let found = line.match_indices(":  ").find_map(|(at, _)| {
        let start = line[..at]
            .rfind(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit()))
            .map_or(0, |at| at + 1);
        // The character before may be of several bytes.
        let start = (start..at).find(|start| line.is_char_boundary(*start))?;
        let word = &line[start..at];
        (SEVERITIES.contains(&word) || PARTS.contains(&word)).then_some((start, at))
    });
    found.map(|(start, at)| (&line[..start], &line[start..at], &line[at + 3..]))
}

/// One piece of a prefix.
enum Piece {
    Escape(char),
    Text(String),
}

fn pieces(prefix: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut characters = prefix.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        // A number between is padding.
        let escape = characters.by_ref().find(|c| !(c.is_ascii_digit() || *c == '-'));
        match escape {
            Some('%') => text.push('%'),
            Some('q') | None => {}
            Some(escape) => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Escape(escape));
            }
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

/// Reads what the prefix tells: each escape ends where the text after it begins.
fn fill(entry: &mut LogEntry, head: &str, prefix: &str) {
    let pieces = pieces(prefix);
    let mut rest = head;
    for (at, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Text(text) => {
                match rest.trim_start_matches(' ').strip_prefix(text.trim_start_matches(' ')) {
                    Some(after) => rest = after,
                    None => return,
                }
            }
            Piece::Escape(escape) => {
                let end = match pieces.get(at + 1) {
                    Some(Piece::Text(text)) => end_of(rest, *escape, text),
                    _ => Some(word_end(rest, *escape)),
                };
                // After %q, processes without a session have nothing.
                let Some(end) = end else { return };
                take(entry, *escape, rest[..end].trim());
                rest = &rest[end..];
            }
        }
    }
}

/// A time holds blanks itself, and is followed by its zone.
fn end_of(rest: &str, escape: char, text: &str) -> Option<usize> {
    let from = match escape {
        'm' | 't' | 's' if text.starts_with(' ') => word_end(rest, escape),
        // The colons of a time to the second are not the prefix's own.
        'm' | 't' | 's' => "2026-11-24 00:10:00".len(),
        _ => 0,
    };
    rest.get(from..)?.find(text).map(|at| at + from)
}

fn word_end(rest: &str, escape: char) -> usize {
    let words = if matches!(escape, 'm' | 't' | 's') { 3 } else { 1 };
    let mut end = 0;
    for _ in 0..words {
        let word = rest[end..].trim_start();
        let start = rest.len() - word.len();
        let is_end = |c: char| c.is_whitespace() || (words == 1 && !c.is_alphanumeric());
        end = start + word.find(is_end).unwrap_or(word.len());
    }
    end
}

fn take(entry: &mut LogEntry, escape: char, value: &str) {
    let text = || Some(value.to_owned()).filter(|value| !value.is_empty());
    match escape {
        'm' | 't' => entry.at = time(value),
        'n' => {
            let seconds = value.parse::<f64>().ok();
            entry.at = seconds.and_then(|s| jiff::Timestamp::from_millisecond((s * 1000.0) as i64).ok());
        }
        'p' => entry.pid = value.parse().ok(),
        'u' => entry.user = text(),
        'd' => entry.database = text(),
        'e' => entry.sqlstate = text(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str, prefix: &str) -> LogEntry {
        read(line, prefix).remove(0)
    }

    #[test]
    fn prefixes_of_every_kind_are_read() {
        let debian = one("2026-11-24 00:10:00.123 UTC [77] app@shop ERROR:  x", "%m [%p] %q%u@%d ");
        assert_eq!(
            (debian.pid, debian.user.as_deref(), debian.database.as_deref()),
            (Some(77), Some("app"), Some("shop"))
        );
        let own = one("2026-11-24 00:10:00.123 UTC [78] LOG:  checkpoint starting", "%m [%p] %q%u@%d ");
        assert_eq!((own.pid, own.user), (Some(78), None));
        let rds =
            one("2026-11-24 00:10:00 UTC:10.0.0.7(5001):app@shop:[77]:ERROR:  x: y", "%t:%r:%u@%d:[%p]:");
        assert_eq!(
            (rds.pid, rds.database.as_deref(), rds.message.as_str()),
            (Some(77), Some("shop"), "x: y")
        );
        let state = one("t=2026-11-24 00:10:00 UTC p=77 e=53100 FATAL:  no space", "t=%t p=%p e=%e ");
        assert_eq!((state.pid, state.sqlstate.as_deref()), (Some(77), Some("53100")));
        assert_eq!(one("FATAL:  bare", "").message, "bare");
    }

    #[test]
    fn lines_that_are_none_of_the_server_s_are_passed_over() {
        assert!(read("cp: cannot stat 'x': No such file\nsh: 1: nonsense:  not found\n", "%m ").is_empty());
        assert!(read("\u{fc}LOG:  ok", "").len() <= 1);
    }
}

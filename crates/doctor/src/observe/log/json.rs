//! `jsonlog` (15 and later): one object a line.

use super::{LogEntry, time};
use serde::Deserialize;

#[derive(Deserialize)]
struct Line {
    timestamp: String,
    user: Option<String>,
    dbname: Option<String>,
    pid: Option<u32>,
    error_severity: String,
    state_code: Option<String>,
    message: Option<String>,
    detail: Option<String>,
    hint: Option<String>,
    context: Option<String>,
}

pub(super) fn read(text: &str) -> Vec<LogEntry> {
    let mut entries = Vec::new();
    let mut offset = 0u64;
    for line in text.split_inclusive('\n') {
        if let Ok(line) = serde_json::from_str::<Line>(line) {
            entries.push(LogEntry {
                at: time(&line.timestamp),
                age_s: None,
                user: line.user,
                database: line.dbname,
                pid: line.pid,
                severity: line.error_severity,
                sqlstate: line.state_code,
                message: line.message.unwrap_or_default(),
                detail: line.detail,
                hint: line.hint,
                context: line.context,
                offset,
            });
        }
        offset += line.len() as u64;
    }
    entries
}

//! Which file a server logs to: what its collector writes now, what its standard error is, what Debian's tools use, and for a server that
//! is stopped the newest log beside it.

use super::Format;
use crate::observe::directory::is_on;
use crate::observe::place::Place;
use pgproof_server::START_LOG;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

type Values = BTreeMap<String, String>;

pub(super) fn file(place: &Place, values: &Values, own: Option<&Path>) -> Result<(PathBuf, Format), String> {
    if let Some(own) = own {
        return Ok((own.to_owned(), format_of(own)));
    }
    let mut candidates = Vec::new();
    if values.get("logging_collector").is_some_and(|value| is_on(value)) {
        candidates.extend(current(&place.data_directory));
        let folder = place.data_directory.join(values.get("log_directory").map_or("log", String::as_str));
        candidates.extend(logs_in(&folder));
    }
    candidates.extend(place.postmaster.and_then(standard_error));
    if let Some((version, name)) = &place.debian {
        candidates.push(PathBuf::from(format!("/var/log/postgresql/postgresql-{version}-{name}.log")));
    }
    candidates.push(place.data_directory.join(START_LOG));
    // `pg_ctl -l` takes any name; people put it into the data directory or beside it.
    candidates.extend(logs_in(&place.data_directory));
    candidates
        .extend(place.data_directory.parent().into_iter().flat_map(logs_in).filter(|file| is_servers(file)));
    // A start that failed before the collector ran is told elsewhere than what the server said while it ran: the newest counts.
    let changed = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        (metadata.is_file() && metadata.len() > 0).then(|| metadata.modified().ok())?
    };
    let newest = candidates.into_iter().filter_map(|path| Some((changed(&path)?, path))).fold(
        None::<(SystemTime, PathBuf)>,
        |best, one| match best {
            Some(best) if best.0 >= one.0 => Some(best),
            _ => Some(one),
        },
    );
    let (_, file) = newest.ok_or("no log was found: name it with --log")?;
    let format = format_of(&file);
    Ok((file, format))
}

/// `current_logfiles` has lines such as `csvlog log/postgresql.csv`.
fn current(data: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(data.join("current_logfiles")).unwrap_or_default();
    text.lines().filter_map(|line| Some(data.join(line.split_once(' ')?.1.trim()))).collect()
}

fn logs_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(2000).map(|entry| entry.path());
    let is_log = |path: &PathBuf| {
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        matches!(kind, "log" | "csv" | "json") || path.file_name().is_some_and(|name| name == "logfile")
    };
    entries.filter(is_log).collect()
}

/// Whether a file beside the data directory is a server's log, and not anybody's.
fn is_servers(file: &Path) -> bool {
    let Ok((text, ..)) = super::tail(file) else { return false };
    [":  database system ", ":  starting PostgreSQL", ":  could not", "FATAL:  "]
        .iter()
        .any(|mark| text.contains(mark))
}

/// The file that a process's standard error goes to.
fn standard_error(pid: u32) -> Option<PathBuf> {
    let target = fs::read_link(format!("/proc/{pid}/fd/2")).ok()?;
    fs::metadata(&target).ok()?.is_file().then_some(target)
}

fn format_of(file: &Path) -> Format {
    match file.extension().and_then(|kind| kind.to_str()) {
        Some("csv") => Format::Csv,
        Some("json") => Format::Json,
        _ => Format::Stderr,
    }
}

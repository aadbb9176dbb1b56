//! The end of a server's log, for errors: what PostgreSQL says itself is the best explanation there is.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// Bytes read from the end of a log.
const TAIL_BYTES: u64 = 16 << 10;
/// Lines shown of them.
const TAIL_LINES: usize = 15;

/// The last lines of the server's log: of the file its collector writes (`current_logfiles`), else of `own`, the file that
/// its standard error goes to. What `own` held before `own_from` is somebody else's story. Empty when nothing can be read.
pub(crate) fn tail(data: &Path, own: &Path, own_from: u64) -> String {
    let collected = collector_file(data).map(|file| last_lines(&file, 0)).unwrap_or_default();
    let own = last_lines(own, own_from);
    // With a collector, standard error ends with a note that logging goes on elsewhere; a failure before that is only there.
    let mut lines: Vec<String> =
        if own.iter().any(|line| line.contains("FATAL")) { own } else { [own, collected].concat() };
    lines.drain(..lines.len().saturating_sub(TAIL_LINES));
    lines.join("\n")
}

/// Length of a log now, 0 when there is none.
pub(crate) fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// `current_logfiles` has lines such as `stderr log/postgresql-2026-11-22.log`.
fn collector_file(data: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(data.join("current_logfiles")).ok()?;
    let file = text.lines().find_map(|line| line.strip_prefix("stderr "))?;
    Some(data.join(file.trim()))
}

fn last_lines(path: &Path, from: u64) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_tail_begins_where_this_start_began() {
        let data = tempfile::tempdir().unwrap();
        let own = data.path().join("server.log");
        fs::write(&own, "FATAL: old\n").unwrap();
        let from = length(&own);
        fs::write(&own, "FATAL: old\nLOG: new\n").unwrap();
        assert_eq!(tail(data.path(), &own, from), "LOG: new");
    }

    #[test]
    fn the_collector_s_file_is_read_too() {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join("log")).unwrap();
        fs::write(data.path().join("current_logfiles"), "stderr log/x.log\n").unwrap();
        fs::write(data.path().join("log/x.log"), "LOG: collected\n").unwrap();
        assert_eq!(tail(data.path(), &data.path().join("none"), 0), "LOG: collected");
        assert_eq!(tail(Path::new("/nowhere"), Path::new("/nowhere/log"), 0), "");
    }
}

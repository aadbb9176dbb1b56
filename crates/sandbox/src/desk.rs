//! The desk: a socket of the process that serves the files, where the sandbox's other processes ask for WAL, numbers and an end in
//! good order.
//!
//! One request and one answer for each connection, each a line of JSON. The socket has a path, so that a server in a network namespace of
//! its own reaches it all the same (`unix_find_bsd` in `net/unix/af_unix.c` goes by inode).

use crate::record::Statistics;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Longest request or answer in bytes.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// How long an answer that needs no WAL may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ask {
    /// A WAL file, as `restore_command` is asked for it.
    Get {
        /// Its name.
        name: String,
        /// Where to put it, relative to the data directory.
        path: String,
    },
    /// What was read so far.
    Statistics,
    /// Write down what the layer holds, so that it can be served again.
    Save,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// The exit code of `archive get`.
    Got(i32),
    /// What was read so far.
    Statistics(Box<Statistics>),
    /// It is written down.
    Saved,
    /// It could not be done.
    Failed(String),
}

/// Answers requests until the process ends. Each has a thread: a slow segment keeps nobody else waiting.
pub(crate) fn serve(listener: UnixListener, answer: Arc<dyn Fn(Ask) -> Answer + Send + Sync>) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || {
                // Who went away wants no answer.
                let _ = attend(stream, &*answer);
            });
        }
    });
}

fn attend(stream: UnixStream, answer: &dyn Fn(Ask) -> Answer) -> std::io::Result<()> {
    let ask: Ask = read_line(&stream)?;
    write_line(&stream, &answer(ask))
}

/// Asks, and waits for the answer as long as `limit` says.
pub(crate) fn ask(desk: &Path, ask: &Ask, limit: Option<Duration>) -> std::io::Result<Answer> {
    let stream = UnixStream::connect(desk)?;
    stream.set_read_timeout(limit)?;
    write_line(&stream, ask)?;
    read_line(&stream)
}

/// What was read so far; else why it is not known.
pub(crate) fn statistics(desk: &Path) -> Result<Statistics, String> {
    match ask(desk, &Ask::Statistics, Some(ANSWER_LIMIT)) {
        Ok(Answer::Statistics(statistics)) => Ok(*statistics),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// `restore_command` of a sandbox: the exit code that PostgreSQL is to see. Whatever is no answer is no end of the archive.
pub fn fetch(desk: &Path, name: &str, path: &str) -> i32 {
    const NO_ANSWER: i32 = 126;
    let request = Ask::Get { name: name.to_owned(), path: path.to_owned() };
    match ask(desk, &request, None) {
        Ok(Answer::Got(code)) => code,
        _ => NO_ANSWER,
    }
}

fn read_line<T: for<'a> Deserialize<'a>>(stream: &UnixStream) -> std::io::Result<T> {
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn write_line<T: Serialize>(mut stream: &UnixStream, value: &T) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line)
}

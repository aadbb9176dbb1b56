//! Runs one of PostgreSQL's programs, and tells of its failure in its own words.

use crate::error::DumpError;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

/// What is kept of the end of standard error: the failure is told last.
const SAID_BYTES_MAX: usize = 4096;

/// A program at work. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    program: String,
    child: Child,
    said: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts a program; what it writes to standard output is not wanted.
    pub(crate) fn start(mut command: Command) -> Result<Self, DumpError> {
        let path = Path::new(command.get_program()).to_owned();
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(DumpError::host("run", &path))?;
        let stderr = child.stderr.take();
        let said = thread::spawn(move || stderr.map(end_of).unwrap_or_default());
        let program = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { program, child, said: Some(said) })
    }

    /// Whether it has ended, and how.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, DumpError> {
        self.child.try_wait().map_err(DumpError::host("wait for", &self.program))
    }

    /// Waits for its end; `temp` is where it writes.
    pub(crate) fn finish(mut self, temp: &Path) -> Result<(), DumpError> {
        let status = self.child.wait().map_err(DumpError::host("wait for", &self.program))?;
        if status.success() {
            return Ok(());
        }
        let said = self.said.take().and_then(|said| said.join().ok()).unwrap_or_default();
        // As the programs put ENOSPC into words, with LC_MESSAGES=C.
        if said.contains("No space left on device") {
            return Err(DumpError::Full { directory: temp.to_owned(), said });
        }
        let said = if said.is_empty() { status.to_string() } else { said };
        Err(DumpError::Program { program: self.program.clone(), said })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, and that is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end and gives the last of it.
fn end_of(mut stderr: impl Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..read]);
        let excess = kept.len().saturating_sub(SAID_BYTES_MAX);
        kept.drain(..excess);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_failures_and_both_in_the_programs_words() {
        let failing = |said: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "echo \"$0\" >&2; exit 1", said]);
            Running::start(command).unwrap().finish(Path::new("/some/where")).unwrap_err()
        };
        let full = failing("pg_dump: error: could not write to file: No space left on device");
        assert_eq!(full.code(), Some("dump-no-room"));
        assert!(full.to_string().contains("/some/where"), "{full}");
        let other = failing("pg_dump: error: query failed");
        assert_eq!(other.to_string(), "sh failed: pg_dump: error: query failed");
    }
}

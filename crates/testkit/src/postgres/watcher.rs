//! Kills a server whose test process was itself killed, where no destructor runs.
//!
//! A shell waits for the end of a pipe that the test process holds. Asking the kernel to signal the server at its parent's
//! death was rejected: that is the death of the thread that started it, and tests start servers from threads.

use anyhow::{Context, Result};
use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Kills the postmaster named in the data directory and each of its children with their own groups (an archive command
/// is in one of them), then removes the ground if there is any.
const SCRIPT: &str = r#"
read -r _
pid=$(head -n 1 "$1/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
    children=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null)
    kill -KILL "$pid" 2>/dev/null
    for child in $children; do kill -KILL -- "-$child" "$child" 2>/dev/null; done
fi
if [ -n "$2" ]; then rm -rf -- "$2"; fi
"#;

/// The watching shell. Dropping it lets it do its work, so the server must be dead by then if nothing is to be killed.
#[derive(Debug)]
pub(super) struct Watcher {
    shell: Child,
}

impl Watcher {
    pub(super) fn new(data: &Path, ground: Option<&Path>) -> Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "pgproof-test-watcher"])
            .arg(data)
            .arg(ground.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Outside the test's group, which a test runner kills as a whole.
            .process_group(0)
            .spawn()
            .context("start the watcher of a test server")?;
        Ok(Self { shell })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // It ends within milliseconds; not waiting would leave a zombie for each server of a long test.
        let _ = self.shell.wait();
    }
}

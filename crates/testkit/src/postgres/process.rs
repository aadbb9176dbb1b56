//! Starting, stopping and killing the server's processes.

use super::Postgres;
use crate::wait;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use std::{
    fs::{self, OpenOptions},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::{MutexGuard, PoisonError},
};

/// How a server is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Waits for clients to leave.
    Smart,
    /// Disconnects clients, then shuts down cleanly.
    Fast,
    /// Aborts; the next start recovers.
    Immediate,
}

impl Postgres {
    /// Starts the server and waits until it accepts connections.
    ///
    /// # Errors
    /// Fails with the end of the server's log when it does not come up in time.
    pub fn start(&self) -> Result<()> {
        self.launch()?;
        wait::until("the server to accept connections", wait::PATIENCE, || {
            if !self.is_running() {
                bail!("the server ended while starting");
            }
            Ok((self.status().as_deref() == Some("ready") && self.client().is_ok()).then_some(()))
        })
        .with_context(|| format!("start PostgreSQL {}; its log ends:\n{}", self.version(), self.log_tail()))
    }

    /// Starts the server and waits for nothing: for recoveries that are expected to fail or take long.
    ///
    /// # Errors
    /// Fails when the program cannot be run.
    pub fn launch(&self) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(self.bin().join("postgres"));
        command.arg("-D").arg(&self.data).current_dir("/");
        for (name, value) in &self.overrides {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        for (name, _) in self.environment() {
            command.env_remove(name);
        }
        self.account.apply(&mut command);
        let child = command.spawn().with_context(|| format!("run {command:?}"))?;
        self.child().replace(child);
        Ok(())
    }

    /// Stops the server and waits until it is gone. Does nothing when it does not run.
    ///
    /// # Errors
    /// Fails when it does not stop in time.
    pub fn stop(&self, mode: StopMode) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        // The signals of src/backend/postmaster/postmaster.c.
        let signal = match mode {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        };
        kill_process(pid, signal).context("signal the server")?;
        wait::until_true("the server to stop", || Ok(!self.is_running()))
            .with_context(|| format!("its log ends:\n{}", self.log_tail()))
    }

    /// Stops fast and starts again.
    ///
    /// # Errors
    /// As [`Self::stop`] and [`Self::start`].
    pub fn restart(&self) -> Result<()> {
        self.stop(StopMode::Fast)?;
        self.start()
    }

    /// Lets the server read its configuration again.
    ///
    /// # Errors
    /// Fails when the server does not run.
    pub fn reload(&self) -> Result<()> {
        let pid = self.pid().context("the server does not run")?;
        kill_process(pid, Signal::HUP).context("signal the server")
    }

    /// Kills the postmaster, all its children and what they started, as a machine that stops dead does.
    ///
    /// # Errors
    /// Fails when processes remain.
    pub fn kill9(&self) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let children = children_of(pid);
        // A process may be gone by the time it is killed, which is what is wanted of it.
        let _ = kill_process(pid, Signal::KILL);
        for &child in &children {
            // Each child leads a session of its own, which what it started, an archive command, belongs to.
            let _ = kill_process_group(child, Signal::KILL);
            let _ = kill_process(child, Signal::KILL);
        }
        wait::until_true("the killed server to be gone", || {
            Ok(!self.is_running() && children.iter().all(|&child| !exists(child)))
        })
    }

    /// Whether the postmaster runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// The postmaster, whoever started it: a test may have let pgproof restart the server.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        // Our own child may be dead, and another postmaster in its place: killing the dead one would leave that running.
        self.reap();
        if let Some(child) = self.child().as_ref() {
            return Pid::from_raw(i32::try_from(child.id()).ok()?);
        }
        let text = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        let pid = Pid::from_raw(text.lines().next()?.trim().parse().ok()?)?;
        exists(pid).then_some(pid)
    }

    /// The last lines of the server's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log().unwrap_or_else(|error| format!("{error:#}"));
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// The last line of `postmaster.pid` (`LOCK_FILE_LINE_PM_STATUS` in `src/include/utils/pidfile.h`).
    fn status(&self) -> Option<String> {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        text.lines().nth(7).map(|line| line.trim().to_owned())
    }

    /// Collects our own child if it has ended, so that it is not taken for a running one.
    fn reap(&self) {
        let mut child = self.child();
        if child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None))) {
            *child = None;
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a process exists and is not a zombie, which nobody may reap when the test did not start it.
fn exists(pid: Pid) -> bool {
    test_kill_process(pid).is_ok() && state_and_parent(pid).is_some_and(|(state, _)| state != 'Z')
}

fn children_of(parent: Pid) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter(|&pid| state_and_parent(pid).is_some_and(|(_, ppid)| ppid == parent.as_raw_nonzero().get()))
        .collect()
}

/// Fields 3 and 4 of `/proc/PID/stat`; the name before them is in parentheses and may hold anything.
fn state_and_parent(pid: Pid) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

//! SIGKILL for a server: the postmaster first, then every child at once.
//!
//! Children are not found by parentage: they outlive a killed postmaster for a while as orphans, each in a session of its own (`setsid` in
//! `InitPostmasterChild`, `src/backend/utils/init/miscinit.c`). What they all keep is the program and the data directory as working
//! directory, so a scan of `/proc` finds them before and after. A control group would do it in one write but must be delegated to the agent,
//! and holds the agent too where it is not. Signals go through a pidfd that was opened before the process was looked at: a process id that
//! was given to another program meanwhile is never hit.

use crate::{HaError, fence::BootTime};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

/// What a kill came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// When it began.
    pub began: BootTime,
    /// How many processes were killed.
    pub processes: usize,
    /// How long until none was left.
    pub took_ms: u64,
}

/// A process that serves the data directory.
struct Process {
    pid: Pid,
    parent: i32,
    handle: OwnedFd,
}

/// Pause between two looks at processes that are dying.
const PAUSE: Duration = Duration::from_millis(2);

/// Kills whatever serves a data directory and waits until nothing does.
///
/// # Errors
/// [`HaError::NotSeen`] when processes remain after `limit`: they wait for a disk that does not answer, and can acknowledge nothing
/// meanwhile; [`HaError::Host`] when the directory or `/proc` cannot be looked at.
pub fn kill_server(data: &Path, limit: Duration) -> Result<Killed, HaError> {
    let (began, deadline) = (BootTime::now(), Instant::now() + limit);
    let mut killed = std::collections::BTreeSet::new();
    loop {
        let mut found = find(data)?;
        if found.is_empty() {
            let took_ms = BootTime::now().0 - began.0;
            return Ok(Killed { began, processes: killed.len(), took_ms });
        }
        if Instant::now() >= deadline {
            let why = format!("{} processes of {} are still there", found.len(), data.display());
            return Err(HaError::NotSeen { operation: "kill the server", why });
        }
        let known: Vec<i32> = found.iter().map(|process| process.pid.as_raw_nonzero().get()).collect();
        // A postmaster that sees a child die would start the server anew.
        found.sort_by_key(|process| known.contains(&process.parent));
        for process in &found {
            // One that has ended meanwhile is what is wanted.
            let _ = pidfd_send_signal(&process.handle, Signal::KILL);
            killed.insert(process.pid.as_raw_nonzero().get());
        }
        for process in found.iter().filter(|process| known.contains(&process.parent)) {
            // Each child leads a session; an archive command or a COPY PROGRAM of its belongs to its group.
            let _ = kill_process_group(process.pid, Signal::KILL);
        }
        wait_for_end(&found);
    }
}

/// The processes that serve a data directory, postmaster and children.
///
/// # Errors
/// [`HaError::Host`].
pub fn server_processes(data: &Path) -> Result<Vec<u32>, HaError> {
    Ok(find(data)?.iter().map(|process| process.pid.as_raw_nonzero().get().cast_unsigned()).collect())
}

fn find(data: &Path) -> Result<Vec<Process>, HaError> {
    let directory = match data.metadata() {
        // Nothing serves a directory that is not there.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        looked => looked.map_err(HaError::host("look at", data))?,
    };
    let identity = (directory.dev(), directory.ino());
    let entries = fs::read_dir("/proc").map_err(HaError::host("list", "/proc"))?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(Pid::from_raw).filter_map(|pid| serving(pid, identity)).collect())
}

/// The process, if it is a server's that works in this directory. Looked at after the handle was opened.
fn serving(pid: Pid, identity: (u64, u64)) -> Option<Process> {
    let place = format!("/proc/{}", pid.as_raw_nonzero());
    let is_server = || {
        let program = fs::read_link(format!("{place}/exe")).ok()?;
        let name = program.file_name()?.to_str()?;
        // An upgrade replaces the program of a running server.
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        let cwd = fs::metadata(format!("{place}/cwd")).ok()?;
        (["postgres", "postmaster"].contains(&name) && (cwd.dev(), cwd.ino()) == identity).then_some(())
    };
    is_server()?;
    let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    is_server()?;
    let stat = fs::read_to_string(format!("{place}/stat")).ok()?;
    // The name before the state stands in parentheses and may hold any character.
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
    Some(Process { pid, parent, handle })
}

fn wait_for_end(processes: &[Process]) {
    let pause = Timespec { tv_sec: 0, tv_nsec: PAUSE.subsec_nanos().into() };
    for process in processes {
        // A pidfd becomes readable when its process has ended. What did not end in this time is found again.
        let _ = poll(&mut [PollFd::new(&process.handle, PollFlags::IN)], Some(&pause));
    }
}

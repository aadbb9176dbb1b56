//! PostgreSQL as the agent's child: started, watched, collected, started again.
//!
//! Its end is seen at once, through a pidfd, for a server that this agent started and for one that it found running. A postmaster is
//! collected, and what its children still do is ended, before another is started: a new one would refuse to attach to shared memory that an
//! old backend uses, and an old backend can still commit. Whether it is started at all is decided elsewhere; fencing is in [`crate::fence`].

use crate::{
    HaError,
    fence::{Killed, kill_server},
};
use pgproof_pg::{ClusterState, Lsn, TimelineId};
use pgproof_server::{Control, StopMode, find};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    process::{Pid, PidfdFlags, pidfd_open},
};
use std::{path::Path, process::Child, thread, time::Duration};

/// How long the remains of a crashed server may take to die.
const CLEAR_LIMIT: Duration = Duration::from_secs(10);

/// A running server.
#[derive(Debug)]
pub struct Postmaster {
    /// None for one that was found running.
    child: Option<Child>,
    pid: u32,
    handle: OwnedFd,
}

/// Where a server that was shut down ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutDown {
    /// Its timeline.
    pub timeline: TimelineId,
    /// Where its last record, the shutdown checkpoint, begins.
    pub checkpoint: Lsn,
}

impl Postmaster {
    /// Clears what is left of a former server and starts one; does not wait until it lets anybody in.
    ///
    /// # Errors
    /// [`HaError::Server`] when it ends at once, [`HaError::NotSeen`] when a former one cannot be ended.
    pub fn start(control: &Control) -> Result<Self, HaError> {
        kill_server(control.data_directory(), CLEAR_LIMIT)?;
        find::remove_lock_of_the_dead(control.data_directory())
            .map_err(HaError::server("clear what a former server left"))?;
        let child = control.launch().map_err(HaError::server("start PostgreSQL"))?;
        let pid = child.id();
        let handle = open(pid)?;
        Ok(Self { child: Some(child), pid, handle })
    }

    /// The server that runs already, started by somebody else or by a former agent.
    ///
    /// # Errors
    /// [`HaError::Server`] when the data directory cannot be looked at, [`HaError::NotSeen`] when it ends just now.
    pub fn adopt(data: &Path) -> Result<Option<Self>, HaError> {
        let instance = find::at(data).map_err(HaError::server("look at the server"))?;
        let find::State::Running { pid, .. } = instance.state else { return Ok(None) };
        Ok(Some(Self { child: None, pid, handle: open(pid)? }))
    }

    /// The postmaster.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has ended. A child is collected then.
    pub fn has_ended(&mut self) -> bool {
        let ended = is_over(&self.handle, Duration::ZERO);
        if ended && let Some(child) = &mut self.child {
            // It has ended, so this does not wait.
            let _ = child.wait();
        }
        ended
    }

    /// Calls `notify` once, as soon as it ends.
    ///
    /// # Errors
    /// [`HaError::Host`] when the system gives no handle.
    pub fn watch(&self, notify: impl FnOnce() + Send + 'static) -> Result<(), HaError> {
        let handle =
            self.handle.try_clone().map_err(HaError::host("watch", format!("/proc/{}", self.pid)))?;
        thread::spawn(move || {
            while !is_over(&handle, Duration::from_secs(3600)) {}
            notify();
        });
        Ok(())
    }

    /// Kills it and all its children.
    ///
    /// # Errors
    /// As [`kill_server`].
    pub fn kill(mut self, data: &Path, limit: Duration) -> Result<Killed, HaError> {
        let killed = kill_server(data, limit)?;
        self.has_ended();
        Ok(killed)
    }

    /// Shuts down once, for a switchover: clients are disconnected, everything is sent to standbys, and where it ends is read from
    /// the control file. Only for a server whose writes are held; for one that must be fenced there is [`kill_server`].
    ///
    /// # Errors
    /// [`HaError::Server`] when it does not stop in time, [`HaError::NotSeen`] when the control file says otherwise.
    pub fn shut_down(&mut self, control: &Control, limit: Duration) -> Result<ShutDown, HaError> {
        control.stop(StopMode::Fast, limit).map_err(HaError::server("shut PostgreSQL down"))?;
        self.has_ended();
        where_it_ends(control.data_directory())
    }
}

/// Where a stopped server ends.
///
/// # Errors
/// [`HaError::NotSeen`] when it was not shut down cleanly.
pub fn where_it_ends(data: &Path) -> Result<ShutDown, HaError> {
    let control_file = find::control_file(data).map_err(HaError::server("read the control file"))?;
    match control_file.state {
        ClusterState::ShutDown | ClusterState::ShutDownInRecovery => {
            Ok(ShutDown { timeline: control_file.timeline, checkpoint: control_file.checkpoint })
        }
        state => {
            let why = format!("the control file says {state:?}");
            Err(HaError::NotSeen { operation: "see a clean shutdown", why })
        }
    }
}

fn open(pid: u32) -> Result<OwnedFd, HaError> {
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let not_seen = |why: String| HaError::NotSeen { operation: "watch the postmaster", why };
    let target = target.ok_or_else(|| not_seen(format!("{pid} is no process")))?;
    pidfd_open(target, PidfdFlags::empty()).map_err(|error| not_seen(format!("process {pid}: {error}")))
}

/// A pidfd becomes readable when its process has ended, collected or not.
fn is_over(handle: &OwnedFd, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() };
    matches!(poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&limit)), Ok(1))
}

//! A standby stops receiving, provably: what must come before it may promise a new term.
//!
//! A reload alone is no proof. The receiver is ended by the startup process when that next waits for WAL, and one whose replay is paused
//! never does: its receiver goes on writing and acknowledging (measured on 15). `pg_terminate_backend` refuses a receiver. So the
//! connection string is emptied on disk, synced and reloaded first, so that no other receiver can be asked for; then the receiver's own
//! process is ended, and it has to stay away.

use super::ManagedSettings;
use crate::{HaError, fence::server_processes};
use pgproof_server::Control;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a receiver has to stay away. The startup process may have asked for one in the moment before it read the new settings; the
/// postmaster starts it at its next turn, which takes a millisecond where processors are free.
const AWAY: Duration = Duration::from_millis(100);

/// The receivers of the server of a data directory.
///
/// # Errors
/// [`HaError::Host`].
pub fn receivers(data: &Path) -> Result<Vec<u32>, HaError> {
    let is_receiver = |pid: &u32| {
        let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // "postgres: walreceiver streaming 0/3000148", with the cluster's name before it where there is one.
        let title = String::from_utf8_lossy(&title).into_owned();
        title.starts_with("postgres: ") && title.split([' ', '\0']).any(|word| word == "walreceiver")
    };
    Ok(server_processes(data)?.into_iter().filter(is_receiver).collect())
}

/// Stops receiving and keeps it from beginning again; the standby goes on serving reads. Returns when it is seen.
///
/// # Errors
/// [`HaError::NotSeen`] when a receiver is still there or came back within `limit`; [`HaError::Host`], [`HaError::Server`].
pub fn stop_receiving(control: &Control, limit: Duration) -> Result<(), HaError> {
    let data = control.data_directory();
    ManagedSettings::read(data)?.with("primary_conninfo", "").with("primary_slot_name", "").write(data)?;
    // One that is down reads the file when it starts.
    if !control.is_running().map_err(HaError::server("look at the standby"))? {
        return Ok(());
    }
    control.reload().map_err(HaError::server("reload the standby"))?;
    let deadline = Instant::now() + limit;
    let mut away_since = None;
    loop {
        let there = receivers(data)?;
        for &pid in &there {
            end(pid);
        }
        let now = Instant::now();
        away_since = if there.is_empty() { away_since.or(Some(now)) } else { None };
        if away_since.is_some_and(|since| now.duration_since(since) >= AWAY) {
            return Ok(());
        }
        if now >= deadline {
            let why = format!("receivers of {} are still there: {there:?}", data.display());
            return Err(HaError::NotSeen { operation: "stop receiving", why });
        }
        thread::sleep(PAUSE);
    }
}

/// SIGTERM: the receiver flushes what it has written, and ends. One that is gone already is what is wanted.
fn end(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        && let Ok(handle) = pidfd_open(pid, PidfdFlags::empty())
    {
        let _ = pidfd_send_signal(&handle, Signal::TERM);
    }
}

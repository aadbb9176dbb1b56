//! The fencing process itself: small, in a session of its own, with nothing to wait for but time.
//!
//! It outlives its agent. Signals that end a service are ignored while a deadline holds; one that is released, and whose agent is gone for
//! good, ends by itself.

use super::{BootTime, FencePlace, FenceState, FenceStatus, kill::kill_server, wire::Ask};
use crate::HaError;
use rustix::process::setsid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

/// Longest sleep: how late a deadline may be noticed after the machine was suspended, when sleeps go on where they were.
const NAP: Duration = Duration::from_millis(50);

/// How long one attempt to kill may take before questions are answered and it is tried again: shorter than the agent waits for an answer.
const KILL_LIMIT: Duration = Duration::from_millis(300);

/// How long a released fencing process waits for an agent before it ends.
const LONELY: Duration = Duration::from_secs(30);

/// The longest deadline that is accepted: one further away is a mistake, and a server that nobody guards.
const HORIZON: Duration = Duration::from_secs(120);

struct Guard {
    status: FenceStatus,
    agents: usize,
    lonely_since: Instant,
}

struct Shared {
    guard: Mutex<Guard>,
    changed: Condvar,
    data: PathBuf,
}

impl Shared {
    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, ask: Ask) -> FenceStatus {
        let mut guard = self.guard();
        match ask {
            Ask::Arm { until } => {
                let now = BootTime::now();
                let until = until.min(now.after(HORIZON));
                let before = guard.status.until.filter(|_| guard.status.state == FenceState::Armed);
                guard.status.state = FenceState::Armed;
                guard.status.until = Some(before.map_or(until, |before| before.max(until)));
            }
            Ask::Release => {
                guard.status.state = FenceState::Released;
                guard.status.until = None;
            }
            Ask::Look => {}
        }
        self.changed.notify_all();
        guard.status.clone()
    }

    fn talk(&self, stream: UnixStream) -> std::io::Result<()> {
        let mut writer = stream.try_clone()?;
        for line in BufReader::new(stream).lines() {
            let Ok(ask) = serde_json::from_str(&line?) else { break };
            let mut answer = serde_json::to_vec(&self.answer(ask))?;
            answer.push(b'\n');
            writer.write_all(&answer)?;
        }
        Ok(())
    }
}

/// Guards a data directory until it is released and no agent is left. Only one does so at a time: a second one ends at once.
///
/// # Errors
/// [`HaError::Host`] when its socket cannot be made.
pub fn run(place: &FencePlace, data: &Path) -> Result<(), HaError> {
    // Fails where it leads a group already, as when a shell started it: nothing of the agent's then either.
    let _ = setsid();
    // What a service manager sends to the whole service would end the guard before the server.
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))
            .map_err(HaError::host("ignore signals of", data))?;
    }
    let lock_path = place.lock();
    let lock = File::create(&lock_path).map_err(HaError::host("create", &lock_path))?;
    if lock.try_lock().is_err() {
        return Ok(());
    }
    let socket = place.socket();
    // Its owner is gone, or the lock would be held.
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).map_err(HaError::host("listen on", &socket))?;
    let status = FenceStatus { state: FenceState::Released, until: None, killed: None };
    let guard = Mutex::new(Guard { status, agents: 0, lonely_since: Instant::now() });
    let shared = Arc::new(Shared { guard, changed: Condvar::new(), data: data.to_owned() });
    let listening = Arc::clone(&shared);
    thread::spawn(move || listen(&listening, &listener));
    watch(&shared);
    // The lock goes last: whoever gets it may remove the socket.
    let _ = std::fs::remove_file(&socket);
    drop(lock);
    Ok(())
}

fn listen(shared: &Arc<Shared>, listener: &UnixListener) {
    for stream in listener.incoming().flatten() {
        let shared = Arc::clone(shared);
        shared.guard().agents += 1;
        thread::spawn(move || {
            // An agent that went away in the middle of a line said nothing.
            let _ = shared.talk(stream);
            let mut guard = shared.guard();
            guard.agents -= 1;
            guard.lonely_since = Instant::now();
        });
    }
}

/// Waits for the deadline, over and over; returns when nothing is left to guard.
fn watch(shared: &Shared) {
    loop {
        let guard = shared.guard();
        let (state, until) = (guard.status.state, guard.status.until);
        let left = until.map(|until| until.until(BootTime::now()));
        match (state, left) {
            // After it fired too: a server that an operator starts by hand much later is his.
            (FenceState::Released | FenceState::Fired, _)
                if guard.agents == 0 && guard.lonely_since.elapsed() >= LONELY =>
            {
                return;
            }
            (FenceState::Released, _) => drop(shared.changed.wait_timeout(guard, LONELY)),
            (FenceState::Armed, Some(left)) if !left.is_zero() => {
                drop(shared.changed.wait_timeout(guard, left.min(NAP)));
            }
            // Whoever starts the server without arming first is killed too.
            (FenceState::Armed | FenceState::Fired, _) => {
                fire(guard, &shared.data);
                thread::sleep(NAP);
            }
        }
    }
}

/// Kills with the guard held: whoever is told that the fence is released may start a server, and must not lose it to a kill that was
/// under way.
fn fire(mut guard: MutexGuard<'_, Guard>, data: &Path) {
    guard.status.state = FenceState::Fired;
    if let Ok(killed) = kill_server(data, KILL_LIMIT)
        && killed.processes > 0
    {
        guard.status.killed = Some(killed);
    }
}

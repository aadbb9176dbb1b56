//! The agent's end: starts the fencing process or finds the one that a former agent left, and tells it deadlines.

use super::{BootTime, FenceStatus, wire::Ask};
use crate::HaError;
use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Where the fencing process of a data directory is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FencePlace {
    /// A directory of the server's owner, not the data directory, whose name is short enough for a socket.
    pub directory: PathBuf,
}

impl FencePlace {
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join("fence.sock")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.directory.join("fence.lock")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("fence.log")
    }
}

/// How long a fencing process may take to come up.
const START_LIMIT: Duration = Duration::from_secs(5);

/// How long it may take to answer: it has nothing else to do.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);

/// Pause between two attempts to reach one that starts.
const PAUSE: Duration = Duration::from_millis(5);

/// A connection to the fencing process.
#[derive(Debug)]
pub struct Fence {
    stream: BufReader<UnixStream>,
    process: Option<Child>,
}

impl Fence {
    /// Finds the running process, or starts one: `program` is called with `fence`, the place and the data directory.
    ///
    /// # Errors
    /// [`HaError::Fence`] when it does not come up, [`HaError::Host`] when it cannot be started.
    pub fn find_or_start(program: &Path, place: &FencePlace, data: &Path) -> Result<Self, HaError> {
        if let Ok(found) = Self::connect(place, None) {
            return Ok(found);
        }
        let log = place.log();
        let log =
            OpenOptions::new().create(true).append(true).open(&log).map_err(HaError::host("open", &log))?;
        let mut command = Command::new(program);
        command.arg("fence").arg("--directory").arg(&place.directory).arg("--pgdata").arg(data);
        // It leaves the agent's group and session by itself before it answers; a leader of a group could not lead a session.
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = Some(command.spawn().map_err(HaError::host("run", program))?);
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match Self::connect(place, child.take()) {
                Ok(link) => return Ok(link),
                Err((process, error)) if Instant::now() >= deadline => {
                    drop(process);
                    return Err(HaError::Fence { why: format!("does not answer: {error}") });
                }
                Err((process, _)) => child = process,
            }
            thread::sleep(PAUSE);
        }
    }

    fn connect(place: &FencePlace, process: Option<Child>) -> Result<Self, (Option<Child>, HaError)> {
        let open = || {
            let stream = UnixStream::connect(place.socket())?;
            stream.set_read_timeout(Some(ANSWER_LIMIT))?;
            stream.set_write_timeout(Some(ANSWER_LIMIT))?;
            Ok(stream)
        };
        match open() {
            Err(error) => Err((process, HaError::host("connect to", place.socket())(error))),
            Ok(stream) => {
                let mut link = Self { stream: BufReader::new(stream), process };
                match link.look() {
                    Ok(_) => Ok(link),
                    Err(error) => Err((link.process, error)),
                }
            }
        }
    }

    /// Lets the server run until this instant. Answered means that the deadline holds.
    ///
    /// # Errors
    /// [`HaError::Fence`]: nobody guards the server then.
    pub fn arm(&mut self, until: BootTime) -> Result<FenceStatus, HaError> {
        self.ask(Ask::Arm { until })
    }

    /// Says that there is nothing to guard: the server does not run, or is a standby.
    ///
    /// # Errors
    /// [`HaError::Fence`].
    pub fn release(&mut self) -> Result<FenceStatus, HaError> {
        self.ask(Ask::Release)
    }

    /// Asks what it is doing.
    ///
    /// # Errors
    /// [`HaError::Fence`].
    pub fn look(&mut self) -> Result<FenceStatus, HaError> {
        self.ask(Ask::Look)
    }

    /// The fencing process, if this agent started it.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Collects a fencing process that has ended.
    pub fn reap(&mut self) {
        if let Some(process) = &mut self.process {
            // One that still runs, or that somebody else collected, needs nothing.
            let _ = process.try_wait();
        }
    }

    fn ask(&mut self, ask: Ask) -> Result<FenceStatus, HaError> {
        let failed = |error: std::io::Error| HaError::Fence { why: format!("does not answer: {error}") };
        let mut line = serde_json::to_vec(&ask).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(failed)?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer).map_err(failed)?;
        serde_json::from_str(&answer)
            .map_err(|error| HaError::Fence { why: format!("answered {answer:?}: {error}") })
    }
}

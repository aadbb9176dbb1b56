//! One command of this program, as a process of its own: what it needs of memory ends with it, and a signal can end it.

use super::schedule::Failure;
use rustix::process::{
    Pid, Signal, getppid, kill_process, set_parent_process_death_signal, setpriority_process,
};
use serde_json::Value;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a job may print; the rest is read and dropped.
const OUTPUT_MAX: u64 = 4 << 20;

/// How long a job may clear up before it is killed.
const GRACE: Duration = Duration::from_secs(20);

/// The priority of jobs: whatever else the host does goes first. See nice(1).
const NICE: i32 = 10;

/// Ends this process when the agent that started it dies, so that nothing works on without anybody who waits for it.
pub(crate) fn die_with_parent(parent: i32) {
    // Without it the job goes on to its end, which is not worse than a command that was typed.
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    if getppid() != Pid::from_raw(parent) {
        // The agent died before the signal was asked for.
        std::process::exit(128 + Signal::TERM.as_raw());
    }
}

/// A job that runs.
#[derive(Debug)]
pub(super) struct Job {
    child: Child,
    began: Instant,
    output: Option<JoinHandle<String>>,
}

/// What came of a job.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ended {
    pub(super) took: Duration,
    pub(super) failure: Option<(Failure, String)>,
    /// What it printed.
    pub(super) output: String,
}

impl Job {
    /// Starts a command. The calling thread must live as long as the job.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn start(program: &Path, arguments: &[String]) -> io::Result<Self> {
        let mut command = Command::new(program);
        // By a flag and not by a variable, which programs further down would inherit.
        command.arg("--child-of").arg(std::process::id().to_string()).args(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // A host that forbids it only shares its cores more evenly.
            let _ = setpriority_process(Some(pid), NICE);
        }
        let output = child.stdout.take().map(|mut stdout| {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                let _ = stdout.by_ref().take(OUTPUT_MAX).read_to_end(&mut text);
                let _ = io::copy(&mut stdout, &mut io::sink());
                String::from_utf8_lossy(&text).into_owned()
            })
        });
        Ok(Self { child, began: Instant::now(), output })
    }

    /// What came of it, once it has ended.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn poll(&mut self) -> io::Result<Option<Ended>> {
        let Some(status) = self.child.try_wait()? else { return Ok(None) };
        let output = self.output.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        let failure = match status.code() {
            Some(0) => None,
            Some(1) => Some((Failure::BadAnswer, said(&output, "the answer is bad"))),
            _ => Some((Failure::Error, said(&output, &status.to_string()))),
        };
        Ok(Some(Ended { took: self.began.elapsed(), failure, output }))
    }

    /// Ends it: by a signal that lets it clear up, and by force when it does not.
    pub(super) fn end(mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The reason that a command's document gives.
fn said(output: &str, otherwise: &str) -> String {
    let document: Value = serde_json::from_str(output).unwrap_or_default();
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let reason = text("/error/message").or_else(|| text("/report/summary"));
    reason.unwrap_or_else(|| otherwise.to_owned())
}

//! The keeper: the process that a sandbox lives and dies with.
//!
//! [`keep`] makes private namespaces and starts [`first`] in them, which becomes their first process: when it ends, however that comes
//! about, the kernel kills all others (`zap_pid_ns_processes` in `kernel/pid_namespace.c`), and with the last of them go the mounts and the
//! shared memory. It mounts the file system, starts the process that serves it, starts the server, and watches both.

mod isolation;
mod server;

use crate::desk::{self, Answer, Ask};
use crate::files::Said;
use crate::place::Place;
use crate::record::{Kind, Record, Status};
use crate::spec::Spec;
use crate::{Error, Result};
use isolation::Level;
use jiff::Timestamp;
use pgproof_server::privilege;
use rustix::process::{WaitOptions, wait};
use serde::{Deserialize, Serialize};
use server::Running;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(50);

/// What the keeper tells whoever makes the sandbox, a line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Event {
    /// Something a person should know.
    Note(String),
    /// It answers.
    Ready,
    /// It will not be.
    Failed {
        /// What was tried.
        cause: Cause,
        /// What was said.
        why: String,
    },
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Cause {
    /// Mounting: a full sandbox may do.
    Fuse,
    /// The mask.
    Mask,
    /// Anything else.
    Other,
}

/// Makes the namespaces and starts the keeper in them; ends at once.
///
/// # Errors
/// [`Error::System`] when this is refused.
pub fn keep(directory: &Path) -> Result<()> {
    let place = Place::at(directory);
    let spec: Spec = place.read_spec()?;
    // Its own session: an interrupt at the terminal is not for the sandbox.
    let _ = rustix::process::setsid();
    let level = isolation::enter(&spec);
    let mut command = Command::new(&spec.call.program);
    command
        .args(["sandbox", "keep"])
        .arg(directory)
        .args(["--stage", level.name()])
        .args(&spec.call.repository);
    let child = command.stdin(Stdio::null()).spawn().map_err(Error::file("run", &spec.call.program))?;
    let path = keeper_file(&place);
    fs::write(&path, child.id().to_string()).map_err(Error::file("write", &path))
}

fn keeper_file(place: &Place) -> PathBuf {
    place.directory().join("keeper.pid")
}

/// Keeps the sandbox until it is stopped or something of it ends. `stage` is what [`keep`] could make.
///
/// # Errors
/// What kept it from being there; it was told on standard output.
pub fn first(directory: &Path, stage: &str) -> Result<()> {
    let place = Place::at(directory);
    let level = Level::named(stage);
    let kept = begin(&place, level);
    match kept {
        Ok(keeper) => keeper.watch(),
        Err((cause, error)) => {
            tell(&Event::Failed { cause, why: describe(&error) });
            Err(error)
        }
    }
}

/// An error with its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn tell(event: &Event) {
    if let Ok(mut line) = serde_json::to_vec(event) {
        line.push(b'\n');
        let mut out = io::stdout().lock();
        // Nobody may be listening any more.
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }
}

/// A sandbox that runs.
struct Keeper {
    place: Place,
    record: Record,
    spec: Spec,
    files: Child,
    server: Running,
    asked_to_end: Arc<AtomicBool>,
    _lock: fs::File,
}

type Begun<T> = std::result::Result<T, (Cause, Error)>;

fn other(error: Error) -> (Cause, Error) {
    (Cause::Other, error)
}

fn begin(place: &Place, level: Level) -> Begun<Keeper> {
    let lock = place.lock().map_err(other)?;
    let spec: Spec = place.read_spec().map_err(other)?;
    let mut record = place.read_record().map_err(other)?;
    let asked_to_end = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&asked_to_end))
        .map_err(|source| other(Error::file("listen for signals in", place.directory())(source)))?;
    record.isolation = isolation::settle(level, &spec).map_err(other)?;
    let files = start_files(place, &spec, &mut record)?;
    let files_s = seconds_since(record.created);
    let server = server::bring_up(place, &spec, level, &mut record, files_s)?;
    record.status = Status::Running;
    let text = fs::read_to_string(keeper_file(place)).unwrap_or_default();
    record.keeper = text.trim().parse().ok();
    place.write_record(&record).map_err(other)?;
    tell(&Event::Ready);
    Ok(Keeper { place: place.clone(), record, spec, files, server, asked_to_end, _lock: lock })
}

fn seconds_since(began: Timestamp) -> f64 {
    Timestamp::now().duration_since(began).as_secs_f64()
}

/// Starts the process that serves the files and waits until they are there.
fn start_files(place: &Place, spec: &Spec, record: &mut Record) -> Begun<Child> {
    let mut command = Command::new(&spec.call.program);
    command.args(["sandbox", "files"]).arg(place.directory()).args(&spec.call.repository);
    command.stdout(Stdio::piped()).current_dir("/");
    match spec.kind {
        Kind::Lazy => {
            let owner = spec.owner.unwrap_or_else(pgproof_server::Owner::current);
            let device =
                isolation::mount_fuse(&place.mount(), owner).map_err(|error| (Cause::Fuse, error))?;
            command.stdin(Stdio::from(device));
        }
        // Its end tells the process that the keeper has gone.
        Kind::Full => drop(command.stdin(Stdio::piped())),
    }
    let owner = spec.owner.unwrap_or_else(pgproof_server::Owner::current);
    let mut child = privilege::spawn_as(owner, &mut command)
        .map_err(|error| other(Error::server("start the process that serves the files")(error)))?;
    // The device must be open in one process only, so that it closes with it.
    drop(command);
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        // What cannot be read is no answer.
        let _ = BufReader::new(output).read_line(&mut line);
    }
    let failed = |why: String| other(Error::Failed { name: spec.name.clone(), why });
    match serde_json::from_str(&line) {
        Ok(Said::Ready { notes }) => record.notes.extend(notes),
        Ok(Said::Failed(why)) => return Err(failed(why)),
        Err(_) => return Err(failed("the process that serves the files ended without a word".to_owned())),
    }
    if spec.kind == Kind::Lazy {
        isolation::read_ahead(&place.mount());
    }
    Ok(child)
}

impl Keeper {
    /// Watches both processes, collects orphans, and ends when it is told to, when time is over, or when something ended.
    fn watch(self) -> Result<()> {
        loop {
            if let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                let pid = pid.as_raw_nonzero().get().cast_unsigned();
                if pid == self.files.id() {
                    return self.fail(format!("the process that serves the files ended ({status:?})"));
                }
                if pid == self.server.id() {
                    return self.fail(format!("its server ended ({status:?})"));
                }
                continue;
            }
            let expired = self.record.expires.is_some_and(|expires| expires <= Timestamp::now());
            if expired || self.asked_to_end.load(Ordering::Relaxed) {
                return self.end();
            }
            thread::sleep(PAUSE);
        }
    }

    fn fail(mut self, why: String) -> Result<()> {
        self.record.status = Status::Failed;
        self.record.failure = Some(format!("{why}\n{}", crate::sandbox::tail(&self.place.server_log())));
        // Only without namespaces is there anything left to be stopped.
        self.server.kill();
        let _ = self.files.kill();
        self.place.write_record(&self.record)?;
        Err(Error::Failed { name: self.spec.name.clone(), why })
    }

    /// Stops the server in good order and writes down what the layer holds.
    fn end(mut self) -> Result<()> {
        if let Err(error) = self.server.stop() {
            return self.fail(format!("its server did not stop: {}", describe(&error)));
        }
        let saved = desk::ask(&self.place.desk(), &Ask::Save, None);
        match saved {
            Ok(Answer::Saved) => {}
            other => return self.fail(format!("its layer could not be written down: {other:?}")),
        }
        self.record.status = Status::Stopped;
        self.record.keeper = None;
        self.place.write_record(&self.record)?;
        let _ = self.files.kill();
        Ok(())
    }
}

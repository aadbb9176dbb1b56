//! The operator's own program, with `PG*` set so that it reaches the recovered server. It passes when it exits with 0.

use super::{Ground, Outcome};
use pgproof_base::{Finding, Severity, human_duration, shell_word};
use pgproof_server::ServerError;
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of what it wrote last that are shown.
const SHOWN: usize = 500;

/// Pause between two looks at it.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) fn check(ground: &Ground<'_>) -> Result<Outcome, ServerError> {
    let Some((program, arguments)) = ground.options.command.as_deref().and_then(<[String]>::split_first)
    else {
        return Ok(Outcome::NotDone("none is configured".to_owned()));
    };
    let line: Vec<String> = std::iter::once(program).chain(arguments).map(|word| shell_word(word)).collect();
    let covered = line.join(" ");
    let findings = run(ground, program, arguments).err().map(|failure| {
        Finding::new(
            "drill-command-failed",
            Severity::Critical,
            format!("`{covered}` {failure}"),
            "you said that it succeeds on a cluster that came back",
        )
    });
    Ok(Outcome::Looked { covered, findings: findings.into_iter().collect() })
}

/// Runs it; an error completes "`PROGRAM` ...".
fn run(ground: &Ground<'_>, program: &str, arguments: &[String]) -> Result<(), String> {
    let (recovered, limit) = (ground.recovered, ground.options.own_time);
    let connect = &recovered.connect;
    let output = recovered.scratch.join("command.out");
    let opened = File::create(&output).and_then(|file| Ok((file.try_clone()?, file)));
    let (stdout, stderr) = opened.map_err(|error| format!("has nowhere to write: {error}"))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(stderr).process_group(0);
    command.env("PGHOST", connect.host.as_deref().unwrap_or_default());
    command.env("PGPORT", connect.port.unwrap_or_default().to_string());
    command.env("PGUSER", connect.user.as_deref().unwrap_or_default());
    command
        .env("PGDATABASE", &ground.options.database)
        .env("PGPROOF_BACKUP", recovered.summary.id.to_string());
    let mut child = command.spawn().map_err(|error| format!("could not be run: {error}"))?;
    let deadline = Instant::now() + limit;
    let status: Option<ExitStatus> = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(PAUSE),
            _ => break None,
        }
    };
    // What it started belongs to the drill and ends with it.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("ended with {status}: {}", tail(&fs::read(&output).unwrap_or_default()))),
        None => Err(format!("did not end within {}", human_duration(limit))),
    }
}

fn tail(written: &[u8]) -> String {
    String::from_utf8_lossy(&written[written.len().saturating_sub(SHOWN)..]).trim().to_owned()
}

//! `pgproof agent` keeps the objectives: what is due is done, what was done is not done again, people are told, and nothing outlives it.

use crate::scene::{Scene, safe_server};
use anyhow::{Context, Result, ensure};
use pgproof_testkit::{free_port, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// A scene with these settings, each as table and line.
fn scene(settings: &[(&str, &str)]) -> Result<Scene> {
    let scene = Scene::initialised_from(safe_server())?;
    scene.server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")?;
    scene.server.dir("scratch")?;
    settings.iter().try_for_each(|(table, line)| set(&scene, table, line))?;
    Ok(scene)
}

/// Adds a line to a table of the file that `init` wrote.
fn set(scene: &Scene, table: &str, line: &str) -> Result<()> {
    let before = fs::read_to_string(scene.config())?;
    let (head, scratch) = (format!("\n[{table}]\n"), scene.new_place("scratch").display().to_string());
    ensure!(before.contains(&head), "{before}");
    let after = before.replacen(&head, &format!("{head}{}\n", line.replace("SCRATCH", &scratch)), 1);
    Ok(fs::write(scene.config(), after)?)
}

const OBJECTIVES: [(&str, &str); 5] = [
    ("objectives", "backup_max_age = \"26h\""),
    ("objectives", "verify_every = \"7d\""),
    ("objectives", "drill_every = \"7d\""),
    ("drill", "scratch = \"SCRATCH\""),
    ("retention", "keep_last = 2"),
];

fn works(report: &Value) -> Vec<&str> {
    report["report"]["done"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|done| done["work"].as_str())
        .collect()
}

#[test]
fn what_is_due_is_done_once_and_the_objectives_are_kept() -> Result<()> {
    let scene = scene(&OBJECTIVES)?;
    scene.pgproof(&["heartbeat", "--create"])?.succeeded()?;
    ensure!(scene.pgproof(&["status"])?.code == 1, "nothing is proven yet");
    let plan = scene.pgproof(&["agent", "--dry-run", "--json"])?.succeeded()?.json()?;
    assert_eq!(plan["report"]["due"].as_array().map(Vec::len), Some(4), "{plan:#}");
    let done = scene.pgproof(&["agent", "--once", "--json"])?.succeeded()?.json()?;
    assert_eq!(works(&done), ["backup", "expire", "verify", "drill"], "{done:#}");
    scene.pgproof(&["status"])?.succeeded().context("the objectives are kept")?;
    let again = scene.pgproof(&["agent", "--once", "--json"])?.succeeded()?.json()?;
    assert_eq!(works(&again), [""; 0], "{again:#}");
    // Somebody insists on a time of the year.
    set(&scene, "agent", "backup = \"0 3 1 1 *\"")?;
    let plan = scene.pgproof(&["agent", "--dry-run"])?.succeeded()?;
    ensure!(
        plan.stdout.lines().any(|line| line.contains("-01-01 ") && line.contains("backup")),
        "{}",
        plan.stdout
    );
    // What fails is told.
    let text = fs::read_to_string(scene.config())?;
    fs::write(scene.config(), text.replace("drill_every = \"7d\"", "drill_every = \"2s\""))?;
    fs::remove_dir_all(scene.new_place("scratch"))?;
    thread::sleep(Duration::from_secs(2));
    let failed = scene.pgproof(&["agent", "--once", "--json"])?;
    let report = failed.json()?;
    let drill =
        report["report"]["done"].as_array().into_iter().flatten().find(|done| done["work"] == "drill");
    ensure!(failed.code == 1 && drill.is_some_and(|drill| drill["failure"].is_string()), "{report:#}");
    Ok(())
}

/// An agent that runs, and ends with the test.
struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    fn start(scene: &Scene) -> Result<Self> {
        let log = scene.new_place("agent.log");
        let mut command = scene.command(&["agent"]);
        let child = command.stdout(Stdio::null()).stderr(fs::File::create(&log)?).spawn()?;
        Ok(Self { child, log })
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn signal(&mut self, signal: Signal) -> Result<Option<i32>> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("a process has a number")?;
        kill_process(pid, signal)?;
        Ok(self.child.wait()?.code())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes of this program that work for an agent of the scene.
fn jobs_of(agent: u32) -> Result<Vec<String>> {
    let wanted = format!("--child-of\0{agent}\0");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let line = fs::read_to_string(entry?.path().join("cmdline")).unwrap_or_default();
        if line.contains(&wanted) {
            found.push(line.replace('\0', " "));
        }
    }
    Ok(found)
}

fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn an_agent_keeps_tells_and_shows_and_nothing_outlives_it() -> Result<()> {
    let port = free_port()?;
    let scene = scene(&OBJECTIVES)?;
    let (pager, told) = (scene.new_place("pager"), scene.new_place("told"));
    fs::write(&pager, format!("#!/bin/sh\ncat >> {0}; echo >> {0}\n", told.display()))?;
    fs::set_permissions(&pager, fs::Permissions::from_mode(0o755))?;
    fs::write(&told, "")?;
    scene.server.account().own(&told)?;
    let agent_table = format!(
        "look_every = \"1s\"\nheartbeat_every = \"1s\"\nalert_command = \"{}\"\nlisten = \"127.0.0.1:{port}\"",
        pager.display()
    );
    set(&scene, "agent", &agent_table)?;
    scene.pgproof(&["heartbeat", "--create"])?.succeeded()?;
    let mut agent = Agent::start(&scene)?;
    wait::until_true("the objectives to be kept", || {
        ensure!(agent.child.try_wait()?.is_none(), "the agent ended: {}", agent.log());
        Ok(scene.pgproof(&["status"])?.code == 0)
    })
    .with_context(|| agent.log())?;
    let metrics = || get(port, "/metrics");
    wait::until_true("the metrics to tell of the drill", || {
        Ok(metrics()?.contains("pgproof_objective_kept{repository=\"main\",objective=\"drill_every\"} 1"))
    })?;
    wait::until_true("doctor to have looked", || {
        Ok(metrics()?.contains("pgproof_doctor_timestamp_seconds "))
    })?;
    let text = metrics()?;
    for line in [
        "pgproof_work_done_total{work=\"drill\",repository=\"main\"} 1",
        "pgproof_repository_readable{repository=\"main\"} 1",
    ] {
        ensure!(text.contains(line), "{text}");
    }
    ensure!(get(port, "/health")?.starts_with("HTTP/1.0 200"));
    let beats = "SELECT count(*) > 0 FROM pgproof.heartbeat";
    assert_eq!(scene.server.value(beats)?, "t");

    // A repository that is away is told once, and that it is back.
    let away = scene.new_place("away");
    fs::rename(scene.repository(), &away)?;
    let alerts = || -> Result<Vec<Value>> {
        fs::read_to_string(&told)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    };
    let tells = |level: &str| {
        wait::until_true("an alert", || {
            let all = alerts().unwrap_or_default();
            Ok(all.iter().any(|alert| alert["about"] == "repository" && alert["level"] == level))
        })
    };
    tells("broken")?;
    fs::rename(&away, scene.repository())?;
    tells("kept")?;
    assert_eq!(agent.signal(Signal::TERM)?, Some(0), "{}", agent.log());
    Ok(())
}

/// kill -9 of the agent while it has something done.
#[test]
fn what_a_killed_agent_had_done_ends_with_it_and_the_next_one_does_it() -> Result<()> {
    let scene = scene(&OBJECTIVES)?;
    set(&scene, "backup", "max_rate = \"200kB\"")?;
    let mut agent = Agent::start(&scene)?;
    let number = agent.child.id();
    wait::until_true("a backup to be under way", || {
        Ok(jobs_of(number)?.iter().any(|job| job.contains(" backup "))
            && scene.pgproof(&["list", "--json"])?.stdout.contains("running"))
    })
    .with_context(|| agent.log())?;
    agent.signal(Signal::KILL)?;
    wait::until_true("the backup to end with its agent", || Ok(jobs_of(number)?.is_empty()))?;
    let text = fs::read_to_string(scene.config())?;
    fs::write(scene.config(), text.replace("max_rate = \"200kB\"", ""))?;
    let done = scene.pgproof(&["agent", "--once", "--json"])?.succeeded()?.json()?;
    assert_eq!(works(&done), ["backup", "expire", "verify", "drill"], "{done:#}");
    scene.pgproof(&["verify"])?.succeeded()?;
    let mut left = Command::new("pgrep");
    ensure!(!left.args(["-f", &format!("child-of {number}")]).status()?.success(), "nothing works on");
    Ok(())
}

//! A server that suffers from something, and doctor looking at it as an operator would.

use crate::scene::{Ran, pgproof, program, safe_server};
use anyhow::{Context, Result, bail, ensure};
use pgproof_pg::MajorVersion;
use pgproof_testkit::{Builder, Postgres};
use postgres::Client;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A server, and the operator's own parameters.
pub(super) struct Patient {
    pub(super) server: Postgres,
    asks: Vec<String>,
    environment: Vec<(String, String)>,
}

/// Hours of waiting in seconds: what a limit counts, not what is wrong.
const LIMITS: &str = "[doctor.limits]\nidle-in-transaction = [1, 3600]\nprepared-old = [1, 3600]\nslot-inactive = [1000000, 1000000000000]\n";

/// How long statistics, standbys and servers may take to show something.
const PATIENCE: Duration = Duration::from_secs(40);

/// A server as production has it, of the version under test.
pub(super) fn server() -> Builder {
    match std::env::var("PGPROOF_VERSION").ok().and_then(|text| text.parse().ok()) {
        Some(version) => Postgres::builder(version).setting("fsync", "on"),
        None => safe_server(),
    }
}

impl Patient {
    pub(super) fn new() -> Result<Self> {
        Self::of(server())
    }

    pub(super) fn of(builder: Builder) -> Result<Self> {
        Self::from_server(builder.start()?)
    }

    pub(super) fn from_server(server: Postgres) -> Result<Self> {
        let patient = Self { server, asks: Vec::new(), environment: Vec::new() };
        patient.server.dir("etc")?;
        if !patient.config().exists() {
            fs::write(patient.config(), LIMITS)?;
        }
        Ok(patient)
    }

    /// With another limit of a check.
    pub(super) fn limit(&self, line: &str) -> Result<()> {
        Ok(fs::write(self.config(), format!("{LIMITS}{line}\n"))?)
    }

    /// With these parameters of the operator besides.
    pub(super) fn asking(mut self, arguments: &[&str]) -> Self {
        self.asks.extend(arguments.iter().map(|&text| text.to_owned()));
        self
    }

    /// With this in the operator's environment.
    pub(super) fn given(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn version(&self) -> MajorVersion {
        self.server.version()
    }

    pub(super) fn config(&self) -> PathBuf {
        self.server.ground().join("etc/pgproof.toml")
    }

    fn as_operator(&self, mut command: Command) -> Command {
        command
            .envs(self.server.environment())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("PGPROOF_CONFIG", self.config());
        command
    }

    pub(super) fn doctor(&self, more: &[&str]) -> Result<Ran> {
        let mut command = self.as_operator(pgproof());
        let log = self.server.log_path();
        command.arg("doctor");
        if !more.iter().any(|text| ["explain", "--from"].contains(text)) {
            command.args(more.iter().take_while(|text| !text.starts_with('-')));
            command.arg("--pgdata").arg(self.server.pgdata()).arg("--log").arg(log).args(&self.asks);
            command.args(more.iter().skip_while(|text| !text.starts_with('-')));
        } else {
            command.args(more);
        }
        let output = command.output()?;
        Ok(Ran {
            code: output.status.code().context("doctor was killed")?,
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// What doctor finds, above info.
    pub(super) fn findings(&self) -> Result<Vec<Value>> {
        let ran = self.doctor(&["--json"])?;
        ensure!(matches!(ran.code, 0 | 1), "doctor failed: {}{}", ran.stdout, ran.stderr);
        let report = ran.json()?;
        let all = report["report"]["findings"].as_array().context("findings")?.clone();
        Ok(all.into_iter().filter(|one| one["severity"] != "info").collect())
    }

    /// The first finding, when it is this one.
    pub(super) fn suffers_from(&self, code: &str) -> Result<Value> {
        let began = Instant::now();
        loop {
            let found = self.findings()?;
            match found.first() {
                Some(first) if first["code"] == code => {
                    self.replays(code)?;
                    return Ok(first.clone());
                }
                _ if began.elapsed() > PATIENCE => {
                    bail!("{code} does not come first:\n{}", serde_json::to_string_pretty(&found)?)
                }
                _ => std::thread::sleep(Duration::from_millis(300)),
            }
        }
    }

    /// A bundle of what is there now gives this finding first, too, and another look at the bundle the same.
    fn replays(&self, code: &str) -> Result<()> {
        let file = self.server.ground().join("etc/bundle.json");
        let path = file.display().to_string();
        let _ = fs::remove_file(&file);
        self.doctor(&["bundle", &path])?.succeeded()?;
        let first = || -> Result<Vec<String>> {
            let report = self.doctor(&["--from", &path, "--json"])?.json()?;
            let all = report["report"]["findings"].as_array().context("findings")?.clone();
            Ok(all.iter().map(Value::to_string).collect())
        };
        let found = first()?;
        ensure!(found == first()?, "a bundle is judged in two ways");
        let named = found.first().is_some_and(|one| one.contains(&format!("\"code\":\"{code}\"")));
        ensure!(named, "the bundle tells otherwise than the server: {found:#?}");
        Ok(())
    }

    /// Both are found, in any order, each as a root.
    pub(super) fn suffers_from_both(&self, one: &str, other: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            let found = self.findings()?;
            let roots: Vec<&Value> =
                found.iter().filter(|one| one["cause"].is_null()).map(|one| &one["code"]).collect();
            if roots.len() == 2 && roots.contains(&&Value::from(one)) && roots.contains(&&Value::from(other))
            {
                return Ok(());
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "not {one} and {other}:\n{}",
                serde_json::to_string_pretty(&found)?
            );
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Nothing above info is found any more.
    pub(super) fn is_well(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            let found = self.findings()?;
            if found.is_empty() {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "not well:\n{}", serde_json::to_string_pretty(&found)?);
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// This comes first, its first remedy mends it, and then nothing is wrong.
    pub(super) fn is_cured_of(&self, code: &str) -> Result<()> {
        let found = self.suffers_from(code)?;
        self.carry_out(&found, 0)?;
        self.is_well()
    }

    /// Carries out a remedy as it is printed.
    pub(super) fn carry_out(&self, finding: &Value, nth: usize) -> Result<()> {
        let remedy = &finding["remedies"][nth];
        let text = remedy["command"].as_str().with_context(|| format!("no remedy in {finding}"))?;
        ensure!(!text.is_empty(), "no command in {finding}");
        if let Some(database) = remedy["database"].as_str() {
            let mut client = self.server.client_to(database)?;
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                client.simple_query(line).with_context(|| format!("run {line}"))?;
            }
            return Ok(());
        }
        let mut command = self.as_operator(Command::new("sh"));
        let here = program().parent().context("the program is in a directory")?.display().to_string();
        let path = format!("{here}:{}", std::env::var("PATH").unwrap_or_default());
        // Its output goes nowhere: a server that is started keeps what it was given.
        let said = self.server.ground().join("remedy.out");
        let out = fs::File::create(&said)?;
        command.args(["-ec", text]).current_dir("/").env("PATH", path).stdin(Stdio::null());
        let status = command.stdout(out.try_clone()?).stderr(out).status()?;
        let log = || fs::read_to_string(self.server.pgdata().join("pgproof-start.log")).unwrap_or_default();
        ensure!(status.success(), "{text}\n{status}: {}{}", fs::read_to_string(&said)?, log());
        Ok(())
    }

    /// Other rules for who gets in.
    pub(super) fn hba(&self, lines: &[&str]) -> Result<()> {
        fs::write(self.server.pgdata().join("pg_hba.conf"), lines.join("\n") + "\n")?;
        self.server.reload()
    }

    /// A session that says this, whatever comes of it, and stays until the statement ends.
    pub(super) fn says(&self, statements: &str) -> Result<JoinHandle<()>> {
        let mut client = self.server.client()?;
        let statements = statements.to_owned();
        Ok(std::thread::spawn(move || {
            let _ = client.batch_execute(&statements);
        }))
    }

    /// A session that has said this and holds on.
    pub(super) fn holds(&self, statements: &str) -> Result<Client> {
        let mut client = self.server.client()?;
        client.batch_execute(statements)?;
        Ok(client)
    }
}

/// Runs a program of the host.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A file system in memory, unmounted with the value.
pub(super) struct Tmpfs(PathBuf);

impl Tmpfs {
    pub(super) fn new(at: PathBuf, megabytes: u32) -> Result<Self> {
        fs::create_dir_all(&at)?;
        let size = format!("size={megabytes}m,mode=0777");
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &at.display().to_string()])?;
        Ok(Self(at))
    }

    pub(super) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a server of a test that failed may still hold files there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

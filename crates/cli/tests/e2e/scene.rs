//! A server, a place for its repository, and `pgproof` as an operator runs it.

use anyhow::{Context, Result, ensure};
use pgproof_pg::MajorVersion;
use pgproof_testkit::{Builder, Pgproof, Postgres, free_port};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

/// A server with room for everything that belongs to it.
pub(crate) struct Scene {
    pub(crate) server: Postgres,
}

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A server as production has it: it would survive a power cut, which `check` insists on.
pub(crate) fn safe_server() -> Builder {
    Postgres::builder(MajorVersion::V15).setting("fsync", "on")
}

impl Scene {
    pub(crate) fn new(builder: Builder) -> Result<Self> {
        Ok(Self { server: builder.start()? })
    }

    /// A server that is archived already.
    pub(crate) fn initialised() -> Result<Self> {
        Self::initialised_from(safe_server())
    }

    /// The same, of another shape.
    pub(crate) fn initialised_from(builder: Builder) -> Result<Self> {
        let scene = Self::new(builder)?;
        scene.init(&["--restart"])?.succeeded()?;
        Ok(scene)
    }

    pub(crate) fn init(&self, more: &[&str]) -> Result<Ran> {
        let data = self.server.pgdata().display().to_string();
        let repository = self.repository().display().to_string();
        let arguments = ["init", "--yes", "--pgdata", &data, "--repository", &repository];
        self.pgproof(&[&arguments, more].concat())
    }

    /// Where the repository is or will be.
    pub(crate) fn repository(&self) -> PathBuf {
        self.server.ground().join("repository")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.server.ground().join("etc/pgproof.toml")
    }

    /// A directory of this name that does not exist yet.
    pub(crate) fn new_place(&self, name: &str) -> PathBuf {
        self.server.ground().join(name)
    }

    /// Runs the program with this scene's configuration.
    pub(crate) fn pgproof(&self, arguments: &[&str]) -> Result<Ran> {
        self.ran(self.command(arguments))
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = pgproof();
        command.envs(self.server.environment()).env("PGPROOF_CONFIG", self.config()).args(arguments);
        // An existing file is found by the variable; `init` makes it at the same place.
        command
    }

    pub(crate) fn ran(&self, mut command: Command) -> Result<Ran> {
        let Output { status, stdout, stderr } = command.output().context("run pgproof")?;
        Ok(Ran {
            code: status.code().context("pgproof was killed")?,
            stdout: self.filtered(&String::from_utf8_lossy(&stdout)),
            stderr: self.filtered(&String::from_utf8_lossy(&stderr)),
        })
    }

    /// Restores into a new place, and gives the server that was started there. It ends with the test, whatever becomes of the restore.
    pub(crate) fn restored(&self, name: &str, more: &[&str]) -> Result<Postgres> {
        let (place, port) = (self.new_place(name), free_port()?);
        let (into, port_text) = (place.display().to_string(), port.to_string());
        let arguments = ["restore", "--pgdata", &into, "--start", "--port", &port_text];
        let ran = self.pgproof(&[&arguments[..], more].concat())?;
        let restored = self.server.copy_started_at(&place, port)?;
        ran.succeeded().context("restore")?;
        Ok(restored)
    }

    /// A restored server holds what this one does, to the last commit.
    pub(crate) fn comes_back(&self, name: &str, more: &[&str]) -> Result<()> {
        self.server.sql(&format!("CREATE TABLE \"last of {name}\" AS SELECT 1 AS a"))?;
        self.server.archive_everything()?;
        let before = self.server.table_sums()?;
        let restored = self.restored(name, more)?;
        ensure!(restored.table_sums()? == before, "the restored server holds something else");
        Ok(())
    }

    /// What differs from run to run, replaced by names.
    fn filtered(&self, text: &str) -> String {
        let ground = self.server.ground().display().to_string();
        let program = program().display().to_string();
        let text = text.replace(&ground, "[GROUND]").replace(&program, "[PROGRAM]");
        text.replace(&format!(":{} ", self.server.port()), ":[PORT] ")
    }
}

/// The program, where the server's account can run it too.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> =
        LazyLock::new(|| Pgproof::new().expect("the program is built").binary().to_owned());
    &PROGRAM
}

/// The program, with nothing of this process's environment that it heeds.
pub(crate) fn pgproof() -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("PG") || name.starts_with("AWS") {
            command.env_remove(&*name);
        }
    }
    command.env("COLUMNS", "100").current_dir("/").stdin(Stdio::null());
    command
}

impl Ran {
    pub(crate) fn succeeded(self) -> Result<Self> {
        ensure!(self.code == 0, "exit code {}\n{}\n{}", self.code, self.stdout, self.stderr);
        Ok(self)
    }

    /// The report of `--json`.
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("not JSON: {}{}", self.stdout, self.stderr))
    }
}

/// Text with every digit run as `N` and times gone: for snapshots of what differs in numbers only.
pub(crate) fn numbers_gone(text: &str) -> String {
    let mut out = String::new();
    let mut in_number = false;
    for c in text.chars() {
        let number = c.is_ascii_digit() || (in_number && c == '.');
        if number && !in_number {
            out.push('N');
        }
        if !number {
            out.push(c);
        }
        in_number = number;
    }
    out
}

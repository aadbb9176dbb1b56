//! The built `pgproof` as a process: run, measured, killed at any moment.
//!
//! The binary is the one that Cargo built for this test, else the one in the target directory that the test itself lies in.
//! When servers run under another account than the test, a copy that this account may run is used, because PostgreSQL calls
//! the same program as its archive command.

use crate::Account;
use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::{
    env, fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Pause between two looks at a running process; its memory is measured that often.
const PAUSE: Duration = Duration::from_millis(2);

/// The program under test, with the environment and account that it runs in.
#[derive(Debug, Clone)]
pub struct Pgproof {
    binary: PathBuf,
    environment: Vec<(String, String)>,
    account: Option<Account>,
    folder: Option<PathBuf>,
}

/// What a process moved, from `/proc/PID/io`. Children that it has waited for count too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessIo {
    /// Bytes that read calls returned, from the page cache or not.
    pub read_bytes: u64,
    /// Bytes given to write calls.
    pub written_bytes: u64,
    /// Read calls.
    pub read_calls: u64,
    /// Write calls.
    pub write_calls: u64,
    /// Bytes that had to come from a disk.
    pub disk_read_bytes: u64,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it wrote to standard output.
    pub stdout: String,
    /// Everything it wrote to standard error.
    pub stderr: String,
    /// From start to end.
    pub wall: Duration,
    /// Largest resident memory seen; looked at every 2 ms.
    pub peak_memory_bytes: u64,
    /// What it read and wrote.
    pub io: ProcessIo,
}

impl Finished {
    /// Its exit code; `None` when a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Itself, if it exited with 0.
    ///
    /// # Errors
    /// Fails otherwise, with all that it wrote.
    pub fn succeeded(self) -> Result<Self> {
        self.exited(0)
    }

    /// Itself, if it exited with this code.
    ///
    /// # Errors
    /// Fails otherwise, with all that it wrote.
    pub fn exited(self, code: i32) -> Result<Self> {
        ensure!(
            self.code() == Some(code),
            "pgproof ended with {} instead of {code}\nstdout:\n{}\nstderr:\n{}",
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }
}

impl Pgproof {
    /// The built program, run as this process's account and with its environment but for `PG*` variables.
    ///
    /// # Errors
    /// Fails when it has not been built.
    pub fn new() -> Result<Self> {
        let binary = for_every_account(&find_binary()?)?;
        Ok(Self { binary, environment: Vec::new(), account: None, folder: None })
    }

    /// With further environment variables, for example [`crate::Postgres::environment`].
    #[must_use]
    pub fn with_environment<N: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.environment.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Run as another account, for example the server's.
    #[must_use]
    pub fn run_as(mut self, account: &Account) -> Self {
        self.account = Some(account.clone());
        self
    }

    /// Run in this directory, for example one with a `pgproof.toml`.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Path of the program, for an archive command.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// Fails when it cannot be started; how it ends is the caller's to judge.
    pub fn run(&self, arguments: &[&str]) -> Result<Finished> {
        self.spawn(arguments)?.wait()
    }

    /// Starts it.
    ///
    /// # Errors
    /// Fails when it cannot be started.
    pub fn spawn(&self, arguments: &[&str]) -> Result<Running> {
        let mut command = Command::new(&self.binary);
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        if let Some(account) = &self.account {
            account.apply(&mut command);
        }
        command.args(arguments).envs(self.environment.iter().cloned());
        command.current_dir(self.folder.as_deref().unwrap_or(Path::new("/")));
        Running::start(&mut command)
    }
}

/// A process that runs, or has ended unnoticed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    began: Instant,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    peak_memory_bytes: u64,
    io: ProcessIo,
}

impl Running {
    /// Starts any command with its output captured.
    ///
    /// # Errors
    /// Fails when it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("run {command:?}"))?;
        let (stdout, stderr) = (child.stdout.take().map(collect), child.stderr.take().map(collect));
        let io = ProcessIo::default();
        Ok(Self { child, began: Instant::now(), stdout, stderr, peak_memory_bytes: 0, io })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Fails when the system cannot tell.
    pub fn wait(mut self) -> Result<Finished> {
        while !self.look()? {
            thread::sleep(PAUSE);
        }
        self.finish()
    }

    /// Kills it with SIGKILL when so much time has passed since its start, unless it ends before, and waits for its end.
    ///
    /// # Errors
    /// Fails when the system cannot tell.
    pub fn kill9_after(mut self, delay: Duration) -> Result<Finished> {
        while !self.look()? {
            if self.began.elapsed() >= delay {
                self.child.kill().context("kill the process")?;
            }
            thread::sleep(
                PAUSE.min(delay.saturating_sub(self.began.elapsed()).max(Duration::from_micros(200))),
            );
        }
        self.finish()
    }

    /// Measures it; true when it has ended. An ended process is left for [`Self::finish`] to collect, because its numbers
    /// go with it.
    fn look(&mut self) -> Result<bool> {
        let pid = Pid::from_child(&self.child);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = waitid(WaitId::Pid(pid), options).context("look at the process")?.is_some();
        if let Some(peak) = peak_memory(self.child.id()) {
            self.peak_memory_bytes = self.peak_memory_bytes.max(peak);
        }
        if let Some(io) = ProcessIo::of(self.child.id()) {
            self.io = io;
        }
        Ok(ended)
    }

    fn finish(mut self) -> Result<Finished> {
        let status = self.child.wait().context("wait for the process")?;
        let wall = self.began.elapsed();
        let text = |reader: Option<JoinHandle<String>>| match reader.map(JoinHandle::join) {
            Some(Ok(text)) => Ok(text),
            _ => Err(anyhow!("the output of the process was not captured")),
        };
        let (stdout, stderr) = (text(self.stdout.take())?, text(self.stderr.take())?);
        Ok(Finished { status, stdout, stderr, wall, peak_memory_bytes: self.peak_memory_bytes, io: self.io })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only reached with a live child when a test gave up on it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl ProcessIo {
    /// Of a running process, or one that nobody has waited for yet.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        Some(Self {
            read_bytes: field("rchar"),
            written_bytes: field("wchar"),
            read_calls: field("syscr"),
            write_calls: field("syscw"),
            disk_read_bytes: field("read_bytes"),
        })
    }
}

/// `VmHWM` in `/proc/PID/status`, which is in kB.
fn peak_memory(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A broken pipe ends the output as its end does.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn find_binary() -> Result<PathBuf> {
    for name in ["NEXTEST_BIN_EXE_pgproof", "CARGO_BIN_EXE_pgproof", "PGPROOF_BINARY"] {
        if let Some(path) = env::var_os(name).map(PathBuf::from).filter(|path| path.is_file()) {
            return Ok(path);
        }
    }
    let this = env::current_exe().context("find this test's own file")?;
    // target/debug/deps/test-1234 lies beside target/debug/pgproof.
    let found =
        this.ancestors().skip(1).take(3).map(|folder| folder.join("pgproof")).find(|path| path.is_file());
    found.ok_or_else(|| anyhow!("the program is not built: run `cargo build -p pgproof-cli`"))
}

/// The binary, or a copy in a temporary directory where the servers' account could not run it: a checkout in root's home, or
/// a build that nobody else may read. One copy serves all tests of a process; the system clears it with other temporary files
/// when a process is killed.
fn for_every_account(binary: &Path) -> Result<PathBuf> {
    static COPY: OnceLock<TempDir> = OnceLock::new();
    if !Account::for_servers()?.foreign || open_to_all(binary) {
        return Ok(binary.to_owned());
    }
    if COPY.get().is_none() {
        let folder = tempfile::Builder::new().prefix("pgproof-binary-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        fs::copy(binary, folder.path().join("pgproof")).context("copy the program")?;
        fs::set_permissions(folder.path().join("pgproof"), fs::Permissions::from_mode(0o755))?;
        // Another thread may have been faster; then this copy goes.
        let _ = COPY.set(folder);
    }
    match COPY.get() {
        Some(folder) => Ok(folder.path().join("pgproof")),
        None => bail!("the copy of the program is gone"),
    }
}

fn open_to_all(file: &Path) -> bool {
    let allows =
        |path: &Path, bits: u32| path.metadata().is_ok_and(|found| found.permissions().mode() & bits == bits);
    allows(file, 0o005) && file.ancestors().skip(1).all(|folder| allows(folder, 0o001))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Running {
        Running::start(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn output_exit_code_and_effort_of_a_process_are_kept() {
        let done = shell("head -c 3000000 /dev/zero | cat > /dev/null; echo out; echo err >&2; exit 3")
            .wait()
            .unwrap();
        assert_eq!((done.code(), done.stdout.as_str(), done.stderr.as_str()), (Some(3), "out\n", "err\n"));
        assert!(done.io.read_bytes >= 6_000_000, "{:?}", done.io);
        assert!(done.exited(0).unwrap_err().to_string().contains("err"));
    }

    #[test]
    fn peak_memory_is_seen_while_the_process_runs() {
        let done = shell("x=$(head -c 20000000 /dev/zero | tr '\\0' a); sleep 0.05").wait().unwrap();
        assert!(done.peak_memory_bytes > 15_000_000, "{}", done.peak_memory_bytes);
    }

    #[test]
    fn a_process_is_killed_at_its_moment_or_ends_before() {
        let killed = shell("echo begun; exec sleep 60").kill9_after(Duration::from_millis(200)).unwrap();
        assert_eq!((killed.code(), killed.stdout.as_str()), (None, "begun\n"));
        assert!(killed.wall < Duration::from_secs(30));
        assert_eq!(shell("exit 0").kill9_after(Duration::from_secs(60)).unwrap().code(), Some(0));
    }
}

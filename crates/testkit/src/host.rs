//! The built `pgproof` as a process: run, measured, killed at any moment.
//!
//! The binary is the one that Cargo built for this test, else the one in the target directory that the test itself lies in.
//! When servers run under another account than the test, a copy that this account may run is used, because PostgreSQL calls
//! the same program as its archive command.

use crate::{Account, install::own_cache};
use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::{
    env, fs,
    io::{self, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

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
    /// User and system time, of its children too once they have ended; counted in hundredths of a second.
    pub cpu: Duration,
    /// Largest resident memory seen, of the process and its children together; looked at every 2 ms.
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
    cpu: Duration,
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
        let (began, cpu) = (Instant::now(), Duration::ZERO);
        Ok(Self { child, began, stdout, stderr, cpu, peak_memory_bytes: 0, io })
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
        self.peak_memory_bytes = self.peak_memory_bytes.max(memory_with_children(self.child.id()));
        if let Some(cpu) = cpu_time(self.child.id()) {
            self.cpu = cpu;
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
        let Self { cpu, peak_memory_bytes, io, .. } = self;
        Ok(Finished { status, stdout, stderr, wall, cpu, peak_memory_bytes, io })
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

/// Resident memory of a process and all below it. The peak of a single process is the kernel's own figure (`VmHWM`); together with
/// children it is what they have now (`VmRSS` in `/proc/PID/status`, in kB).
fn memory_with_children(pid: u32) -> u64 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: Vec<u32> = children.split_whitespace().filter_map(|child| child.parse().ok()).collect();
    let own = memory(pid, if children.is_empty() { "VmHWM:" } else { "VmRSS:" });
    own + children.into_iter().map(memory_with_children).sum::<u64>()
}

fn memory(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0);
    kilobytes * 1024
}

/// What `/proc` counts time in, whatever the kernel's own clock: `USER_HZ` in `include/asm-generic/param.h`.
const TICKS_PER_SECOND: u64 = 100;

/// Fields 14 to 17 of `/proc/PID/stat`, in clock ticks: user and system time, its own and that of children it has waited for. The name
/// before them is in parentheses and may hold anything.
fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(4);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
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
    for name in ["PGPROOF_BINARY", "NEXTEST_BIN_EXE_pgproof", "CARGO_BIN_EXE_pgproof"] {
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

/// The binary, or a copy in the cache where the servers' account could not run it: a checkout in root's home, or a build that nobody else
/// may read. A copy serves all tests of one build.
fn for_every_account(binary: &Path) -> Result<PathBuf> {
    if !Account::for_servers()?.foreign || open_to_all(binary) {
        return Ok(binary.to_owned());
    }
    let built = binary.metadata().with_context(|| format!("look at {}", binary.display()))?;
    let folder = own_cache()?.join("programs").join(format!("{}-{}", built.ino(), built.mtime()));
    let copy = folder.join("pgproof");
    if copy.is_file() {
        return Ok(copy);
    }
    forget_older_copies(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    // The finished copy gets its name in one step: another test may be about to run it.
    let mut making =
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempfile_in(&folder)?;
    io::copy(&mut fs::File::open(binary)?, &mut making).context("copy the program")?;
    // Closed for writing before it is run: the system refuses to run what somebody writes. A copy that another test has made meanwhile
    // stays: a program that runs from it must not lose its file.
    match making.into_temp_path().persist_noclobber(&copy) {
        Err(kept) if kept.error.kind() != io::ErrorKind::AlreadyExists => {
            Err(kept.error).context("keep the copy of the program")
        }
        _ => Ok(copy),
    }
}

/// How long a copy of an older build is kept: longer than its tests run.
const COPY_AGE: Duration = Duration::from_secs(24 * 3600);

fn forget_older_copies(folder: &Path) {
    let others = folder.parent().and_then(|parent| fs::read_dir(parent).ok()).into_iter().flatten().flatten();
    for other in others.filter(|other| other.path() != folder) {
        let modified = other.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > COPY_AGE)) {
            // What cannot be removed costs space only.
            let _ = fs::remove_dir_all(other.path());
        }
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
    fn cpu_time_of_children_counts() {
        let done = shell("head -c 300000000 /dev/zero | md5sum > /dev/null; true").wait().unwrap();
        assert!(done.cpu >= Duration::from_millis(100), "{:?}", done.cpu);
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

//! Real S3 servers as processes on a loopback port.
//!
//! [`S3Server::moto`] runs PyPI's `moto[server]` in a virtual environment, [`S3Server::s3s`] the `s3s-fs` binary; both are installed into
//! `${XDG_CACHE_HOME:-~/.cache}/pgproof` when first asked for. Each server begins empty but for one bucket.

use crate::{port::free_port, wait};
use anyhow::{Context, Result, bail, ensure};
use pgproof_store::{S3Config, Secret};
use std::{
    env, fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The version of moto that the contract was checked against.
const MOTO_VERSION: &str = "5.2.5";

/// The newest s3s-fs that Rust 1.95 builds.
const S3S_VERSION: &str = "0.14.1";

/// The bucket of every server.
pub const BUCKET: &str = "pgproof-test";

/// How long a server may take to answer first: moto imports a large library.
const START_WAIT: Duration = Duration::from_secs(90);

/// Keys that both servers accept: moto checks none, s3s these.
const ACCESS_KEY: &str = "pgproof";
const SECRET_KEY: &str = "pgproof-secret";

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct S3Server {
    process: Child,
    port: u16,
    _files: tempfile::TempDir,
}

impl S3Server {
    /// Starts moto: the S3 API in memory, with conditional writes.
    ///
    /// # Errors
    /// Fails when it cannot be installed or started.
    pub fn moto() -> Result<Self> {
        Self::start_moto(None)
    }

    /// Starts moto with a clock that is read from a file, as `libfaketime` (Debian's package of that name) understands it: `+30m` is half
    /// an hour ahead. Objects get their times from that clock.
    ///
    /// # Errors
    /// As [`Self::moto`].
    pub fn moto_with_clock(file: &Path) -> Result<Self> {
        Self::start_moto(Some(file))
    }

    fn start_moto(clock: Option<&Path>) -> Result<Self> {
        let python = install_moto()?;
        let server = Self::start(|port, _files| {
            let mut command = Command::new(&python);
            command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
            if let Some(file) = clock {
                command.env("LD_PRELOAD", libfaketime()?).env("FAKETIME_TIMESTAMP_FILE", file);
                command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            }
            Ok(command)
        })?;
        let status = server.request("PUT", &format!("/{BUCKET}"))?;
        ensure!(status == 200, "moto refused to make a bucket: HTTP {status}");
        Ok(server)
    }

    /// Starts s3s-fs: the S3 API over a directory.
    ///
    /// # Errors
    /// Fails when it cannot be installed or started.
    pub fn s3s() -> Result<Self> {
        let binary = install_s3s()?;
        Self::start(|port, files| {
            fs::create_dir(files.join(BUCKET))?;
            let mut command = Command::new(&binary);
            command
                .args(["--host", "127.0.0.1", "--port", &port.to_string()])
                .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
                .arg(files);
            Ok(command)
        })
    }

    /// Settings that reach the server.
    #[must_use]
    pub fn config(&self, prefix: &str) -> S3Config {
        S3Config {
            prefix: prefix.to_owned(),
            endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
            region: Some("us-east-1".to_owned()),
            access_key_id: Some(ACCESS_KEY.to_owned()),
            secret_access_key: Some(Secret::new(SECRET_KEY)),
            allow_http: true,
            ..S3Config::bucket(BUCKET)
        }
    }

    /// The port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops the server as a power failure would.
    ///
    /// # Errors
    /// Fails when the process cannot be signalled.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().context("could not kill the S3 server")?;
        self.process.wait().context("could not wait for the S3 server")?;
        Ok(())
    }

    fn start(command: impl Fn(u16, &Path) -> Result<Command>) -> Result<Self> {
        let files = tempfile::tempdir().context("could not make a directory for the S3 server")?;
        let port = free_port()?;
        let data = files.path().join("data");
        fs::create_dir(&data).context("could not make a directory for the S3 server")?;
        let log_path = files.path().join("log");
        let log = fs::File::create(&log_path).context("could not make a log file")?;
        let process = command(port, &data)?
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("could not share the log file")?)
            .stderr(log)
            .spawn()
            .context("could not start the S3 server")?;
        let mut server = Self { process, port, _files: files };
        wait::until("the S3 server to answer", START_WAIT, || {
            if let Some(status) = server.process.try_wait().context("could not look at the S3 server")? {
                bail!("the S3 server ended: {status}\n{}", fs::read_to_string(&log_path).unwrap_or_default());
            }
            Ok(TcpStream::connect(("127.0.0.1", port)).ok().and_then(|_| server.request("GET", "/").ok()))
        })?;
        Ok(server)
    }

    /// Makes a plain HTTP request and gives the status.
    fn request(&self, method: &str, path: &str) -> Result<u16> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).context("could not connect")?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).context("could not set a time limit")?;
        let host = "Host: s3.amazonaws.com\r\nContent-Length: 0\r\nConnection: close";
        write!(stream, "{method} {path} HTTP/1.1\r\n{host}\r\n\r\n").context("could not send a request")?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).context("could not read a reply")?;
        let reply = String::from_utf8_lossy(&reply);
        let status = reply.split(' ').nth(1).context("the reply has no status")?;
        status.parse().with_context(|| format!("`{status}` is not an HTTP status"))
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // A server that is gone already is what is wanted.
        let _ = self.kill();
    }
}

/// Debian's `faketime` tells what it preloads.
fn libfaketime() -> Result<String> {
    let said = Command::new("faketime").args(["-f", "+0", "printenv", "LD_PRELOAD"]).output();
    let said = said.context("run faketime: it comes with Debian's package `faketime`")?;
    Ok(String::from_utf8(said.stdout).context("LD_PRELOAD is no text")?.trim().to_owned())
}

fn cache() -> Result<PathBuf> {
    let base = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => Path::new(&home).join(".cache"),
        (None, None) => bail!("neither XDG_CACHE_HOME nor HOME says where to install S3 servers"),
    };
    let dir = base.join("pgproof");
    fs::create_dir_all(&dir).with_context(|| format!("could not make {}", dir.display()))?;
    Ok(dir)
}

/// The Python of an environment that has moto.
fn install_moto() -> Result<PathBuf> {
    let dir = cache()?.join(format!("moto-{MOTO_VERSION}"));
    let (python, complete) = (dir.join("bin/python3"), dir.join("complete"));
    install_once(&dir.with_extension("lock"), &complete, || {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
        let package = format!("moto[server]=={MOTO_VERSION}");
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", &package]))
    })?;
    Ok(python)
}

/// Installs the server that every run of the tests needs, so that no test's time counts it.
///
/// # Errors
/// Fails when the package cannot be had.
pub fn install() -> Result<()> {
    install_moto().map(drop)
}

fn install_s3s() -> Result<PathBuf> {
    let dir = cache()?.join(format!("s3s-{S3S_VERSION}"));
    install_once(&dir.with_extension("lock"), &dir.join("complete"), || {
        run(Command::new("cargo")
            .args([
                "install",
                "s3s-fs",
                "--locked",
                "--version",
                S3S_VERSION,
                "--features",
                "binary",
                // Its speed is not measured, and optimising it takes minutes.
                "--debug",
                "--root",
            ])
            .arg(&dir))
    })?;
    Ok(dir.join("bin/s3s-fs"))
}

/// Runs an installation unless it is complete; tests in other processes wait for it.
fn install_once(lock: &Path, complete: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    if complete.exists() {
        return Ok(());
    }
    let lock = fs::File::create(lock).with_context(|| format!("could not make {}", lock.display()))?;
    lock.lock().context("could not wait for another installation")?;
    if complete.exists() {
        return Ok(());
    }
    install()?;
    fs::write(complete, b"").with_context(|| format!("could not write {}", complete.display()))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("could not run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

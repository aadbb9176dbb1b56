//! A storage service as a process on a loopback port, and where such services are installed.

use crate::{port::free_port, wait};
use anyhow::{Context, Result, bail, ensure};
use std::{
    env, fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// How long a server may take to answer first: moto imports a large library.
const START_WAIT: Duration = Duration::from_secs(90);

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Emulator {
    process: Child,
    port: u16,
    _files: tempfile::TempDir,
}

impl Emulator {
    /// The port on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Stops the server as a power failure would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill().context("could not kill the storage server")?;
        self.process.wait().context("could not wait for the storage server")?;
        Ok(())
    }

    /// Starts what `command` says, given a port and a directory of its own, and waits for it to answer.
    pub(crate) fn start(command: impl Fn(u16, &Path) -> Result<Command>) -> Result<Self> {
        let files = tempfile::tempdir().context("could not make a directory for the storage server")?;
        let port = free_port()?;
        let data = files.path().join("data");
        fs::create_dir(&data).context("could not make a directory for the storage server")?;
        let log_path = files.path().join("log");
        let log = fs::File::create(&log_path).context("could not make a log file")?;
        let process = command(port, &data)?
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("could not share the log file")?)
            .stderr(log)
            .spawn()
            .context("could not start the storage server")?;
        let mut server = Self { process, port, _files: files };
        wait::until("the storage server to answer", START_WAIT, || {
            if let Some(status) = server.process.try_wait().context("could not look at the storage server")? {
                bail!(
                    "the storage server ended: {status}\n{}",
                    fs::read_to_string(&log_path).unwrap_or_default()
                );
            }
            Ok(TcpStream::connect(("127.0.0.1", port))
                .ok()
                .and_then(|_| server.request("GET", "/", "", "").ok()))
        })?;
        Ok(server)
    }

    /// Makes a plain HTTP request and gives the status.
    pub(crate) fn request(&self, method: &str, path: &str, header: &str, body: &str) -> Result<u16> {
        let reply = self.ask(method, path, header, body)?;
        let status = reply.split(' ').nth(1).context("the reply has no status")?;
        status.parse().with_context(|| format!("`{status}` is not an HTTP status"))
    }

    /// Makes a plain HTTP request and gives the whole reply.
    pub(crate) fn ask(&self, method: &str, path: &str, header: &str, body: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).context("could not connect")?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).context("could not set a time limit")?;
        let length = body.len();
        // moto takes requests to unknown hosts for those of other services, azurite the first part of a name for an account.
        let host = if header.contains("Host:") { "" } else { "Host: 127.0.0.1\r\n" };
        let lines = format!("{host}{header}Content-Length: {length}\r\nConnection: close");
        write!(stream, "{method} {path} HTTP/1.1\r\n{lines}\r\n\r\n{body}")
            .context("could not send a request")?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).context("could not read a reply")?;
        Ok(String::from_utf8_lossy(&reply).into_owned())
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // A server that is gone already is what is wanted.
        let _ = self.kill();
    }
}

/// Where servers are installed.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => Path::new(&home).join(".cache"),
        (None, None) => bail!("neither XDG_CACHE_HOME nor HOME says where to install storage servers"),
    };
    let dir = base.join("pgproof");
    fs::create_dir_all(&dir).with_context(|| format!("could not make {}", dir.display()))?;
    Ok(dir)
}

/// Runs an installation unless it is complete; tests in other processes wait for it.
pub(crate) fn install_once(lock: &Path, complete: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
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

pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("could not run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

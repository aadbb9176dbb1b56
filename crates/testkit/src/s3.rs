//! Real S3 servers as processes on a loopback port.
//!
//! [`S3Server::moto`] runs PyPI's `moto[server]` in a virtual environment, [`S3Server::s3s`] the `s3s-fs` binary; both are installed into
//! `${XDG_CACHE_HOME:-~/.cache}/pgproof` when first asked for. Each server begins empty but for one bucket.

use crate::emulator::{Emulator, cache, install_once, run};
use anyhow::{Context, Result, ensure};
use pgproof_store::{S3Config, Secret};
use std::path::{Path, PathBuf};
use std::{fs, process::Command};

/// The version of moto that the contract was checked against.
const MOTO_VERSION: &str = "5.2.5";

/// The newest s3s-fs that Rust 1.95 builds.
const S3S_VERSION: &str = "0.14.1";

/// The bucket of every server.
pub const BUCKET: &str = "pgproof-test";

/// moto knows by the host which service is meant.
const HOST: &str = "Host: s3.amazonaws.com\r\n";

/// Keys that both servers accept: moto checks none, s3s these.
const ACCESS_KEY: &str = "pgproof";
const SECRET_KEY: &str = "pgproof-secret";

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct S3Server {
    server: Emulator,
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
        let server = Emulator::start(|port, _files| {
            let mut command = Command::new(&python);
            command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
            if let Some(file) = clock {
                command.env("LD_PRELOAD", libfaketime()?).env("FAKETIME_TIMESTAMP_FILE", file);
                command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            }
            Ok(command)
        })?;
        let status = server.request("PUT", &format!("/{BUCKET}"), HOST, "")?;
        ensure!(status == 200, "moto refused to make a bucket: HTTP {status}");
        Ok(Self { server })
    }

    /// Makes a bucket whose objects can be locked; only moto can.
    ///
    /// # Errors
    /// Fails when the server refuses.
    pub fn lockable_bucket(&self, name: &str) -> Result<()> {
        let headers = format!("{HOST}x-amz-bucket-object-lock-enabled: true\r\n");
        let status = self.server.request("PUT", &format!("/{name}"), &headers, "")?;
        ensure!(status == 200, "moto refused to make a bucket with object lock: HTTP {status}");
        Ok(())
    }

    /// How many versions of a key a bucket keeps, delete markers among them; only moto keeps any.
    ///
    /// # Errors
    /// Fails when the server refuses.
    pub fn versions(&self, bucket: &str, key: &str) -> Result<usize> {
        Ok(self.list_versions(bucket, key)?.matches("<VersionId>").count())
    }

    /// Removes the delete marker of a key, which brings the object back.
    ///
    /// # Errors
    /// Fails when there is none.
    pub fn remove_delete_marker(&self, bucket: &str, key: &str) -> Result<()> {
        let listing = self.list_versions(bucket, key)?;
        let (_, marker) = listing.split_once("<DeleteMarker>").context("there is no delete marker")?;
        let (_, id) = marker.split_once("<VersionId>").context("a delete marker has a version")?;
        let id = id.split('<').next().unwrap_or_default();
        let status = self.server.request("DELETE", &format!("/{bucket}/{key}?versionId={id}"), HOST, "")?;
        ensure!(status == 204, "moto refused to remove a delete marker: HTTP {status}");
        Ok(())
    }

    fn list_versions(&self, bucket: &str, key: &str) -> Result<String> {
        self.server.ask("GET", &format!("/{bucket}?versions&prefix={key}"), HOST, "")
    }

    /// Starts s3s-fs: the S3 API over a directory.
    ///
    /// # Errors
    /// Fails when it cannot be installed or started.
    pub fn s3s() -> Result<Self> {
        let binary = install_s3s()?;
        let server = Emulator::start(|port, files| {
            fs::create_dir(files.join(BUCKET))?;
            let mut command = Command::new(&binary);
            command
                .args(["--host", "127.0.0.1", "--port", &port.to_string()])
                .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
                .arg(files);
            Ok(command)
        })?;
        Ok(Self { server })
    }

    /// Settings that reach the server.
    #[must_use]
    pub fn config(&self, prefix: &str) -> S3Config {
        S3Config {
            prefix: prefix.to_owned(),
            endpoint: Some(format!("http://127.0.0.1:{}", self.server.port())),
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
        self.server.port()
    }

    /// Stops the server as a power failure would.
    ///
    /// # Errors
    /// Fails when the process cannot be signalled.
    pub fn kill(&mut self) -> Result<()> {
        self.server.kill()
    }
}

/// Debian's `faketime` tells what it preloads.
fn libfaketime() -> Result<String> {
    let said = Command::new("faketime").args(["-f", "+0", "printenv", "LD_PRELOAD"]).output();
    let said = said.context("run faketime: it comes with Debian's package `faketime`")?;
    Ok(String::from_utf8(said.stdout).context("LD_PRELOAD is no text")?.trim().to_owned())
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

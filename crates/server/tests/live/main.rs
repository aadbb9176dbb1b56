//! This crate against real servers of every supported version.

mod backup;
mod control;
mod finding;
mod recovery;
mod replication;
mod session;
mod settings;
mod tls;

use pgproof_server::{ConnectOptions, Session};
use pgproof_testkit::Postgres;
use std::time::Duration;

/// Long enough for a server on a loaded machine to start or stop.
const LIMIT: Duration = Duration::from_secs(60);

fn connect_options(server: &Postgres) -> ConnectOptions {
    ConnectOptions { connection_string: Some(server.connection_string()), ..ConnectOptions::default() }
}

fn open(server: &Postgres) -> anyhow::Result<Session> {
    Ok(Session::open(&connect_options(server))?)
}

//! Access methods of all relations of a test server.

use pgproof_backup::Kinds;
use pgproof_server::ConnectOptions;
use pgproof_testkit::Postgres;

pub(crate) fn kinds_of(postgres: &Postgres) -> Kinds {
    let databases = postgres.query("SELECT datname FROM pg_database WHERE datallowconn").unwrap();
    let databases: Vec<String> = databases.into_iter().flatten().flatten().collect();
    Kinds::ask(&connect_to(postgres), databases.iter().map(String::as_str)).unwrap()
}

pub(crate) fn connect_to(postgres: &Postgres) -> ConnectOptions {
    ConnectOptions { connection_string: Some(postgres.connection_string()), ..ConnectOptions::default() }
}

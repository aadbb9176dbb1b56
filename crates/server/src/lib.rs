//! A live PostgreSQL: find it, connect to it, start and stop it, observe it.
//!
//! Promises plain data about a server ([`Facts`]) and the few acts that other crates need: a [`Session`], a [`RunningBackup`]. Decisions
//! are made elsewhere.

mod backup;
mod error;
mod facts;
mod session;

pub use backup::{RunningBackup, StoppedBackup};
pub use error::ServerError;
pub use facts::{ArchiverFacts, Database, Facts, SETTINGS, Tablespace};
pub use session::{ConnectOptions, Session};

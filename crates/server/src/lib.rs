//! A live PostgreSQL: find it, connect to it, observe it, start and stop it.
//!
//! Promises plain data about a server ([`Facts`]) and the few acts that other crates need: a [`Session`], a
//! [`RunningBackup`], WAL as it is written ([`replication`]), changed [`settings`], a server started and stopped ([`Control`]), another account ([`privilege`]).
//! Every effect is checked before it is reported, and every wait has a limit. Decisions are made elsewhere, and what
//! PostgreSQL's files mean is in `pgproof-pg`. Start at [`find`] for what a host has.

mod backup;
mod connection_string;
mod control;
mod error;
mod facts;
pub mod find;
mod log;
mod look;
mod password;
pub mod privilege;
mod receiver;
mod recovery;
pub mod replication;
mod session;
pub mod settings;
mod tls;

pub use backup::{RunningBackup, StoppedBackup};
pub use control::{Control, START_LOG, StopMode};
pub use error::{Cause, ServerError};
pub use facts::{ArchiverFacts, Database, Facts, SETTINGS, Tablespace};
pub use find::{Instance, State};
pub use look::{LookLimits, Reached};
pub use privilege::Owner;
pub use receiver::ReceiverFacts;
pub use recovery::{RecoveryEnd, RecoveryProgress};
pub use session::{ConnectOptions, Session};
pub use tls::{ChannelBinding, SslMode, TlsOptions};

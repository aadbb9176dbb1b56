//! Tests only: real servers of every supported version, object stores, hosts and faults, so that a test reads like a
//! sentence.
//!
//! Start with [`Postgres::builder`]. A server that is missing is installed when the test first asks for it
//! ([`install`]); it is never skipped. Everything that waits has a deadline ([`wait`]); everything random has a seed that
//! is printed ([`seed`]). Nothing here may be used outside tests: errors are `anyhow`, and panics are fine.

pub mod account;
pub mod azure;
pub mod disk;
mod emulator;
pub mod etcd;
pub mod faulty;
pub mod gcs;
pub mod host;
pub mod install;
mod port;
pub mod postgres;
pub mod powercut;
pub mod s3;
pub mod seed;
pub mod unreliable;
pub mod wait;

pub use account::Account;
pub use disk::SmallDisk;
pub use etcd::{Etcd, EtcdPlace};
pub use host::Pgproof;
pub use install::Server;
pub use port::free_port;
pub use postgres::{Builder, Postgres, StopMode};
pub use seed::Seed;

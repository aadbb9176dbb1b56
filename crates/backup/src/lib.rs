//! Takes a consistent copy of a running cluster: full the first time, and ever after only what changed.
//!
//! Promises that a published backup restores alone, that nothing is reused which WAL can have changed, and that a failure leaves
//! the repository without a new backup. Deliberately not here: how bytes are stored (`pgproof-repo`), how the server is reached
//! (`pgproof-server`), how a copy comes back (`pgproof-restore`). Begin reading at [`run`], which is the order of events; then
//! [`plan`], which decides what is read.

mod archive;
mod assemble;
pub mod base;
mod changes;
mod cluster;
mod copy;
mod damage;
mod earlier;
mod error;
mod estimates;
pub mod exclude;
mod feed;
mod kinds;
mod options;
pub mod plan;
mod prior;
mod remote;
mod report;
mod run;
mod salvage;
pub mod scan;
mod source;
mod standby;
mod start;
mod summary;
mod suspects;
mod tasks;
mod throttle;
mod worker;

pub use cluster::{Cluster, EXTERNAL, Role};
pub use error::BackupError;
pub use kinds::Kinds;
pub use options::{BackupOptions, EXTENT_PAGES, Kind};
pub use remote::run_remote;
pub use report::{BackupReport, FileRead, ProcessIo, Stages};
pub use run::run;
pub use standby::WalSwitch;
